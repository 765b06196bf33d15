"""A sweep: many runs of one experiment that differ in some options.

Ray Tune chooses the values, runs the trials and stops those that do badly. All that a sweep is
stands in its folder: `sweep.json` says what is searched and how, and every trial is a run directory
of its own. Tune itself remembers nothing, so a sweep that was killed goes on from its folder alone.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from copy import deepcopy
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher

import corelab
from corelab import config
from corelab.checkpoints import write_atomically
from corelab.cluster import population
from corelab.cluster.connection import connected, require_resources
from corelab.cluster.search import Search, combinations, draws, parse
from corelab.cluster.trial import RECORD, Trial, read
from corelab.components import PARTS
from corelab.errors import ConfigError, RunError
from corelab.experiments import Experiment, resolve
from corelab.local import choose_sinks
from corelab.plugins import Plugins
from corelab.runs import Run, find_runs, lock, make_directory, title

METHODS = ("random", "grid", "bayesian")
SCHEDULERS = ("none", "asha", "pbt")
TRIALS = 20
"""How many trials are made if nobody says."""
LOSSES = 3
"""How often a trial goes on whose process was lost."""
SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the run directory has it all
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the end of a trial is a report without a metric
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


class Sweep:
    """A folder of runs, its trials, and the `sweep.json` that says what is searched and how."""

    def __init__(self, path: Path) -> None:
        """Open the sweep in the folder PATH. RunError if there is none."""
        self.path = path.absolute()
        try:
            self.record = read(path)
            self.metric: str = self.record["metric"]
            self.mode: str = self.record["mode"]
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{path / RECORD}: cannot be read ({error})") from error

    @classmethod
    def create(
        cls,
        experiment: Experiment,
        expressions: Sequence[str],
        *,
        method: str | None = None,
        trials: int | None = None,
        scheduler: str = "none",
        metric: str | None = None,
        mode: str | None = None,
    ) -> Sweep:
        """Make the folder of a sweep over EXPRESSIONS, beginning with EXPERIMENT's own options.

        By default METHOD is "grid" if a `grid(…)` is searched and "random" if not, and METRIC and
        MODE are what the algorithm calls best. ConfigError for what does not fit together.
        """
        searches = parse(expressions, _known(experiment))
        listed = any(search.kind == "grid" for search in searches)
        method = method or ("grid" if listed else "random")
        _check(experiment, searches, method, trials, scheduler, listed)
        best_mode, best_metric = experiment.plugins.load(experiment.algorithm).best.split()
        options = experiment.options
        n = len(list(combinations(searches))) if method == "grid" else trials or TRIALS
        record = {
            "corelab": corelab.__version__,
            "status": "running",
            "error": None,
            "search": list(expressions),
            "method": method,
            "scheduler": scheduler,
            "metric": metric or best_metric,
            "mode": mode or (best_mode if metric in (None, best_metric) else "max"),
            "trials": n,
            **(population.BEGINNING if scheduler == "pbt" else {}),
            "config": experiment.config(),
            "sources": dict(experiment.sources),
        }
        name = options.run.name or f"{title(experiment)}-sweep"
        folder = make_directory(options.run.dir, name, exact=bool(options.run.name))
        write_atomically(folder / RECORD, json.dumps(record, indent=1))
        sweep = cls(folder)
        if method == "grid":
            sweep.add(combinations(searches))
        elif method == "random":
            sweep.add(draws(searches, n, options.seed))
        return sweep

    def update(self, **facts: Any) -> None:
        """Write FACTS into sweep.json."""
        self.record.update(facts)
        write_atomically(self.path / RECORD, json.dumps(self.record, indent=1))

    @cached_property
    def base(self) -> Experiment:
        """The experiment whose options the trials vary."""
        return self._experiment({})

    @cached_property
    def searches(self) -> tuple[Search, ...]:
        """What is searched."""
        return parse(self.record["search"], _known(self.base))

    def _experiment(self, values: dict[str, Any]) -> Experiment:
        """The experiment with these VALUES for what is searched."""
        written = deepcopy(self.record["config"])
        algorithm, model, task = (written[kind].pop("name", "") for kind in PARTS)
        plugins = self.base.plugins if values else Plugins()
        assigned = {**dict(config.flatten(written)), **values}
        experiment = resolve(
            algorithm, task=task, model=model, values=assigned, source=RECORD, plugins=plugins
        )
        sources = {**self.record["sources"], **dict.fromkeys(values, RECORD)}
        return dataclasses.replace(experiment, sources=sources)

    def add(self, values: Iterator[dict[str, Any]]) -> list[Run]:
        """Make a waiting run for each of VALUES."""
        first, runs = len(self.runs()) + 1, []
        for i, chosen in enumerate(values, first):
            where = {"run.dir": self.path, "run.name": f"trial-{i:04}"}
            runs.append(Run.create(self._experiment({**chosen, **where})))
        return runs

    def runs(self) -> list[Run]:
        """The trials, in the order in which they were made."""
        return find_runs(self.path)

    def settled(self, run: Run) -> bool:
        """Whether RUN has come to its end, or to that of the generation."""
        if "until" in self.record:
            return bool(run.record["progress"] >= self.record["until"])
        return run.status == "done"

    def values(self, run: Run) -> dict[str, Any]:
        """What RUN has for the searched options."""
        plain = dict(config.flatten(run.config))
        return {search.name: plain[search.name] for search in self.searches}

    def points(self, run: Run) -> dict[str, Any]:
        """Where the values of RUN are in what is searched."""
        values = self.values(run)
        return {search.name: search.point(values[search.name]) for search in self.searches}

    def reports(self, run: Run) -> list[tuple[int, float]]:
        """(progress, metric) for each time that RUN has told it."""
        if not (run.path / "metrics.jsonl").exists():
            return []
        return [(int(r["progress"]), r[self.metric]) for r in run.metrics() if self.metric in r]

    def score(self, run: Run) -> float | None:
        """The best metric of RUN; None if it has told none."""
        figures = [figure for _, figure in self.reports(run)]
        if not figures:
            return None
        return max(figures) if self.mode == "max" else min(figures)

    def table(self) -> list[tuple[str, ...]]:
        """The trials, the best one first, under a line of headings."""
        sign = -1 if self.mode == "max" else 1
        scored = [(run, self.score(run)) for run in self.runs()]
        scored.sort(key=lambda pair: (pair[1] is None, sign * (pair[1] or 0)))
        names = [search.name for search in self.searches]
        rows: list[tuple[str, ...]] = [("trial", "status", "progress", self.metric, *names)]
        for run, score in scored:
            status = "stopped" if run.record.get("stopped_by") == "scheduler" else run.status
            figures = (f"{run.progress:,}", "-" if score is None else f"{score:.6g}")
            rows.append((run.path.name, status, *figures, *map(_short, self.values(run).values())))
        return rows


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _known(experiment: Experiment) -> dict[str, config.Option]:
    return {option.name: option for option in config.options(type(experiment.options))}


def _check(
    experiment: Experiment,
    searches: Sequence[Search],
    method: str,
    trials: int | None,
    scheduler: str,
    listed: bool,
) -> None:
    if not searches:
        raise ConfigError('sweep: say what to search: --search "algorithm.lr=uniform(0.1, 0.9)"')
    ranges = [search.name for search in searches if search.kind not in ("choice", "grid")]
    if method == "grid" and ranges:
        raise ConfigError(f"--method grid needs a list, grid(…), for {ranges[0]}")
    if method == "grid" and trials:
        raise ConfigError("--trials is for --method random or bayesian; a grid is made in full")
    if method != "grid" and listed:
        raise ConfigError(f"--method {method} draws values: write choice(…) instead of grid(…)")
    if trials == 0:
        raise ConfigError("--trials is at least 1")
    if scheduler == "pbt":
        _check_population(experiment, searches, method)
    if experiment.options.workers > 1:
        raise ConfigError("sweep: a trial learns in one process: leave out --workers")
    if not any(sink.name == "jsonl" for sink in choose_sinks(experiment)):
        raise ConfigError("run.sinks: a sweep reads metrics.jsonl, so it needs the sink 'jsonl'")


def _check_population(experiment: Experiment, searches: Sequence[Search], method: str) -> None:
    """ConfigError unless what is searched may change while a run learns."""
    algorithm = experiment.algorithm.component.name
    may = getattr(experiment.plugins.load(experiment.algorithm), "adjustable", ())
    if method != "random":
        raise ConfigError(f"--scheduler pbt begins with random draws, so it takes no {method} one")
    if not may:
        raise ConfigError(f"{algorithm} has no options that may change while it learns, for pbt")
    for search in searches:
        if search.name not in {f"algorithm.{option}" for option in may}:
            listed = ", ".join(may)
            raise ConfigError(
                f"--scheduler pbt: {search.name} is not one that may change while {algorithm} "
                f"learns; those are {listed}"
            )


def execute(sweep: Sweep, jobs: int | None = None) -> None:
    """Bring the trials of SWEEP to their ends, JOBS at a time; by default as many as fit.

    ConfigError if they do not fit, or if no trial reports the metric; RunError if none comes to its
    end. KeyboardInterrupt, when all
    trials have made their checkpoints, after a signal.
    """
    options = sweep.base.options
    with lock(sweep.path), connected(options.address, sweep.base.distributions()):
        sweep.update(status="running", error=None)
        cpus = options.run.threads + options.rollout_workers
        jobs = jobs or max(1, int(ray.cluster_resources().get("CPU", 1) // cpus))
        require_resources("--jobs", jobs, cpus=cpus)
        with _signals(sweep):
            if sweep.record["scheduler"] == "pbt":
                population.grow(sweep, partial(_fit, sweep, jobs, cpus))
            else:
                _fit(sweep, jobs, cpus)
    if sweep.record["error"]:
        raise ConfigError(sweep.record["error"])
    if sweep.record["status"] == "interrupted":
        raise KeyboardInterrupt(f"{sweep.path}: interrupted; `corelab resume {sweep.path}` goes on")
    results = [
        {"run": run.path.name, "status": run.status, "score": sweep.score(run)} | sweep.values(run)
        for run in sweep.runs()
    ]
    sweep.update(status="done", results=results)
    if not any(run.status == "done" for run in sweep.runs()):
        why = sweep.runs()[0].record["error"]
        raise RunError(f"{sweep.path}: no trial has come to its end; the first: {why}")


def _fit(sweep: Sweep, jobs: int, cpus: int) -> None:
    """Let Tune run what is not done yet."""
    runs = sweep.runs()
    settled = [run for run in runs if sweep.settled(run)]
    waiting = [run for run in runs if not sweep.settled(run)]
    left = sweep.record["trials"] - len(settled)
    if not left:
        return
    search: SearchAlgorithm | Searcher
    if sweep.record["method"] == "bayesian":
        from corelab.cluster.guided import Guided

        search, space = Guided(sweep, settled, waiting), {}
    else:
        search, left = BasicVariantGenerator(max_concurrent=jobs), 1
        space = {"run": tune.grid_search([str(run.path) for run in waiting])}
    for name, value in SETTINGS.items():
        os.environ[name] = value
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch, redirect_stdout(io.StringIO()):
        tune.Tuner(
            tune.with_resources(Trial, _resources(sweep, jobs, cpus)),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=_scheduler(sweep, settled),
                num_samples=left,
                max_concurrent_trials=jobs,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Progress(sweep, len(settled))],
                failure_config=tune.FailureConfig(max_failures=LOSSES),
            ),
        ).fit()


def _resources(sweep: Sweep, jobs: int, cpus: int) -> tune.PlacementGroupFactory:
    """What a trial takes: CPUs, and if there are GPUs its share of them."""
    first: dict[str, float] = {"CPU": sweep.base.options.run.threads}
    gpus = ray.cluster_resources().get("GPU", 0.0)
    if gpus and sweep.base.options.device != "cpu":
        first["GPU"] = min(1.0, gpus / jobs)
    return tune.PlacementGroupFactory([first, *[{"CPU": 1.0}] * int(cpus - first["CPU"])])


def _scheduler(sweep: Sweep, settled: Sequence[Run]) -> TrialScheduler:
    """What stops trials, told of those that are SETTLED already."""
    if sweep.record["scheduler"] != "asha":
        return FIFOScheduler()
    steps = sweep.base.options.steps
    scheduler = ASHAScheduler(
        time_attr="progress",
        metric=sweep.metric,
        mode=sweep.mode,
        max_t=steps,
        grace_period=max(1, steps // 10),
        reduction_factor=3,
        stop_last_trials=False,
    )
    controller: Any = None
    for run in settled:
        known: Any = SimpleNamespace(trial_id=run.path.name)
        scheduler.on_trial_add(controller, known)
        for progress, figure in sweep.reports(run):
            result = {"progress": progress, sweep.metric: figure}
            scheduler.on_trial_result(controller, known, result)
    return scheduler


class Progress(tune.Callback):  # type: ignore[misc]
    """Tells how the sweep gets on."""

    def __init__(self, sweep: Sweep, settled: int) -> None:
        self._sweep = sweep
        trials = sweep.record["trials"]
        before = sweep.record.get("generation", 0) * trials
        self._over = itertools.count(before + settled + 1)
        self._all = trials * (population.GENERATIONS if "until" in sweep.record else 1)

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """End the sweep if its metric is missing."""
        if "missing" in result:
            self._sweep.update(status="failed", error=result["missing"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Print a line for the trial."""
        run, sweep = Run(Path(trial.config["run"])), self._sweep
        if sweep.record["status"] == "running":
            score = sweep.score(run)
            said = run.record["error"] if score is None else f"{sweep.metric} {score:.6g}"
            count = f"{next(self._over)}/{self._all}"
            with suppress(OSError):  # nobody listens any more
                print(f"{count} {run.path.name}: {said}", file=sys.stderr, flush=True)


@contextmanager
def _signals(sweep: Sweep) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM lets the trials make checkpoints and end, the second does not."""

    def handle(number: int, frame: Any) -> None:
        if sweep.record["status"] == "interrupted":
            raise KeyboardInterrupt
        sweep.update(status="interrupted")
        print("\ncorelab: stopping the trials; once more to stop at once", file=sys.stderr)

    before = {}
    with suppress(ValueError):  # not the main thread
        before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
