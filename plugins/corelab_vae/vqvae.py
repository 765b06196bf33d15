"""Neural discrete representation learning (van den Oord et al. 2017, arXiv:1711.00937).

An encoder turns an image into a grid of vectors z, each is rounded to the nearest entry e_k of a
codebook, and a decoder turns the entries into the distribution of the image. In a first phase these
are trained with

    L = -log p(x|e) + β ||z - sg[e]||²                                                     (eq. 3)

where sg[] stops the gradient; that of the first term passes e on its way to the encoder as if z had
not been rounded. The codebook follows the z by moving averages (appendix A.1). In the second phase
all of it rests, and an autoregressive prior learns the numbers k of the entries. Together they
bound the likelihood:

    log p(x) ≥ log p(x|k(x)) + log p(k(x))                                           (section 3.2)

With two levels of codes it is VQ-VAE-2 (Razavi et al. 2019, arXiv:1906.00446).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, SupportsFloat

import torch
from corelab_datasets.interface import Dataset, minibatch
from corelab_generative.labels import choose, unconditional
from corelab_generative.likelihoods import bits_per_dim
from corelab_generative.pictures import levels as to_levels
from corelab_generative.pictures import scaled, show
from corelab_generative.quality import compare
from corelab_media import Images
from corelab_nets.kernel import Sampler, Samplers
from torch import Tensor

from corelab import ConfigError, Context, Saved, Split, UpdateConfig, require
from corelab_vae.prior import Prior
from corelab_vae.quantised import LIKELIHOOD, Coded, QuantisedAutoencoder
from corelab_vae.quantiser import Codebook, perplexity

_BATCH = 500
"""Images at a time where nothing is learned. Fixed, because what is drawn depends on it."""
_PAIRS = 8
"""How many reconstructions are shown."""
_WAY = 8
"""Pictures from one image to another."""


class VQVAE(Saved):
    """Vector-quantised autoencoder: images from grids of codes, and a prior over the codes."""

    @dataclass(frozen=True)
    class Config:
        """Options of the vector-quantised autoencoder."""

        levels: Literal[1, 2] = 1
        """Grids of codes: 1 is the VQ-VAE, 2 is the VQ-VAE-2, whose fine grid depends on a coarse
        one."""
        entries: int = 128
        """How many entries a codebook has."""
        dim: int = 8
        """How many numbers an entry has."""
        commitment: float = 0.25
        """Weight of what keeps the encoder near the codebook, as the loss counts nats per
        sub-pixel."""
        decay: float = 0.99
        """Weight of the past in the averages that the codebook consists of."""
        revive: float = 0.05
        """An entry that is used less than this share of the average one is put in the place of a
        vector of the current batch."""
        prior_share: float = 0.4
        """The share of the budget, at its end, in which the prior over the codes is trained."""
        prior_channels: int = 64
        """Channels of the prior's network."""
        prior_layers: int = 4
        """Layers of the prior's network."""
        conditional: bool = False
        """Whether the prior is told the class of an image."""
        batch_size: int = 64
        """Images in a step."""
        lr: float = 2e-3
        """Step size of Adam for encoder and decoder; it falls to zero along half a cosine."""
        prior_lr: float = 2e-3
        """Step size of Adam for the prior; it falls to zero along half a cosine."""

    unit: ClassVar[str] = "examples"
    default_task: ClassVar[str] = "digits"
    default_model: ClassVar[str] = "vq-conv"
    default_steps: ClassVar[int] = 200_000
    best: ClassVar[str] = "min eval/bits_per_dim"
    highlights: ClassVar[tuple[str, ...]] = (
        "train/reconstruction_nats",
        "train/code_nats",
        "eval/bits_per_dim",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "digits": {
            "steps": 60_000,
            "algorithm.entries": 8,
            "algorithm.lr": 5e-3,
            "algorithm.prior_share": 0.3,
            "algorithm.prior_channels": 32,
            "algorithm.prior_layers": 2,
            "model.halvings": 1,
        },
        "fashion-mnist": {"steps": 300_000},
        "mnist": {"steps": 300_000},
        "images": {
            "steps": 1_000_000,
            "algorithm.entries": 512,
            "algorithm.prior_layers": 8,
            "model.channels": 64,
            "model.blocks": 2,
        },
    }

    update: ClassVar[UpdateConfig] = UpdateConfig()
    sharded: ClassVar[tuple[str, ...]] = ("batch_size",)

    saved: ClassVar[tuple[str, ...]] = (
        "autoencoder",
        "prior",
        "updater",
        "prior_updater",
        "progress",
        "began",
    )

    def __init__(
        self, config: Config, task: Dataset, model: Callable[..., Any], context: Context
    ) -> None:
        _check(config)
        self.config, self.task, self.context = config, task, context
        L, K, d = config.levels, config.entries, config.dim
        net = model(shape=task.shape, dim=d, levels=L, outputs=LIKELIHOOD.parameters)
        books = [context.build(Codebook, K, d, config.decay, config.revive) for _ in range(L)]
        self.autoencoder = QuantisedAutoencoder(net, books)
        self.prior = context.build(
            Prior,
            grids=net.grids,
            entries=K,
            classes=len(task.classes) if config.conditional else 0,
            channels=config.prior_channels,
            layers=config.prior_layers,
        )
        adam = torch.optim.Adam(self.autoencoder.parameters(), config.lr, fused=True)
        # its codebooks follow the weights themselves, so that an average would not fit them
        self.updater = context.updater(self.autoencoder, adam, averages=False)
        adam = torch.optim.Adam(self.prior.parameters(), config.prior_lr, fused=True)
        self.prior_updater = context.updater(self.prior, adam)
        self.progress = 0
        self.began: int | None = None
        """The progress with which the second phase began; None in the first."""

        self._train = task.split("train")
        self._order = context.seed_for("order", shared=True)
        self._coded: list[Coded] = []
        self._codes: list[Tensor] = []
        self._samplers = Samplers(context, "codes")

    def load(self, directory: Path) -> None:
        """Become what was saved in DIRECTORY."""
        super().load(directory)
        self._codes = []

    def step(self) -> dict[str, SupportsFloat]:
        """One minibatch for the autoencoder or, in the second phase, for the prior."""
        config, context = self.config, self.context
        boundary = (1 - config.prior_share) * context.steps
        if self.began is None and self.progress >= boundary:
            self.began = self.progress
        indices = minibatch(len(self._train), config.batch_size, self.progress, self._order)
        indices = context.shard(indices)
        images, labels = self._train.take(indices)
        if self.began is None:
            _anneal(self.updater.optimizer, config.lr, self.progress / boundary)
            figures = self._learn_codes(images)
        else:
            done = (self.progress - self.began) / max(1, context.steps - self.began)
            _anneal(self.prior_updater.optimizer, config.prior_lr, done)
            figures = self._learn_prior(indices, labels)
        self.progress += config.batch_size
        return figures

    def _learn_codes(self, images: Tensor) -> dict[str, SupportsFloat]:
        x = scaled(images.to(self.context.device))
        loss, nll, commitment = self.updater(self._losses, x)
        generator = self.context.generator("codebook", shared=True)
        pieces, self._coded = self._coded, []
        counts = []
        for level in range(self.config.levels):
            z = torch.cat([coded.z[level].detach() for coded in pieces])
            k = torch.cat([coded.k[level] for coded in pieces])
            counts.append(self.autoencoder.book(level).learn(z, k, generator, self.context))
        return {
            "loss": loss,
            "reconstruction_nats": nll,
            "commitment": commitment,
            **_usage(counts),
        }

    def _losses(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nll, commitment, coded = self.updater.module(x)
        self._coded.append(coded)
        per_dim = nll.mean() / math.prod(self.task.shape)
        loss = per_dim + self.config.commitment * commitment.mean()
        return loss, nll.mean(), commitment.mean()

    def _learn_prior(self, indices: Tensor, labels: Tensor) -> dict[str, SupportsFloat]:
        if not self._codes:  # they follow from weights that rest from now on
            self._codes = self._code(self._train.images)
        rows = indices.to(self.context.device)
        codes = [k.index_select(0, rows) for k in self._codes]
        (nats,) = self.prior_updater(self._prior_loss, self._labels(labels), *codes)
        return {"code_nats": nats}

    def _prior_loss(self, labels: Tensor | None, *codes: Tensor) -> tuple[Tensor]:
        return (self.prior_updater.module(codes, labels).mean(),)

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0, *, quality: int = 0
    ) -> dict[str, SupportsFloat | Images]:
        """The bound on the first N images of SPLIT (None: all), reconstructions and samples.

        With QUALITY, so many samples are also compared with the images of SPLIT. In the first
        phase the codes are counted, and drawn, as if all were equally probable.
        """
        if n is not None and n < 1:
            raise ConfigError(f"an evaluation takes at least 1 image, got n = {n}")
        part = self.task.split(split)
        images, device = part.images[:n], self.context.device
        labels = self._labels(part.labels[:n])
        nll = code_nats = 0.0
        counts = [torch.zeros(self.config.entries, device=device)] * self.config.levels
        with self.updater.at_rest() as autoencoder:
            for rows in torch.split(torch.arange(len(images)), _BATCH):
                nll_B, _, coded = autoencoder(scaled(images[rows].to(device)))
                nats_B = self._code_nats(coded.k, None if labels is None else labels[rows])
                nll += nll_B.double().sum().item()
                code_nats += nats_B.double().sum().item()
                counts = [
                    c + torch.bincount(k.flatten(), minlength=len(c))
                    for c, k in zip(counts, coded.k, strict=True)
                ]
        nll, code_nats = nll / len(images), code_nats / len(images)
        figures = {
            "elbo_nats": -(nll + code_nats),
            "bits_per_dim": bits_per_dim(nll + code_nats, self.task.shape),
            "reconstruction_nats": nll,
            "code_nats": code_nats,
            **_usage(counts),
        }
        if quality:
            figures |= self._compare(split, quality, seed)
        return {
            **figures,
            "reconstructions": self._pairs(images[:_PAIRS]),
            "samples": self.sample(64, seed),
        }

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        *,
        class_: str = "",
        temperature: float = 1.0,
        reconstruct: bool = False,
        interpolate: bool = False,
        sampler: Sampler = "auto",
        float64: bool = False,
    ) -> Images:
        """N images decoded from codes of the prior, each pixel at the centre of its p(x|k).

        CLASS_ is the name or number of a class, for a conditional prior; "" takes all in turn. A
        TEMPERATURE below 1 makes probable codes more probable. With RECONSTRUCT, the first N images
        of the test split instead, each beside what becomes of it. With INTERPOLATE, rows of 8, N
        pictures in all, from one test image to another. SAMPLER draws the codes: "naive" (a pass of
        the prior for each), "cached" (only what is new), "kernel" (the same, compiled) or "auto":
        the kernel if there is one, else cached. With FLOAT64 the prior is computed in float64,
        where all of them draw the same codes.
        """
        require(0 < temperature < math.inf, "--temperature", temperature, "positive")
        if reconstruct and interpolate:
            raise ConfigError("--reconstruct and --interpolate: ask for one at a time")
        chosen = sampler != "auto" or float64
        if (reconstruct or interpolate) and (class_ or temperature != 1 or chosen):
            mode = "--reconstruct" if reconstruct else "--interpolate"
            raise ConfigError(
                f"{mode} draws nothing: leave out --class, --temperature, --sampler and --float64"
            )
        if chosen and self.began is None:
            raise ConfigError(
                "--sampler and --float64 are for the prior, which this run has not begun to learn"
            )
        if interpolate:
            return self._ways(max(1, n // _WAY), seed)
        if reconstruct:
            return self._pairs(self.task.split("test").images[:n])
        labels = None
        if self.config.conditional:
            labels = choose(self.task, class_, n, self.context.device)
        else:
            unconditional(class_)
        generator = torch.Generator(self.context.device).manual_seed(seed)
        drawn = self._draw(n, labels, generator, temperature, sampler=sampler, float64=float64)
        return show(drawn)

    def encode(self, images: Tensor) -> Tensor:
        """The vectors before rounding of IMAGES, uint8 [N, C, H, W]: float [N, levels d, h, w].

        A coarse level is repeated to the size of the fine one and comes first.
        """
        with self.updater.at_rest() as autoencoder:
            pieces = [
                autoencoder.latents(scaled(batch.to(self.context.device)))
                for batch in torch.split(images, _BATCH)
            ]
        return torch.cat(pieces)

    def decode(self, z: Tensor) -> Tensor:
        """Images, uint8 [N, C, H, W], for vectors Z [N, levels d, h, w], which it rounds."""
        with self.updater.at_rest() as autoencoder:
            pieces = [
                _centre(autoencoder, autoencoder.nearest(batch))
                for batch in torch.split(z.to(self.context.device), _BATCH)
            ]
        return torch.cat(pieces)

    def _code(self, images: Tensor) -> list[Tensor]:
        """The codes of IMAGES, uint8 [N, C, H, W]: int64 [N, h, w] for each level."""
        with self.updater.at_rest() as autoencoder:
            batches = [
                autoencoder.encode(scaled(batch.to(self.context.device))).k
                for batch in torch.split(images, _BATCH)
            ]
        return [torch.cat(level) for level in zip(*batches, strict=True)]

    def _code_nats(self, codes: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        """-log p(k) in nats, [N]; in the first phase all codes are equally probable."""
        if self.began is None:
            sites = sum(h * w for h, w in self.autoencoder.net.grids)
            return torch.full((len(codes[0]),), sites * math.log(self.config.entries))
        with self.prior_updater.at_rest() as prior:
            nats: Tensor = prior(codes, labels)
        return nats

    def _draw(
        self,
        n: int,
        labels: Tensor | None,
        generator: torch.Generator,
        temperature: float = 1.0,
        *,
        sampler: Sampler = "auto",
        float64: bool = False,
    ) -> Tensor:
        """N images, uint8 [N, C, H, W], of the classes LABELS [N] if there are any."""
        K, device = self.config.entries, self.context.device
        drawn_from = partial(self._samplers, sampler)
        pieces = []
        with self.updater.at_rest() as autoencoder, self.prior_updater.at_rest() as module:
            prior = copy.deepcopy(module).double() if float64 else module
            for rows in torch.split(torch.arange(n), _BATCH):
                if self.began is None:
                    codes = [
                        torch.randint(K, (len(rows), h, w), generator=generator, device=device)
                        for h, w in self.autoencoder.net.grids
                    ]
                else:
                    y = None if labels is None else labels[rows]
                    codes = prior.sample(len(rows), y, generator, drawn_from, temperature)
                pieces.append(_centre(autoencoder, codes))
        return torch.cat(pieces)

    def _pairs(self, images: Tensor) -> Images:
        """IMAGES, uint8 [N, C, H, W], each followed by what is decoded from its codes."""
        with self.updater.at_rest() as autoencoder:
            decoded = [
                _centre(autoencoder, self._code(batch)).cpu()
                for batch in torch.split(images, _BATCH)
            ]
        return show(torch.stack([images, torch.cat(decoded)], 1).flatten(0, 1), 2 * _PAIRS)

    def _ways(self, rows: int, seed: int) -> Images:
        """ROWS of 8 images: the vectors of two test images, which SEED chooses, and a straight line
        between them, each point of which is rounded to the codebook.
        """
        images = self.task.split("test").images
        generator = torch.Generator().manual_seed(seed)
        ends = torch.randint(len(images), (2, rows), generator=generator)
        a, b = (self.encode(images[end])[:, None] for end in ends)
        t = torch.linspace(0, 1, _WAY, device=a.device)[:, None, None, None]
        return show(self.decode(torch.lerp(a, b, t).flatten(0, 1)), _WAY)

    def _compare(self, split: Split, n: int, seed: int) -> dict[str, float]:
        generator = torch.Generator(self.context.device).manual_seed(seed)

        def draw(labels: Tensor) -> Tensor:
            return self._draw(len(labels), self._labels(labels), generator)

        return compare(self.task, draw, n, seed, self.context.device, split)

    def _labels(self, labels: Tensor) -> Tensor | None:
        return labels.to(self.context.device) if self.config.conditional else None


def _centre(autoencoder: QuantisedAutoencoder, codes: Sequence[Tensor]) -> Tensor:
    """Images, uint8 [N, C, H, W], for CODES [N, h, w] of each level: the centre of each p(x|k)."""
    return to_levels(LIKELIHOOD.centre(autoencoder.decode(codes)))


def _usage(counts: Sequence[Tensor]) -> dict[str, float]:
    """Perplexity and share of used entries, given how often each was used, [K] for each level."""
    names = ("",) if len(counts) == 1 else ("_top", "_bottom")
    figures = {}
    for name, count in zip(names, counts, strict=True):
        figures[f"perplexity{name}"] = perplexity(count).item()
        figures[f"used{name}"] = (count > 0).float().mean().item()
    return figures


def _anneal(optimizer: torch.optim.Optimizer, lr: float, done: float) -> None:
    """The step size when the share DONE of a phase is over: half a cosine from LR to zero."""
    for group in optimizer.param_groups:
        group["lr"] = lr * (1 + math.cos(math.pi * min(1.0, done))) / 2


def _check(config: VQVAE.Config) -> None:
    def check(option: str, fits: bool, what: str) -> None:
        require(fits, f"algorithm.{option}", getattr(config, option), what)

    check("levels", config.levels in (1, 2), "1 or 2")
    check("entries", config.entries >= 2, "at least 2")
    check("dim", config.dim >= 1, "at least 1")
    check("commitment", 0 < config.commitment < math.inf, "positive")
    check("decay", 0 <= config.decay < 1, "at least 0 and below 1")
    check("revive", 0 <= config.revive < 1, "at least 0 and below 1")
    check("prior_share", 0 < config.prior_share < 1, "between 0 and 1")
    check("prior_channels", config.prior_channels >= 1, "at least 1")
    check("prior_layers", config.prior_layers >= 1, "at least 1")
    check("batch_size", config.batch_size >= 1, "at least 1")
    check("lr", 0 < config.lr < math.inf, "positive")
    check("prior_lr", 0 < config.prior_lr < math.inf, "positive")
