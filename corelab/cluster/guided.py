"""Bayesian search: each trial is chosen by what those before it have shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from corelab.context import derive
from corelab.runs import Run

if TYPE_CHECKING:
    from corelab.cluster.sweep import Sweep


class Guided(OptunaSearch):  # type: ignore[misc]
    """Optuna's tree-structured Parzen estimator, whose suggestions become runs of SWEEP.

    It begins with what the SETTLED runs have shown, and first suggests those that are WAITING.
    """

    def __init__(self, sweep: Sweep, settled: Sequence[Run], waiting: Sequence[Run]) -> None:
        space = self.convert_search_space({s.name: s.domain() for s in sweep.searches})
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        made = len(settled) + len(waiting)
        super().__init__(
            space,
            metric=sweep.metric,
            mode=sweep.mode,
            points_to_evaluate=[sweep.points(run) for run in waiting],
            seed=derive(sweep.base.options.seed, "search", made) % 2**32,
        )
        for run in settled:
            score = sweep.score(run)
            if score is not None:
                self.add_evaluated_point(sweep.points(run), score)
        self._sweep = sweep
        self._waiting = list(waiting)
        self._runs: dict[str, Run] = {}

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the trial TRIAL_ID: the directory of its run."""
        sweep = self._sweep
        if sweep.record["status"] != "running":
            return Searcher.FINISHED
        points: Any = super().suggest(trial_id)
        if self._waiting:
            run = self._waiting.pop(0)
        else:
            values = {s.name: s.value(points[s.name]) for s in sweep.searches}
            (run,) = sweep.add(iter([values]))
        self._runs[trial_id] = run
        return {"run": str(run.path)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Learn from the best figure of the trial, unless it has failed."""
        run = Run(self._runs[trial_id].path)
        score = None if run.record["status"] == "failed" else self._sweep.score(run)
        result = None if score is None else {self.metric: score}
        super().on_trial_complete(trial_id, result, error or score is None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the runs are the record."""
        Path(checkpoint_path).touch()
