"""What stands between the features of a state and what an actor-critic says of it."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from corelab_policy_gradient.distributions import Gaussian, distribution_over


class Heads(nn.Module):
    """From features [..., size] to the policy [..., k] and the values [...], by one layer each."""

    def __init__(self, size: int, action_space: spaces.Space[Any], log_std: float) -> None:
        super().__init__()
        distribution = distribution_over(action_space, "the task")
        self.log_std: nn.Parameter | None = None
        outputs = distribution.size
        if isinstance(distribution, Gaussian):
            outputs //= 2
            self.log_std = nn.Parameter(torch.full((outputs,), log_std))
        self.actor, self.critic = nn.Linear(size, outputs), nn.Linear(size, 1)
        for layer, gain in ((self.actor, 0.01), (self.critic, 1.0)):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)

    def forward(self, of_actor: Tensor, of_critic: Tensor) -> tuple[Tensor, Tensor]:
        """The policy and the values, from features that may be the same."""
        policy = self.actor(of_actor)
        if self.log_std is not None:
            policy = torch.cat([policy, self.log_std.expand_as(policy)], -1)
        return policy, self.critic(of_critic).squeeze(-1)
