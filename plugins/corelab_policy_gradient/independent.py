"""The model "independent" of the interface "actor-critic": perceptrons for each agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from corelab_nets.compiled import Engine, engine_of
from corelab_nets.flatten import Flatten
from corelab_nets.perceptron import Activation, Perceptrons
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from corelab import PluginError, require
from corelab_policy_gradient.distributions import Gaussian, distribution_over


class Independent(nn.Module):
    """An actor and a critic for each agent, which share nothing; rows go to whose they are.

    Observations are Dict(agent=Discrete(A), observation=...), as environments of several agents
    show them with `task.policies` "independent". The rows of a batch are laid out agent by agent,
    [A, rows, inputs], so that all networks run as one batched product.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the perceptrons of each agent."""

        sizes: tuple[int, ...] = (64, 64)
        """Widths of the hidden layers of each actor, and of each critic."""
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
        wide = all(width >= 1 for width in config.sizes)
        require(wide, "model.sizes", config.sizes, "at least 1 each")
        self._agents, seen = _parts(observation_space)
        A = self._agents
        distribution = distribution_over(action_space, "the task")
        self.log_std: nn.Parameter | None = None
        outputs = distribution.size
        if isinstance(distribution, Gaussian):
            outputs //= 2
            self.log_std = nn.Parameter(torch.full((A, outputs), config.log_std))
        self.flatten = Flatten(seen, "the model independent")
        self.nets = Perceptrons(  # A actors and then A critics
            self.flatten.size,
            config.sizes,
            (outputs,) * A + (1,) * A,
            activation=config.activation,
            gain=(0.01,) * A + (1.0,) * A,
        )
        self._fast = engine_of(self.nets, config.engine)
        self._outputs = outputs

    def forward(self, observations: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [B, n], or means and log standard deviations [B, 2d]; and values [B]."""
        x, agent, place = self._laid_out(observations)
        y = self.nets(x)
        policy = y[agent, place, : self._outputs]
        if self.log_std is not None:
            policy = torch.cat([policy, self.log_std[agent]], -1)
        return policy, y[self._agents + agent, place, 0]

    def act(self, observations: dict[str, Tensor]) -> NDArray[Any]:
        """The policy alone, on arrays."""
        return self.trace(observations)[0]

    def trace(
        self, observations: dict[str, Tensor]
    ) -> tuple[NDArray[Any], NDArray[Any], Callable[[NDArray[Any], NDArray[Any]], None]]:
        """Policy and values on arrays, and from their gradients those of the parameters."""
        x, *at = self._laid_out(observations)
        agent, place = (index.numpy() for index in at)
        y = self._fast.trace(x.numpy())
        A, n, log_std = self._agents, self._outputs, self.log_std

        def pull(d_policy: NDArray[Any], d_value: NDArray[Any]) -> None:
            dy = np.zeros(y.shape, y.dtype)
            dy[agent, place, :n] = d_policy[:, :n]
            dy[A + agent, place, 0] = d_value
            self.nets.flat.grad = self._fast.pull(dy)
            if log_std is not None:
                d_log_std = torch.from_numpy(np.ascontiguousarray(d_policy[:, n:]))
                log_std.grad = torch.zeros_like(log_std).index_add_(0, at[0], d_log_std)

        policy = y[agent, place, :n]
        if log_std is not None:
            policy = np.concatenate([policy, log_std.detach().numpy()[agent]], -1)
        return policy, y[A + agent, place, 0], pull

    def _laid_out(self, observations: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs [2A, rows, inputs], each agent's rows for its actor and its critic, and where the
        batch's rows are in it: the agent [B], and the place among its rows [B].
        """
        A, agent = self._agents, observations["agent"]
        flat = self.flatten(observations["observation"], self.nets.flat.dtype)
        count = nn.functional.one_hot(agent, A).cumsum(0)
        place = count.gather(1, agent[:, None])[:, 0] - 1
        x = flat.new_zeros((2, A, int(count[-1].max()), self.flatten.size))
        x[:, agent, place] = flat
        return x.flatten(0, 1), agent, place


def _parts(space: spaces.Space[Any]) -> tuple[int, spaces.Space[Any]]:
    """The number of agents in SPACE, and what each of them sees."""
    if isinstance(space, spaces.Dict) and set(space.spaces) == {"agent", "observation"}:
        agent = space["agent"]
        if isinstance(agent, spaces.Discrete):
            return int(agent.n), space["observation"]
    raise PluginError(
        f"the model independent reads observations that say whose they are, not {space}; "
        "choose an environment of several agents with --task.policies independent"
    )
