"""A run is a directory that explains itself."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import corelab
from corelab.checkpoints import Checkpoints, write_atomically
from corelab.components import PARTS
from corelab.errors import ConfigError, PluginError, RunError, StorageError
from corelab.plugins import ALLOW, Plugins, installed, warn
from corelab.provenance import provenance

if TYPE_CHECKING:
    from corelab.contracts import Media, Split
    from corelab.experiments import Experiment

FORMAT = 1
"""The layout of run directories that this corelab writes; it reads this one and older ones."""
RECORD = "run.json"


class Run:
    """A run: what was asked for, what has come of it so far, and ways to go on with it."""

    def __init__(self, path: Path | str) -> None:
        """Open the run directory PATH. RunError if it is none, or was made by a newer corelab."""
        self.path = Path(path)
        self.resumed_at: int | None = None
        """Progress from which this session went on; None in a new run."""
        try:
            self.record: dict[str, Any] = json.loads((self.path / RECORD).read_text())
            newer = self.record["format"] > FORMAT
        except FileNotFoundError:
            raise RunError(f"{self.path}: is not a run directory (it has no {RECORD})") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path / RECORD}: cannot be read ({error})") from error
        if newer:
            raise RunError(
                f"{self.path}: was made by corelab {self.record.get('corelab')}, this is "
                f"{corelab.__version__}: upgrade with pip install -U corelab-ml"
            )
        self.algorithm: str = self.record["algorithm"]
        """The name of the algorithm."""
        self.task: str = self.record["task"]
        """The name of the task."""
        self.model: str = self.record["model"]
        """The name of the model; "" if there is none."""
        self.unit: str = self.record["unit"]
        """What progress counts."""

    @classmethod
    def create(cls, experiment: Experiment) -> Run:
        """Make the directory of a new run. StorageError if that cannot be done."""
        from corelab.local import choose_sinks

        options, algorithm = experiment.options, experiment.plugins.load(experiment.algorithm)
        sinks = sorted(choose_sinks(experiment), key=lambda sink: sink.name)
        record = {
            "format": FORMAT,
            "corelab": corelab.__version__,
            "api": list(corelab.API),
            "status": "created",
            "error": None,
            "algorithm": experiment.algorithm.component.name,
            "task": experiment.task_name,
            "model": experiment.model.component.name if experiment.model else "",
            "unit": algorithm.unit,
            "steps": options.steps,
            "progress": 0,
            "elapsed": 0.0,
            "best": {},
            "highlights": list(algorithm.highlights),
            "weights_sha256": None,
            "config": experiment.config(),
            "sources": dict(experiment.sources),
            "plugins": {
                o.component.kind: provenance(o.plugin, o.component.target)
                for o in experiment.offers()
            },
            "sinks": [provenance(sink, sink.module) for sink in sinks],
            "argv": sys.argv,
            "sessions": [],
            "git": _git(),
            "python": platform.python_version(),
            "hardware": _hardware(),
            "packages": installed(),
        }
        name = options.run.name or f"{title(experiment)}-s{options.seed}"
        path = make_directory(options.run.dir, name, exact=bool(options.run.name))
        write_atomically(path / RECORD, json.dumps(record, indent=1))
        return cls(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def config(self) -> dict[str, Any]:
        """Every option, by "algorithm", "task", "model" and "run"; also seed, steps and device."""
        return dict(self.record["config"])

    @property
    def steps(self) -> int:
        """The budget, in `unit`."""
        return int(self.record["steps"])

    @property
    def progress(self) -> int:
        """How far it is, in `unit`."""
        return int(self.record["progress"])

    @property
    def best(self) -> dict[str, Any]:
        """The best evaluation so far: its metric, value and progress; empty before the first."""
        return dict(self.record["best"])

    @property
    def seed(self) -> int:
        """The root of the run's random streams."""
        return int(self.config["seed"])

    @property
    def highlights(self) -> tuple[str, ...]:
        """The metrics that matter most."""
        return tuple(self.record["highlights"])

    @property
    def checkpoints(self) -> Checkpoints:
        """What was saved."""
        return Checkpoints(self.path / "checkpoints", self.config["run"]["keep"])

    @property
    def status(self) -> str:
        """One of "waiting", "running", "done", "interrupted", "failed" and "killed".

        Waiting: it has not begun. Killed: run.json says that it is running, but no living process
        has it.
        """
        status = str(self.record["status"])
        if status in ("running", "created"):
            try:
                with self.lock():
                    return "killed" if status == "running" else "waiting"
            except RunError:
                return "running"
        return status

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run for this process alone; the system lets go of it when the process ends.

        RunError if another process has it.
        """
        return lock(self.path)

    def update(self, **facts: Any) -> None:
        """Write FACTS into run.json."""
        self.record.update(facts)
        write_atomically(self.path / RECORD, json.dumps(self.record, indent=1))

    def note(self, text: str) -> None:
        """Add TEXT, with the time, to log.txt. What cannot be written is not worth failing for."""
        with suppress(OSError), (self.path / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def metrics(self) -> list[dict[str, float]]:
        """Every row of metrics.jsonl, in the order of progress. RunError if there is none."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            raise RunError(f"{self.path}: has no metrics.jsonl; the sink `jsonl` writes it")
        rows = []
        for line in file.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:  # the last line of a run that was killed while it wrote
                break
        return rows

    def experiment(self, **values: Any) -> Experiment:
        """What was run, resolved again from what is installed now, with other VALUES if given.

        PluginError that names the distribution to install if one is missing.
        """
        from corelab.experiments import resolve

        plugins = Plugins()
        for kind, owner in self.record["plugins"].items():
            if not any(o.plugin.distribution == owner["distribution"] for o in plugins.offers):
                name, version = owner["distribution"], owner["version"]
                why = f"is not installed here: pip install {name}=={version}"
                if any(p.distribution == name for p in plugins.disallowed):
                    why = f"{ALLOW} does not allow"
                raise PluginError(
                    f"{self.path}: needs the {kind} {self.record.get(kind)!r} of {name} {version}, "
                    f"which {why}"
                )
        config = deepcopy(self.config)
        algorithm, model, task = (config[kind].pop("name", "") for kind in PARTS)
        config |= values
        return resolve(
            algorithm, task=task, model=model, values=config, source=RECORD, plugins=plugins
        )

    @contextmanager
    def _loaded(self, checkpoint: str, device: str, capability: str = "") -> Iterator[Any]:
        experiment = self.experiment()
        if capability:
            self._require(capability, experiment)
        place = self.checkpoints.pick(checkpoint)
        context = experiment.context(device)
        with context.owning_globals():
            algorithm = experiment.build(context)
            algorithm.load(place / "algorithm")
            yield algorithm

    def load(self, checkpoint: str = "last", device: str = "auto") -> Any:
        """The algorithm as it was at CHECKPOINT ("last", "best" or a progress)."""
        with self._loaded(checkpoint, device) as algorithm:
            return algorithm

    def evaluate(
        self,
        n: int | None = None,
        *,
        split: Split = "test",
        seed: int = 0,
        checkpoint: str = "last",
        device: str = "auto",
        **options: Any,
    ) -> dict[str, Any]:
        """Measure CHECKPOINT on N episodes or examples: metrics, and media if there are any.

        OPTIONS are the algorithm's own. PluginError if the algorithm cannot be evaluated.
        """
        with self._loaded(checkpoint, device, "evaluate") as algorithm:
            return dict(algorithm.evaluate(split, n, seed, **options))

    def sample(
        self,
        n: int | None = None,
        *,
        seed: int = 0,
        checkpoint: str = "last",
        device: str = "auto",
        **options: Any,
    ) -> Media:
        """N samples of what the run has learned; OPTIONS are the algorithm's own.

        PluginError if the algorithm cannot sample.
        """
        chosen = {} if n is None else {"n": n}
        with self._loaded(checkpoint, device, "sample") as algorithm:
            return algorithm.sample(**chosen, seed=seed, **options)  # type: ignore[no-any-return]

    def capability(self, name: str) -> Callable[..., Any]:
        """The algorithm's optional method NAME, unbound. PluginError if it has none."""
        return self._require(name, self.experiment())

    def _require(self, name: str, experiment: Experiment) -> Callable[..., Any]:
        method = getattr(experiment.plugins.load(experiment.algorithm), name, None)
        if method is None:
            raise PluginError(f"{self.algorithm} has nothing to {name} (it has no `{name}`)")
        return method  # type: ignore[no-any-return]

    def resume(self, steps: int | None = None) -> Run:
        """Go on from the newest whole checkpoint, to STEPS if given; the finished run."""
        from corelab.local import resume

        return resume(self, steps)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold DIRECTORY for this process alone; RunError if another one has it."""
    try:
        file = (directory / ".lock").open("a+")
    except OSError as error:
        raise StorageError(f"{directory}: cannot be written ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "another one"
            raise RunError(
                f"{directory}: is being written by another process ({owner}); "
                "wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {platform.node()}")
        file.flush()
        yield


def find_runs(directory: Path | str = "runs") -> list[Run]:
    """Every run in DIRECTORY and in its folders of seeds, by name, which begins with the time.

    RunError if there is no such directory.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise RunError(
            f"{directory}: is not a directory; runs are made in `runs`, or where --run.dir says"
        )
    found = []
    for record in sorted([*directory.glob(f"*/{RECORD}"), *directory.glob(f"*/seed-*/{RECORD}")]):
        try:
            found.append(Run(record.parent))
        except RunError as error:
            warn(str(error))
    return found


def title(experiment: Experiment) -> str:
    """A name for a directory: the time, the algorithm and the task."""
    algorithm, when = experiment.algorithm.component.name, time.strftime("%Y%m%d-%H%M%S")
    return re.sub(r"[^\w.+-]+", "-", f"{when}-{algorithm}-{experiment.task_name}")


def make_directory(parent: Path, name: str, exact: bool) -> Path:
    """Make PARENT/NAME; unless it must be EXACTly that, NAME-2 and so on if it is taken."""
    if name == ".." or Path(name).name != name:
        raise ConfigError(f"run.name is {name!r}; it must name one folder, which --run.dir holds")
    for attempt in itertools.count(1):
        path = parent / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            if exact:
                raise RunError(
                    f"{path}: exists already; go on with it by `corelab resume {path}`, "
                    "or choose another run.name"
                ) from None
        except OSError as error:
            raise StorageError(f"{path}: cannot be made ({error.strerror or error})") from error
    return path


def _git() -> dict[str, Any] | None:
    """The commit of the repository one stands in, and whether files differ from it."""
    if not shutil.which("git"):
        return None

    def ask(*words: str) -> str:
        asked = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return asked.stdout.strip()

    commit = ask("rev-parse", "--verify", "HEAD")
    return {"commit": commit, "changed": bool(ask("status", "--porcelain"))} if commit else None


def _hardware() -> dict[str, Any]:
    import torch

    cpu, file = platform.processor(), Path("/proc/cpuinfo")
    if file.exists() and (named := re.search(r"model name\s*: (.*)", file.read_text())):
        cpu = named[1]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": cpu, "cores": os.cpu_count(), "gpus": gpus, "system": platform.platform()}
