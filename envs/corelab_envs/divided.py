"""Environments that are divided over the rollout workers of a run, and stepped there."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from corelab import Context, require
from corelab_envs.vector import CopyError

if TYPE_CHECKING:
    from corelab import Pool
    from corelab_envs.interface import Environment, Environments

Stepped = tuple[Any, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]
"""Observations, rewards, terminations, truncations and further information."""


def make_environments(task: Environment, num_envs: int, context: Context) -> Environments:
    """NUM_ENVS copies of TASK to learn from: in this process, or on the rollout workers of CONTEXT.

    `ConfigError` if they cannot be divided evenly over these.
    """
    if not context.rollout_workers:
        return task.make(num_envs, context.seed_for("environments"))
    return DividedEnvironments(task, num_envs, context)


def share_of_worker(
    task: Environment, num_envs: int, workers: int, option: str = "rollout_workers"
) -> int:
    """How many of NUM_ENVS rows of TASK each of so many WORKERS, of which OPTION tells, has;
    `ConfigError` if they cannot be divided evenly. Agents of one environment stay together.
    """
    copies = num_envs // getattr(task, "agents", 1)
    what = f"a divisor of the number of environments, which is {copies}"
    require(workers >= 1 and copies % workers == 0, option, workers, what)
    return num_envs // workers


def stream_of_worker(number: int, since: int) -> tuple[str | int, ...]:
    """What the random streams of worker NUMBER are called besides their own names, if it began with
    the collection or step SINCE: a worker in the place of a lost one does not repeat its episodes.

    The first worker has the names that are used without workers, so one worker does what none does.
    """
    return (*(("worker", number) if number else ()), *(("since", since) if since else ()))


def context_of_worker(context: Context) -> Context:
    """The streams of CONTEXT, on the CPU, as something that can be sent to a worker."""
    plain = Context(context.seed, torch.device("cpu"), context.steps)
    plain.rank = context.rank
    return plain


class DividedEnvironments:
    """NUM_ENVS copies of TASK, an equal share on each rollout worker of CONTEXT, all stepped at
    once.

    If a worker was lost, its episodes are cut off: each ends, truncated, with the first observation
    of the next. Of further information there is "waits" alone.
    """

    def __init__(self, task: Environment, num_envs: int, context: Context) -> None:
        W = context.rollout_workers
        self.num_envs = num_envs
        n = share_of_worker(task, num_envs, W)
        self._pool: Pool[_Share] = context.pool(
            partial(_Share, task, n, context_of_worker(context)), W
        )
        self._steps = 0

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N, ...] and further information."""
        observations, waits = zip(*self._pool.call("first"), strict=True)
        return _joined(observations), {"waits": np.concatenate(waits)}

    def step(self, actions: Any) -> Stepped:
        """Act [N, ...] in every copy: observations [N, ...], rewards, terminations, truncations [N]
        and further information. `DataError` if a copy fails or gives a number that is not finite.
        """
        parts = self._pool.call("step", self._steps, self._pool.share(actions))
        self._steps += 1
        columns = zip(*parts, strict=True)
        observations, rewards, terminations, truncations = map(_joined, columns)
        return observations, rewards, terminations, truncations, {}

    def render(self) -> NDArray[np.uint8]:
        """They are made to learn from, so there is nothing to see."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens from here on, as a tree that can be saved."""
        return {"steps": self._steps, "workers": self._pool.call("state_dict")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called."""
        self._steps = state["steps"]
        self._pool.call("load_state_dict", self._pool.share(state["workers"]))

    def close(self) -> None:
        """Let the workers go."""
        self._pool.close()


class _Share:
    """N copies of TASK: those of the worker NUMBER."""

    def __init__(self, task: Environment, n: int, context: Context, number: int) -> None:
        self._task, self._n, self._context, self._number = task, n, context, number
        self._begin(0)

    def _begin(self, since: int) -> None:
        stream = stream_of_worker(self._number, since)
        self._envs = self._task.make(self._n, self._context.seed_for("environments", *stream))
        self._first = self._reset()
        self._steps = since
        self._cut = False  # whether the next step only resets, because a worker was lost

    def _reset(self) -> tuple[Any, NDArray[np.bool_]]:
        observations, info = self._envs.reset()
        return observations, info.get("waits", np.zeros(self._n, np.bool_))

    def first(self) -> tuple[Any, NDArray[np.bool_]]:
        """The observations that the first episodes begin with, and which copies wait."""
        return self._first

    def step(self, count: int, actions: NDArray[Any]) -> tuple[Any, ...]:
        """Act in these copies, by their rows of ACTIONS, in the step COUNT of them all."""
        zeros, no = np.zeros(self._n), np.zeros(self._n, np.bool_)
        if count != self._steps:  # this worker is new, and what the lost one did is not known
            self._begin(count)
            observations, over = self._first[0], ~no
            self._cut = True
        elif self._cut:
            observations, over = self._reset()
            self._cut = False
        else:
            mine = slice(self._number * self._n, (self._number + 1) * self._n)
            self._steps += 1
            try:
                return self._envs.step(np.array(actions[mine]))[:4]
            except CopyError as error:
                before = self._number * self._n // getattr(self._task, "agents", 1)
                raise error.counted_from(before) from error
        self._steps += 1
        return observations, zeros, no, over

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "cut": self._cut, "envs": self._envs.state_dict()}

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on with this worker's part of the STATES of all."""
        state = deepcopy(states[self._number])  # which cannot be written to
        self._steps, self._cut = state["steps"], state["cut"]
        self._envs.load_state_dict(state["envs"])


def _joined(parts: Any) -> Any:
    """The rows of PARTS, arrays or dicts or tuples of arrays, one after the other."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(_joined(column) for column in zip(*parts, strict=True))
    return np.concatenate(parts)
