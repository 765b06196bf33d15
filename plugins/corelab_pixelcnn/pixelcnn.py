"""PixelCNN: images drawn pixel by pixel, with their exact likelihood.

Every image x is a sequence of sub-pixels, so whatever its distribution is,

    log p(x) = Σ_i log p(x_i | x_1, …, x_{i-1})                        (arXiv:1601.06759, eq. 1)

and a network that gives the factors is trained to make the sum large: no bound, no sampling. Which
network is a matter of the model: `plain` (van den Oord et al. 2016, arXiv:1601.06759), `gated` (van
den Oord et al. 2016, arXiv:1606.05328), `plusplus` (Salimans et al. 2017, arXiv:1701.05517).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, SupportsFloat

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_datasets.interface import Dataset, minibatch
from corelab_datasets.interface import Split as ImageSplit
from corelab_generative.labels import choose, unconditional
from corelab_generative.likelihoods import bits_per_dim
from corelab_generative.mixture import Categorical, Mixture, SymbolLikelihood
from corelab_generative.pictures import read, show
from corelab_generative.quality import compare
from corelab_kernels.philox import uniforms
from corelab_media import Images
from corelab_nets.autoregressive import Autoregressive
from corelab_nets.kernel import Sampler, Samplers
from torch import Tensor, nn

from corelab import ConfigError, Context, Saved, Split, UpdateConfig, require
from corelab_pixelcnn.interface import AutoregressiveModel

_BATCH = 250
"""Images at a time where nothing is learned. Fixed, because the bits they are drawn as depend on
it."""
_VALIDATION = 1000
"""Images that an evaluation looks at while training goes on, if it is not told how many."""
_COMPLETED = 8
"""Images of which the lower half is completed in an evaluation."""


class NLL(nn.Module):
    """The negative log-likelihood, as one module so that the updater can spread and average it."""

    def __init__(self, net: Autoregressive, likelihood: SymbolLikelihood) -> None:
        super().__init__()
        self.net = net
        self.likelihood = likelihood

    def forward(self, symbols: Tensor, labels: Tensor | None) -> Tensor:
        """-log p(x | y) in nats, [N], for SYMBOLS x, integers [N, C, H, W], and LABELS y, [N]."""
        log_p = self.likelihood.log_prob(symbols, self.net(symbols, labels).float())
        return -log_p.flatten(1).sum(1)


class PixelCNN(Saved):
    """Autoregressive networks: images drawn pixel by pixel, with their exact likelihood."""

    @dataclass(frozen=True)
    class Config:
        """Options of the PixelCNN."""

        likelihood: Literal["mixture", "categorical", "bernoulli"] = "mixture"
        """What is predicted of a sub-pixel: a "mixture" of logistics over its 256 levels, a
        "categorical" that has a number for each of them, or, where the level is taken for the
        probability of a white pixel and drawn anew each time, which of the two it is."""
        components: int = 5
        """Logistics in the mixture of a sub-pixel."""
        patch: int = 1
        """Height and width of the squares of pixels that are drawn one after the other, with their
        pixels as channels: 2 makes a step four times cheaper and changes the order of pixels."""
        conditional: bool = False
        """Whether the network is told the class of the image, so that it can be asked for."""
        batch_size: int = 16
        """Images in a step."""
        lr: float = 4e-3
        """Step size of Adam, after it has risen from zero over the first hundredth of the run; it
        falls to zero again along half a cosine."""

    unit: ClassVar[str] = "examples"
    default_task: ClassVar[str] = "digits"
    default_model: ClassVar[str] = "gated"
    default_steps: ClassVar[int] = 50_000
    best: ClassVar[str] = "min eval/bits_per_dim"
    highlights: ClassVar[tuple[str, ...]] = ("train/bits_per_dim", "eval/bits_per_dim")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # 17 levels, far from one another
        "digits": {
            "steps": 10_000,
            "algorithm.likelihood": "categorical",
            "model.layers": 4,
            "model.channels": 32,
        },
        # on a CPU updates are scarce, so they are small ones with large steps
        "fashion-mnist": {
            "steps": 60_000,
            "algorithm.patch": 2,
            "algorithm.batch_size": 8,
            "algorithm.lr": 3e-3,
        },
        "mnist": {
            "steps": 60_000,
            "algorithm.likelihood": "bernoulli",
            "algorithm.batch_size": 8,
            "algorithm.lr": 3e-3,
            "model.channels": 32,
        },
        "images": {
            "steps": 60_000,
            "algorithm.patch": 2,
            "algorithm.batch_size": 8,
            "algorithm.lr": 3e-3,
        },
    }
    update: ClassVar[UpdateConfig] = UpdateConfig(ema=0.05, clip=1.0)
    sharded: ClassVar[tuple[str, ...]] = ("batch_size",)
    adjustable: ClassVar[tuple[str, ...]] = ("lr",)

    saved: ClassVar[tuple[str, ...]] = ("net", "updater", "progress")

    def __init__(
        self, config: Config, task: Dataset, model: AutoregressiveModel, context: Context
    ) -> None:
        _check(config, task.shape)
        self.config, self.task, self.context = config, task, context
        self._train = task.split("train")
        C, H, W = task.shape
        p = config.patch
        self._shape = (C * p * p, H // p, W // p)
        likelihood = self._likelihood()
        self.net = model(
            shape=self._shape,
            outputs=likelihood.parameters,
            levels=2 if config.likelihood == "bernoulli" else 256,
            classes=len(task.classes) if config.conditional else 0,
        )
        optimizer = torch.optim.Adam(self.net.parameters(), config.lr, fused=True)
        self.updater = context.updater(NLL(self.net, likelihood), optimizer)
        self.progress = 0
        self._order = context.seed_for("order", shared=True)
        self._samplers = Samplers(context, "images")

    def _likelihood(self) -> SymbolLikelihood:
        if self.config.likelihood == "mixture":
            return Mixture(self.config.components, self._shape[0])
        if self.config.likelihood == "bernoulli":
            return Categorical(2)
        counts = torch.bincount(self._train.images.flatten(), minlength=256)
        return Categorical(256, counts.float())

    def step(self) -> dict[str, SupportsFloat]:
        """One minibatch of gradient descent on the negative log-likelihood."""
        config, context = self.config, self.context
        done = min(1.0, self.progress / context.steps)
        lr = config.lr * min(1.0, done * 100 + 0.01) * (1 + math.cos(math.pi * done)) / 2
        for group in self.updater.optimizer.param_groups:
            group["lr"] = lr

        indices = minibatch(len(self._train), config.batch_size, self.progress, self._order)
        batch = self._observe(self._train, indices, context.generator("noise", shared=True))
        _, nll = self.updater(self._losses, *map(context.shard, batch))
        self.progress += config.batch_size
        return self._figures(nll)

    def _losses(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        nll = self.updater.module(x, y).mean()
        return bits_per_dim(nll, self.task.shape), nll

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0, *, quality: int = 0
    ) -> dict[str, SupportsFloat | Images]:
        """The likelihood of the first N images of SPLIT, completed images and samples.

        N is None for all of the test images, or 1,000 of the validation images. QUALITY > 0 adds a
        comparison of so many samples with the images of SPLIT.
        """
        if n is not None and n < 1:
            raise ConfigError(f"an evaluation takes at least 1 image, got n = {n}")
        data = self.task.split(split)
        n = n or (_VALIDATION if split == "validation" else len(data))
        batches = torch.split(torch.arange(len(data))[:n], _BATCH)
        generator = torch.Generator(self.context.device).manual_seed(seed)
        nll = 0.0
        with self.updater.at_rest() as module:
            for batch in batches:
                nll += module(*self._observe(data, batch, generator)).double().sum().item()
        x, y = self._observe(data, batches[0][:_COMPLETED], generator)
        completed = self._draw(generator, y, len(x), prefix=x[:, :, : self._shape[1] // 2])
        figures = self._figures(nll / sum(map(len, batches)))
        if quality:

            def draw(labels: Tensor) -> Tensor:
                return self._draw(generator, labels, len(labels))

            figures |= compare(self.task, draw, quality, seed, self.context.device, split)
        pairs = torch.cat([self._image(x), completed])
        return {
            **figures,
            "completions": show(pairs, columns=len(x)),
            "samples": self.sample(64, seed),
        }

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        *,
        class_: str = "",
        temperature: float = 1.0,
        top_k: int = 0,
        complete: Path | None = None,
        rows: int = 0,
        sampler: Sampler = "auto",
        float64: bool = False,
    ) -> Images:
        """N images, each pixel drawn given those before it.

        CLASS_ is the class, by name or number, that a conditional network is asked for. The
        log-probabilities are divided by TEMPERATURE, and of the TOP_K likeliest levels (0: of all)
        one is drawn. COMPLETE is a picture whose first ROWS rows (0: half) all images begin with.
        SAMPLER is "naive" (a pass of the network for each sub-pixel), "cached" (only what is new),
        "kernel" (the same, compiled) or "auto": the kernel if there is one, else cached. With
        FLOAT64 the network is computed in float64, where all of them draw the same images.
        """
        require(0 < temperature < math.inf, "--temperature", temperature, "positive")
        require(top_k >= 0, "--top-k", top_k, "zero or positive")
        device, labels = self.context.device, None
        if self.config.conditional:
            labels = choose(self.task, class_, n, device)
        else:
            unconditional(class_)
        generator = torch.Generator(device).manual_seed(seed)
        prefix = None
        if complete is not None:
            prefix = self._prefix(complete, rows, generator).expand(n, -1, -1, -1)
        elif rows:
            raise ConfigError("--rows is for --complete: name the picture that is to be completed")
        options = {"temperature": temperature, "top_k": top_k}
        drawn = self._draw(
            generator, labels, n, prefix, sampler=sampler, float64=float64, **options
        )
        return show(drawn)

    def _prefix(self, picture: Path, rows: int, generator: torch.Generator) -> Tensor:
        """The first ROWS rows of PICTURE as symbols [1, C, rows, W] of the network."""
        height, p = self.task.shape[1], self.config.patch
        rows = rows or self._shape[1] // 2 * p
        fits = 0 < rows <= height and rows % p == 0
        require(fits, "--rows", rows, f"a multiple of {p} from {p} to {height}")
        image = read(picture, self.task.shape)[None].to(self.context.device)
        return self._symbols(image, generator)[:, :, : rows // p]

    def _draw(
        self,
        generator: torch.Generator,
        labels: Tensor | None,
        n: int,
        prefix: Tensor | None = None,
        *,
        sampler: Sampler = "auto",
        float64: bool = False,
        **options: Any,
    ) -> Tensor:
        """Images uint8 [N, C, H, W]. The uniforms of each follow from its number and one draw."""
        device = self.context.device
        (seed,) = torch.randint(2**62, (1,), generator=generator, device=device).tolist()
        u = torch.from_numpy(uniforms(seed, n, math.prod(self._shape))).view(n, *self._shape)
        drawn = []
        with self.updater.at_rest() as module:
            net = copy.deepcopy(module.net).double() if float64 else module.net
            law = module.likelihood
            told = {"components": law.components, "offset": law.offset, "levels": law.levels}
            draw = self._samplers(sampler, net, **told)
            for i in range(0, n, _BATCH):
                part = slice(i, i + _BATCH)
                symbols = draw(
                    u[part].to(net.background),
                    labels=labels[part] if labels is not None and self.config.conditional else None,
                    prefix=prefix[part] if prefix is not None else None,
                    **options,
                )
                drawn.append(self._image(symbols))
        return torch.cat(drawn)

    def _observe(
        self, data: ImageSplit, indices: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """The images at INDICES as symbols, and the labels if the network is told them."""
        images, labels = data.take(indices)
        symbols = self._symbols(images.to(self.context.device), generator)
        return symbols, labels.to(self.context.device) if self.config.conditional else None

    def _symbols(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Symbols uint8 [N, C p², H / p, W / p] of IMAGES, uint8 [N, C, H, W]."""
        if self.config.likelihood == "bernoulli":
            images = torch.bernoulli(images / 255, generator=generator).to(torch.uint8)
        return F.pixel_unshuffle(images, self.config.patch)

    def _image(self, symbols: Tensor) -> Tensor:
        """Images uint8 [N, C, H, W] of SYMBOLS, [N, C p², H / p, W / p]."""
        white = 255 if self.config.likelihood == "bernoulli" else 1
        return F.pixel_shuffle(symbols.to(torch.uint8) * white, self.config.patch)

    def _figures(self, nll: Any) -> dict[str, SupportsFloat]:
        """What is reported of the mean of -log p(x), in nats."""
        return {"nll_nats": nll, "bits_per_dim": bits_per_dim(nll, self.task.shape)}


def _check(config: PixelCNN.Config, shape: tuple[int, int, int]) -> None:
    known = ("mixture", "categorical", "bernoulli")
    one_of = f"one of {', '.join(known)}"
    require(config.likelihood in known, "algorithm.likelihood", config.likelihood, one_of)
    require(config.components >= 1, "algorithm.components", config.components, "at least 1")
    require(config.batch_size >= 1, "algorithm.batch_size", config.batch_size, "at least 1")
    require(0 < config.lr < math.inf, "algorithm.lr", config.lr, "positive")
    p, (_, H, W) = config.patch, shape
    fits = p >= 1 and H % p == 0 and W % p == 0
    divides = f"a divisor of the height and width of the images, {H} x {W}"
    require(fits, "algorithm.patch", p, divides)
