"""What a trained autoencoder can show: reconstructions, ways between images, single latents, sums.

Each picture is the centre of p(x|z), or a draw from it. Codes are those of test images, the mean of
q(z|x) each, except where codes are drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from corelab_datasets.interface import Dataset
from corelab_generative.labels import choose, number, unconditional
from corelab_generative.likelihoods import Likelihood
from corelab_generative.pictures import show
from corelab_media import Images
from torch import Tensor

from corelab import ConfigError
from corelab_vae.codes import CodeDistribution, slerp
from corelab_vae.interface import Autoencoder

BATCH = 500
"""Images at a time where nothing is learned. Fixed, because the noise they get depends on it."""
_CODED = 10_000
"""Images of the training split that are coded where something has to be known of all codes."""
_WAY = 8
"""Pictures from one image to another."""
_DEVIATIONS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
_AMOUNTS = (0.0, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True, eq=False)
class Gallery:
    """The pictures of one trained network. A CLASS_ is a class's name or number, or empty."""

    net: Autoencoder
    likelihood: Likelihood
    task: Dataset
    conditional: bool
    """Whether the network is told the classes of images."""
    generator: torch.Generator
    """Chooses among test images, and draws codes and noise."""
    noise: bool = False
    """Whether pixels are drawn, rather than shown at the centre of their distribution."""

    def samples(self, codes: CodeDistribution, n: int, class_: str = "") -> Images:
        """N images whose codes are drawn from CODES."""
        if not self.conditional:
            unconditional(class_)
        return show(self.draw(codes, choose(self.task, class_, n, self.generator.device)))

    def draw(self, codes: CodeDistribution, y: Tensor) -> Tensor:
        """An image for each of the labels Y [N], float [N, C, H, W] in [-1, 1]."""
        return self._decode(codes.draw(len(y), self.generator), y)

    def reconstructions(self, n: int, class_: str = "") -> Images:
        """Pairs, N pictures in all: a test image, and what is decoded from its code.

        A conditional network may decode as CLASS_ what it coded as the class that the image has;
        of any other CLASS_ says which images to take.
        """
        x, y = self._test_images(max(1, n // 2), "" if self.conditional else class_)
        other = choose(self.task, class_, len(y), y.device) if class_ else y
        return _beside(x, self._decode(self._encode(x, y), other))

    def pairs(self, x: Tensor, y: Tensor | None) -> Images:
        """Each of the images X [N, C, H, W], of the classes Y [N], beside its reconstruction."""
        return _beside(x, self._decode(self._encode(x, y), y))

    def interpolations(self, codes: CodeDistribution, n: int, class_: str = "") -> Images:
        """Rows of 8, N pictures in all: on the sphere from the code of a test image to another's.

        Its centre is the mean of CODES. The two images are of the same class if there is a CLASS_
        or the network knows them.
        """
        rows = max(1, n // _WAY)
        x, y = self._test_images(2 * rows, class_, each=2)
        z = self._encode(x, y) - codes.mean
        t = torch.linspace(0, 1, _WAY, device=z.device)
        return self._rows(slerp(z[::2], z[1::2], t) + codes.mean, y[::2])

    def traversals(self, codes: CodeDistribution, n: int, class_: str = "") -> Images:
        """Rows of 7, N pictures in all: the code of one test image, but for one of its numbers.

        It goes from 3 standard deviations of CODES below its mean to 3 above. The first rows are of
        the numbers that differ most between images.
        """
        x, y = self._test_images(1, class_)
        steps = x.new_tensor(_DEVIATIONS)
        z, _ = self.training_codes()
        most_used = z.var(0).argsort(descending=True)[: max(1, n // len(steps))]
        rows = self._encode(x, y).expand(len(most_used), len(steps), -1).clone()
        for row, j in zip(rows, most_used, strict=True):
            row[:, j] = codes.mean[j] + steps * codes.scale[j]
        return self._rows(rows, y.expand(len(rows)))

    def arithmetic(self, n: int, add: str, remove: str) -> Images:
        """Rows of 6, N pictures in all: a test image, then its code with ADD less REMOVE added.

        A class stands for the mean code of its training images, and one that is empty for the mean
        of all. Their difference is added 0, ½, 1, 1½ and 2 times, to images of the class REMOVE.
        """
        if self.conditional:
            raise ConfigError(
                "--add and --remove: this run's codes leave out the class, which its network is "
                "told; show images as those of another class by --reconstruct --class NAME"
            )
        z, y = self.training_codes()
        plus, minus = (self._mean_code(z, y, class_) for class_ in (add, remove))
        x, labels = self._test_images(max(1, n // (1 + len(_AMOUNTS))), remove)
        changed = [self._encode(x, labels) + amount * (plus - minus) for amount in _AMOUNTS]
        pictures = torch.stack([x, *(self._decode(z, labels) for z in changed)], 1)
        return show(pictures.flatten(0, 1), columns=1 + len(_AMOUNTS))

    def training_codes(self) -> tuple[Tensor, Tensor]:
        """The codes [N, d] of training images, of the first 10,000 at most, and their labels."""
        train = self.task.split("train")
        y = train.labels[:_CODED].to(self.generator.device)
        x = self._observe(train.images[:_CODED])
        return self._encode(x, y), y

    def _mean_code(self, z: Tensor, y: Tensor, class_: str) -> Tensor:
        if not class_:
            return z.mean(0)
        members = y == number(self.task, class_)
        if not members.any():
            raise ConfigError(f"no training image is of the class {class_!r}")
        return z[members].mean(0)

    def _test_images(self, n: int, class_: str, each: int = 1) -> tuple[Tensor, Tensor]:
        """N test images at random, float [N, C, H, W], and their labels [N].

        Of CLASS_; without one of any class, in groups of EACH of the same one if the network knows
        classes. None comes again before all that there are have come.
        """
        test = self.task.split("test")
        device = self.generator.device
        order = torch.randperm(len(test), generator=self.generator, device=device).cpu()
        if class_:
            order = order[test.labels[order] == number(self.task, class_)]
            if len(order) == 0:
                raise ConfigError(f"no test image is of the class {class_!r}")
        groups = [order]
        if self.conditional:
            labels = test.labels[order]
            groups = [order[labels == label] for label in torch.unique(labels)]
        queues = [itertools.cycle(group.tolist()) for group in groups]
        turns = itertools.cycle(queue for queue in queues for _ in range(each))
        images, y = test.take(torch.tensor([next(queue) for queue in itertools.islice(turns, n)]))
        return self._observe(images), y.to(device)

    def _observe(self, images: Tensor) -> Tensor:
        return self.likelihood.observe(images.to(self.generator.device), self.generator)

    def _rows(self, z: Tensor, y: Tensor) -> Images:
        """What the codes Z [rows, columns, d] stand for, in a row all of the class in Y [rows]."""
        columns = z.shape[1]
        return show(self._decode(z.flatten(0, 1), y.repeat_interleave(columns)), columns)

    def _encode(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The mean of q(z|x), [N, d]."""
        pieces = self._batches(x, y)
        return torch.cat([self.net.encode(x, y)[0].float() for x, y in pieces])

    def _decode(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Pictures [N, C, H, W] in [-1, 1]."""
        pictures = []
        for piece, labels in self._batches(z, y):
            parameters = self.net.decode(piece, labels).float()
            pictures.append(
                self.likelihood.draw(parameters, self.generator)
                if self.noise
                else self.likelihood.centre(parameters)
            )
        return torch.cat(pictures)

    def _batches(self, rows: Tensor, y: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
        told = (
            torch.split(y, BATCH) if self.conditional and y is not None else itertools.repeat(None)
        )
        yield from zip(torch.split(rows, BATCH), told, strict=False)


def _beside(x: Tensor, reconstructions: Tensor) -> Images:
    return show(torch.stack([x, reconstructions], 1).flatten(0, 1), columns=8)
