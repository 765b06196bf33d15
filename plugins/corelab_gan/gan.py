"""Generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661).

A generator G turns Gaussian numbers z into images, a discriminator D says of an image how likely it
is real, and they play

    min_G max_D  E_x [log D(x)] + E_z [log(1 - D(G(z)))]                                   (eq. 1)

by turns: `n_critic` updates of D, then one of G (algorithm 1). Other games and penalties on the
gradients of D are in `corelab_gan.losses`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, SupportsFloat

import torch
from corelab_datasets.interface import Dataset, minibatch
from corelab_generative.labels import choose, unconditional
from corelab_generative.pictures import levels, scaled, show
from corelab_generative.quality import compare
from corelab_media import Images
from torch import Tensor

from corelab import ConfigError, Context, Saved, Split, UpdateConfig, require
from corelab_gan.collapse import collapsed, explanation
from corelab_gan.interface import Grows, Mixes
from corelab_gan.losses import GAMES, JUDGEMENT, judgement, one_lipschitz, r1

_BATCH = 500
"""Images at a time where nothing is learned."""
_SAMPLES: Mapping[Split, int] = {"validation": 1000, "test": 10_000}
"""Samples that an evaluation takes if nothing else is said."""
_FEWEST = 100
"""Samples below which the figures of an evaluation would say nothing."""
_PATH = 8
"""Images on the way from one code to another."""


class GAN(Saved):
    """Generative adversarial networks: images from a network that learns to fool another."""

    @dataclass(frozen=True)
    class Config:
        """Options of the game."""

        loss: Literal["non-saturating", "minimax", "hinge", "wasserstein"] = "non-saturating"
        """What the players want: Goodfellow's own game with the generator's loss that does not
        vanish, the same with the one that does, margins, or a critic's difference of scores."""
        penalty: Literal["none", "r1", "gradient"] = "r1"
        """On the discriminator's gradient: "r1" keeps it small at real images, "gradient" keeps its
        norm near 1 between real and generated ones (for the loss "wasserstein")."""
        penalty_weight: float = 1.0
        """Of the penalty in the loss; the papers take 10 for either."""
        penalty_every: int = 4
        """Updates of the discriminator from one with the penalty to the next, which has as many
        times its weight."""
        conditional: bool = False
        """Whether the networks are told the class of an image."""
        latent: int = 64
        """How many numbers the code of an image has."""
        batch_size: int = 32
        """Real images, and generated ones, in an update."""
        n_critic: int = 1
        """Updates of the discriminator for each of the generator."""
        lr: float = 2e-3
        """Step size of Adam for the generator."""
        discriminator_lr: float = 2e-3
        """Step size of Adam for the discriminator."""
        betas: tuple[float, float] = (0.0, 0.99)
        """How much Adam remembers of gradients and of their squares."""

    unit: ClassVar[str] = "examples"
    default_task: ClassVar[str] = "digits"
    default_model: ClassVar[str] = "dcgan"
    default_steps: ClassVar[int] = 500_000
    best: ClassVar[str] = "min eval/fid"
    highlights: ClassVar[tuple[str, ...]] = ("train/win_rate", "eval/fid", "eval/recall")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "digits": {"steps": 60_000, "model": "mlp"},
        "fashion-mnist": {"steps": 500_000},
        "mnist": {"steps": 500_000},
    }
    update: ClassVar[UpdateConfig] = UpdateConfig(ema=0.05)
    sharded: ClassVar[tuple[str, ...]] = ("batch_size",)

    saved: ClassVar[tuple[str, ...]] = (
        "net",
        "generator_updater",
        "discriminator_updater",
        "progress",
    )

    def __init__(
        self, config: Config, task: Dataset, model: Callable[..., Any], context: Context
    ) -> None:
        _check(config)
        self.config, self.task, self.context = config, task, context
        self.game = GAMES[config.loss]
        classes = len(task.classes) if config.conditional else 0
        self.net = model(shape=task.shape, latent=config.latent, classes=classes)
        G, D = self.net.generator, self.net.discriminator
        adam = partial(torch.optim.Adam, betas=config.betas, fused=True)
        self.generator_updater = context.updater(G, adam(G.parameters(), config.lr))
        self.discriminator_updater = context.updater(
            D, adam(D.parameters(), config.discriminator_lr), averages=False
        )
        if self.generator_updater.config.compile and isinstance(G, Grows):
            raise ConfigError(
                "update.compile: a network that grows cannot be compiled; leave it out"
            )
        self.progress = 0

        self._train = task.split("train")
        self._order = context.seed_for("order", shared=True)
        self._warned = False

    def step(self) -> dict[str, Tensor]:
        """One update of the generator and `n_critic` of the discriminator (algorithm 1).

        The generator comes first, so that its images serve the discriminator's first update, too.
        """
        self._grow(self.net.generator, self.net.discriminator)
        loss, x, y, fake = self._update_generator()
        figures = self._update_discriminator(x, y, fake)
        for _ in range(self.config.n_critic - 1):
            x, y = self._real()
            with torch.no_grad():
                fake = self.net.generator(self._noise(), y)
            figures = self._update_discriminator(x, y, fake)
        return {"generator_loss": loss, **figures}

    def _real(self) -> tuple[Tensor, Tensor | None]:
        """The next minibatch: X, [N, C, H, W], and its labels, [N], if they are told."""
        size = self.config.batch_size
        indices = minibatch(len(self._train), size, self.progress, self._order)
        images, labels = self._train.take(self.context.shard(indices))
        x = scaled(images.to(self.context.device))
        if isinstance(self.net.generator, Grows):
            x = self.net.generator.fade(x)
        return x, labels.to(x.device) if self.config.conditional else None

    def _update_generator(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """One update; its loss, real images with their labels, and images generated for these."""
        x, y = self._real()
        made: list[Tensor] = []

        def losses(z: Tensor, y: Tensor | None) -> tuple[Tensor]:
            fake = self.generator_updater.module(z, y)
            made.append(fake.detach().float())
            return (self.game.generator(self.net.discriminator(fake, y).float()),)

        self.net.discriminator.requires_grad_(False)  # a third less to compute on the way back
        (loss,) = self.generator_updater(losses, self._noise(), y)
        self.net.discriminator.requires_grad_(True)
        return loss, x, y, torch.cat(made)

    def _update_discriminator(self, x: Tensor, y: Tensor | None, fake: Tensor) -> dict[str, Tensor]:
        """One update, which counts as progress, and its figures."""
        config = self.config
        updates = self.progress // config.batch_size
        penalised = config.penalty != "none" and updates % config.penalty_every == 0
        generator = self.context.generator("noise", shared=True)
        u = torch.rand(config.batch_size, 1, 1, 1, generator=generator, device=x.device)
        losses = partial(self._discriminator_losses, penalised)
        batch = x, y, fake, self.context.shard(u)
        _, loss, penalty, *figures = self.discriminator_updater(losses, *batch)
        self.progress += config.batch_size
        return {
            "discriminator_loss": loss,
            **({"penalty": penalty} if penalised else {}),
            **dict(zip(JUDGEMENT, figures, strict=True)),
        }

    def _discriminator_losses(
        self, penalised: bool, x: Tensor, y: Tensor | None, fake: Tensor, u: Tensor
    ) -> tuple[Tensor, ...]:
        """What is to become smaller, its two parts, and how well D tells X from FAKE.

        All images go through D at once. U, [N, 1, 1, 1], chooses those between real and generated.
        """
        config, N = self.config, len(x)
        images = [x, fake]
        if penalised and config.penalty == "r1":
            x.requires_grad_()
        elif penalised:
            images.append(torch.lerp(fake, x, u).requires_grad_())
        labels = None if y is None else y.repeat(len(images))
        # what torch has compiled cannot be differentiated twice
        D = self.net.discriminator if penalised else self.discriminator_updater.module
        logits = D(torch.cat(images), labels).float()
        real, generated = logits[:N], logits[N : 2 * N]
        loss = self.game.discriminator(real, generated)
        penalty = torch.zeros_like(loss)
        if penalised and config.penalty == "r1":
            penalty = r1(real, x)
        elif penalised:
            penalty = one_lipschitz(logits[2 * N :], images[2])
        figures = judgement(real.detach(), generated.detach())
        weight = config.penalty_weight * config.penalty_every
        return loss + weight * penalty, loss, penalty, *figures.values()

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0, *, quality: int = 0
    ) -> dict[str, SupportsFloat | Images]:
        """How N samples, or QUALITY of them, compare with images of SPLIT, and whether D can tell.

        None takes 1,000 of the validation split and 10,000 of the test split. At least 100 are
        taken, and no more than the split has. The averaged generator makes them.
        """
        if n is not None and n < 1:
            raise ConfigError(f"an evaluation takes at least 1 image, got n = {n}")
        require(quality >= 0, "--quality", quality, "zero or positive")
        n = max(_FEWEST, quality or n or _SAMPLES[split])
        generator = torch.Generator(self.context.device).manual_seed(seed)
        fake: list[Tensor] = []

        def draw(labels: Tensor) -> Tensor:
            y = labels if self.config.conditional else None
            x = self._generate(self._normal(len(labels), generator), y)
            fake.append(self._judge(x, y))
            return levels(x)

        figures = compare(self.task, draw, n, seed, self.context.device, split)
        held_out = self.task.split(split)
        real = []
        for indices in torch.split(torch.arange(min(n, len(held_out))), _BATCH):
            images, labels = held_out.take(indices)
            x = scaled(images.to(self.context.device))
            real.append(self._judge(x, labels.to(x.device)))
        said = judgement(torch.cat(real), torch.cat(fake))
        figures |= {name: value.item() for name, value in said.items()}
        updates = self.progress // (self.config.batch_size * self.config.n_critic)
        figures["collapsed"] = float(collapsed(figures, self._share, updates))
        if figures["collapsed"] and not self._warned:
            self._warned = True
            self.context.say(explanation(figures))
        return {**figures, "samples": self.sample(64, seed)}

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        *,
        class_: str = "",
        interpolate: bool = False,
        truncation: float = 1.0,
        mix: bool = False,
    ) -> Images:
        """N images of the averaged generator.

        CLASS_ is the name or number of the only class to show. INTERPOLATE shows ways between two
        codes, eight images in a row. TRUNCATION below 1 trades variety for fidelity. MIX shows
        images with the coarse looks of the one at the left and the fine ones of the one on top.
        """
        fits = 0 <= truncation <= 1
        require(fits, "--truncation", truncation, "between 0 and 1")
        if not self.config.conditional:
            unconditional(class_)
        if mix and (interpolate or truncation < 1):
            raise ConfigError("--mix shows a table: leave out --interpolate and --truncation")
        generator = torch.Generator(self.context.device).manual_seed(seed)
        columns = 0
        if mix:
            return self._mixed(max(2, math.isqrt(n)), class_, generator)
        if interpolate:
            rows, columns = max(1, n // _PATH), _PATH
            z = self._path(rows, generator)
            y = choose(self.task, class_, rows, z.device).repeat_interleave(_PATH)
        else:
            z = self._normal(n, generator)
            y = choose(self.task, class_, n, z.device)
        told = y if self.config.conditional else None
        return show(self._generate(z, told, truncation), columns)

    def _path(self, rows: int, generator: torch.Generator) -> Tensor:
        """Codes, eight in each of ROWS, from a to b by cos θ a + sin θ b, as likely as these."""
        a, b = self._normal(rows, generator), self._normal(rows, generator)
        theta = torch.linspace(0, math.pi / 2, _PATH, device=a.device)[:, None]
        z = theta.cos() * a[:, None] + theta.sin() * b[:, None]
        d = self.config.latent
        details = a[:, None, d:].expand(-1, _PATH, -1)  # the rest of an image's numbers stay
        return torch.cat([z[:, :, :d], details], 2).flatten(0, 1)

    def _mixed(self, side: int, class_: str, generator: torch.Generator) -> Images:
        """A table SIDE by SIDE with images at the left and on top, and in it what mixes the two."""
        if not isinstance(self.net.generator, Mixes):
            raise ConfigError("--mix: this model has no styles to mix; the model stylegan has")
        k = side - 1
        with self._averaged() as G:
            z = self._normal(2 * k, generator)
            y = choose(self.task, class_, 2 * k, z.device) if self.config.conditional else None
            sources = G(z, y)
            left = torch.arange(k, device=z.device).repeat_interleave(k)
            top = torch.arange(k, 2 * k, device=z.device).repeat(k)
            mixed = G.mix(z[left], z[top], *((None, None) if y is None else (y[left], y[top])))
        C, H, W = self.task.shape
        table = z.new_ones(side, side, C, H, W)
        table[1:, 0], table[0, 1:] = sources[:k], sources[k:]
        table[1:, 1:] = mixed.reshape(k, k, C, H, W)
        return show(table.flatten(0, 1), side)

    @contextmanager
    def _averaged(self) -> Iterator[Any]:
        """Within: the generator with the averaged weights, as it is at this progress."""
        with self.generator_updater.at_rest() as G:
            self._grow(G)
            yield G

    def _generate(self, z: Tensor, y: Tensor | None, truncation: float = 1.0) -> Tensor:
        """Images of the averaged generator for Z and Y, some at a time."""
        parts = [slice(i, i + _BATCH) for i in range(0, len(z), _BATCH)]
        with self._averaged() as G:
            x = [G(z[part], None if y is None else y[part], truncation) for part in parts]
        return torch.cat(x)

    def _judge(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits [N] of images X with labels Y."""
        with self.discriminator_updater.at_rest() as D:
            self._grow(D)
            logits: Tensor = D(x, y if self.config.conditional else None).float()
        return logits

    @property
    def _share(self) -> float:
        """How much of the budget is spent, from 0 to 1."""
        return min(1.0, self.progress / self.context.steps)

    def _grow(self, *networks: Any) -> None:
        """Bring NETWORKS that grow to the size of this progress."""
        for network in networks:
            if isinstance(network, Grows):
                network.grow(self._share)

    def _noise(self) -> Tensor:
        """Gaussian numbers, [N, numbers], from the run's stream: this process's of a minibatch."""
        generator = self.context.generator("noise", shared=True)
        return self.context.shard(self._normal(self.config.batch_size, generator))

    def _normal(self, n: int, generator: torch.Generator) -> Tensor:
        """Gaussian numbers, [N, numbers]: what an image is made of."""
        shape = (n, self.net.generator.numbers)
        return torch.randn(shape, generator=generator, device=self.context.device)


def _check(config: GAN.Config) -> None:
    for option, least in (("latent", 1), ("batch_size", 1), ("n_critic", 1), ("penalty_every", 1)):
        value = getattr(config, option)
        require(value >= least, f"algorithm.{option}", value, f"at least {least}")
    for option in ("lr", "discriminator_lr"):
        value = getattr(config, option)
        require(0 < value < math.inf, f"algorithm.{option}", value, "positive")
    for option, known in (("loss", tuple(GAMES)), ("penalty", ("none", "r1", "gradient"))):
        value = getattr(config, option)
        require(value in known, f"algorithm.{option}", value, f"one of {', '.join(known)}")
    weight, betas = config.penalty_weight, config.betas
    require(0 <= weight < math.inf, "algorithm.penalty_weight", weight, "zero or positive")
    fits = all(0 <= beta < 1 for beta in betas)
    require(fits, "algorithm.betas", betas, "two numbers from 0 to below 1")
