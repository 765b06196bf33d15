"""The model "lstm" of the interface "actor-critic": a network that remembers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from corelab_nets.encoder import Encoder
from corelab_nets.trees import map_tree
from gymnasium import spaces
from torch import Tensor, nn

from corelab import require
from corelab_policy_gradient.heads import Heads
from corelab_policy_gradient.interface import Observations


class LSTM(nn.Module):
    """Actor and critic each have a layer of features, a long short-term memory (Hochreiter &
    Schmidhuber 1997) and a layer of their own; only the convolutions for images are shared.

    With one memory for both, the errors of the values, which are large at first, leave the actor
    nothing to go by.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the recurrent network."""

        width: int = 64
        """How many features an observation becomes."""
        memory: int = 64
        """How many cells the memory has, of the actor and of the critic."""
        log_std: float = 0.0
        """Logarithm of the standard deviation that continuous actions begin with."""

    def __init__(
        self, config: Config, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        super().__init__()
        require(config.width >= 1, "model.width", config.width, "at least 1")
        require(config.memory >= 1, "model.memory", config.memory, "at least 1")
        self.memory = 4 * config.memory
        """How many numbers it remembers: what the cells hold and what they give, for both."""
        self.encoder = Encoder(observation_space, "the model lstm", config.width)
        sides = [_Side(self.encoder.size, config.width, config.memory) for _ in range(2)]
        self.actor, self.critic = sides
        self.heads = Heads(config.memory, action_space, config.log_std)

    def forward(
        self, observations: Observations, memory: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Policy [L, B, ...] and values [L, B] of sequences, and the memory afterwards [B, S].

        MEMORY [B, S] is that from before them; it is zero where an episode STARTS [L, B].
        """
        encoded = self.encoder(map_tree(lambda x: x.flatten(0, 1), observations))
        x = encoded.to(next(self.parameters()).dtype).unflatten(0, starts.shape)
        of_actor, of_critic = memory.to(x.dtype).chunk(2, -1)
        y_actor, of_actor = self.actor(x, of_actor, starts)
        y_critic, of_critic = self.critic(x, of_critic, starts)
        policy, value = self.heads(y_actor, y_critic)
        return policy, value, torch.cat([of_actor, of_critic], -1)


class _Side(nn.Module):
    """A layer of features and a memory."""

    def __init__(self, inputs: int, width: int, memory: int) -> None:
        super().__init__()
        self.features = nn.Linear(inputs, width)
        self.lstm = nn.LSTM(width, memory)
        nn.init.orthogonal_(self.features.weight, 2**0.5)
        nn.init.zeros_(self.features.bias)
        for parameter in self.lstm.parameters():
            if parameter.dim() == 2:
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, memory: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        """What the cells give [L, B, memory], and the memory afterwards [B, 2 memory]."""
        x = torch.tanh(self.features(x))
        h, c = memory.unsqueeze(0).chunk(2, -1)
        cuts = starts.any(1).nonzero().flatten().tolist()  # one call between two of them
        outputs = []
        for begin, end in zip([0, *cuts], [*cuts, len(x)], strict=True):
            if begin < end:
                goes_on = (~starts[begin]).to(x.dtype)[:, None]
                y, (h, c) = self.lstm(x[begin:end], (h * goes_on, c * goes_on))
                outputs.append(y)
        return torch.cat(outputs), torch.cat([h[0], c[0]], -1)
