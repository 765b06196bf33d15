"""What an autoregressive network can say of a sub-pixel: categorical, or a mixture of logistics.

Images are symbols here, integers [N, C, H, W] from 0 to the number of levels - 1. A network gives k
parameters for each sub-pixel, [N, k, C, H, W], and may have seen the sub-pixels before it.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from corelab_generative.likelihoods import Logistic


class SymbolLikelihood(Protocol):
    """p(x_i | x_1, …, x_{i-1}) of one sub-pixel, given k parameters for it."""

    parameters: int
    """k."""
    components: int
    """Logistics of the mixture, or 0: the parameters are log-probabilities, up to a constant."""
    offset: Tensor
    """What is added to the parameters, [k], before they mean that."""

    def log_prob(self, symbols: Tensor, parameters: Tensor) -> Tensor:
        """Its logarithm in nats, [N, C, H, W], for SYMBOLS under PARAMETERS, [N, k, C, H, W]."""

    def levels(self, parameters: Tensor, before: Tensor) -> Tensor:
        """Log-probabilities, [N, levels], up to a constant, of all levels of one sub-pixel.

        From PARAMETERS for it, [N, k], and the symbols of the channels BEFORE it, int64 [N, c].
        """


class Categorical:
    """Each level has a probability of its own, the softmax of the parameters.

    If it is known how often each level comes, FREQUENCIES [levels], the parameters say by what
    factor it is likelier than that: a network need not learn what can be counted.
    """

    def __init__(self, levels: int, frequencies: Tensor | None = None) -> None:
        self.parameters, self.components = levels, 0
        counts = torch.zeros(levels) if frequencies is None else frequencies
        self.offset = ((counts + 1) / (counts + 1).sum()).log()

    def log_prob(self, symbols: Tensor, parameters: Tensor) -> Tensor:
        """Log-softmax at the symbols."""
        # levels last: that is how they lie in memory if the network's maps lie pixel by pixel
        logits = parameters.movedim(1, -1) + self.offset.to(parameters)
        nll = F.cross_entropy(logits.flatten(0, -2), symbols.flatten().long(), reduction="none")
        return -nll.view(symbols.shape)

    def levels(self, parameters: Tensor, before: Tensor) -> Tensor:
        """The logits."""
        return parameters + self.offset.to(parameters)


class Mixture:
    """A mixture of so many COMPONENTS, logistic distributions cut into 256 bins, as in `Logistic`.

    After PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517, eq. 2 and 3). The location of a
    component is shifted in proportion to the CHANNELS of the pixel that come before it. The weights
    of the components are each channel's own; in the paper the channels share one component.
    """

    def __init__(self, components: int, channels: int) -> None:
        self.components, self.channels = components, channels
        self.parameters = components * (2 + channels)
        # the components begin side by side rather than all in one place, with a standard deviation
        # of some 30 levels
        begin = (2 * torch.arange(components, dtype=torch.float64) + 1) / components - 1
        rest = begin.new_zeros((channels - 1) * components)
        self.offset = torch.cat([torch.zeros_like(begin), begin, torch.full_like(begin, -2), rest])

    def log_prob(self, symbols: Tensor, parameters: Tensor) -> Tensor:
        """The logarithm of Σ_i π_i p_i, where p_i is the mass that component i has in the bin."""
        x = symbols.to(parameters.dtype) / 127.5 - 1
        C = self.channels
        # of these [C - 1, C] shifts those by earlier channels count
        earlier = torch.ones(C - 1, C, dtype=x.dtype, device=x.device).triu(1)
        shifts = x[:, : C - 1, None] * earlier[:, :, None, None]  # [N, C - 1, C, H, W]
        return self._log_mass(x[:, None], *self._split(parameters, shifts)).logsumexp(1)

    def levels(self, parameters: Tensor, before: Tensor) -> Tensor:
        """The same for all 256 levels, from one distribution function for all of them.

        Here it does no harm that a difference of two of its values is zero if it is too small.
        """
        shifts = F.pad(before.to(parameters.dtype) / 127.5 - 1, (0, self.channels - 1))
        log_weights, mu, log_s = self._split(parameters, shifts[:, : self.channels - 1])
        edges = (torch.arange(255, dtype=mu.dtype, device=mu.device) + 0.5) / 127.5 - 1
        below = torch.sigmoid((edges - mu[:, :, None]) * torch.exp(-log_s)[:, :, None])
        cdf = (log_weights.exp()[:, None] @ below)[:, 0]  # [N, 255]
        ends = cdf.new_ones(len(cdf), 1)
        return torch.cat([cdf, ends], 1).diff(dim=1, prepend=0 * ends).clamp(min=0).log()

    def _split(self, parameters: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Components: logarithm of π, location and log-scale, [N, components, …], from PARAMETERS
        [N, k, …] and the values of the channels before, SHIFTS [N, C - 1, …].
        """
        K = self.components
        offset = self.offset.to(parameters).view(-1, *(1,) * (parameters.ndim - 2))
        logits, mu, log_s, *alphas = torch.split(parameters + offset, K, 1)
        for j, alpha in enumerate(alphas):
            mu = mu + alpha.tanh() * shifts[:, j, None]
        return logits.log_softmax(1), mu, log_s.clamp(-7, 7)

    def _log_mass(self, x: Tensor, log_weight: Tensor, mu: Tensor, log_s: Tensor) -> Tensor:
        return log_weight + Logistic().log_prob(x, torch.stack([mu, log_s], 1))
