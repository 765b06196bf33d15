"""Workers that are Ray actors: the pool of a run with rollout workers."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from corelab.cluster.connection import require_resources
from corelab.context import Context, Pool
from corelab.errors import ClusterError, ConfigError
from corelab.plugins import one_line

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds that a worker may be silent."""
RETRIES = 3
"""How often a call is repeated whose worker was lost."""


class Actors(Pool[T]):
    """N Ray actors, each around what `factory(i)` makes there.

    Ray makes an actor anew that was lost, and repeats the call.
    """

    def __init__(
        self, factory: Callable[[int], T], n: int, cpus: float, say: Callable[[str], None]
    ) -> None:
        require_resources("--rollout-workers", n, cpus=cpus)
        try:
            sent = cloudpickle.dumps(factory)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise ConfigError(
                f"--rollout-workers: what makes a worker cannot be sent to a process ({error})"
            ) from error
        actor = ray.remote(num_cpus=cpus, max_restarts=-1, max_task_retries=RETRIES)(_Holder)
        self._actors = [actor.remote(sent, i) for i in range(n)]
        self._asked: dict[Any, int] = {}
        self._say = say
        self.replaced = 0
        """How many workers were lost and made anew."""
        for i, made in enumerate([actor.make.remote() for actor in self._actors]):
            self._get(i, made)

    def __len__(self) -> int:
        return len(self._actors)

    def call(self, method: str, *args: Any) -> list[Any]:
        """Call METHOD of every worker and return the results in the order of the workers."""
        asked = [actor.call.remote(method, *args) for actor in self._actors]
        return [self._result(i, answer) for i, answer in enumerate(asked)]

    def stream(self, method: str, *args: Any) -> Iterator[tuple[int, Any]]:
        """Call METHOD of every worker and yield (worker, result) as each one is ready."""
        asked = {actor.call.remote(method, *args): i for i, actor in enumerate(self._actors)}
        while asked:
            yield self._next(asked)

    def submit(self, i: int, method: str, *args: Any) -> None:
        """Ask worker I for a call of METHOD; `take` returns its result."""
        self._asked[self._actors[i].call.remote(method, *args)] = i

    def take(self) -> tuple[int, Any]:
        """The next (worker, result) of what was submitted, waiting until one is ready."""
        return self._next(self._asked)

    def share(self, value: Any) -> Any:
        """VALUE in the object store, from which every worker reads it."""
        return ray.put(value)

    def close(self) -> None:
        """Let the workers go."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()
        self._asked.clear()

    def _next(self, asked: dict[Any, int]) -> tuple[int, Any]:
        ready, silent = ray.wait(list(asked), timeout=PATIENCE)
        answer = (ready or silent)[0]
        i = asked.pop(answer)
        return i, self._result(i, answer)

    def _result(self, i: int, answer: Any) -> Any:
        anew, result = self._get(i, answer)
        if anew:
            self.replaced += 1
            self._say(f"rollout worker {i} was lost and has been made anew")
        return result

    def _get(self, i: int, answer: Any) -> Any:
        """What worker I ANSWERs, or the error that was raised there."""
        try:
            return ray.get(answer, timeout=PATIENCE)
        except GetTimeoutError:
            free = ray.available_resources().get("CPU", 0)
            raise ClusterError(
                f"rollout worker {i} was silent for {PATIENCE:g} s; {free:g} CPUs are free"
            ) from None
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            raise ClusterError(
                f"rollout worker {i} was lost {RETRIES + 1} times in one call: {one_line(error)}"
            ) from error


class _Holder:
    """What an actor is: a worker, made when it is first needed, so that its errors are told."""

    def __init__(self, factory: bytes, i: int) -> None:
        self._factory, self._i = factory, i
        self._worker: Any = None

    def make(self) -> bool:
        """Make the worker; return whether there was none."""
        missing = self._worker is None
        if missing:
            self._worker = cloudpickle.loads(self._factory)(self._i)
        return missing

    def call(self, method: str, *args: Any) -> tuple[bool, Any]:
        """Whether the worker is a new one, and what its METHOD returns."""
        return self.make(), getattr(self._worker, method)(*args)


class ActorContext(Context):
    """A process whose pools are Ray actors, if the run has rollout workers."""

    def pool(self, factory: Callable[[int], T], n: int, cpus: float = 1.0) -> Pool[T]:
        """N Ray actors, made by FACTORY from their numbers, with CPUS each.

        ConfigError if FACTORY cannot be pickled or the cluster has not that many CPUs.
        """
        if not self.rollout_workers:
            return super().pool(factory, n, cpus)
        return Actors(factory, n, cpus, lambda sentence: self.say(sentence))  # as it is then
