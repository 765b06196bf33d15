"""DDPM (Ho et al. 2020, arXiv:2006.11239) in the terms of EDM (Karras et al. 2022,
arXiv:2206.00364), so that what is predicted, the schedule and the sampler combine freely.

A network D(x; σ) learns to estimate the image y from x = y + σ n, n ~ N(0, I), at every level σ of
the noise, by

    min  E_{y, n, σ}  λ(σ) |D(y + σ n; σ) - y|²                                   (EDM, eq. 2 and 8)

where λ(σ) makes it the plain mean squared error of what the network F in D predicts: for
`epsilon` that is L_simple of DDPM (eq. 14). A sampler goes down from pure noise to an image
(`samplers`), and how much the image is worth in bits follows from D, too (`likelihood`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, SupportsFloat

import torch
from corelab_datasets.interface import Dataset, minibatch
from corelab_generative.labels import choose, unconditional
from corelab_generative.likelihoods import bits_per_dim
from corelab_generative.pictures import levels, read, show
from corelab_generative.quality import compare
from corelab_media import Images
from torch import Tensor

from corelab import ConfigError, Context, Saved, Split, UpdateConfig, require
from corelab_diffusion import by_level, likelihood
from corelab_diffusion.conditions import CONDITIONS, enlarged
from corelab_diffusion.conditions import complete as completed
from corelab_diffusion.denoiser import Denoiser, Variance, guided
from corelab_diffusion.parametrisations import PARAMETRISATIONS
from corelab_diffusion.presets import PRESETS
from corelab_diffusion.samplers import (
    DETERMINISTIC,
    Denoise,
    Sampler,
    SamplerName,
    choose_sampler,
    slerp,
)
from corelab_diffusion.schedules import SCHEDULES, descent
from corelab_diffusion.spaces import space_of

_BATCH = 250
"""Images at a time where nothing is learned. Fixed, because the noise they get depends on it."""
_BY_LEVEL = range(16, 129)
"""How many images the error at single levels of noise is measured on: no fewer, no more."""
_BETWEEN = 8
"""How many pictures lead from one to the other."""
_ODE_LEVELS = 100
"""Levels that the probability-flow equation is followed over."""


@dataclass(frozen=True, eq=False)
class _Way:
    """How samples are drawn."""

    sampler: Sampler
    sigmas: Tensor
    guidance: float
    generator: torch.Generator


class Diffusion(Saved):
    """Diffusion model: images out of noise, step by step."""

    @dataclass(frozen=True)
    class Config:
        """Options of the diffusion model."""

        parametrisation: Literal["edm", "epsilon", "x0", "v"] = "edm"
        """What the network predicts: the noise, the image, their velocity, or EDM's mixture, which
        leans towards the image where there is much noise and towards the noise where there is
        little."""
        schedule: Literal["edm", "linear", "cosine"] = "edm"
        """The levels of noise: DDPM's linear or cosine ones, each visited equally often in
        training, or EDM's, whose logarithm is drawn from N(-1.2, 1.2²)."""
        levels: int = 1000
        """How many levels the schedule has, which is the most steps a sampler can take."""
        variance: Variance = "large"
        """Variance of a random step back: the least or the largest that makes sense, or learned,
        between the two (Nichol & Dhariwal 2021)."""
        conditional: bool = False
        """Whether the class of an image is told, so that samples can be asked for by class."""
        label_dropout: float = 0.1
        """Share of the images whose class is kept back in training, which guidance needs."""
        condition: Literal["none", "superresolution", "colour"] = "none"
        """What else is told: the image at a quarter of its resolution, or without its colours."""
        batch_size: int = 128
        """Images in a step."""
        lr: float = 1e-3
        """Step size of Adam once it has risen, over the first hundredth of the run; from there it
        falls to zero along half a cosine."""

    unit: ClassVar[str] = "examples"
    default_task: ClassVar[str] = "digits"
    default_model: ClassVar[str] = "unet"
    default_steps: ClassVar[int] = 1_000_000
    update: ClassVar[UpdateConfig] = UpdateConfig(ema=0.05, clip=1.0, channels_last=True)
    sharded: ClassVar[tuple[str, ...]] = ("batch_size",)
    adjustable: ClassVar[tuple[str, ...]] = ("lr", "label_dropout")
    best: ClassVar[str] = "min eval/loss"
    highlights: ClassVar[tuple[str, ...]] = ("train/loss", "eval/loss", "eval/bits_per_dim")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    saved: ClassVar[tuple[str, ...]] = ("denoiser", "updater", "progress")

    def __init__(
        self,
        config: Config,
        task: Dataset,
        model: Callable[..., Any],
        context: Context,
    ) -> None:
        _check(config, task)
        self.config, self.task, self.context = config, task, context
        self.space = space_of(task)
        self.sigmas = SCHEDULES[config.schedule](config.levels).to(context.device)
        """The noise of all levels, rising, float64."""
        self.reduce = CONDITIONS.get(config.condition)
        """Makes of an image what is told of it."""
        channels = task.shape[0]
        told = self._told(torch.zeros(1, *task.shape))
        self._nobody = len(task.classes)  # the label of no class in particular
        net = model(
            shape=task.shape,
            inputs=channels + (0 if told is None else told.shape[1]),
            outputs=channels * (2 if config.variance == "learned" else 1),
            classes=self._nobody if config.conditional else 0,
        )
        predict = PARAMETRISATIONS[config.parametrisation]
        self.denoiser = Denoiser(net, predict, config.variance)
        optimizer = torch.optim.Adam(net.parameters(), config.lr, fused=True)
        self.updater = context.updater(self.denoiser, optimizer)
        self.progress = 0

        self._train = task.split("train")
        self._order = context.seed_for("order", shared=True)

    def step(self) -> dict[str, SupportsFloat]:
        """One minibatch, with one level of noise for each image."""
        config, context = self.config, self.context
        done = min(1.0, self.progress / context.steps)
        rising = min(1.0, (self.progress + config.batch_size) / (0.01 * context.steps))
        for group in self.updater.optimizer.param_groups:
            group["lr"] = config.lr * rising * (1 + math.cos(math.pi * done)) / 2

        indices = minibatch(len(self._train), config.batch_size, self.progress, self._order)
        images, labels = self._train.take(indices)
        y, labels = self._data(images), labels.to(context.device)
        generator = context.generator("noise", shared=True)
        noise = self._noise(y, generator)
        chance = torch.rand(len(y), generator=generator, device=context.device)
        labels = labels.masked_fill(chance < config.label_dropout, self._nobody)
        batch = y, *noise, labels if config.conditional else None
        losses = self.updater(self._losses, *map(context.shard, batch))
        self.progress += config.batch_size
        return dict(zip(("loss", "error", "bits_per_dim"), losses, strict=False))

    def _losses(self, *batch: Any) -> tuple[Tensor, ...]:
        return self._losses_of(self.updater.module, *batch)

    def _losses_of(
        self, denoiser: Any, y: Tensor, n: Tensor, sigma: Tensor, t: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The loss and, if the variance is learned, the squared error and the bound in it."""
        x = y + sigma.to(y.dtype) * n
        D, nu = denoiser(x, sigma.flatten(), labels, self._told(y))
        _, c_out, _ = PARAMETRISATIONS[self.config.parametrisation](sigma)
        error = (((D - y) / c_out.to(y.dtype)) ** 2).mean()
        if self.config.variance != "learned":
            return (error,)
        # L_hybrid (Nichol & Dhariwal 2021, eq. 16), whose bound teaches nothing but the variance;
        # their λ = 0.001 goes with a bound in bits per dimension, summed over 1,000 levels
        terms = likelihood.bound_term(y, x, D.detach(), nu, t, self.sigmas)
        bound = terms.mean() * len(self.sigmas) / math.log(2)
        return error + 0.001 * bound, error, bound

    def _noise(self, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noise n like Y, its levels σ [N, 1, 1, 1], and their numbers t, which `edm` leaves 0."""
        N, device = len(y), self.context.device
        n = torch.randn(y.shape, generator=generator, device=device)
        if self.config.schedule == "edm":
            z = torch.randn((N, 1, 1, 1), generator=generator, device=device)
            return n, torch.exp(1.2 * z - 1.2).double(), torch.zeros_like(z, dtype=torch.int64)
        T = len(self.sigmas)
        t = torch.randint(0, T, (N, 1, 1, 1), generator=generator, device=device)
        return n, self.sigmas[t], t

    def evaluate(
        self,
        split: Split = "test",
        n: int | None = None,
        seed: int = 0,
        *,
        full: bool = False,
        ode: bool = False,
        quality: int = 0,
        sampler: SamplerName = "heun",
        steps: int = 18,
        guidance: float = 1.0,
    ) -> dict[str, SupportsFloat | Images]:
        """The loss and the variational bound on the first N images of SPLIT (None: 2,000).

        The bound takes one random level for each image, or all of them if FULL. ODE adds the
        likelihood by the probability-flow equation (None: of 100 images). QUALITY is how many
        samples, drawn with SAMPLER in so many STEPS, are compared with real images.
        """
        if n is not None and n < 1:
            raise ConfigError(f"an evaluation takes at least 1 image, got n = {n}")
        if (full or ode) and not self.space.of_pixels:
            raise ConfigError("bits per dimension are of pixels; this run models latents")
        generator = self._generator(seed)
        figures = self._averages(split, n or 2000, generator, partial(self._errors, full))
        figures |= self._errors_by_level(split, n, seed)
        if ode:
            figures |= self._averages(split, n or 100, generator, self._ode_bits)
        if quality:
            way = self._way(choose_sampler(sampler), steps, guidance, seed)
            pictures, draw = self.space.pictures, partial(self._draw_like_training, way)
            figures |= compare(pictures, draw, quality, seed, self.context.device, split)
        drawn = self.sample(64, seed, sampler=sampler, steps=steps, guidance=guidance)
        return {**figures, "samples": drawn}

    def _averages(
        self, split: Split, n: int, generator: torch.Generator, figures: Callable[..., Any]
    ) -> dict[str, float]:
        """The means of FIGURES(denoiser, y, labels, generator), each [k], over N images."""
        data = self.task.split(split)
        parts = (torch.split(part[:n], _BATCH) for part in (data.images, data.labels))
        found: dict[str, list[Tensor]] = {}
        with self.updater.at_rest() as denoiser:
            for images, labels in zip(*parts, strict=True):
                known = labels.to(self.context.device) if self.config.conditional else None
                for name, values in figures(denoiser, self._data(images), known, generator).items():
                    found.setdefault(name, []).append(values.double())
        return {name: torch.cat(values).mean().item() for name, values in found.items()}

    def _errors(
        self, full: bool, denoiser: Any, y: Tensor, labels: Tensor | None, g: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss, and of pixels the bound in bits per dimension."""
        loss, *_ = self._losses_of(denoiser, y, *self._noise(y, g), labels)
        figures = {"loss": loss.expand(len(y))}
        if self.space.of_pixels:
            denoise = self._denoise(denoiser, labels, self._told(y))
            nats = likelihood.variational_bound(denoise, y, self.sigmas, g, full)
            figures["bits_per_dim"] = bits_per_dim(nats, self.task.shape)
        return figures

    def _errors_by_level(self, split: Split, n: int | None, seed: int) -> dict[str, float]:
        data = self.task.split(split)
        y = self._data(data.images[: _BY_LEVEL.stop - 1][:n])
        if len(y) not in _BY_LEVEL:
            return {}
        labels = data.labels[: len(y)].to(y.device) if self.config.conditional else None
        with self.updater.at_rest() as denoiser:
            told, generator = self._told(y), self._generator(seed)
            return by_level.errors(denoiser, y, labels, told, self.sigmas, generator)

    def _ode_bits(
        self, denoiser: Any, y: Tensor, labels: Tensor | None, g: torch.Generator
    ) -> dict[str, Tensor]:
        """Bits per dimension by the density of images whose levels are smeared out evenly."""
        u = torch.rand(y.shape, generator=g, device=y.device)
        # not kept between -1 and 1, where D would have a kink
        denoise = guided(denoiser, labels, self._nobody, told=self._told(y))
        upwards = descent(self.sigmas.cpu(), min(_ODE_LEVELS, len(self.sigmas)))[:-1].flip(0)
        nats = -likelihood.flow_log_density(denoise, y + (2 * u - 1) / 255, upwards, g)
        # a level is 1 / 127.5 wide
        return {"ode_bits_per_dim": bits_per_dim(nats, self.task.shape) + math.log2(127.5)}

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        *,
        sampler: SamplerName = "heun",
        steps: int = 18,
        eta: float = 0.0,
        churn: float = 0.0,
        class_: str = "",
        guidance: float = 1.0,
        interpolate: bool = False,
        complete: Path | None = None,
        mask: Path | None = None,
        from_: Path | None = None,
    ) -> Images:
        """N images drawn with SAMPLER in STEPS steps.

        ETA is how much noise `ddim` adds again, CHURN how much `euler` and `heun` do. CLASS and
        GUIDANCE are for runs that know classes. INTERPOLATE shows rows of pictures between two
        random ones. COMPLETE keeps the top half of a picture, or what is black in the picture
        MASK, and draws the rest, by steps of `ddpm`. FROM is the small or grey picture from which a
        run that was trained to starts, instead of test images.
        """
        if from_ is not None and self.reduce is None:
            raise ConfigError("--from: this run starts from noise; see --algorithm.condition")
        if self.reduce is not None and (interpolate or complete):
            raise ConfigError(
                "--interpolate, --complete: this run starts from pictures; see --from"
            )
        if interpolate and complete:
            raise ConfigError("--interpolate and --complete: ask for one at a time")
        if interpolate and (sampler not in DETERMINISTIC or eta or churn):
            raise ConfigError("--interpolate takes a sampler that adds no noise on the way")
        if mask and not complete:
            raise ConfigError("--mask is for --complete: name the picture that is to be completed")
        chosen = choose_sampler(sampler, eta, churn)
        if complete:
            if sampler not in ("ddpm", "heun") or churn:  # heun, if none was named
                raise ConfigError("--complete takes steps of ddpm, without --churn or --eta")
            chosen = self._completing(complete, mask)
        way = self._way(chosen, steps, guidance, seed)
        x, labels, columns = self._normal(n, way.generator), self._labels(class_, guidance, n), 0
        if interpolate:
            columns, rows = min(n, _BETWEEN), math.ceil(n / _BETWEEN)
            ends = x[:rows], self._normal(rows, way.generator)
            x = slerp(*ends, columns).flatten(0, 1)[:n]
            labels = labels if labels is None else labels[:rows].repeat_interleave(columns)[:n]
        if self.reduce is None:
            return show(self._draw(way, x, labels, None), columns)
        if from_ is not None:
            channels, height, width = self.reduce(torch.zeros(1, *self.task.shape)).shape[1:]
            reduced = self._data(read(from_, (channels, height, width)))[None]
            told = enlarged(reduced, self.task.shape).expand(n, -1, -1, -1)
            drawn = self._draw(way, x, labels, told)
            return show(torch.cat([levels(told[:1]).expand_as(drawn[:1]), drawn]))
        images = self.task.split("test").images
        originals = images[torch.arange(n) % len(images)].to(self.context.device)
        told = enlarged(self.reduce(self._data(originals)), self.task.shape)
        drawn = self._draw(way, x, labels, told)
        triples = torch.stack([levels(told).expand_as(drawn), drawn, originals], 1).flatten(0, 1)
        return show(triples, columns=3 * math.ceil(math.sqrt(n / 3)))

    def _way(self, sampler: Sampler, steps: int, guidance: float, seed: int) -> _Way:
        most = len(self.sigmas)
        require(1 <= steps <= most, "--steps", steps, f"from 1 to {most}, the levels of this run")
        require(0 <= guidance < math.inf, "--guidance", guidance, "zero or positive")
        sigmas = descent(self.sigmas.cpu(), steps)
        return _Way(sampler, sigmas, guidance, self._generator(seed))

    def _draw(self, way: _Way, x: Tensor, labels: Tensor | None, told: Tensor | None) -> Tensor:
        """Pictures, uint8 [N, C, H, W], from X ~ N(0, I) of the shape of the data."""
        x = (1 + way.sigmas[0] ** 2).sqrt() * x  # the prior, as if images had variance 1
        pictures = []
        with self.updater.at_rest() as denoiser:
            for start in range(0, len(x), _BATCH):
                part = slice(start, start + _BATCH)
                known, given = (None if c is None else c[part] for c in (labels, told))
                denoise = self._denoise(denoiser, known, given, way.guidance)
                found = way.sampler(denoise, x[part], way.sigmas, way.generator)
                pictures.append(self.space.show(found))
        return torch.cat(pictures)

    def _draw_like_training(self, way: _Way, labels: Tensor) -> Tensor:
        """Pictures of the classes LABELS, started (if need be) from any training images."""
        known = labels if self.config.conditional else None
        chance = torch.rand(len(labels), generator=way.generator, device=labels.device)
        images, _ = self._train.take((chance.cpu() * len(self._train)).long())
        told = self._told(self._data(images))
        return self._draw(way, self._normal(len(labels), way.generator), known, told)

    def _denoise(
        self, denoiser: Any, labels: Tensor | None, told: Tensor | None, guidance: float = 1.0
    ) -> Denoise:
        """The denoiser as samplers know it: of pixels it keeps D where images can be."""
        clip = self.space.of_pixels
        return guided(denoiser, labels, self._nobody, guidance, told, clip)

    def _labels(self, class_: str, guidance: float, n: int) -> Tensor | None:
        if self.config.conditional:
            return choose(self.space.pictures, class_, n, self.context.device)
        unconditional(class_)
        if guidance != 1:
            raise ConfigError(f"--guidance {guidance}: this run knows no classes to be guided by")
        return None

    def _completing(self, path: Path, mask: Path | None) -> Sampler:
        """A sampler that keeps what is black in MASK, or the top half, of the picture in PATH."""
        if not self.space.of_pixels:
            raise ConfigError("--complete: this run models latents, not pixels")
        _, height, width = self.task.shape
        kept = torch.arange(height)[:, None] < height // 2
        if mask is not None:
            (grey_levels,) = read(mask, (1, height, width))
            kept = grey_levels < 128
        known = self._data(read(path, self.task.shape))
        return partial(completed, known=known, mask=kept.to(known.device))

    def _told(self, y: Tensor) -> Tensor | None:
        """What a run with a condition is told of images Y, [N, K, H, W]."""
        return None if self.reduce is None else enlarged(self.reduce(y), self.task.shape)

    def _data(self, images: Tensor) -> Tensor:
        """What is modelled of IMAGES of the task."""
        return self.space.data(images.to(self.context.device))

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.context.device).manual_seed(seed)

    def _normal(self, n: int, generator: torch.Generator) -> Tensor:
        shape = (n, *self.task.shape)
        return torch.randn(shape, generator=generator, device=self.context.device)


def _check(config: Diffusion.Config, task: Dataset) -> None:
    def need(fits: bool, option: str, what: str) -> None:
        require(fits, f"algorithm.{option}", getattr(config, option), what)

    need(config.levels >= 20, "levels", "at least 20")
    need(0 <= config.label_dropout < 1, "label_dropout", "at least 0 and below 1")
    need(config.batch_size >= 1, "batch_size", "at least 1")
    need(0 < config.lr < math.inf, "lr", "positive")
    learned_on_levels = config.variance != "learned" or config.schedule != "edm"
    need(learned_on_levels, "variance", "small or large with the schedule edm")
    plain = config.condition == "none"
    need(plain or not hasattr(task, "decode"), "condition", "none where latents are modelled")
    need(config.condition != "colour" or task.shape[0] == 3, "condition", "none for grey images")
