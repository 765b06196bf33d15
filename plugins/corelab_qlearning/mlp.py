"""The model "mlp" of the interface "q-network": a multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from corelab_nets.arrays import ArrayPerceptrons, aligned
from corelab_nets.perceptron import Perceptrons
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from corelab import PluginError, require
from corelab_qlearning.parts import Head, join, unjoin


class MLP(nn.Module):
    """A perceptron with ReLU units for vectors and Discrete observations, which it sees as one-hot.

    Noisy layers are the last two.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the perceptron."""

        sizes: tuple[int, ...] = (128, 128)
        """Widths of the hidden layers."""

    def __init__(
        self,
        config: Config,
        observation_space: spaces.Space[Any],
        actions: int,
        atoms: int,
        *,
        dueling: bool,
        noisy: bool,
    ) -> None:
        super().__init__()
        fits = bool(config.sizes) and min(config.sizes) >= 1
        require(fits, "model.sizes", config.sizes, "one or more widths of at least 1")
        self._space = observation_space
        if isinstance(observation_space, spaces.Discrete):
            inputs = int(observation_space.n)
        elif isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 1:
            inputs = observation_space.shape[0]
        else:
            raise PluginError(
                f"the model mlp reads vectors or Discrete observations, not {observation_space}; "
                "for pictures there is --model cnn"
            )
        self._atoms = atoms
        self._dueling = dueling
        self.net: Any
        if not noisy:
            # dueling streams are its outputs: the value of the state, then the advantages
            outputs = (actions + dueling) * atoms
            self.net = Perceptrons(
                inputs, config.sizes, outputs, activation="relu", initial="uniform"
            )
            self._fast = ArrayPerceptrons(self.net)
            self._x = aligned((0, inputs))
            return
        layers: list[nn.Module] = []
        for width in config.sizes[:-1]:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        head = Head(inputs, config.sizes[-1], actions, atoms, dueling=dueling, noisy=noisy)
        self.net = nn.Sequential(*layers, head)

    def _inputs(self, observations: Tensor) -> Tensor:
        x = observations
        if isinstance(self._space, spaces.Discrete):
            x = nn.functional.one_hot(x - int(self._space.start), int(self._space.n))
        return x if x.is_floating_point() else x.to(torch.get_default_dtype())

    def forward(self, observations: Tensor) -> Tensor:
        """Values [B, actions, atoms]."""
        x = self._inputs(observations)
        if not isinstance(self.net, Perceptrons):
            return self.net(x)  # type: ignore[no-any-return]
        y = self.net(x)[0] if torch.is_grad_enabled() else self.net.infer(x)
        return join(y, self._atoms, self._dueling)

    @property
    def on_arrays(self) -> bool:
        """Whether `act` can be used: by a perceptron that gives one number for each action."""
        of_vectors = isinstance(self._space, spaces.Box)
        return of_vectors and isinstance(self.net, Perceptrons) and self._atoms == 1

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """What each action is worth, [B, actions], for arrays on the CPU: a fraction of the cost of
        calling torch for a few rows. Overwritten by the next call.
        """
        if len(self._x) != len(observations):
            self._x = aligned(observations.shape)
        self._x[...] = observations
        y = self._fast.infer(self._x)
        if not self._dueling:
            return y
        value, advantages = y[:, :1], y[:, 1:]
        return np.asarray(value + advantages - advantages.mean(1, keepdims=True))

    @property
    def traces(self) -> bool:
        """Whether `trace` can be used: not with noisy layers, which need a graph."""
        return isinstance(self.net, Perceptrons)

    @torch.no_grad()
    def trace(self, observations: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Values as `forward` has them, without a graph, and what makes of their gradient that of
        all parameters.
        """
        y, kept = self.net.trace(self._inputs(observations))

        def pull(dz: Tensor) -> Tensor:
            dy = unjoin(dz) if self._dueling else dz
            gradient: Tensor = self.net.pull(kept, dy.reshape(1, len(dz), -1))[0]
            return gradient

        return join(y[0], self._atoms, self._dueling), pull
