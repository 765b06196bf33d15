"""Small runs of one experiment, and what is seen in them: gathered once, for many rules."""

from __future__ import annotations

import dataclasses
import functools
import gc
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from corelab.contracts import Media
from corelab.errors import ConfigError, CorelabError, PluginError
from corelab.experiments import Experiment, resolve
from corelab.local import LocalRecorder
from corelab.loop import drive, finite
from corelab.plugins import Offer, Plugins
from corelab.runs import Run
from corelab.state import load_tree, save_tree
from corelab.testing.processes import Dying, Stepping, Surroundings, Together, apart
from corelab.testing.rules import Skipped

if TYPE_CHECKING:
    from corelab.context import Context
    from corelab.testing import Suite

SEED = 5
EVALUATED = 2
"""Episodes or examples of an evaluation."""
MANY = 100
"""Steps of a long run, unless they take longer than PATIENCE."""
PATIENCE = 0.75
"""Seconds of CPU time for half of a long run."""

Row = dict[str, float]
Files = dict[str, bytes]


@dataclass(frozen=True)
class Spec:
    """Names and plain options: all that another process needs to make the same trial."""

    module: str
    algorithm: str
    task: str
    model: str
    """Empty if there is none."""
    values: Mapping[str, Any]
    iterations: int
    surroundings: Surroundings = field(repr=False)


def choose(suite: Suite, offer: Offer) -> Spec:
    """The experiment in which OFFER is tried out. `Skipped` if there is none, and why."""
    c, plugins = offer.component, suite.plugins
    given = dict(suite.options.get(f"{c.provides}/{c.name}") or suite.options.get(c.name) or {})
    if c.kind == "algorithm":
        candidates = [plugins.shortest(offer, c.name, None)]
    elif "algorithm" in given:
        candidates = [given["algorithm"]]
    else:
        users = [o for o in plugins.offers if c.provides in o.component.uses]
        users.sort(key=lambda o: (o.plugin != offer.plugin, o.component.name))
        candidates = [plugins.shortest(o, o.component.name, None) for o in users]
    refused = f"no algorithm is installed that uses the interface {c.provides!r}"
    for algorithm in candidates:
        user = plugins.find("algorithm", algorithm)
        task, model = given.get("task"), given.get("model")
        typed = c.examples[0] if c.pattern else c.name
        if c.kind == "task":
            task = task or plugins.shortest(offer, typed, user)
        if c.kind == "model":
            model = plugins.shortest(offer, typed, user)
        values = {k: v for k, v in given.items() if k not in ("algorithm", "task", "model")}
        try:
            parts = resolve(
                algorithm, task=task, model=model, values=values, plugins=plugins
            ).config()
            task, model = parts["task"]["name"], parts.get("model", {}).get("name", "")
            names = suite.module, algorithm, task, model
            spec = Spec(*names, values, suite.iterations, suite.surroundings)
            if c.kind != "algorithm":
                Trial(spec, plugins).build(SEED)
            return spec
        except CorelabError as error:  # another algorithm may do
            refused = str(error)
    if c.kind == "algorithm":
        raise PluginError(refused)
    raise Skipped(f"it cannot be tried as it is ({refused}); `options` say how it can")


@dataclass
class Tried:
    """An algorithm that was built, and what of it can be looked at."""

    algorithm: Any
    context: Context
    networks: list[torch.nn.Module] = field(default_factory=list)

    def steps(self, n: int) -> list[Row]:
        """The metrics of N steps."""
        return [{k: float(v) for k, v in self.algorithm.step().items()} for _ in range(n)]

    def weights(self) -> list[torch.Tensor]:
        """Copies of the weights of every network."""
        return [p.detach().clone() for net in self.networks for p in net.parameters()]

    def state(self) -> Files:
        """What the algorithm saves."""
        return written(self.algorithm.save)

    def streams(self) -> Files:
        """Where the streams of the run stand."""
        return written(lambda folder: save_tree(folder / "streams", self.context.state_dict()))


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbs."""

    rows: list[Row]
    progress: list[int]
    saved: Files
    """The state after half of the steps,"""
    streams: dict[str, Any]
    """and the streams."""
    state: Files
    """The state at the end,"""
    streams_after: Files
    """and the streams."""
    evaluation: Evaluation
    not_finite: list[str]
    """The methods of the task that gave a number that is not finite."""


@dataclass(frozen=True)
class Evaluation:
    """Two evaluations after the last step, and what is there behind them."""

    figures: Row = field(default_factory=dict)
    again: Row = field(default_factory=dict)
    state: Files = field(default_factory=dict)
    streams: Files = field(default_factory=dict)


@dataclass(frozen=True)
class Long:
    """A run of many steps, with another seed."""

    rows: list[Row]
    """Of the first few."""
    steps: int
    leaks: list[str]


@dataclass(frozen=True)
class Learning:
    """What became of the weights."""

    weights: int
    changed: int
    finite: bool
    steps: int


@dataclass(frozen=True)
class Poisoned:
    """What came of NaN."""

    given: bool
    error: Exception | None
    steps: int


@dataclass(frozen=True)
class Killed:
    """Two runs of as many steps: one whole, one killed and resumed."""

    whole: Files
    resumed: Files
    step: int
    steps: int


class Trial:
    """One experiment, and what was seen of it."""

    def __init__(self, spec: Spec, plugins: Plugins) -> None:
        self.spec = spec
        self.plugins = plugins

    def __str__(self) -> str:
        chosen = self.experiment()
        model = f" with {chosen.model.component.name}" if chosen.model else ""
        return f"{chosen.algorithm.component.name} on {chosen.task_name}{model}"

    @property
    def exact(self) -> bool:
        """Whether its algorithm means to repeat itself."""
        return bool(getattr(self.plugins.load(self.experiment().algorithm), "exact", True))

    def experiment(self, seed: int = SEED, **values: Any) -> Experiment:
        """The experiment, resolved."""
        s = self.spec
        values = {"device": "cpu", **s.values, "seed": seed, **values}
        return resolve(s.algorithm, task=s.task, model=s.model, values=values, plugins=self.plugins)

    def build(
        self,
        seed: int,
        device: str = "cpu",
        spy: Callable[[Any], None] = lambda task: None,
        kind: type[Context] | None = None,
    ) -> Tried:
        """What `Experiment.build` makes, of a task that SPY has seen before."""
        experiment = self.experiment(seed)
        context = experiment.context(device, kind)
        options, load = experiment.options, self.plugins.load
        networks: list[torch.nn.Module] = []

        def network(*shapes: Any, **named: Any) -> Any:
            assert experiment.model
            networks.append(context.build(load(experiment.model), options.model, *shapes, **named))
            return networks[-1]

        task = load(experiment.task)(options.task)
        spy(task)
        model = network if experiment.model else None
        algorithm = load(experiment.algorithm)(options.algorithm, task, model, context)
        return Tried(algorithm, context, networks)

    @contextmanager
    def trying(
        self, seed: int = SEED, spy: Callable[[Any], None] = lambda task: None
    ) -> Iterator[Tried]:
        """Within: the algorithm, fresh, and the global generators its own."""
        with self.experiment(seed).context("cpu").owning_globals():
            yield self.build(seed, spy=spy)

    @property
    def evaluates(self) -> bool:
        """Whether the algorithm can be measured."""
        return hasattr(self.plugins.load(self.experiment().algorithm), "evaluate")

    @cached_property
    def whole(self) -> Whole:
        """As many steps twice, saved between, and evaluated twice at the end."""
        not_finite: dict[str, None] = {}

        def note(method: str, value: Any) -> Any:
            if not all(np.isfinite(numbers).all() for numbers in _numbers(value)):
                not_finite[method] = None
            return value

        with self.trying(spy=functools.partial(_listen, tell=note)) as tried:
            n, algorithm = self.spec.iterations, tried.algorithm
            progress, rows = [int(algorithm.progress)], []
            saved: Files = {}
            streams: dict[str, Any] = {}
            for i in range(2 * n):
                if i == n:
                    saved, streams = tried.state(), tried.context.state_dict()
                rows += tried.steps(1)
                progress.append(int(algorithm.progress))
            state, after = tried.state(), tried.streams()
            evaluation = Evaluation()
            if self.evaluates:
                figures, again = (
                    _figures(algorithm.evaluate("validation", EVALUATED, 0)) for _ in range(2)
                )
                evaluation = Evaluation(figures, again, tried.state(), tried.streams())
            return Whole(rows, progress, saved, streams, state, after, evaluation, list(not_finite))

    @property
    def evaluation(self) -> Evaluation:
        """The evaluations at the end of the whole run."""
        return self.whole.evaluation

    @cached_property
    def again(self) -> list[Row]:
        """The metrics of the first half of the same run."""
        with self.trying() as tried:
            return tried.steps(self.spec.iterations)

    @cached_property
    def resumed(self) -> tuple[list[Row], Files]:
        """The second half of the same run, from what it saved: its metrics and its final state."""
        with self.trying() as tried, tempfile.TemporaryDirectory() as folder:
            unpack(self.whole.saved, Path(folder))
            tried.algorithm.load(Path(folder))
            tried.context.load_state_dict(self.whole.streams)
            return tried.steps(self.spec.iterations), tried.state()

    @cached_property
    def long(self) -> Long:
        """A hundred steps with another seed, or as many as two times PATIENCE allow."""
        gc.freeze()  # so that only what this run makes is counted
        try:
            with self.trying(SEED + 1) as tried:
                n, half, began = self.spec.iterations, 0, time.process_time()
                rows = tried.steps(n)
                counts = [_living()]
                while half < (MANY - n) // 2 and time.process_time() - began < PATIENCE:
                    tried.steps(1)
                    half += 1
                counts.append(_living())
                tried.steps(half)
                counts.append(_living())
        finally:
            gc.unfreeze()
        leaks = []
        for what in counts[0]:
            growth = [b[what] - a[what] for a, b in pairwise(counts)]
            # what is being filled, such as a replay buffer, grows too; a leak grows in most steps
            if min(growth) >= max(1, half // 2):
                leaks.append(f"{what} by {sum(growth)}")
        return Long(rows, n + 2 * half, leaks)

    @cached_property
    def learning(self) -> Learning:
        """Steps until a weight has changed; some algorithms gather experience first."""
        with self.trying() as tried:
            before, began, steps = tried.weights(), time.process_time(), 0
            while True:
                tried.steps(1)
                steps += 1
                after = tried.weights()
                changed = sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
                if changed or time.process_time() - began > 2 * PATIENCE:
                    break
        finite = all(bool(w.isfinite().all()) for w in after)
        return Learning(len(before), changed, finite, steps)

    @cached_property
    def poisoned(self) -> Poisoned:
        """Steps on a task that gives NaN for every real number, until something is said of it."""
        given: list[str] = []

        def poison(method: str, value: Any) -> Any:
            bad = _with_nan(value)
            if bad is not value:
                given.append(method)
            return bad

        error, steps = None, 0
        try:
            with self.trying(spy=functools.partial(_listen, tell=poison)) as tried:
                n, began = self.spec.iterations, time.process_time()
                while steps < n or (given and time.process_time() - began < PATIENCE):
                    steps += 1
                    progress = int(tried.algorithm.progress)
                    finite(tried.algorithm.step(), progress, tried.algorithm.unit)
                tried.state()
        except Exception as caught:
            error = caught
        return Poisoned(bool(given), error, steps)

    @cached_property
    def apart(self) -> dict[str, Any]:
        """What the first steps do in a process of their own."""
        return apart(Stepping(self.spec), self.spec.surroundings)

    @cached_property
    def together(self) -> dict[str, Any]:
        """What two processes learn together, beside what one learns. ConfigError if two cannot."""
        steps = max(self.spec.iterations, self.learning.steps + 1)
        seen = apart(Together(self.spec, steps), self.spec.surroundings)
        if "refused" in seen:
            raise ConfigError(seen["refused"])
        return seen

    @cached_property
    def killed(self) -> Killed:
        """Two runs in directories: one whole, and one that another process began and was killed."""
        n = self.spec.iterations
        steps = self.whole.progress[n]
        with tempfile.TemporaryDirectory() as folder:
            whole = self.begin(Path(folder), "whole", steps)
            self.finish(whole, steps)
            victim = self.begin(Path(folder), "killed", steps)
            apart(Dying(self.spec, victim.path, steps, n // 2 + 1), self.spec.surroundings)
            self.finish(victim, steps)
            return Killed(_end(whole), _end(victim), n // 2 + 1, n)

    def begin(self, folder: Path, name: str, steps: int) -> Run:
        """The directory of a run that has not begun."""
        return Run.create(self._of_steps(steps, **{"run.dir": folder, "run.name": name}))

    def finish(self, run: Run, steps: int) -> None:
        """Bring RUN to its end, from its newest checkpoint if it has one."""
        experiment = self._of_steps(steps)
        with run.lock():
            context = experiment.context()
            with context.owning_globals():
                algorithm = experiment.build(context)
                recorder = LocalRecorder(run, experiment, context)
                drive(algorithm, steps, experiment.options.run, recorder)

    def _of_steps(self, steps: int, **values: Any) -> Experiment:
        schedule = {"run.sinks": (), "run.checkpoint_every": 1, "run.eval_n": EVALUATED}
        return self.experiment(SEED, steps=steps, **schedule, **values)

    @property
    def has_gpu(self) -> bool:
        """Whether torch finds one."""
        return torch.cuda.is_available()

    def try_gpu(self) -> None:
        """Two steps and an evaluation on it."""
        with self.experiment().context("cuda").owning_globals():
            tried = self.build(SEED, "cuda")
            tried.steps(2)
            if self.evaluates:
                tried.algorithm.evaluate("validation", EVALUATED, 0)


def written(save: Callable[[Path], None]) -> Files:
    """What SAVE writes into a directory, by the names of the files."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        return pack(Path(folder))


def pack(folder: Path) -> Files:
    """The files in FOLDER."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def unpack(files: Files, folder: Path) -> None:
    """Write FILES into FOLDER."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _end(run: Run) -> Files:
    """What the last checkpoint of RUN holds, but for the time it took."""
    place = run.checkpoints.pick()
    streams = load_tree(place / "loop")["streams"]
    return pack(place / "algorithm") | written(lambda f: save_tree(f / "streams", streams))


def _figures(results: Mapping[str, Any]) -> Row:
    return {k: float(v) for k, v in results.items() if not isinstance(v, Media)}


def _living() -> dict[str, int]:
    """How many of the things that leak there are."""
    gc.collect()
    descriptors = next(d for d in ("/proc/self/fd", "/dev/fd") if Path(d).exists())
    return {
        "tensors": sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()),
        "open files": len(os.listdir(descriptors)),  # noqa: PTH208 - it may vanish meanwhile
        "threads": threading.active_count(),
    }


# ---- what a task gives ------------------------------------------------------------------------

_HEARD = "_corelab_hears"
_PLAIN = ("builtins", "torch", "numpy", "random", "pathlib", "collections", "functools")


def _listen(thing: Any, tell: Callable[[str, Any], Any], name: str = "") -> None:
    """Have TELL(method, value) see, and replace, what the methods of THING return from now on.

    What they return is listened to as well, if it is an object with methods of its own. THING gets
    a class of its own for it, since its attributes may be what it saves.
    """
    cls = type(thing)
    methods = [m for m in dir(cls) if isinstance(getattr(cls, m, None), FunctionType)]
    heard = {
        method: _heard(getattr(cls, method), tell, f"{name}{method}()")
        for method in methods
        if not method.startswith("_") and not method.endswith("state_dict")
    }
    named = {"__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if not hasattr(cls, _HEARD):
        with suppress(TypeError):  # a class that is final, or not Python's
            object.__setattr__(
                thing, "__class__", type(cls.__name__, (cls,), named | heard | {_HEARD: True})
            )


def _heard(
    method: Callable[..., Any], tell: Callable[[str, Any], Any], name: str
) -> Callable[..., Any]:
    @functools.wraps(method)
    def heard(self: Any, *args: Any, **kwargs: Any) -> Any:
        value = tell(name, method(self, *args, **kwargs))
        package = type(value).__module__.partition(".")[0]
        plain = package in _PLAIN or dataclasses.is_dataclass(value)
        if hasattr(value, "__dict__") and not plain:
            _listen(value, tell, f"{name}.")
        return value

    return heard


def _numbers(value: Any) -> Iterator[Any]:
    """Every real number, or array of them, in VALUE."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value.detach().cpu().double().numpy()
    elif isinstance(value, np.ndarray | np.floating | float):
        if np.issubdtype(np.asarray(value).dtype, np.floating):
            yield value
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from _numbers(v)
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _numbers(v)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            yield from _numbers(getattr(value, f.name))


def _with_nan(value: Any) -> Any:
    """VALUE with NaN for every real number in it; VALUE itself if there is none."""
    if not any(True for _ in _numbers(value)):
        return value
    if isinstance(value, torch.Tensor):
        return torch.full_like(value, math.nan)
    if isinstance(value, np.ndarray):
        return np.full_like(value, math.nan)
    if isinstance(value, Mapping):
        return {k: _with_nan(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return type(value)(map(_with_nan, value))  # type: ignore[call-arg]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        return dataclasses.replace(value, **{f: _with_nan(getattr(value, f)) for f in fields})
    return type(value)(math.nan)
