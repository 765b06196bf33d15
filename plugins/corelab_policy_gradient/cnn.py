"""The model "cnn" of the interface "actor-critic": convolutions that actor and critic share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from corelab_nets.encoder import Encoder
from gymnasium import spaces
from torch import Tensor, nn

from corelab import require
from corelab_policy_gradient.heads import Heads
from corelab_policy_gradient.interface import Observations


class CNN(nn.Module):
    """Images go through convolutions, vectors and choices beside them in a Dict or Tuple are put
    next to their features, and from there one layer leads to the policy and one to the value.

    The standard deviations of continuous actions are parameters and do not depend on the state.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the convolutional network."""

        width: int = 128
        """How many features an image becomes; 512 for the network of Mnih et al. 2015."""
        log_std: float = 0.0
        """Logarithm of the standard deviation that continuous actions begin with."""

    def __init__(
        self, config: Config, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        super().__init__()
        require(config.width >= 1, "model.width", config.width, "at least 1")
        self.encoder = Encoder(observation_space, "the model cnn", config.width)
        self.heads = Heads(self.encoder.size, action_space, config.log_std)

    def forward(self, observations: Observations) -> tuple[Tensor, Tensor]:
        """Logits [B, n], or means and log standard deviations [B, 2d]; and values [B]."""
        features = self.encoder(observations)
        policy, value = self.heads(features, features)
        return policy, value
