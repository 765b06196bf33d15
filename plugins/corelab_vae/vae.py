"""Auto-encoding variational Bayes (Kingma & Welling 2014, arXiv:1312.6114).

A decoder p(x|z) turns a code z ~ N(0, I) into the distribution of an image, an encoder q(z|x) turns
an image into a Gaussian over codes, and both are trained together to raise the evidence lower bound

    log p(x) ≥ ELBO(x) = E_{q(z|x)} [log p(x|z)] - KL(q(z|x) || p(z))                      (eq. 3)

whose expectation is estimated with one draw z = μ(x) + σ(x) ε, ε ~ N(0, I), for each image, so that
its gradient reaches the encoder (sections 2.3 and 2.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, SupportsFloat

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_datasets.interface import Dataset, minibatch
from corelab_media import Images
from torch import Tensor, nn

from corelab import ConfigError, Context, Saved, Split
from corelab_vae.interface import Autoencoder


class Likelihood(Protocol):
    """p(x|z) of one sub-pixel, given the parameters [N, k, C, H, W] that the decoder makes of z."""

    parameters: int
    """k, how many parameters a sub-pixel has."""

    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """X, float [N, C, H, W] in [-1, 1], for IMAGES, uint8 of the same shape."""

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """The log-probability log p(x|z) in nats, [N, C, H, W]."""

    def centre(self, parameters: Tensor) -> Tensor:
        """The centre of p(x|z), [N, C, H, W] in [-1, 1]: what is shown of it."""

    def draw(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """A draw from p(x|z), [N, C, H, W] in [-1, 1]."""


class Bernoulli:
    """Pixels are -1 or 1; the one parameter is the logit of a 1 (appendix C.1).

    An image of grey levels stands for the probabilities of a 1, and is drawn anew each time.
    """

    parameters = 1

    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Binary images drawn with the probabilities IMAGES / 255."""
        return 2 * torch.bernoulli(images / 255, generator=generator) - 1

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """The two are σ(logit) and σ(-logit)."""
        return F.logsigmoid(x * parameters[:, 0])

    def centre(self, parameters: Tensor) -> Tensor:
        """The mean, 2 σ(logit) - 1."""
        return 2 * parameters[:, 0].sigmoid() - 1

    def draw(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Binary images."""
        return 2 * torch.bernoulli(parameters[:, 0].sigmoid(), generator=generator) - 1


class Logistic:
    """Pixels are the 256 levels -1, -1 + 2/255, …, 1; the parameters are location and log-scale.

    The probability of a level is the mass that a logistic distribution has in the bin around it,
    and the outermost bins reach to infinity (Salimans et al. 2017, PixelCNN++, arXiv:1701.05517,
    eq. 2, with one component).
    """

    parameters = 2

    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The levels themselves."""
        return images / 127.5 - 1

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """The mass σ((x + 1/255 - μ) / s) - σ((x - 1/255 - μ) / s) of a bin, as a logarithm."""
        mu, log_s = self._location_and_log_scale(parameters)
        inverse_s = torch.exp(-log_s)
        upper = (x + 1 / 255 - mu) * inverse_s
        lower = (x - 1 / 255 - mu) * inverse_s
        # σ(u) - σ(l) = σ(u) σ(-l) (1 - e^(l-u)), where nothing cancels however small the mass is;
        # the factors of an edge at infinity are 1
        below, above = x < -1 + 1 / 255, x > 1 - 1 / 255
        log_width = torch.log(-torch.expm1(-2 / 255 * inverse_s))
        return (
            F.logsigmoid(upper).masked_fill(above, 0)
            + F.logsigmoid(-lower).masked_fill(below, 0)
            + log_width.masked_fill(below | above, 0)
        )

    def centre(self, parameters: Tensor) -> Tensor:
        """The location, which is the median of the levels rather than their mean."""
        return parameters[:, 0].clamp(-1, 1)

    def draw(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Levels, by the inverse of the distribution function."""
        mu, log_s = self._location_and_log_scale(parameters)
        u = torch.rand(mu.shape, generator=generator, device=mu.device).clamp(1e-7, 1 - 1e-7)
        x = mu + log_s.exp() * torch.logit(u)
        return (x.clamp(-1, 1) * 127.5).round() / 127.5

    def _location_and_log_scale(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        # from a tenth of a level to far beyond all 256, so that no exponential or slope is infinite
        return parameters[:, 0], parameters[:, 1].clamp(-7, 7)


_BATCH = 500
"""Images at a time where nothing is learned. Fixed, because the noise they get depends on it."""
_PAIRS = 8
"""How many reconstructions are shown."""

LIKELIHOODS: Mapping[str, Likelihood] = {"bernoulli": Bernoulli(), "logistic": Logistic()}


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) || N(0, I)) in nats, [N], of diagonal Gaussians [N, d] (appendix B)."""
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)


class Bound(nn.Module):
    """The two parts of the bound, as one module so that `Context.wrap` can spread it."""

    def __init__(self, net: Autoencoder, likelihood: Likelihood) -> None:
        super().__init__()
        self.net = net
        self.likelihood = likelihood

    def forward(self, x: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(x|z) and KL(q(z|x) || p(z)) in nats, each [N], for X and ε [N, d] (eq. 10)."""
        mean, log_variance = self.net.encode(x)
        z = mean + torch.exp(0.5 * log_variance) * epsilon
        log_p = self.likelihood.log_prob(x, self.net.decode(z))
        return -log_p.flatten(1).sum(1), kl_to_standard_normal(mean, log_variance)


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
        likelihood: Literal["bernoulli", "logistic"] = "logistic"
        """What the decoder predicts: "logistic" gives a probability to each of the 256 levels of a
        pixel, "bernoulli" takes the pixel for the probability of a white one, drawn anew each time.
        """
        batch_size: int = 128
        """Images in a step."""
        lr: float = 2e-3
        """Step size of Adam at the start; it falls to zero over the run along half a cosine."""

    unit: ClassVar[str] = "examples"
    default_task: ClassVar[str] = "digits"
    default_model: ClassVar[str] = "mlp"
    default_steps: ClassVar[int] = 200_000
    best: ClassVar[str] = "min eval/bits_per_dim"
    highlights: ClassVar[tuple[str, ...]] = ("train/bits_per_dim", "eval/bits_per_dim")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "digits": {"steps": 60_000},
        "fashion-mnist": {"steps": 600_000},
        "mnist": {"steps": 600_000, "algorithm.likelihood": "bernoulli"},
    }

    saved: ClassVar[tuple[str, ...]] = ("net", "optimizer", "progress")

    def __init__(
        self, config: Config, task: Dataset, model: Callable[..., Any], context: Context
    ) -> None:
        _check(config)
        self.config, self.task, self.context = config, task, context
        self.likelihood = LIKELIHOODS[config.likelihood]
        k = self.likelihood.parameters
        self.net = model(shape=task.shape, latent=config.latent, outputs=k)
        self.bound = Bound(self.net, self.likelihood)
        self.optimizer = torch.optim.Adam(self.net.parameters(), config.lr, fused=True)
        self.progress = 0

        self._parallel_bound = context.wrap(self.bound)
        self._images = task.split("train").images
        self._order = context.seed_for("order", shared=True)

    def step(self) -> dict[str, SupportsFloat]:
        """One minibatch of algorithm 1, with L = 1 draw of the noise for each image."""
        config, context = self.config, self.context
        done = min(1.0, self.progress / context.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * (1 + math.cos(math.pi * done)) / 2

        indices = minibatch(len(self._images), config.batch_size, self.progress, self._order)
        images = self._images[context.shard(indices)].to(context.device)
        generator = context.generator("noise")
        x = self.likelihood.observe(images, generator)
        nll, kl = self._parallel_bound(x, self._normal(len(x), generator))
        loss = (nll + config.beta * kl).mean()

        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.progress += config.batch_size
        return {"loss": loss.detach(), **self._figures(nll.detach().mean(), kl.detach().mean())}

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0
    ) -> dict[str, SupportsFloat | Images]:
        """The bound on the first N images of SPLIT (None: all), reconstructions and samples.

        The metrics are those of a step but the loss; the bound is the paper's whatever beta is.
        """
        if n is not None and n < 1:
            raise ConfigError(f"an evaluation takes at least 1 image, got n = {n}")
        images = self.task.split(split).images[:n]
        generator = torch.Generator(self.context.device).manual_seed(seed)
        nll = kl = 0.0
        with self._at_rest():
            for batch in torch.split(images, _BATCH):
                x = self.likelihood.observe(batch.to(self.context.device), generator)
                nll_B, kl_B = self.bound(x, self._normal(len(x), generator))
                nll += nll_B.double().sum().item()
                kl += kl_B.double().sum().item()
            x = self.likelihood.observe(images[:_PAIRS].to(self.context.device), generator)
            mean, _ = self.net.encode(x)
            pairs = torch.stack([x, self.likelihood.centre(self.net.decode(mean))], 1).flatten(0, 1)
        return {
            **self._figures(nll / len(images), kl / len(images)),
            "reconstructions": _pictures(pairs, columns=_PAIRS),
            "samples": self.sample(64, seed),
        }

    def sample(self, n: int = 64, seed: int = 0, noise: bool = False) -> Images:
        """N images decoded from z ~ N(0, I), each pixel at the centre of its p(x|z).

        With NOISE each pixel is drawn from p(x|z) instead. That is a draw from the model, but its
        pixels are independent given z, so it looks grainy.
        """
        generator = torch.Generator(self.context.device).manual_seed(seed)
        pixels = []
        with self._at_rest():
            for z in torch.split(self._normal(n, generator), _BATCH):
                parameters = self.net.decode(z)
                pixels.append(
                    self.likelihood.draw(parameters, generator)
                    if noise
                    else self.likelihood.centre(parameters)
                )
        return _pictures(torch.cat(pixels))

    def _normal(self, n: int, generator: torch.Generator) -> Tensor:
        """ε or z ~ N(0, I), [N, d]."""
        shape = (n, self.config.latent)
        return torch.randn(shape, generator=generator, device=self.context.device)

    def _figures(self, nll: Any, kl: Any) -> dict[str, SupportsFloat]:
        """What is reported of the two means -log p(x|z) and KL, in nats."""
        elbo = -(nll + kl)
        return {
            "elbo_nats": elbo,
            "bits_per_dim": -elbo / (math.prod(self.task.shape) * math.log(2)),
            "reconstruction_nats": nll,
            "kl_nats": kl,
        }

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Within: the network does not learn."""
        training = self.net.training
        self.net.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.net.train(training)


def _check(config: VAE.Config) -> None:
    def need(fits: bool, option: str, what: str) -> None:
        if not fits:
            value = getattr(config, option)
            raise ConfigError(f"algorithm.{option} is {value}; it must be {what}")

    need(config.latent >= 1, "latent", "at least 1")
    need(0 <= config.beta < math.inf, "beta", "zero or positive")
    need(config.likelihood in LIKELIHOODS, "likelihood", f"one of {', '.join(LIKELIHOODS)}")
    need(config.batch_size >= 1, "batch_size", "at least 1")
    need(0 < config.lr < math.inf, "lr", "positive")


def _pictures(x: Tensor, columns: int = 0) -> Images:
    """Images of X, [N, C, H, W] in [-1, 1]."""
    pixels = ((x + 1) * 127.5).round().to(torch.uint8)
    return Images(pixels.permute(0, 2, 3, 1).cpu().numpy(), columns)
