"""What a decoder can say of a sub-pixel: the distribution of its value, given a few parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def bits_per_dim(nats: Any, shape: tuple[int, ...]) -> Any:
    """NATS, -log p of an image of SHAPE (C, H, W), as bits for each of its sub-pixels."""
    return nats / (math.prod(shape) * math.log(2))


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
        # a third of the time that torch.bernoulli takes on a CPU
        u = torch.rand(images.shape, generator=generator, device=images.device)
        return 2 * (255 * u < images).float() - 1

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
        return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1

    def _location_and_log_scale(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        # from a tenth of a level to far beyond all 256, so that no exponential or slope is infinite
        return parameters[:, 0], parameters[:, 1].clamp(-7, 7)


LIKELIHOODS: Mapping[str, Likelihood] = {"bernoulli": Bernoulli(), "logistic": Logistic()}
