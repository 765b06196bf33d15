"""What a network's outputs say about actions: how to draw one, and how likely it was.

Actions are drawn with NumPy, where the environments are; likelihoods are computed with torch, where
gradients are. P is what the policy's network gives for a batch of observations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from corelab import PluginError


class Categorical:
    """One of n actions; p is its logits [B, n]."""

    def __init__(self, space: spaces.Discrete[Any]) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype = torch.int64
        self._start = int(space.start)

    def sample(self, p: NDArray[np.float32], rng: np.random.Generator) -> NDArray[Any]:
        """Indices [B], drawn by adding Gumbel noise to the logits and taking the largest."""
        return self.mode(p + rng.gumbel(size=p.shape))

    def mode(self, p: NDArray[Any]) -> NDArray[Any]:
        """The most likely indices [B]."""
        return np.asarray(p.argmax(-1))

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        """ACTIONS as the environment numbers them."""
        return actions + self._start

    def log_prob_and_entropy(self, p: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log π(a|s) of ACTIONS [B] and the entropy of π(·|s), both [B]."""
        log_p = p.log_softmax(-1)
        log_prob = log_p.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return log_prob, -(log_p.exp() * log_p).sum(-1)


class Gaussian:
    """A vector of d independent normal variables; p is means and log standard deviations [B, 2d].

    The environment gets it clipped to its bounds; its likelihood is that of the unclipped vector.
    """

    def __init__(self, space: spaces.Box) -> None:
        self.shape = space.shape
        self.dtype = torch.float32
        self._low, self._high = space.low, space.high

    def sample(self, p: NDArray[np.float32], rng: np.random.Generator) -> NDArray[Any]:
        """Vectors [B, d]."""
        mean, log_std = np.split(p, 2, -1)
        noise = rng.standard_normal(mean.shape, np.float32)
        return np.asarray(mean + np.exp(log_std) * noise)

    def mode(self, p: NDArray[Any]) -> NDArray[Any]:
        """The means [B, d]."""
        return np.split(p, 2, -1)[0]

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        """ACTIONS within the environment's bounds."""
        return actions.clip(self._low, self._high)

    def log_prob_and_entropy(self, p: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log π(a|s) of ACTIONS [B, d] and the entropy of π(·|s), both [B]."""
        mean, log_std = p.chunk(2, -1)
        z = (actions - mean) / log_std.exp()
        log_prob = -(0.5 * z**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
        return log_prob, (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


def distribution_over(space: spaces.Space[Any], of: str) -> Categorical | Gaussian:
    """A family of distributions for actions in SPACE; `PluginError` naming OF if there is none."""
    if isinstance(space, spaces.Discrete):
        return Categorical(space)
    if (
        isinstance(space, spaces.Box)
        and len(space.shape) == 1
        and np.issubdtype(space.dtype, np.floating)
    ):
        return Gaussian(space)
    raise PluginError(
        f"{of} has actions {space}; "
        "what fits is Discrete, or a Box of one dimension and real numbers"
    )
