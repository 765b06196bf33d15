"""The machine as an algorithm sees it: where it runs, its random streams, its workers."""

from __future__ import annotations

import hashlib
import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from corelab.errors import ConfigError
from corelab.plugins import warn
from corelab.updater import UpdateConfig, Updater

T = TypeVar("T")


def derive(seed: int, *path: str | int) -> int:
    """The seed, 0 to 2^63 - 1, of the stream called PATH under the root SEED.

    The leading 63 bits of SHA-256 over both, so neither the order in which streams are first used
    nor the existence of others changes it.
    """
    digest = hashlib.sha256(json.dumps([seed, *path]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def find_device(name: str) -> torch.device:
    """The device called NAME; "auto" is a GPU if there is one. ConfigError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ConfigError(
            f"--device {name}: there is no such device here; there is: {', '.join(found)}"
        ) from error
    return device


class Pool(Generic[T]):
    """N workers, made by `factory(i)`, all in this process; a runtime may put them elsewhere.

    There a worker that is lost is made anew and its call repeated, so it gets all that matters,
    such as weights, with each call; arrays in arguments and results can be read only.
    """

    replaced = 0
    """How many workers were lost and made anew."""

    def __init__(self, factory: Callable[[int], T], n: int) -> None:
        self._workers = [factory(i) for i in range(n)]
        self._submitted: deque[tuple[int, str, tuple[Any, ...]]] = deque()

    def __len__(self) -> int:
        return len(self._workers)

    def call(self, method: str, *args: Any) -> list[Any]:
        """Call METHOD of every worker and return the results in the order of the workers."""
        return [getattr(worker, method)(*args) for worker in self._workers]

    def stream(self, method: str, *args: Any) -> Iterator[tuple[int, Any]]:
        """Call METHOD of every worker and yield (worker, result) as each one is ready."""
        for i, worker in enumerate(self._workers):
            yield i, getattr(worker, method)(*args)

    def submit(self, i: int, method: str, *args: Any) -> None:
        """Ask worker I for a call of METHOD; `take` returns its result."""
        self._submitted.append((i, method, args))

    def take(self) -> tuple[int, Any]:
        """The next (worker, result) of what was submitted, waiting until one is ready."""
        i, method, args = self._submitted.popleft()
        return i, getattr(self._workers[i], method)(*args)

    def share(self, value: Any) -> Any:
        """A handle on VALUE that many calls can take as an argument for the price of one."""
        return value

    def close(self) -> None:
        """Let the workers go."""
        self._workers.clear()
        self._submitted.clear()


class Context:
    """One process of a run: alone here; runtimes that span processes extend it."""

    rank: int = 0
    """Which process this is, from 0."""
    world: int = 1
    """How many processes share the run."""

    def __init__(
        self,
        seed: int,
        device: torch.device,
        steps: int,
        threads: int = 1,
        update: UpdateConfig | None = None,
        rollout_workers: int = 0,
    ) -> None:
        self.seed = seed
        """The root seed of the run."""
        self.device = device
        """Where tensors live."""
        self.steps = steps
        """The run's budget in the algorithm's unit: what schedules anneal over."""
        self.rollout_workers = rollout_workers
        """How many processes the run has for its environments; 0 for none but this."""
        self.say: Callable[[str], None] = warn
        """Tells the person who runs this a sentence; with a run's directory, its log too."""
        self._threads = threads
        self._update = update or UpdateConfig()
        self._streams: dict[str, np.random.Generator | torch.Generator] = {}
        self._models = 0

    def updater(
        self, module: torch.nn.Module, optimizer: torch.optim.Optimizer, averages: bool = True
    ) -> Updater:
        """What updates MODULE with OPTIMIZER as the options `update.*` ask for.

        Without AVERAGES it keeps no average of the weights whatever they say.
        """
        return Updater(module, optimizer, self._update, self, averages)

    def shard(self, batch: T) -> T:
        """The rows of BATCH that are this process's, the `rank`-th of `world` equal pieces.

        What is random in a minibatch is drawn for all of it from a SHARED stream and then sharded,
        so that the processes together see what one would see. None stays None.
        """
        if self.world == 1 or batch is None:
            return batch
        rows = len(batch) // self.world  # type: ignore[arg-type]
        return batch[self.rank * rows : (self.rank + 1) * rows]  # type: ignore[index,no-any-return]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each of TENSORS by its mean over all processes, every one of which has to come.

        The mean of gradients, each of the mean loss over a shard, is that of the whole minibatch.
        """

    def total(self, *numbers: Any) -> tuple[Any, ...]:
        """The sum of each of NUMBERS, scalars or arrays, over all processes, which have to come."""
        return numbers

    def seed_for(self, *path: str | int, shared: bool = False) -> int:
        """The seed of the stream PATH, for what cannot take a generator.

        Each process has its own, unless it is SHARED by all of them.
        """
        return derive(self.seed, *(() if shared else (self.rank,)), *path)

    def rng(self, *path: str | int, shared: bool = False) -> np.random.Generator:
        """The NumPy generator of the stream PATH, saved and restored with the run."""
        key = json.dumps(["numpy", shared, *path])
        if key not in self._streams:
            self._streams[key] = np.random.default_rng(self.seed_for(*path, shared=shared))
        return self._streams[key]  # type: ignore[return-value]

    def generator(self, *path: str | int, shared: bool = False) -> torch.Generator:
        """The torch generator, on this device, of the stream PATH; saved and restored likewise."""
        key = json.dumps(["torch", shared, *path])
        if key not in self._streams:
            generator = torch.Generator(self.device)
            self._streams[key] = generator.manual_seed(self.seed_for(*path, shared=shared))
        return self._streams[key]  # type: ignore[return-value]

    def pool(self, factory: Callable[[int], T], n: int, cpus: float = 1.0) -> Pool[T]:
        """N workers made by FACTORY from their numbers: objects here, or processes elsewhere.

        FACTORY must be picklable; CPUS are asked for where a worker has a process of its own.
        """
        return Pool(factory, n)

    def build(self, model: Callable[..., torch.nn.Module], *args: Any, **kwargs: Any) -> Any:
        """MODEL(*args, **kwargs) with weights drawn from the run's seed, on this device.

        torch's layers draw their initial weights from the global generator, so it is seeded for
        the occasion and put back. The same on every process.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "model", self._models))
            self._models += 1
            return model(*args, **kwargs).to(self.device)

    @contextmanager
    def owning_globals(self) -> Iterator[None]:
        """Within: the global generators are the run's own (dropout layers and third-party code draw
        from them), torch and NumPy use the run's number of threads, so that sums do not depend on
        how many cores there are, and NumPy does not warn of what is no longer finite, which the
        loop refuses. After: all of it as it was found.
        """
        python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
        cuda = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        threads = torch.get_num_threads()
        seed = self.seed_for("global")
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        torch.set_num_threads(self._threads)
        try:
            with (
                threadpool_limits(self._threads, user_api="blas"),
                np.errstate(over="ignore", invalid="ignore"),
            ):
                yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_rng_state(torch_state)
            if cuda:
                torch.cuda.set_rng_state_all(cuda)
            torch.set_num_threads(threads)

    def state_dict(self) -> dict[str, Any]:
        """The state of every stream and of the global generators."""
        version, words, gauss = random.getstate()
        return {
            "streams": {
                key: s.bit_generator.state if isinstance(s, np.random.Generator) else s.get_state()
                for key, s in self._streams.items()
            },
            "models": self._models,
            "python": [version, list(words), gauss],
            "numpy": np.random.get_state(legacy=False),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put every stream where STATE has it; generators already handed out move too."""
        for key, saved in state["streams"].items():
            library, shared, *path = json.loads(key)
            if library == "numpy":
                self.rng(*path, shared=shared).bit_generator.state = saved
            else:
                self.generator(*path, shared=shared).set_state(saved)
        self._models = state["models"]
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] and self.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["cuda"])
