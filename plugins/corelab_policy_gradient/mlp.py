"""The model "mlp" of the interface "actor-critic": two multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from corelab_nets.compiled import Engine, engine_of
from corelab_nets.flatten import Flatten
from corelab_nets.perceptron import Activation, Perceptrons
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from corelab import require
from corelab_policy_gradient.distributions import Gaussian, distribution_over
from corelab_policy_gradient.interface import Observations


class MLP(nn.Module):
    """Two perceptrons that share nothing: the actor gives a distribution over actions, the critic
    the value of the state.

    Discrete observations are seen as one-hot vectors, Dicts and Tuples as one vector. The standard
    deviations of continuous actions are parameters and do not depend on the state.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the perceptrons."""

        sizes: tuple[int, ...] = (64, 64)
        """Widths of the hidden layers of the actor, and of the critic."""
        activation: Activation = "tanh"
        """What stands between two layers."""
        log_std: float = 0.0
        """Logarithm of the standard deviation that continuous actions begin with."""
        engine: Engine = "arrays"
        """What computes on a CPU: compiled code is faster, rounds differently, needs a compiler."""

    def __init__(
        self, config: Config, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        super().__init__()
        require(
            all(width >= 1 for width in config.sizes),
            "model.sizes",
            config.sizes,
            "at least 1 each",
        )
        distribution = distribution_over(action_space, "the task")
        self.log_std: nn.Parameter | None = None
        outputs = distribution.size
        if isinstance(distribution, Gaussian):
            outputs //= 2
            self.log_std = nn.Parameter(torch.full((outputs,), config.log_std))
        self.flatten = Flatten(observation_space, "the model mlp")
        self.nets = Perceptrons(
            self.flatten.size,
            config.sizes,
            (outputs, 1),
            activation=config.activation,
            gain=(0.01, 1.0),
        )
        self._fast = engine_of(self.nets, config.engine)
        self._outputs = outputs

    def forward(self, observations: Observations) -> tuple[Tensor, Tensor]:
        """Logits [B, n], or means and log standard deviations [B, 2d]; and values [B]."""
        y = self.nets(self.flatten(observations, self.nets.flat.dtype))
        policy, value = y[0, :, : self._outputs], y[1, :, 0]
        if self.log_std is not None:
            policy = torch.cat([policy, self.log_std.expand_as(policy)], -1)
        return policy, value

    def act(self, observations: Observations) -> NDArray[Any]:
        """The policy alone, on arrays."""
        p = self._fast.infer(self.flatten(observations, self.nets.flat.dtype).numpy())
        return p if self.log_std is None else self._with_log_std(p)

    def trace(
        self, observations: Observations
    ) -> tuple[NDArray[Any], NDArray[Any], Callable[[NDArray[Any], NDArray[Any]], None]]:
        """Policy and values on arrays, and from their gradients those of the parameters."""
        y = self._fast.trace(self.flatten(observations, self.nets.flat.dtype).numpy())
        n = self._outputs

        def pull(d_policy: NDArray[Any], d_value: NDArray[Any]) -> None:
            dy = np.zeros(y.shape, y.dtype)
            dy[0, :, :n] = d_policy[:, :n]
            dy[1, :, 0] = d_value
            self.nets.flat.grad = self._fast.pull(dy)
            if self.log_std is not None:
                self.log_std.grad = torch.from_numpy(d_policy[:, n:].sum(0))

        p = y[0, :, :n]
        return p if self.log_std is None else self._with_log_std(p), y[1, :, 0], pull

    def _with_log_std(self, means: NDArray[Any]) -> NDArray[Any]:
        log_std = cast(nn.Parameter, self.log_std).detach().numpy()
        return np.concatenate([means, np.broadcast_to(log_std, means.shape)], -1)
