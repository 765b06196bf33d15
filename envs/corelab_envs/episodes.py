"""Whole episodes, played to measure or to film what has been learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsFloat, get_args

import numpy as np
from corelab_media import Video
from numpy.typing import NDArray

from corelab import ConfigError, DataError, Split

if TYPE_CHECKING:
    from corelab_envs.interface import Environment

Act = Callable[[Any], Any]
"""From observations [N, ...] to actions [N, ...]."""

_SIDE_BY_SIDE = 20
_LONGEST = 100_000
_FILM_FPS = 25
_FILM_HEIGHT = 200
_LONGEST_FILM = 2_000


@dataclass(frozen=True, eq=False)
class Episodes:
    """What came of some episodes."""

    returns: NDArray[np.float64]
    """The undiscounted sum of the rewards of each; of several agents, the mean of their sums."""
    lengths: NDArray[np.int64]
    """The number of steps of each."""

    def metrics(self) -> dict[str, float]:
        """Mean and standard deviation of the returns, and the mean length."""
        return {
            "return": float(self.returns.mean()),
            "return_std": float(self.returns.std()),
            "episode_length": float(self.lengths.mean()),
        }


def measure(
    task: Environment, act: Act, n: int | None, split: Split, seed: int
) -> dict[str, SupportsFloat | Video]:
    """What N episodes of TASK come to, played with ACT as `play` does.

    With the normalised return if the task has one, and a film of an episode if it wants one.
    """
    metrics: dict[str, SupportsFloat | Video] = {**play(task, act, n, split, seed).metrics()}
    if hasattr(task, "normalise"):
        metrics["normalised_return"] = task.normalise(metrics["return"])
    if task.video:
        metrics["episode"] = film(task, act, 1, split, seed)
    return metrics


def play(task: Environment, act: Act, n: int | None, split: Split, seed: int) -> Episodes:
    """Play N episodes (None: 20 for validation, 100 for a test) of TASK with ACT.

    SPLIT and SEED decide every random choice of the task.

    Each of the copies that run side by side plays a number of episodes that is fixed beforehand:
    counting whichever N end first would prefer the short ones. `DataError` if one never ends.
    A task may have `agents` rows in each copy (see `MultiAgentEnvironments`).
    """
    n = {"validation": 20, "test": 100}[split] if n is None else n
    if n < 1:
        raise ConfigError(f"{n} episodes cannot be played; ask for at least 1")
    task = _measured(task)
    copies = min(n, _SIDE_BY_SIDE)
    quota = [n // copies + (i < n % copies) for i in range(copies)]
    played: list[list[tuple[float, int]]] = [[] for _ in range(copies)]
    agents = getattr(task, "agents", 1)
    totals, lengths = np.zeros((copies, agents)), np.zeros(copies, np.int64)
    over: NDArray[np.bool_] = np.zeros(copies, np.bool_)
    envs = task.make(copies * agents, _seed(split, seed))
    observations, _ = envs.reset()
    while any(len(done) < wanted for done, wanted in zip(played, quota, strict=True)):
        observations, rewards, terminations, truncations, _ = envs.step(act(observations))
        totals += rewards.reshape(copies, agents)  # 0 where this step was a reset
        lengths += ~over
        ends = np.logical_or(terminations, truncations).reshape(copies, agents)
        over = np.logical_and.reduce(ends, axis=1)
        for i in np.flatnonzero(over):
            if len(played[i]) < quota[i]:
                played[i].append((float(totals[i].mean()), int(lengths[i])))
        totals[over], lengths[over] = 0, 0
        if lengths.max() > _LONGEST:
            raise DataError(
                f"{task.name}: an episode has not ended after {_LONGEST} steps; "
                "set a limit with --task.max_episode_steps"
            )
    envs.close()
    returns, steps = zip(*(episode for done in played for episode in done), strict=True)
    return Episodes(np.array(returns), np.array(steps))


def film(task: Environment, act: Act, n: int, split: Split, seed: int) -> Video:
    """Show N episodes of TASK, one after the other, in at most 2,000 frames, about 25 a second."""
    task = _measured(task)
    every = max(1, round(task.fps / _FILM_FPS))
    frames: list[NDArray[np.uint8]] = []
    envs = task.make(getattr(task, "agents", 1), _seed(split, seed), render=True)
    observations, _ = envs.reset()
    step, over = 0, False
    while n > 0 and len(frames) < _LONGEST_FILM:
        if over or step % every == 0:
            frames.append(_shrink(envs.render()))
        observations, _, terminations, truncations, _ = envs.step(act(observations))
        if over:  # so this step was a reset
            step, over, n = 0, False, n - 1
        else:
            step, over = step + 1, bool((terminations | truncations).all())
    envs.close()
    return Video(np.stack(frames), fps=task.fps / every)


class Tally:
    """Returns and lengths of the episodes that N copies are in, while one learns from them."""

    def __init__(self, num_envs: int) -> None:
        self.over = np.zeros(num_envs, np.bool_)
        """Which copies the next step only resets."""
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        self._ended: list[tuple[float, int, bool]] = []

    def add(
        self,
        rewards: NDArray[np.floating],
        terminations: NDArray[np.bool_],
        truncations: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Count a step of all copies; return which of them made a transition."""
        valid = ~self.over
        self._returns += rewards
        self._lengths += valid
        self.over = terminations | truncations
        ended = self.over & valid  # an agent that waits for the others ends again at each step
        if ended.any():
            columns = self._returns[ended], self._lengths[ended], truncations[ended]
            self._ended += zip(*(column.tolist() for column in columns), strict=True)
            self._returns[ended] = 0
            self._lengths[ended] = 0
        return valid

    def metrics(self) -> dict[str, float]:
        """Mean return and length of the episodes that ended since this was last asked, and the
        share of them that was cut off.
        """
        if not self._ended:
            return {}
        means = np.mean(self._ended, 0).tolist()
        self._ended.clear()
        return dict(zip(("return", "episode_length", "truncated"), means, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What is known of the episodes that go on; to be asked when `metrics` has been."""
        return {"over": self.over, "returns": self._returns, "lengths": self._lengths}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.over = state["over"]
        self._returns, self._lengths = state["returns"], state["lengths"]


def _measured(task: Environment) -> Environment:
    """TASK as it is measured, if it differs in training."""
    measured: Environment = getattr(task, "measured", task)
    return measured


def _seed(split: Split, seed: int) -> int:
    """Another root for each split, so that a test never sees what validation has seen."""
    words = np.random.SeedSequence([seed, get_args(Split).index(split)])
    return int(words.generate_state(1, np.uint64)[0])


def _shrink(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """FRAME, [height, width, 3], reduced by averaging whole blocks of pixels."""
    k = max(1, min(frame.shape[:2]) // _FILM_HEIGHT)
    height, width = frame.shape[0] // k, frame.shape[1] // k
    blocks = frame[: height * k, : width * k].reshape(height, k, width, k, -1)
    small: NDArray[np.uint8] = blocks.mean((1, 3)).astype(np.uint8)
    return small
