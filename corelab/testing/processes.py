"""Processes of their own, for what can only be seen, or survived, there.

One process is started, has torch imported, and forks for each piece of work; so a piece costs
milliseconds, where a new interpreter would take seconds to import torch.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from corelab.errors import CorelabError
from corelab.plugins import GROUP, Plugin, Plugins, one_line
from corelab.testing.rules import Failed

if TYPE_CHECKING:
    from corelab.testing.trial import Spec, Trial


LIBRARIES = ("torch._dynamo", "tyro", "gymnasium", "sklearn.datasets", "scipy.stats")
"""Slow to import, and wanted by many jobs."""
SILENCE = 60
"""Seconds that one process waits for another that it learns with."""


class Job(Protocol):
    """A piece of work that can be pickled."""

    def do(self, folder: Path) -> dict[str, Any]:
        """Do it; FOLDER is empty. The result is plain."""


@dataclass(frozen=True)
class Surroundings:
    """Where a process stands: taken before a plugin runs, which could change them."""

    environment: dict[str, str]
    path: list[str]
    directory: Path

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process, now."""
        return cls(dict(os.environ), list(sys.path), Path.cwd())


@dataclass(frozen=True)
class Order:
    """A job, where it is to be done, and what may be imported before, for all that follow."""

    job: Job
    surroundings: Surroundings
    folder: Path
    libraries: list[str]


def apart(job: Job, surroundings: Surroundings) -> dict[str, Any]:
    """What JOB gives in a process of its own. `Failed` if that ends without a result."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        libraries = [name for name in LIBRARIES if name in sys.modules]
        status = _ask(Order(job, surroundings, place, libraries))
        if (place / "result.json").exists():
            result = json.loads((place / "result.json").read_text())
            if "failed" in result:
                raise Failed(result["failed"])
            return dict(result)
        if status == -signal.SIGKILL and isinstance(job, Dying):
            return {}
        said = (place / "output.txt").read_text().strip().splitlines() or ["without a word"]
        raise Failed(f"a process of its own ended with {status}: {said[-1]}")


@functools.cache
def _server() -> subprocess.Popen[bytes]:
    folder = tempfile.TemporaryDirectory()  # of its own, so that it tells what is written there
    server = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": folder.name},
    )

    def end() -> None:
        server.communicate()
        folder.cleanup()

    atexit.register(end)
    return server


def _ask(order: Order) -> int:
    """Have ORDER done; the exit status."""
    server = _server()
    assert server.stdin
    assert server.stdout
    pickle.dump(order, server.stdin)
    server.stdin.flush()
    return int(server.stdout.readline())


def serve() -> None:
    """Fork for each order that comes in, and answer with its exit status."""
    import corelab.testing.trial  # noqa: F401 - with torch, once for all

    orders, answers = sys.stdin.buffer, sys.stdout
    while True:
        try:
            order = pickle.load(orders)
        except EOFError:
            return
        for library in order.libraries:
            importlib.import_module(library)
        child = os.fork()
        if child == 0:
            _obey(order)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _obey(order: Order) -> None:
    """Do the job of ORDER, write down its result and end this process."""
    code = 1
    try:
        output = os.open(order.folder / "output.txt", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        environment = order.surroundings.environment | {"TMPDIR": tempfile.gettempdir()}
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = order.surroundings.path
        sys.dont_write_bytecode = True
        os.chdir(order.surroundings.directory)
        room = order.folder / "room"
        room.mkdir()
        try:
            result = order.job.do(room)
        except Exception as error:
            result = {"failed": f"in a process of its own: {one_line(error)}"}
        (order.folder / "result.json").write_text(json.dumps(result))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# ---- jobs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stepping:
    """Builds an experiment by its names, twice, and watches its first steps."""

    spec: Spec

    def do(self, folder: Path) -> dict[str, Any]:
        """The metrics of the first steps, and what was touched."""
        trial = _trial(self.spec)
        watch = Watch(folder)
        before = _settings()
        parts = trial.experiment().offers()
        for part in parts:
            trial.plugins.load(part)
        # what libraries do to filters and the environment as they are imported is their business
        changed = _changed(
            before, _settings(), besides=("the warnings' filters", "the environment")
        )
        _restore(before)
        rows, _, first = self._steps(trial, folder, None)
        watch.written.clear()  # of libraries that make their caches as they are imported
        _restore(before)
        _, touched, second = self._steps(trial, folder, 2)
        seeded = [
            f"the seed of {library}'s generator"
            for library, state in first.items()
            if state == second[library]
        ]
        found = list(dict.fromkeys([*changed, *touched, *seeded]))
        return {"rows": rows, "globals": found, "written": watch.written, "reached": watch.reached}

    def _steps(
        self, trial: Trial, folder: Path, seed: int | None
    ) -> tuple[list[dict[str, float]], list[str], dict[str, str]]:
        """The metrics, what is set otherwise afterwards, and the state of the global generators.

        With SEED these are first seeded with it: who draws from them leaves them in another state
        then, who seeds them in the same.
        """
        from corelab.testing.trial import EVALUATED, SEED

        with trial.experiment().context("cpu").owning_globals():
            if seed is not None:
                _seed(seed)
            before = _settings()
            tried = trial.build(SEED)
            rows = tried.steps(2)
            if trial.evaluates:
                tried.algorithm.evaluate("validation", EVALUATED, 0)
            tried.state()
            return rows, _changed(before, _settings()), _generators()


@dataclass(frozen=True)
class Dying:
    """Goes on with a run and is killed in the middle of it, as if by `kill -9`."""

    spec: Spec
    run: Path
    steps: int
    at: int
    """The step in which it dies, from 1."""

    def do(self, folder: Path) -> dict[str, Any]:
        """Nothing comes back."""
        from corelab.runs import Run

        trial = _trial(self.spec)
        cls = trial.plugins.load(trial.experiment().algorithm)
        step, done = cls.step, 0

        def last(algorithm: Any) -> Any:
            nonlocal done
            done += 1
            metrics = step(algorithm)
            if done == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return metrics

        cls.step = last
        trial.finish(Run(self.run), self.steps)
        return {"failed": f"the run ended after {done} steps, before it could be killed"}


@dataclass(frozen=True)
class Together:
    """Does some steps in two processes that divide the minibatches, and then in one."""

    spec: Spec
    steps: int

    def do(self, folder: Path) -> dict[str, Any]:
        """Lengths: how far weights went in one process, how far from there they end in two, and how
        far from one another; and whether each of the two draws random numbers for itself. Or the
        sentence by which two were refused.
        """
        from corelab.cluster.parallel import gather

        trial = _trial(self.spec)
        other = os.fork()
        try:
            with _joined(folder, rank=int(other == 0)) as kind:
                _, here, draws = self._learn(trial, kind)
                first, second = gather(here)
        except CorelabError as error:
            return {"refused": str(error)}
        finally:
            if other == 0:
                os._exit(0)
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)
        before, alone, _ = self._learn(trial, None)
        return {
            "way": float((alone - before).norm()),
            "off": float((first - alone).norm()),
            "apart": float((first - second).norm()),
            "draws": draws,
        }

    def _learn(self, trial: Trial, kind: Any) -> tuple[Any, Any, bool]:
        """The weights before and after, and whether a stream was this process's own."""
        import torch

        from corelab.testing.trial import SEED

        def flat() -> torch.Tensor:
            return torch.cat([torch.zeros(0), *(w.flatten() for w in tried.weights())])

        with trial.experiment().context("cpu").owning_globals():
            tried = trial.build(SEED, kind=kind)
            before = flat()
            tried.steps(self.steps)
            return before, flat(), getattr(tried.context, "draws", False)


@contextmanager
def _joined(folder: Path, rank: int) -> Iterator[Any]:
    """Within, this process is the one with RANK of two, who meet in FOLDER; the kind of context."""
    import torch.distributed as dist

    from corelab.cluster.parallel import DataParallel

    class Listening(DataParallel):
        draws = False

        def seed_for(self, *path: str | int, shared: bool = False) -> int:
            self.draws |= not shared
            return super().seed_for(*path, shared=shared)

    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", meeting, timedelta(seconds=SILENCE), world_size=2, rank=rank)
    yield Listening
    dist.destroy_process_group()


@dataclass(frozen=True)
class Feeding:
    """Tells a sink of runs that are made up."""

    module: str

    def do(self, folder: Path) -> dict[str, Any]:
        """What it raised, changed, wrote, asked for and left open."""
        from corelab.experiments import resolve
        from corelab.runs import Run
        from corelab.testing import entries
        from corelab.testing.pretence import Picture

        sink, *_ = entries(self.module)
        plugins = Plugins([EntryPoint("pretence", "corelab.testing.pretence", GROUP), sink])
        (listener,) = plugins.sinks
        experiment = resolve("pretend", values={"run.dir": folder}, plugins=plugins)
        raised: dict[str, None] = {}
        changed = []

        def tell(hook: str, run: Run, **facts: Any) -> None:
            def report(plugin: Plugin, sentence: str) -> None:
                raised[sentence] = None

            plugins.tell(hook, {listener}, report, run=run, **facts)

        def log(run: Run, progress: int, **metrics: float) -> None:
            media = {"eval/samples": Picture()} if metrics else {}
            told = dict(metrics)
            tell("corelab_run_logged", run, progress=progress, metrics=told, media=media)
            changed.append(told != metrics)

        def lives() -> None:
            first, second = (Run.create(experiment) for _ in range(2))
            for run in (first, second):
                tell("corelab_run_started", run)
                log(run, 10, **{"train/loss": 0.5})
            log(second, 20, **{"train/loss": 0.25, "eval/loss": 0.3})
            log(first, 20)
            tell("corelab_run_ended", first, error=None)
            again = Run(second.path)  # killed, and resumed from before its latest row
            again.resumed_at = 10
            tell("corelab_run_started", again)
            log(again, 20, **{"train/loss": 0.25, "eval/loss": 0.3})
            tell("corelab_run_ended", again, error=KeyboardInterrupt())
            tell("corelab_run_ended", Run.create(experiment), error=ValueError("before it began"))

        before = _settings()
        lives()  # once for what is imported on the way
        _restore(before)
        watch = Watch(folder)
        before, files = _settings(), _open_files()
        _seed(1)
        lives()
        first = _generators()
        touched, left = _changed(before, _settings()), sorted(_open_files() - files)
        _seed(2)
        lives()
        seeded = [
            f"the seed of {library}'s generator"
            for library, state in _generators().items()
            if state == first[library]
        ]
        return {
            "raised": list(raised),
            "changed": any(changed),
            "open": left,
            "globals": touched + seeded,
            "written": watch.written,
            "reached": watch.reached,
        }


def _trial(spec: Spec) -> Trial:
    from corelab.testing import entries
    from corelab.testing.trial import Trial

    return Trial(spec, Plugins(entries(spec.module)))


# ---- what is watched --------------------------------------------------------------------------

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = (
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
)
_REACHING = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


class Watch:
    """Hears of files written outside FOLDER and that for temporary files, and of addresses.

    It hears what CPython's audit hooks tell; code in other languages goes unheard.
    """

    def __init__(self, folder: Path) -> None:
        self.written: list[str] = []
        self.reached: list[str] = []
        allowed = (folder, Path(tempfile.gettempdir()), Path("/dev"))
        self._allowed = tuple(f"{place.resolve()}{os.sep}" for place in allowed)
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            if args[2] & _WRITING:
                self._write(args[0])
        elif event in _CHANGING and args[-1] in (-1, None):  # not relative to an open directory
            self._write(args[0])
        elif event in _REACHING:
            address = args[1] if event in ("socket.connect", "socket.sendto") else args[0]
            if isinstance(address, tuple | str):
                self.reached.append(str(address))

    def _write(self, path: Any) -> None:
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links are not followed
        if not f"{place}{os.sep}".startswith(self._allowed):
            self.written.append(place)


def _open_files() -> set[str]:
    """The regular files that this process has open."""
    descriptors = next(d for d in ("/proc/self/fd", "/dev/fd") if Path(d).exists())
    names = (_target(Path(descriptors) / name) for name in os.listdir(descriptors))  # noqa: PTH208
    return {name for name in names if name.startswith("/") and not name.startswith("/proc/")}


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # the one by which the folder was listed
        return ""


# ---- what belongs to everyone -----------------------------------------------------------------


def _handles() -> dict[str, tuple[Callable[[], Any], Callable[[Any], object]]]:
    """The settings of the process that a plugin could change: how to read and to write each."""
    import numpy as np
    import torch

    def set_environment(variables: Mapping[str, str]) -> None:
        os.environ.clear()
        os.environ.update(variables)

    def set_filters(filters: list[Any]) -> None:
        warnings.filters[:] = filters  # type: ignore[index]

    def set_handlers(handlers: dict[signal.Signals, Any]) -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    signals = (signal.SIGINT, signal.SIGTERM)
    return {
        "the current directory": (os.getcwd, os.chdir),
        "the environment": (lambda: dict(os.environ), set_environment),
        "the warnings' filters": (lambda: list(warnings.filters), set_filters),
        "the signals' handlers": (lambda: {s: signal.getsignal(s) for s in signals}, set_handlers),
        "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
        "NumPy's handling of errors": (np.geterr, lambda kinds: np.seterr(**kinds)),
        "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
        "torch's default device": (torch.get_default_device, torch.set_default_device),
        "torch's threads": (torch.get_num_threads, torch.set_num_threads),
        "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
        "torch's deterministic algorithms": (
            torch.are_deterministic_algorithms_enabled,
            torch.use_deterministic_algorithms,
        ),
        "torch's precision of products": (
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
        ),
    }


def _settings() -> dict[str, Any]:
    return {name: read() for name, (read, _) in _handles().items()}


def _changed(
    before: Mapping[str, Any], after: Mapping[str, Any], besides: tuple[str, ...] = ()
) -> list[str]:
    return [name for name in before if before[name] != after[name] and name not in besides]


def _restore(settings: Mapping[str, Any]) -> None:
    now = _settings()
    for name, (_, write) in _handles().items():
        if now[name] != settings[name]:
            write(settings[name])


def _seed(seed: int) -> None:
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _generators() -> dict[str, str]:
    """The states of the global generators."""
    import numpy as np
    import torch

    return {
        "Python": repr(random.getstate()),
        "NumPy": repr(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
    }
