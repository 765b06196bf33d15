"""A likelihood of sub-pixels with several peaks: a mixture of logistic distributions."""

from __future__ import annotations

import torch
from corelab_generative.likelihoods import Logistic
from torch import Tensor

_NARROWER = 2.0
"""Components begin with scales of e^-2, some 30 levels of standard deviation."""


class LogisticMixture:
    """A mixture of so many COMPONENTS, each a logistic distribution cut into 256 bins.

    As in PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517, eq. 2), but with the channels of a
    pixel independent. The 3 COMPONENTS parameters are logits of the weights, locations, log-scales.
    """

    def __init__(self, components: int) -> None:
        self.parameters = 3 * components
        self._logistic = Logistic()
        # the components begin side by side rather than all in one place
        self._begin = (2 * torch.arange(components) + 1) / components - 1

    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The levels themselves."""
        return self._logistic.observe(images, generator)

    def log_prob(self, x: Tensor, parameters: Tensor) -> Tensor:
        """The logarithm of Σ_i π_i p_i, where p_i is the mass that component i has in the bin."""
        logits, mu, log_s = self._split(parameters)
        log_p = self._logistic.log_prob(x[:, None], torch.stack([mu, log_s], 1))
        return torch.logsumexp(logits.log_softmax(1) + log_p, 1)

    def centre(self, parameters: Tensor) -> Tensor:
        """The mean, but that of each component is taken to be its location."""
        logits, mu, _ = self._split(parameters)
        return (logits.softmax(1) * mu.clamp(-1, 1)).sum(1)

    def draw(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """A level of a component drawn by its weight."""
        logits, mu, log_s = self._split(parameters)
        # the greatest of logits with Gumbel noise is drawn from their softmax
        u = torch.rand(logits.shape, generator=generator, device=logits.device)
        chosen = (logits - (-u.clamp(1e-7, 1 - 1e-7).log()).log()).argmax(1, keepdim=True)
        one = torch.cat([part.gather(1, chosen) for part in (mu, log_s)], 1)
        return self._logistic.draw(one, generator)

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, locations and log-scales, [N, components, C, H, W] each."""
        logits, mu, log_s = parameters.chunk(3, 1)
        return logits, mu + self._begin.to(mu)[:, None, None, None], log_s - _NARROWER
