"""The interface "environment": what a task promises to an algorithm that learns from rewards.

Both classes are shapes, so a task need not inherit from them. Whoever knows `gymnasium.vector`
knows them: what runs is a vector environment that makes its own seeds and can be saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from corelab_envs.divided import (
    context_of_worker,
    make_environments,
    share_of_worker,
    stream_of_worker,
)
from corelab_envs.episodes import Episodes, Tally, film, measure, play
from corelab_envs.game import Game
from corelab_envs.self_play import Opponents, SelfPlay
from corelab_envs.vector import CopyError

if TYPE_CHECKING:
    import numpy as np
    from gymnasium import Space
    from numpy.typing import NDArray

__all__ = [
    "CopyError",
    "Environment",
    "Environments",
    "Episodes",
    "Game",
    "Opponents",
    "SelfPlay",
    "Tally",
    "context_of_worker",
    "film",
    "make_environments",
    "measure",
    "play",
    "share_of_worker",
    "stream_of_worker",
]


class Environments(Protocol):
    """N copies of an environment that run side by side, numbered from 0.

    A copy that ended is reset by the step that follows (Gymnasium's autoreset mode NEXT_STEP).
    The last observation of an episode is therefore seen like any other, which is what bootstrapping
    from a truncated one needs, and the step that resets is not a transition: its action is ignored,
    its reward is 0 and its observation begins the next episode.

    Where copies stand for the agents of one environment, one may be out before the episode is over
    for all, or not yet in: it *waits*, and each of its steps ends again, with the reward 0. So the
    rule holds for them too: a step of a copy that was over before is no transition, and no
    episode ends with it. What `reset` tells says under "waits" which wait from the beginning.
    """

    num_envs: int

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N, ...] and further information.

        Called again, it begins the next ones, not the same.
        """

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Act [N, ...] in every copy: observations [N, ...], rewards, terminations, truncations [N]
        and further information. `DataError` if a copy fails or gives a number that is not finite.
        """

    def render(self) -> NDArray[np.uint8]:
        """A picture of the first copy, [height, width, 3], if they were made for it."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens from here on, as a tree that can be saved."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called."""

    def close(self) -> None:
        """Let go of what they hold."""


class Environment(Protocol):
    """A task that provides "environment".

    It may have more: `measured`, the task as `play` and `film` should see it, if its rewards or
    episodes are others in training; `normalise`, from a return to a figure that is comparable
    between tasks; and `stack`, a number, if an observation consists of that many frames along its
    first axis, the newest last, of which a step adds one; `agents`, how many rows each
    copy makes, if it is more than one; `seats`, how many agents move in turn, of whom a row is one
    (its environments are `SelfPlay`); `rivals`, the names of fixed players, and `against`, which
    gives the task with one of them, if it is a game of two.
    """

    name: str
    """What it is called in messages, such as "CartPole-v1"."""
    single_observation_space: Space[Any]
    """What one copy shows."""
    single_action_space: Space[Any]
    """What one copy accepts."""
    num_envs: int | None
    """How many copies the user wants to learn from; None leaves it to the algorithm."""
    video: bool
    """Whether each evaluation shows an episode."""
    fps: float
    """How many steps make a second of video."""

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> Environments:
        """NUM_ENVS copies whose every random choice follows from SEED; with RENDER, for film."""
