"""The runtime of one process: runs the loop here and keeps the run's directory."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from corelab.context import Context
from corelab.contracts import Algorithm, Media
from corelab.errors import CheckpointError, ConfigError, CorelabError, DivergedError, hint
from corelab.experiments import Experiment
from corelab.loop import Position, drive
from corelab.plugins import Plugin, one_line, warn
from corelab.provenance import code_sha256
from corelab.runs import Run
from corelab.state import load_tree, save_tree, tensors_sha256


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or a request to end: the run stopped between two steps and made a checkpoint."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"{run.path}: interrupted; go on with `corelab resume {run.path}`")
        self.run = run


class LocalRecorder:
    """Keeps a run in its directory and tells the sinks."""

    def __init__(self, run: Run, experiment: Experiment, context: Context) -> None:
        self.run = run
        self.context = context
        context.say = self.say
        self.plugins = experiment.plugins
        self.sinks = choose_sinks(experiment)
        self.signalled = 0
        self._complained: set[tuple[Plugin, str]] = set()
        self._recorded = 0.0

    def newest(self) -> Path | None:
        """The newest whole checkpoint, if there is one; say so if a newer one was damaged."""
        place, passed = self.run.checkpoints.newest_whole()
        for sentence in passed:
            self.say(sentence)
        if place is None and passed:
            raise CheckpointError(
                f"{self.run.path}: no checkpoint is whole, so it cannot be resumed"
            )
        return place

    def restore(self, algorithm: Algorithm) -> Position:
        """Bring everything to the newest whole checkpoint."""
        position = Position()
        if place := self.newest():
            algorithm.load(place / "algorithm")
            loop = load_tree(place / "loop")
            self.context.load_state_dict(loop["streams"])
            position = Position(**loop["position"])
        self.begin(algorithm.progress)
        return position

    def begin(self, progress: int) -> None:
        """Keep and tell that the run goes on from PROGRESS."""
        if self.run.record["sessions"]:
            self.run.resumed_at = progress
        self.run.note(f"from {progress:,} {self.run.unit} on")
        session = {"began": time.time(), "progress": progress, "pid": os.getpid()}
        self.run.update(
            status="running", error=None, sessions=[*self.run.record["sessions"], session]
        )
        self.tell("corelab_run_started")

    def again(self, progress: int, error: CorelabError) -> None:
        """Tell that ERROR ended it, and that it goes on from PROGRESS nevertheless."""
        self.say(str(error))
        self.tell("corelab_run_ended", error=error)
        self.begin(progress)

    def log(
        self,
        progress: int,
        metrics: Mapping[str, float],
        media: Mapping[str, Media],
        position: Position,
    ) -> None:
        """Tell the sinks, and run.json at most once in a second."""
        self.tell("corelab_run_logged", progress=progress, metrics=metrics, media=media)
        if time.monotonic() - self._recorded >= 1.0:
            self._recorded = time.monotonic()
            self.run.update(progress=progress, elapsed=position.elapsed, best=position.best)

    def save(self, algorithm: Algorithm, position: Position, best: bool) -> None:
        """Make a checkpoint of the algorithm, the streams and the position."""

        def fill(directory: Path) -> None:
            (directory / "algorithm").mkdir()
            algorithm.save(directory / "algorithm")
            state = {
                "streams": self.context.state_dict(),
                "position": dataclasses.asdict(position),
            }
            save_tree(directory / "loop", state)

        self.write(algorithm.progress, fill, position, best)

    def write(
        self, progress: int, fill: Callable[[Path], None], position: Position, best: bool
    ) -> None:
        """Make the checkpoint of PROGRESS, whose files FILL writes into a directory."""
        self.run.checkpoints.write(progress, fill, best)
        self.run.update(progress=progress, elapsed=position.elapsed, best=position.best)

    def rescue(self, algorithm: Algorithm, position: Position) -> None:
        """Make a checkpoint, because a failure is about to end the run."""
        self.save(algorithm, position, False)

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """METRICS, since there is but one process."""
        return dict(metrics)

    def stop(self) -> str:
        """Say "interrupted" once a signal has come."""
        return "interrupted" if self.signalled else ""

    def tell(self, hook: str, **facts: Any) -> None:
        """Call HOOK of the run's sinks."""

        def complain(plugin: Plugin, sentence: str) -> None:
            if (plugin, hook) not in self._complained:
                self._complained.add((plugin, hook))
                self.say(sentence)

        self.plugins.tell(hook, self.sinks, complain, run=self.run, **facts)

    def say(self, sentence: str) -> None:
        """Tell the person and log.txt."""
        warn(sentence)
        self.run.note(sentence)


Recorders = Callable[[Run, Experiment, Context], LocalRecorder]
"""What makes the recorder of a run."""


def start(experiment: Experiment) -> Run:
    """Run EXPERIMENT from its beginning in a new directory, made once everything fits together."""
    choose_sinks(experiment)  # a wrong name is told before the data are loaded
    with machine(experiment) as context, context.owning_globals():
        algorithm = experiment.build(context)
        run = Run.create(experiment)
        with run.lock():
            return _execute(run, experiment, context, algorithm)


def resume(run: Run, steps: int | None = None, recorder: Recorders = LocalRecorder) -> Run:
    """Go on with RUN from its newest whole checkpoint, to STEPS instead of its budget if given.

    RECORDER makes what keeps it.
    """
    with run.lock():
        run = Run(run.path)  # as its last writer left it
        experiment = run.experiment(**({} if steps is None else {"steps": steps}))
        _compare_versions(run, experiment)
        with machine(experiment) as context, context.owning_globals():
            algorithm = experiment.build(context)
            if steps is not None:
                run.update(steps=steps, config=experiment.config())
            return _execute(run, experiment, context, algorithm, recorder)


@contextmanager
def machine(experiment: Experiment) -> Iterator[Context]:
    """Within: where EXPERIMENT trains; with workers of either kind, Ray is there."""
    o = experiment.options
    if o.workers == 1 and not o.rollout_workers:
        yield experiment.context()
        return
    from corelab.cluster.actors import ActorContext
    from corelab.cluster.connection import connected, require_resources

    with connected(o.address, experiment.distributions()):
        cpus = o.run.threads + o.rollout_workers
        if o.workers > 1:
            require_resources("--workers", o.workers, cpus=cpus, gpus=o.gpus / o.workers)
            yield experiment.context("cpu")
        else:
            yield experiment.context(kind=ActorContext)


def _compare_versions(run: Run, experiment: Experiment) -> None:
    for offer in experiment.offers():
        kind = offer.component.kind
        then, now = run.record["plugins"][kind], offer.plugin
        differ = "the weights may differ from those of an unbroken run"
        if then["version"] != now.version:
            owner = f"{now.distribution} {then['version']}"
            warn(f"{run.path}: the {kind} was {owner}, now it is {now.version}: {differ}")
        elif then.get("sha256", now_is := code_sha256(offer.component.target)) != now_is:
            warn(f"{run.path}: the code of the {kind}, in {now}, was another one: {differ}")


def choose_sinks(experiment: Experiment) -> set[Plugin]:
    """The sinks that `run.sinks` names. ConfigError if one of them is not installed."""
    chosen = experiment.options.run.sinks
    known = {sink.name for sink in experiment.plugins.sinks} | {"all"}
    for name in chosen:
        if name not in known:
            raise ConfigError(f"run.sinks: there is no sink {name!r}; {hint(name, known)}")
    return {s for s in experiment.plugins.sinks if s.name in chosen or "all" in chosen}


def _execute(
    run: Run,
    experiment: Experiment,
    context: Context,
    algorithm: Algorithm,
    make_recorder: Recorders = LocalRecorder,
) -> Run:
    """Bring RUN to its end: here, or in several workers, of which ALGORITHM is none."""
    options = experiment.options
    recorder = make_recorder(run, experiment, context)
    error: BaseException | None = None
    try:
        with _signals(recorder):
            if options.workers > 1:
                from corelab.cluster.training import lead

                reason = lead(run, experiment, recorder)
            else:
                reason = drive(algorithm, options.steps, options.run, recorder)
        if reason == "interrupted":
            raise Interrupted(run)
        run.update(status="done", stopped_by=reason, weights_sha256=_weights(run))
    except BaseException as caught:
        error = caught
        _record_failure(run, caught)
        raise
    finally:
        recorder.tell("corelab_run_ended", error=error)
    return run


def _record_failure(run: Run, error: BaseException) -> None:
    """Keep what ended the run. Whatever else goes wrong here must not hide it."""
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    if isinstance(error, DivergedError):
        whole, _ = run.checkpoints.newest_whole()
        kept = f"the last good checkpoint is {whole}" if whole else "there was no checkpoint yet"
        error.args = (f"{run.path}: {error}; {kept}",)
    if status == "failed" and not isinstance(error, CorelabError):
        run.note("".join(traceback.format_exception(error)))
    run.note(f"{status}: {one_line(error)}")
    with suppress(CorelabError):  # the disk may be full, which ERROR is about then
        run.update(status=status, error=one_line(error))


def _weights(run: Run) -> str | None:
    """The hash of the learned weights in the last checkpoint; of its whole state if it has none."""
    algorithm = run.checkpoints.pick() / "algorithm"
    for name in ("weights.safetensors", "state.safetensors"):
        if (algorithm / name).exists():
            return tensors_sha256(algorithm / name)
    return None


@contextmanager
def _signals(recorder: LocalRecorder) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the run after the step it is in, the second at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        recorder.signalled += 1
        if recorder.signalled > 1:
            raise KeyboardInterrupt
        print(
            "\ncorelab: stopping after this step and saving; once more to stop at once",
            file=sys.stderr,
        )

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
