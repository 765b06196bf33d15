"""Rainbow (Hessel et al. 2018, arXiv:1710.02298): the improvements of DQN together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from corelab_qlearning.dqn import DQN
from corelab_qlearning.presets import RAINBOW_PRESETS
from corelab_qlearning.values import Returns


class Rainbow(DQN):
    """DQN with double Q-learning, dueling streams, prioritised replay, n-step returns, noisy nets
    and the distribution of returns (C51).
    """

    @dataclass(frozen=True)
    class Config(DQN.Config):
        """Options of Rainbow: those of DQN with other defaults."""

        double: bool = True
        """Let the network choose the next action and the target network judge it."""
        dueling: bool = True
        """Two streams in the network: the value of the state and the advantages of actions."""
        noisy: bool = True
        """Explore by learned noise on the weights (besides random actions; see epsilon_start)."""
        n_step: int = 3
        """Rewards that are summed before the value of the state after them."""
        prioritised: bool = True
        """Replay transitions with large errors more often."""
        alpha: float = 0.5
        """How much priorities count: 0 is uniform."""
        returns: Returns = "c51"
        """What is learned of the return: its expectation, its distribution or its quantiles."""
        epsilon_start: float = 0.0
        """Probability of a random action at the beginning."""
        epsilon_end: float = 0.0
        """Probability of a random action after the exploration phase."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = RAINBOW_PRESETS
