"""Rollout workers: experience gathered by several copies of a policy, each with environments of its
own, in this process or elsewhere.

They learn nothing. Each collection begins with the weights of the policy that does, and what comes
back is arrays. In step, all of them act by the same weights and wait for the update. Asynchronously
(as in IMPALA, Espeholt et al. 2018, arXiv:1802.01561), an update takes the experience of whichever
is ready first, and that worker goes on at once, by the weights there are. So its experience is some
updates old when it is learned from, which V-trace makes up for.
"""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from corelab_envs.interface import (
    CopyError,
    Environment,
    Opponents,
    SelfPlay,
    context_of_worker,
    make_environments,
    share_of_worker,
    stream_of_worker,
)
from corelab_nets.trees import Tree
from numpy.typing import NDArray
from torch import nn

from corelab import ConfigError, Context, Pool
from corelab_policy_gradient.experience import Experience
from corelab_policy_gradient.policy import Policy, in_turn
from corelab_policy_gradient.rollout import Rollout


@dataclass(frozen=True)
class RolloutConfig:
    """Options of rollout workers."""

    inference: Literal["worker", "central"] = "worker"
    """Where the policy acts: on each worker, or here for all of them, which then only step."""
    asynchronous: bool = False
    """Learn from each worker's experience as it comes, corrected by V-trace, without waiting."""


def collector(
    config: RolloutConfig,
    task: Environment,
    policy: Policy,
    T: int,
    N: int,
    context: Context,
    opponents: Opponents | None = None,
) -> Rollout | Workers:
    """What acts by POLICY for T steps at a time in N copies of TASK, where CONFIG and CONTEXT say.
    If TASK is a game of two, OPPONENTS move for the other side; where agents move in turn else,
    POLICY moves for all of them.
    """
    workers = context.rollout_workers
    if config != RolloutConfig() and not workers:
        raise ConfigError("algorithm.rollout.* takes effect with --rollout-workers only; add it")
    if workers and opponents is not None:
        raise ConfigError(
            f"{task.name} is played against past policies, which are here and not on "
            "--rollout-workers; leave them out"
        )
    if config.asynchronous and config.inference == "central":
        raise ConfigError(
            "algorithm.rollout.inference central steps all environments together, so it cannot "
            "be asynchronous"
        )
    if workers and in_turn(task) and config.inference == "central":
        raise ConfigError(
            f"the agents of {task.name} move in turn by the policy, which has to be where they "
            "are; leave out algorithm.rollout.inference central"
        )
    if workers and config.inference == "worker":
        kind = AsynchronousWorkers if config.asynchronous else Workers
        return kind(task, policy, T, N, context)
    envs, rng = make_environments(task, N, context), context.rng("actions")
    policy.accompany(envs, task, policy.drawing(rng))
    if opponents is not None and isinstance(envs, SelfPlay):
        envs.face(opponents)
    return Rollout(envs, policy, T, rng)


class Gathered(NamedTuple):
    """What a worker sends: T steps of its rows, and the episodes that ended in them."""

    rows: dict[str, Tree]
    """As `Experience.write` takes them."""
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    anew: bool
    """Whether its environments begin here, since a worker was lost."""


class Workers(Experience):
    """T steps of N rows, an equal share of them on each worker of CONTEXT, all in step."""

    def __init__(
        self,
        task: Environment,
        policy: Policy,
        T: int,
        N: int,
        context: Context,
        aged: bool = False,
    ) -> None:
        W = context.rollout_workers
        n = share_of_worker(task, N, W)
        super().__init__(policy, T, n if aged else N, aged)
        self._n, self._context = n, context
        net, normalise = deepcopy(policy.net).to("cpu"), policy.normaliser is not None
        make = partial(Worker, task, net, normalise, T, n, aged, context_of_worker(context))
        self._pool: Pool[Worker] = context.pool(make, W)
        self._updates = 0

    def collect(self) -> dict[str, float]:
        """Have all act for T steps, by the weights of now; return mean return and length of the
        episodes that ended.
        """
        weights = self._pool.share(self._policy.weights())
        parts = self._pool.call("collect", self._updates, weights)
        self._updates += 1
        for i, part in enumerate(parts):
            self._read(i, part, slice(i * self._n, (i + 1) * self._n))
        self.returns = np.concatenate([part.returns for part in parts])
        self.lengths = np.concatenate([part.lengths for part in parts])
        return self.metrics()

    def _read(self, i: int, part: Gathered, rows: slice) -> None:
        self.write(rows, part.rows)
        if part.anew:
            self._context.say(f"rollout worker {i}: its {self._n} environments begin new episodes")

    def state_dict(self) -> dict[str, Any]:
        """Where all workers are."""
        return {"updates": self._updates, "workers": self._pool.call("state_dict")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self._updates = state["updates"]
        self._pool.call("load_state_dict", self._pool.share(state["workers"]))


class AsynchronousWorkers(Workers):
    """T steps of the rows of one worker: of the one that was ready first, while the others act."""

    def __init__(self, task: Environment, policy: Policy, T: int, N: int, context: Context) -> None:
        super().__init__(task, policy, T, N, context, aged=True)
        W = context.rollout_workers
        self._asked = [0] * W  # how often each worker was
        self._since = [0] * W  # how many updates there were before the weights that each acts by
        self._acting = 0  # how many do
        self._arrived: deque[tuple[int, Gathered]] = deque()  # and has not been learned from

    def collect(self) -> dict[str, float]:
        """Wait for a worker and let it act again, by the weights of now; return mean return and
        length of the episodes that ended, and how many updates old the weights were.
        """
        weights = self._pool.share(self._policy.weights())
        if not (self._acting or self._arrived):
            for i in range(len(self._pool)):
                self._send(i, weights)
        i, part = self._arrived.popleft() if self._arrived else self._take()
        self.rows = slice(i * self._n, (i + 1) * self._n)
        self._read(i, part, slice(None))
        self.returns, self.lengths = part.returns, part.lengths
        lag = self._updates - self._since[i]
        self._send(i, weights)
        self._updates += 1
        return self.metrics() | {"policy_lag": lag}

    def _send(self, i: int, weights: Any) -> None:
        self._pool.submit(i, "collect", self._asked[i], weights)
        self._asked[i] += 1
        self._since[i] = self._updates
        self._acting += 1

    def _take(self) -> tuple[int, Gathered]:
        self._acting -= 1
        return self._pool.take()

    def state_dict(self) -> dict[str, Any]:
        """Where all workers are, once they are, with what they have gathered by then."""
        self._arrived.extend(self._take() for _ in range(self._acting))
        return super().state_dict() | {
            "asked": list(self._asked),
            "since": list(self._since),
            "arrived": list(self._arrived),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        while self._acting:
            self._take()
        super().load_state_dict(state)
        self._asked, self._since = list(state["asked"]), list(state["since"])
        self._arrived = deque((i, Gathered(*part)) for i, part in state["arrived"])


class Worker:
    """The worker NUMBER: n copies of TASK, and a policy with a network like NET that acts in them.

    Its collections are counted, so that one in the place of a lost worker, which knows nothing of
    those before, notices that.
    """

    def __init__(
        self,
        task: Environment,
        net: nn.Module,
        normalise: bool,
        T: int,
        n: int,
        aged: bool,
        context: Context,
        number: int,
    ) -> None:
        self._task, self._T, self._n, self._aged = task, T, n, aged
        self._context, self._number = context, number

        def model(*spaces: Any) -> nn.Module:
            return deepcopy(net)

        self._policy = Policy(task, model, context, normalise=normalise)
        self._begin(0)

    def _begin(self, since: int) -> None:
        stream = stream_of_worker(self._number, since)
        envs = self._task.make(self._n, self._context.seed_for("environments", *stream))
        self._rng = np.random.default_rng(self._context.seed_for("actions", *stream))
        self._policy.accompany(envs, self._task, self._policy.drawing(self._rng))
        self._rollout = Rollout(envs, self._policy, self._T, self._rng, self._aged)
        self._collected = since

    def collect(self, count: int, weights: dict[str, Any]) -> Gathered:
        """Act for T steps by WEIGHTS, in the collection COUNT."""
        anew = count != self._collected
        if anew:
            self._begin(count)
        self._policy.follow(weights)
        try:
            self._rollout.collect()
        except CopyError as error:
            before = self._number * self._n // getattr(self._task, "agents", 1)
            raise error.counted_from(before) from error
        self._collected += 1
        return Gathered(self._rollout.arrays(), self._rollout.returns, self._rollout.lengths, anew)

    def state_dict(self) -> dict[str, Any]:
        """Where the environments are, and the random stream."""
        return {
            "collected": self._collected,
            "rollout": self._rollout.state_dict(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on with this worker's part of the STATES of all."""
        state = deepcopy(states[self._number])  # which cannot be written to
        self._collected = state["collected"]
        self._rollout.load_state_dict(state["rollout"])
        self._rng.bit_generator.state = state["rng"]
