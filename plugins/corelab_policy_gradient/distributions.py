"""What a network's outputs say about actions: how to draw one, and how likely it was.

P is what the policy's network gives for a batch of observations. Actions are drawn with NumPy,
where the environments are. Likelihoods are computed on tensors, for autograd, or on arrays, and
`likelihood` gives their gradients in closed form besides, which saves the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from corelab_nets.arrays import Array, log_softmax, module_of
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from corelab import PluginError

Pull = Callable[[Array, Array | None], Array]
"""From dL/d(log π(a|s)) and dL/d(entropy), both [B] (None: it plays no part), to dL/dp."""
_FEW = 8
"""So many terms NumPy adds in an order that depends on where they lie."""


class Distribution(Protocol):
    """A family of distributions over the actions of a space, one for each row of P [B, k]."""

    size: int
    """How many numbers the network gives for an action: k."""
    shape: tuple[int, ...]
    """Of one action, as it is kept."""
    dtype: torch.dtype
    """In which actions are kept."""

    def sample(self, p: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Actions [B, ...] drawn from P."""

    def mode(self, p: NDArray[Any]) -> NDArray[Any]:
        """The likeliest actions [B, ...]."""

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        """ACTIONS as the environment wants them."""

    def likelihood(self, p: Array, actions: Array) -> tuple[Array, Array, Pull]:
        """Log π(a|s) of ACTIONS and the entropy of π(·|s), both [B]; and how to go back to P."""

    def log_prob_and_entropy(self, p: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log π(a|s) of ACTIONS and the entropy of π(·|s), both [B], for autograd."""


class Categorical:
    """One of n actions; p is its logits [B, n]."""

    def __init__(self, n: int, start: int = 0) -> None:
        self.size = n
        self.shape: tuple[int, ...] = ()
        self.dtype = torch.int64
        self._start = start

    def sample(self, p: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Indices [B]: the largest of the logits plus Gumbel noise, which is -log of Exp(1)."""
        return self.mode(p - np.log(rng.standard_exponential(p.shape)))

    def mode(self, p: NDArray[Any]) -> NDArray[Any]:
        """The most likely indices [B]."""
        return np.asarray(p.argmax(-1))

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        """ACTIONS as the environment numbers them."""
        return actions + self._start if self._start else actions

    def likelihood(self, p: Array, actions: Array) -> tuple[Array, Array, Pull]:
        """Log π(a|s) of ACTIONS [B] and the entropy of π(·|s), both [B]; and how to go back."""
        z = p.T  # [n, B]
        if isinstance(z, np.ndarray) and len(z) < _FEW:
            z = np.ascontiguousarray(z)  # with few actions, long rows are quicker
        log_p = log_softmax(z, 0)
        prob = module_of(p).exp(log_p)
        entropy = -(prob * log_p).sum(0)
        chosen = actions, np.arange(len(p))

        def pull(d_log_prob: Array, d_entropy: Array | None) -> Array:
            dp = -d_log_prob * prob
            dp[chosen] += d_log_prob
            if d_entropy is not None:
                dp -= d_entropy * prob * (log_p + entropy)
            return dp.T

        return log_p[chosen], entropy, pull

    def log_prob_and_entropy(self, p: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log π(a|s) of ACTIONS [B] and the entropy of π(·|s), both [B]."""
        return self.likelihood(p, actions)[:2]


class Categoricals:
    """Several independent choices, of n_1, n_2, … actions; p is their logits side by side."""

    def __init__(self, space: spaces.MultiDiscrete | spaces.MultiBinary) -> None:
        if isinstance(space, spaces.MultiBinary):
            ns, start = np.full(int(np.prod(space.shape)), 2), np.zeros((), np.int64)
        else:
            ns, start = space.nvec.ravel(), space.start
        self._parts = [Categorical(int(n)) for n in ns]
        self._cuts = np.cumsum(ns)[:-1].tolist()
        self._sizes = [part.size for part in self._parts]
        self._space, self._start = space, start
        self.size = int(ns.sum())
        self.shape: tuple[int, ...] = (len(ns),)
        self.dtype = torch.int64

    def sample(self, p: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Indices [B, choices]: the largest of each choice's logits plus Gumbel noise."""
        return self.mode(p - np.log(rng.standard_exponential(p.shape)))

    def mode(self, p: NDArray[Any]) -> NDArray[Any]:
        """The most likely indices [B, choices]."""
        return np.stack([part.argmax(-1) for part in np.split(p, self._cuts, -1)], -1)

    def to_env(self, actions: NDArray[Any]) -> NDArray[Any]:
        """ACTIONS as the environment numbers them."""
        shaped = actions.reshape(-1, *self._space.shape) + self._start
        return np.asarray(shaped, self._space.dtype)

    def likelihood(self, p: Array, actions: Array) -> tuple[Array, Array, Pull]:
        """The sums over the choices of log π(a|s), ACTIONS [B, choices], and of the entropies."""
        ends = np.cumsum(self._sizes)
        parts = [
            part.likelihood(p[:, end - part.size : end], actions[:, i])
            for i, (part, end) in enumerate(zip(self._parts, ends, strict=True))
        ]
        log_probs, entropies, pulls = zip(*parts, strict=True)

        def pull(d_log_prob: Array, d_entropy: Array | None) -> Array:
            pieces = [one(d_log_prob, d_entropy) for one in pulls]
            return module_of(p).concatenate(pieces, -1)

        return sum(log_probs), sum(entropies), pull

    def log_prob_and_entropy(self, p: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """The sums over the choices of log π(a|s), ACTIONS [B, choices], and of the entropies."""
        return self.likelihood(p, actions)[:2]


class Gaussian:
    """A vector of d independent normal variables; p is means and log standard deviations [B, 2d].

    The environment gets it clipped to its bounds; its likelihood is that of the unclipped vector.
    """

    def __init__(self, space: spaces.Box) -> None:
        self.size = 2 * space.shape[0]
        self.shape = space.shape
        self.dtype = torch.float32
        self._low, self._high = space.low, space.high

    def sample(self, p: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
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

    def likelihood(self, p: Array, actions: Array) -> tuple[Array, Array, Pull]:
        """Log π(a|s) of ACTIONS [B, d] and the entropy of π(·|s), both [B]; and how to go back."""
        d = p.shape[-1] // 2
        mean, log_std = p[:, :d], p[:, d:]
        inverse_std = module_of(p).exp(-log_std)
        z = (actions - mean) * inverse_std
        log_prob = -(0.5 * z**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)
        entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)

        def pull(d_log_prob: Array, d_entropy: Array | None) -> Array:
            d_mean = d_log_prob[:, None] * z * inverse_std
            d_log_std = d_log_prob[:, None] * (z**2 - 1)
            if d_entropy is not None:
                d_log_std += d_entropy[:, None]
            return module_of(p).concatenate([d_mean, d_log_std], -1)

        return log_prob, entropy, pull

    def log_prob_and_entropy(self, p: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log π(a|s) of ACTIONS [B, d] and the entropy of π(·|s), both [B]."""
        return self.likelihood(p, actions)[:2]


def distribution_over(space: spaces.Space[Any], of: str) -> Distribution:
    """A family of distributions for actions in SPACE; `PluginError` naming OF if there is none."""
    match space:
        case spaces.Discrete():
            return Categorical(int(space.n), int(space.start))
        case spaces.MultiDiscrete() | spaces.MultiBinary():
            return Categoricals(space)
        case spaces.Box(shape=(_,)) if np.issubdtype(space.dtype, np.floating):
            return Gaussian(space)
    raise PluginError(
        f"{of} has actions {space}; what fits is Discrete, MultiDiscrete, MultiBinary, "
        "or a Box of one dimension and real numbers"
    )
