"""What a picture looks like to a small classifier that learned from the task's own training images.

Distances between sets of pictures (`corelab_generative.quality`) are taken between such features.
Nothing is downloaded: the classifier is trained once for a data set, always from the same seed, and
kept in the user's cache folder under a hash of the images, the labels and the recipe. Where images
have no classes to tell apart, it learns by how many quarter turns a picture was rotated (Gidaris,
Singh & Komodakis 2018, arXiv:1803.07728).
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_datasets.interface import Dataset, Split
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """How the classifier is made. Whatever is changed here or in `Net` asks for a new version."""

    version: int = 1
    """Part of the name in the cache."""
    seed: int = 0
    """Of the initial weights and of the order of the images."""
    features: int = 64
    """How many numbers describe a picture."""
    width: int = 32
    """Channels of the first convolution; the other two have twice as many."""
    batch_size: int = 64
    """Images in a step."""
    examples: int = 120_000
    """Images to learn from in all, as long as that is at most `epochs` rounds of the data."""
    epochs: int = 12
    """Rounds of a small data set."""
    lr: float = 4e-3
    """Step size of AdamW at its highest: it rises and falls along a cosine."""


_RECIPE = Recipe()
_BATCH = 500
_SECONDS = 10.0
"""How long to be silent before and between words of progress."""


class Net(nn.Module):
    """Three convolutions and a layer of features, each with mean 0 and variance 1.

    Pictures of any size are brought to a side of 14 to 27 by the stride of the first convolution
    (smaller ones stay as they are), to half of that by the second, and to 4 x 4 by a mean.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, recipe: Recipe = _RECIPE) -> None:
        super().__init__()
        channels, height, width = shape
        stride = max(1, min(height, width) // 14)
        w = recipe.width
        self.trunk = nn.Sequential(
            *_convolution(channels, w, stride + 2, stride),
            *_convolution(w, 2 * w, 3, 2),
            *_convolution(2 * w, 2 * w, 3, 1),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * 2 * w, recipe.features),
            nn.SiLU(),
            nn.BatchNorm1d(recipe.features, affine=False),
        )
        self.head = nn.Linear(recipe.features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """The features, float [N, d], of IMAGES, uint8 [N, C, H, W]."""
        x: Tensor = self.trunk(images / 127.5 - 1)
        return x


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.SiLU()]


@dataclass(frozen=True, eq=False)
class Features:
    """A trained classifier, without the answers."""

    net: Net
    accuracy: float
    """Share of the test images (rotated, if that is what it learned) that it gets right."""

    def __call__(self, images: Tensor, device: torch.device | None = None) -> Tensor:
        """The features, float32 [N, d] on DEVICE, of IMAGES, uint8 [N, C, H, W]."""
        net = self.net.to(device)
        with torch.no_grad():
            return torch.cat([net(batch.to(device)) for batch in torch.split(images, _BATCH)])


def digest(task: Dataset) -> str:
    """A hash of the data and the recipe: equal if and only if the features are."""
    sha = hashlib.sha256(repr((astuple(_RECIPE), task.shape, len(task.classes))).encode())
    for split in (task.split("train"), task.split("test")):
        for tensor in (split.images, split.labels):
            sha.update(tensor.contiguous().numpy().data)
    return sha.hexdigest()


def features(task: Dataset) -> Features:
    """The features of TASK: out of the cache, or learned now, which takes up to a minute."""
    place = cache() / f"{digest(task)[:32]}.safetensors"
    with _alone(_RECIPE.seed):  # initial weights are drawn
        net = Net(task.shape, _questions(task))
    try:
        tensors = load_file(place)
        accuracy = tensors.pop("accuracy").item()
        net.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, RuntimeError):  # none, or not a whole one
        net, accuracy = learn(task)
        _keep(place, {**net.state_dict(), "accuracy": torch.tensor(accuracy, dtype=torch.float64)})
    return Features(net.eval(), accuracy)


def cache() -> Path:
    """The folder of trained classifiers."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corelab" / "features"


def _keep(place: Path, tensors: dict[str, Tensor]) -> None:
    """Write TENSORS to PLACE in one go, so that no other process sees half of them."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file:
            file.write(save(tensors))
        Path(file.name).replace(place)
    except OSError as error:
        _say(f"features: they cannot be kept for the next time ({error})")


def learn(task: Dataset, recipe: Recipe = _RECIPE) -> tuple[Net, float]:
    """A classifier trained on the training images of TASK, and its accuracy on the test images.

    On the CPU, in one thread and from its own seed, so that neither the run nor the machine's
    number of cores changes it; the global random streams are left as they were.
    """
    train, test = (_lesson(task, task.split(name)) for name in ("train", "test"))
    with _alone(recipe.seed):
        net = Net(task.shape, _questions(task), recipe)
        steps = min(recipe.examples, recipe.epochs * len(train)) // recipe.batch_size
        optimizer = torch.optim.AdamW(net.parameters(), recipe.lr, fused=True)
        said, spoke = time.monotonic(), False
        order = torch.empty(0, dtype=torch.int64)
        for step in range(steps):
            done = step / steps
            for group in optimizer.param_groups:  # up during the first fifth, then down
                phase = done / 0.2 if done < 0.2 else (1 - done) / 0.8
                group["lr"] = recipe.lr * (1 - math.cos(math.pi * phase)) / 2 + 1e-6
            while len(order) < recipe.batch_size:
                order = torch.cat([order, torch.randperm(len(train))])
            x, y = train.take(order[: recipe.batch_size])
            order = order[recipe.batch_size :]
            loss = F.cross_entropy(net.head(net(x)), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if time.monotonic() - said >= _SECONDS:
                said, spoke = time.monotonic(), True
                _say(f"features: learning from {len(train):,} training images: {done:.0%}")
        net.eval()
        with torch.no_grad():
            right = sum(
                (net.head(net(x)).argmax(1) == y).sum().item()
                for x, y in zip(
                    *(torch.split(t, _BATCH) for t in (test.images, test.labels)), strict=True
                )
            )
    accuracy = right / len(test)
    if spoke:
        _say(f"features: learned; {accuracy:.1%} of the test images are told right")
    return net, accuracy


def _turns(task: Dataset) -> tuple[int, ...]:
    """The quarter turns to be told apart; () if the classes are."""
    _, height, width = task.shape
    return () if len(task.classes) > 1 else (0, 1, 2, 3) if height == width else (0, 2)


def _questions(task: Dataset) -> int:
    """How many answers there are to choose from."""
    return len(_turns(task)) or len(task.classes)


def _lesson(task: Dataset, split: Split) -> Split:
    """SPLIT as it is, or in every turn."""
    turns = _turns(task)
    if not turns:
        return split
    images = torch.cat([split.images.rot90(k, (2, 3)) for k in turns])
    return Split(images, torch.arange(len(turns)).repeat_interleave(len(split)))


@contextmanager
def _alone(seed: int) -> Iterator[None]:
    """Within: torch has one thread and the random stream of SEED."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
