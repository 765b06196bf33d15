"""The model "mlp" of the interface "actor-critic": two multilayer perceptrons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from corelab import ConfigError, PluginError


class MLP(nn.Module):
    """Two perceptrons that share nothing: the actor gives a distribution over actions, the critic
    the value of the state.

    Discrete observations are seen as one-hot vectors. The standard deviations of continuous actions
    are parameters and do not depend on the state.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the perceptrons."""

        sizes: tuple[int, ...] = (64, 64)
        """Widths of the hidden layers of the actor, and of the critic."""
        log_std: float = 0.0
        """Logarithm of the standard deviation that continuous actions begin with."""

    def __init__(
        self, config: Config, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        super().__init__()
        if any(width < 1 for width in config.sizes):
            raise ConfigError(f"model.sizes is {config.sizes}; each width must be at least 1")
        self._space = observation_space
        self.log_std: nn.Parameter | None = None
        match action_space:
            case spaces.Discrete():
                outputs = int(action_space.n)
            case spaces.Box(shape=(outputs,)):
                self.log_std = nn.Parameter(torch.full((outputs,), config.log_std))
            case _:
                raise PluginError(
                    f"the model mlp gives Discrete or Box actions, not {action_space}"
                )
        inputs = _inputs(observation_space)
        self.actor = _perceptron(inputs, config.sizes, outputs, gain=0.01)
        self.critic = _perceptron(inputs, config.sizes, 1, gain=1.0)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, n], or means and log standard deviations [B, 2d]; and values [B]."""
        x = observations
        if isinstance(self._space, spaces.Discrete):
            x = nn.functional.one_hot(x - int(self._space.start), int(self._space.n))
        x = x.to(next(self.parameters()).dtype)
        policy = self.actor(x)
        if self.log_std is not None:
            policy = torch.cat([policy, self.log_std.expand_as(policy)], -1)
        return policy, self.critic(x).squeeze(-1)


def _inputs(space: spaces.Space[Any]) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space.shape[0]
    raise PluginError(
        f"the model mlp reads vectors or Discrete observations, not {space}; "
        "choose another --model or a task with such observations"
    )


def _perceptron(inputs: int, sizes: tuple[int, ...], outputs: int, gain: float) -> nn.Sequential:
    """Linear layers with tanh between them and orthogonal weights, the last scaled by GAIN."""
    layers: list[nn.Module] = []
    for width in sizes:
        layers += [_linear(inputs, width, 2**0.5), nn.Tanh()]
        inputs = width
    return nn.Sequential(*layers, _linear(inputs, outputs, gain))


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
