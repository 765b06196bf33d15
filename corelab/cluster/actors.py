"""Workers that are Ray actors: the pool of a run with rollout workers."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import ray
from ray import cloudpickle
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from corelab.cluster.connection import require_resources
from corelab.context import Context, Pool
from corelab.errors import ClusterError, ConfigError
from corelab.plugins import one_line

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds that a worker may be silent."""
RETRIES = 3
"""How often a call is repeated whose worker was lost."""
SMALL = 2**16
"""Bytes up to which a value travels with each call, which takes half the work of the store."""
PAUSE = 1.0
"""Seconds before a worker that cannot be reached is asked again."""
Asked = dict[Any, tuple[int, Callable[[], Any]]]
"""What will be the answer, by its reference: whose, and how to ask for it again."""


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
        self._sent = [ray.put(sent)]  # in a list it goes as what it is, a reference
        self._actors = [actor.remote() for _ in range(n)]
        self._asked: Asked = {}
        self._say = say
        self.replaced = 0
        """How many workers were lost and made anew."""
        makes = [self._make(i) for i in range(n)]
        for i, (ask, made) in enumerate([(make, make()) for make in makes]):
            self._get(i, ask, made)

    def __len__(self) -> int:
        return len(self._actors)

    def call(self, method: str, *args: Any) -> list[Any]:
        """Call METHOD of every worker and return the results in the order of the workers."""
        asked = self._ask(range(len(self)), method, *args)
        return [self._result(i, ask, answer) for answer, (i, ask) in asked.items()]

    def stream(self, method: str, *args: Any) -> Iterator[tuple[int, Any]]:
        """Call METHOD of every worker and yield (worker, result) as each one is ready."""
        asked = self._ask(range(len(self)), method, *args)
        while asked:
            yield self._next(asked)

    def submit(self, i: int, method: str, *args: Any) -> None:
        """Ask worker I for a call of METHOD; `take` returns its result."""
        self._asked |= self._ask([i], method, *args)

    def take(self) -> tuple[int, Any]:
        """The next (worker, result) of what was submitted, waiting until one is ready."""
        return self._next(self._asked)

    def share(self, value: Any) -> Any:
        """VALUE in the object store, from which every worker reads it; itself if it is small."""
        buffers: list[pickle.PickleBuffer] = []
        rest = pickle.dumps(value, 5, buffer_callback=buffers.append)
        size = len(rest) + sum(buffer.raw().nbytes for buffer in buffers)
        return value if size < SMALL else ray.put(value)

    def close(self) -> None:
        """Let the workers go."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()
        self._asked.clear()

    def _ask(self, workers: Iterable[int], method: str, *args: Any) -> Asked:
        """Ask WORKERS for a call of METHOD."""
        asks = {i: partial(self._actors[i].call.remote, method, *args) for i in workers}
        return {ask(): (i, ask) for i, ask in asks.items()}

    def _next(self, asked: Asked) -> tuple[int, Any]:
        ready, silent = ray.wait(list(asked), timeout=PATIENCE)
        answer = (ready or silent)[0]
        i, ask = asked.pop(answer)
        return i, self._result(i, ask, answer)

    def _make(self, i: int) -> Callable[[], Any]:
        """What has worker I made."""
        return partial(self._actors[i].make.remote, i, self._sent)

    def _result(self, i: int, ask: Callable[[], Any], answer: Any) -> Any:
        for _ in range(RETRIES + 1):
            if there := self._get(i, ask, answer):
                return there[0]
            self._get(i, make := self._make(i), make())
            self.replaced += 1
            self._say(f"rollout worker {i} was lost and has been made anew")
            answer = ask()
        raise ClusterError(f"rollout worker {i} was lost {RETRIES + 1} times in one call")

    def _get(self, i: int, ask: Callable[[], Any], answer: Any) -> Any:
        """What worker I ANSWERs when it was ASKed, or the error that was raised there."""
        asked = time.monotonic()
        while True:
            try:
                return ray.get(answer, timeout=PATIENCE)
            except GetTimeoutError:
                free = ray.available_resources().get("CPU", 0)
                raise ClusterError(
                    f"rollout worker {i} was silent for {PATIENCE:g} s; {free:g} CPUs are free"
                ) from None
            except RayTaskError as error:
                raise error.cause from error
            except ActorUnavailableError as error:
                # its node may be lost, which Ray takes for sure only after half a minute
                if time.monotonic() - asked > PATIENCE:
                    raise ClusterError(f"rollout worker {i} is lost: {one_line(error)}") from error
                time.sleep(PAUSE)
                answer = ask()
            except RayError as error:
                times = f"{RETRIES + 1} times in one call"
                raise ClusterError(
                    f"rollout worker {i} was lost {times}: {one_line(error)}"
                ) from error


class _Holder:
    """What an actor is: a worker, made after the actor, so that its errors are told."""

    def __init__(self) -> None:
        self._worker: Any = None

    def make(self, i: int, sent: list[Any]) -> None:
        """Make worker I by what was SENT, a reference to its factory."""
        self._worker = cloudpickle.loads(ray.get(sent[0]))(i)

    def call(self, method: str, *args: Any) -> list[Any]:
        """What the worker's METHOD returns; nothing if there is no worker, since Ray has made this
        actor anew.
        """
        return [] if self._worker is None else [getattr(self._worker, method)(*args)]


class ActorContext(Context):
    """A process whose pools are Ray actors, if the run has rollout workers."""

    def pool(self, factory: Callable[[int], T], n: int, cpus: float = 1.0) -> Pool[T]:
        """N Ray actors, made by FACTORY from their numbers, with CPUS each.

        ConfigError if FACTORY cannot be pickled or the cluster has not that many CPUs.
        """
        if not self.rollout_workers:
            return super().pool(factory, n, cpus)
        return Actors(factory, n, cpus, lambda sentence: self.say(sentence))  # as it is then
