"""Auto-encoding variational Bayes (Kingma & Welling 2014, arXiv:1312.6114).

A decoder p(x|z) turns a code z ~ N(0, I) into the distribution of an image, an encoder q(z|x) turns
an image into a Gaussian over codes, and both are trained together to raise the evidence lower bound

    log p(x) ≥ ELBO(x) = E_{q(z|x)} [log p(x|z)] - KL(q(z|x) || p(z))                      (eq. 3)

whose expectation is estimated with one draw z = μ(x) + σ(x) ε, ε ~ N(0, I), for each image, so that
its gradient reaches the encoder (sections 2.3 and 2.4).

Three relatives differ by a number or two. β times the divergence makes it a β-VAE (Higgins et al.
2017); β = 0 and ε = 0 leave the plain autoencoder (Hinton & Salakhutdinov 2006), whose codes have
no noise and no price; and both networks may be told the class y of the image, for p(x|z, y) and
q(z|x, y) (Sohn et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, SupportsFloat

import torch
from corelab_datasets.interface import Dataset, minibatch
from corelab_datasets.interface import Split as ImageSplit
from corelab_generative.likelihoods import LIKELIHOODS, Likelihood, bits_per_dim
from corelab_generative.pictures import levels
from corelab_generative.quality import compare
from corelab_media import Images
from torch import Tensor, nn

from corelab import ConfigError, Context, Saved, Split, UpdateConfig, require
from corelab_vae.codes import CodeDistribution
from corelab_vae.gallery import BATCH, Gallery
from corelab_vae.importance import iwae as importance_weighted
from corelab_vae.interface import Autoencoder
from corelab_vae.mixture import LogisticMixture

OFFERED: Mapping[str, Likelihood] = {**LIKELIHOODS, "mixture": LogisticMixture(2)}
"""The likelihoods by the names of the option."""
_PAIRS = 8
"""How many reconstructions are shown."""
_ACTIVE = 0.01
"""Nats on average from which on a number of the code counts as used."""


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) || N(0, 1)) in nats of each number of a code, [N, d] (appendix B)."""
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp())


class Bound(nn.Module):
    """The two parts of the bound, as one module so that `Context.wrap` can spread it."""

    def __init__(self, net: Autoencoder, likelihood: Likelihood) -> None:
        super().__init__()
        self.net = net
        self.likelihood = likelihood

    def forward(self, x: Tensor, epsilon: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """-log p(x|z), [N], and KL(q(z|x) || p(z)) by the numbers of the code, [N, d], in nats.

        For images X with labels Y, and ε [N, d] (eq. 10).
        """
        mean, log_variance = self.net.encode(x, y)
        z = mean + torch.exp(0.5 * log_variance) * epsilon
        log_p = self.likelihood.log_prob(x, self.net.decode(z, y).float())
        return -log_p.flatten(1).sum(1), kl_to_standard_normal(mean.float(), log_variance.float())


class VAE(Saved):
    """Variational autoencoder: images from Gaussian codes, and a bound on their likelihood."""

    @dataclass(frozen=True)
    class Config:
        """Options of the variational autoencoder."""

        latent: int = 16
        """How many numbers the code of an image has."""
        beta: float = 1.0
        """Weight of the KL divergence in the loss: 1 is the paper's, less gives closer
        reconstructions, more gives simpler codes."""
        deterministic: bool = False
        """Whether the code is its mean and costs nothing: the plain autoencoder, without noise,
        divergence or a bound on the likelihood."""
        conditional: bool = False
        """Whether both networks are told the class of the image, so that it can be asked for."""
        likelihood: Literal["bernoulli", "logistic", "mixture"] = "mixture"
        """What the decoder predicts: "mixture" gives a probability to each of the 256 levels of a
        pixel by two logistic distributions, "logistic" by one; "bernoulli" takes the pixel for the
        probability of a white one, drawn anew each time."""
        batch_size: int = 128
        """Images in a step."""
        lr: float = 2e-3
        """Step size of Adam at the start; it falls to zero over the run along half a cosine."""

    unit: ClassVar[str] = "examples"
    default_task: ClassVar[str] = "digits"
    default_model: ClassVar[str] = "mlp"
    default_steps: ClassVar[int] = 200_000
    best: ClassVar[str] = "min eval/loss"
    highlights: ClassVar[tuple[str, ...]] = ("train/bits_per_dim", "eval/bits_per_dim")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "digits": {"steps": 60_000, "algorithm.lr": 1e-3},
        "fashion-mnist": {"steps": 600_000},
        "mnist": {"steps": 600_000, "algorithm.likelihood": "bernoulli"},
    }

    update: ClassVar[UpdateConfig] = UpdateConfig()
    sharded: ClassVar[tuple[str, ...]] = ("batch_size",)
    adjustable: ClassVar[tuple[str, ...]] = ("lr", "beta")

    saved: ClassVar[tuple[str, ...]] = ("net", "updater", "progress")

    def __init__(
        self, config: Config, task: Dataset, model: Callable[..., Any], context: Context
    ) -> None:
        _check(config)
        self.config, self.task, self.context = config, task, context
        self.likelihood = OFFERED[config.likelihood]
        k = self.likelihood.parameters
        classes = len(task.classes) if config.conditional else 0
        self.net = model(shape=task.shape, latent=config.latent, outputs=k, classes=classes)
        optimizer = torch.optim.Adam(self.net.parameters(), config.lr, fused=True)
        self.updater = context.updater(Bound(self.net, self.likelihood), optimizer)
        self.progress = 0

        self._beta = 0.0 if config.deterministic else config.beta
        self._train = task.split("train")
        self._order = context.seed_for("order", shared=True)

    def step(self) -> dict[str, SupportsFloat]:
        """One minibatch of algorithm 1, with L = 1 draw of the noise for each image."""
        config, context = self.config, self.context
        done = min(1.0, self.progress / context.steps)
        for group in self.updater.optimizer.param_groups:
            group["lr"] = config.lr * (1 + math.cos(math.pi * done)) / 2

        indices = minibatch(len(self._train), config.batch_size, self.progress, self._order)
        generator = context.generator("noise", shared=True)
        x, y = self._observe(self._train, indices, generator)
        batch = x, self._noise(len(x), generator), y
        loss, nll, kl = self.updater(self._losses, *map(context.shard, batch))
        self.progress += config.batch_size
        return self._figures(loss, nll, kl)

    def _losses(
        self, x: Tensor, epsilon: Tensor, y: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        nll_N, kl_Nd = self.updater.module(x, epsilon, y)
        nll, kl = nll_N.mean(), kl_Nd.sum(1).mean()
        return nll + self._beta * kl, nll, kl

    def evaluate(
        self,
        split: Split = "test",
        n: int | None = None,
        seed: int = 0,
        *,
        iwae: int = 0,
        quality: int = 0,
    ) -> dict[str, SupportsFloat | Images]:
        """The bound on the first N images of SPLIT (None: all), reconstructions and samples.

        The bound is the paper's whatever beta is. IWAE > 0 adds the tighter one of so many codes
        for each image, QUALITY > 0 a comparison of so many samples with the images of SPLIT.
        """
        _check_evaluation(n, iwae, quality, self.config)
        data, device = self.task.split(split), self.context.device
        batches = torch.split(torch.arange(len(data))[:n], BATCH)
        count = sum(map(len, batches))
        generator, of_iwae = (torch.Generator(device).manual_seed(seed) for _ in range(2))
        nll = L_k = 0.0
        kl_d = torch.zeros(self.config.latent, dtype=torch.float64)
        with self.updater.at_rest() as bound:
            for batch in batches:
                x, y = self._observe(data, batch, generator)
                nll_N, kl_Nd = bound(x, self._noise(len(x), generator), y)
                nll += nll_N.double().sum().item() / count
                kl_d += kl_Nd.double().sum(0).cpu() / count
                if iwae:
                    L_k_N = importance_weighted(bound.net, self.likelihood, x, y, iwae, of_iwae)
                    L_k += L_k_N.double().sum().item() / count
            gallery = self._gallery(bound.net, generator)
            pairs = gallery.pairs(*self._observe(data, batches[0][:_PAIRS], generator))
            figures = self._figures(nll + self._beta * kl_d.sum().item(), nll, kl_d.sum().item())
            if not self.config.deterministic:
                figures |= _usage(kl_d)
            if iwae:
                bits = bits_per_dim(-L_k, self.task.shape)
                figures |= {"iwae_nats": L_k, "iwae_bits_per_dim": bits}
            if quality:
                codes = self._codes(gallery)
                figures |= compare(
                    self.task,
                    lambda labels: levels(gallery.draw(codes, labels)),
                    quality,
                    seed,
                    device,
                    split,
                )
        return {**figures, "reconstructions": pairs, "samples": self.sample(64, seed)}

    def sample(
        self,
        n: int = 64,
        seed: int = 0,
        *,
        class_: str = "",
        noise: bool = False,
        reconstruct: bool = False,
        interpolate: bool = False,
        traverse: bool = False,
        add: str = "",
        remove: str = "",
    ) -> Images:
        """N pictures decoded from z ~ N(0, I), each pixel at the centre of its p(x|z).

        CLASS_ is the class, by name or number, that a conditional network is asked for. With NOISE
        each pixel is drawn from p(x|z). That is a draw from the model, but its pixels are
        independent given z, so it looks grainy. The codes of an autoencoder without noise are drawn
        from the Gaussian fitted to those of training images.

        Other pictures, one sort at a time (see `Gallery`), are of codes of test images: RECONSTRUCT
        shows them beside the images, INTERPOLATE what is between two, TRAVERSE what their single
        numbers do, ADD and REMOVE what the difference of two classes does.
        """
        asked = {
            "--reconstruct": reconstruct,
            "--interpolate": interpolate,
            "--traverse": traverse,
            "--add or --remove": bool(add or remove),
        }
        modes = [mode for mode, wanted in asked.items() if wanted]
        if len(modes) > 1:
            raise ConfigError(f"{' and '.join(modes)}: ask for one at a time")
        if class_ and (add or remove):
            raise ConfigError("--class: with --add and --remove images are of the class to remove")
        generator = torch.Generator(self.context.device).manual_seed(seed)
        with self.updater.at_rest() as bound:
            gallery = self._gallery(bound.net, generator, noise)
            if reconstruct:
                return gallery.reconstructions(n, class_)
            if add or remove:
                return gallery.arithmetic(n, add, remove)
            codes = self._codes(gallery)
            if interpolate:
                return gallery.interpolations(codes, n, class_)
            if traverse:
                return gallery.traversals(codes, n, class_)
            return gallery.samples(codes, n, class_)

    def _observe(
        self, data: ImageSplit, indices: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """The images at INDICES as the network sees them, and the labels if it is told them."""
        images, labels = data.take(indices)
        x = self.likelihood.observe(images.to(self.context.device), generator)
        return x, labels.to(self.context.device) if self.config.conditional else None

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        """ε ~ N(0, I), [N, d]; zero for an autoencoder without noise."""
        shape, device = (n, self.config.latent), self.context.device
        if self.config.deterministic:
            return torch.zeros(shape, device=device)
        return torch.randn(shape, generator=generator, device=device)

    def _gallery(
        self, net: Autoencoder, generator: torch.Generator, noise: bool = False
    ) -> Gallery:
        told = self.config.conditional
        return Gallery(net, self.likelihood, self.task, told, generator, noise)

    def _codes(self, gallery: Gallery) -> CodeDistribution:
        """What codes of new images are drawn from."""
        if self.config.deterministic:
            return CodeDistribution.fit(gallery.training_codes()[0])
        return CodeDistribution.standard(self.config.latent, self.context.device)

    def _figures(self, loss: Any, nll: Any, kl: Any) -> dict[str, SupportsFloat]:
        """What is reported of the loss and of the two means -log p(x|z) and KL, in nats."""
        if self.config.deterministic:
            return {"loss": loss, "reconstruction_nats": nll}
        elbo = -(nll + kl)
        return {
            "loss": loss,
            "elbo_nats": elbo,
            "bits_per_dim": bits_per_dim(-elbo, self.task.shape),
            "reconstruction_nats": nll,
            "kl_nats": kl,
        }


def _usage(kl: Tensor) -> dict[str, SupportsFloat]:
    """How many numbers of the code are used, and the mean divergence of each, greatest first."""
    ordered = kl.sort(descending=True).values.tolist()
    used = sum(nats > _ACTIVE for nats in ordered)
    return {"active_units": used, **{f"kl_nats_{i}": x for i, x in enumerate(ordered, 1)}}


def _check_evaluation(n: int | None, iwae: int, quality: int, config: VAE.Config) -> None:
    if n is not None and n < 1:
        raise ConfigError(f"an evaluation takes at least 1 image, got n = {n}")
    require(iwae >= 0, "--iwae", iwae, "zero or positive")
    require(quality >= 0, "--quality", quality, "zero or positive")
    if iwae and config.deterministic:
        raise ConfigError("--iwae: an autoencoder without noise has no bound to tighten")


def _check(config: VAE.Config) -> None:
    known = f"one of {', '.join(OFFERED)}"
    require(config.latent >= 1, "algorithm.latent", config.latent, "at least 1")
    require(0 <= config.beta < math.inf, "algorithm.beta", config.beta, "zero or positive")
    if config.deterministic and config.beta != 1:
        raise ConfigError(
            "algorithm.beta weighs a divergence, which deterministic codes do not have"
        )
    require(config.likelihood in OFFERED, "algorithm.likelihood", config.likelihood, known)
    require(config.batch_size >= 1, "algorithm.batch_size", config.batch_size, "at least 1")
    require(0 < config.lr < math.inf, "algorithm.lr", config.lr, "positive")
