"""The loop: when it logs, evaluates, saves and stops; and that a resumed one does the same."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from corelab_media import Images
from hypothesis import given
from hypothesis import strategies as st

from corelab import ConfigError, DataError, DivergedError, PluginError
from corelab.loop import Position, RunConfig, drive


def nothing(progress: int) -> dict[str, float]:
    return {}


class Walker:
    """Does STRIDES units a step in turn; its metrics are functions of its progress."""

    unit: ClassVar[str] = "paces"

    def __init__(
        self, strides: Sequence[int] = (1,), metrics: Callable[[int], Mapping[str, Any]] = nothing
    ) -> None:
        self.strides, self.metrics = strides, metrics
        self.progress = self.taken = 0

    def step(self) -> Mapping[str, Any]:
        self.progress += self.strides[self.taken % len(self.strides)]
        self.taken += 1
        return self.metrics(self.progress)


class Judged(Walker):
    """A walker with evaluations."""

    def __init__(
        self,
        strides: Sequence[int] = (1,),
        scores: Callable[[int], Mapping[str, Any]] = lambda p: {"score": p},
        best: str = "max eval/score",
        metrics: Callable[[int], Mapping[str, Any]] = nothing,
    ) -> None:
        super().__init__(strides, metrics)
        self.scores, self.best = scores, best
        self.asked: list[tuple[int, str, int | None]] = []

    def evaluate(self, split: str = "test", n: int | None = None, seed: int = 0) -> Any:
        self.asked.append((self.progress, split, n))
        return self.scores(self.progress)


@dataclass
class Recorder:
    """Keeps everything; stops after INTERRUPT steps, if given."""

    interrupt: int = 0
    position: Position = field(default_factory=Position)
    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    media: list[tuple[int, list[str]]] = field(default_factory=list)
    saves: list[tuple[int, bool]] = field(default_factory=list)
    kept: Any = None
    walker: Any = None
    reason: str = ""

    def restore(self, algorithm: Any) -> Position:
        self.walker = algorithm
        if self.kept is not None:
            vars(algorithm).update(self.kept)
        return copy.deepcopy(self.position)

    def log(
        self, progress: int, metrics: Mapping[str, float], media: Mapping[str, Any], _: Position
    ) -> None:
        self.rows.append((progress, dict(metrics)))
        if media:
            self.media.append((progress, list(media)))

    def save(self, algorithm: Any, position: Position, best: bool) -> None:
        self.saves.append((algorithm.progress, best))
        self.kept = {"progress": algorithm.progress, "taken": algorithm.taken}
        self.position = copy.deepcopy(position)

    def rescue(self, algorithm: Any, position: Position) -> None:
        self.save(algorithm, position, False)

    def mean(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return dict(metrics)

    def stop(self) -> str:
        return "interrupted" if 0 < self.interrupt <= self.walker.taken else ""

    def training(self) -> list[tuple[int, dict[str, float]]]:
        return [(p, row) for p, row in self.rows if any(k.startswith("train/") for k in row)]

    def evaluations(self) -> list[int]:
        return [p for p, row in self.rows if any(k.startswith("eval/") for k in row)]


def ran(walker: Any, steps: int, recorder: Recorder | None = None, **run: Any) -> Recorder:
    recorder = recorder or Recorder()
    options = RunConfig(**{"checkpoint_seconds": math.inf, **run})
    recorder.reason = drive(walker, steps, options, recorder, clock=lambda: 0.0)
    return recorder


# -- rows of training metrics ------------------------------------------------------------------


def test_a_row_is_the_mean_of_the_steps_since_the_row_before() -> None:
    walker = Walker(metrics=lambda p: {"loss": p, "even": 1.0} if p % 2 == 0 else {"loss": p})
    rows = ran(walker, 10, log_every=4).training()
    assert rows == [
        (4, {"train/loss": 2.5, "train/even": 1.0}),
        (8, {"train/loss": 6.5, "train/even": 1.0}),
        (10, {"train/loss": 9.5, "train/even": 1.0}),
    ]


STRIDES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(STRIDES, st.integers(1, 60), st.integers(1, 20))
def test_every_step_is_in_one_row_and_a_row_is_as_long_as_was_asked_for(
    strides: list[int], steps: int, log_every: int
) -> None:
    seen: list[int] = []
    walker = Walker(strides, lambda p: seen.append(p) or {"loss": p})  # type: ignore[func-returns-value]
    rows = ran(walker, steps, log_every=log_every).training()
    before = 0
    for progress, row in rows:
        within = [p for p in seen if before < p <= progress]
        assert row == {"train/loss": pytest.approx(sum(within) / len(within))}
        assert progress - before >= log_every or progress == walker.progress
        assert all(p - before < log_every for p in within[:-1])
        before = progress
    assert before == walker.progress >= steps
    assert all(p < steps for p in seen[:-1])


def test_a_row_stands_for_a_two_hundredth_of_the_budget_unless_it_is_told_otherwise() -> None:
    assert len(ran(Walker(metrics=lambda p: {"loss": p}), 1_000).training()) == 200
    assert len(ran(Walker(metrics=lambda p: {"loss": p}), 10).training()) == 10


# -- evaluations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strides", "every", "at"),
    [
        ((1,), 30, [30, 60, 90, 100]),
        ((7,), 30, [35, 63, 91, 105]),
        ((7,), 0, [105]),
        ((50,), 10, [50, 100]),
        ((20,), 50, [60, 100]),
        ((25,), 50, [50, 100]),
        ((5,), None, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
    ],
)
def test_evaluations_come_when_a_multiple_is_passed_and_once_at_the_end(
    strides: tuple[int, ...], every: int | None, at: list[int]
) -> None:
    walker = Judged(strides)
    recorder = ran(walker, 100, eval_every=every, eval_n=5)
    assert recorder.evaluations() == at
    assert walker.asked == [(progress, "validation", 5) for progress in at]


def test_the_last_row_of_training_stands_before_the_last_evaluation() -> None:
    walker = Judged(metrics=lambda p: {"loss": 0.0})
    recorder = ran(walker, 10, log_every=4, eval_every=5)
    told = [(progress, *row) for progress, row in recorder.rows]
    assert told[-2:] == [(10, "train/loss"), (10, "eval/score")]


def test_an_algorithm_without_evaluations_just_learns() -> None:
    recorder = ran(Walker(metrics=lambda p: {"loss": p}), 10)
    assert recorder.evaluations() == []
    assert recorder.saves == [(10, False)]


def test_pictures_are_told_apart_from_numbers() -> None:
    pictures = Images(np.zeros((1, 2, 2, 1), np.uint8))
    recorder = ran(Judged(scores=lambda p: {"score": np.float32(p), "seen": pictures}), 3)
    assert recorder.rows[-1] == (3, {"eval/score": 3.0})
    assert recorder.media[-1] == (3, ["eval/seen"])


@pytest.mark.parametrize(
    ("best", "at"),
    [("max eval/score", [1, 2, 5]), ("min eval/score", [1, 3]), ("max eval/other", [])],
)
def test_the_best_evaluation_is_marked_when_it_is_strictly_better(best: str, at: list[int]) -> None:
    scores = [None, 2.0, 3.0, 1.0, 3.0, 4.0, 1.0]
    walker = Judged(scores=lambda p: {"score": scores[p]}, best=best)
    recorder = ran(walker, 6, eval_every=1)
    assert [progress for progress, is_best in recorder.saves if is_best] == at
    if at:
        best_one = {"metric": "eval/score", "value": scores[at[-1]], "progress": at[-1]}
        assert recorder.position.best == best_one


def test_the_last_evaluation_may_be_the_best() -> None:
    assert ran(Judged(), 6, eval_every=0).saves == [(6, True)]


# -- checkpoints -------------------------------------------------------------------------------


def test_checkpoints_come_when_a_multiple_is_passed_and_once_at_the_end() -> None:
    recorder = ran(Walker((7,)), 100, checkpoint_every=30)
    assert recorder.saves == [(35, False), (63, False), (91, False), (105, False)]


def test_checkpoints_come_after_so_many_seconds() -> None:
    walker, recorder = Walker(), Recorder()
    run = RunConfig(checkpoint_seconds=4.0)
    drive(walker, 11, run, recorder, clock=lambda: 100.0 + walker.progress)
    assert [progress for progress, _ in recorder.saves] == [4, 8, 11]


# -- the end -----------------------------------------------------------------------------------


def test_a_target_ends_the_run_at_the_first_evaluation_that_meets_it() -> None:
    for target, at in (("eval/score >= 35", 40), ("eval/score <= 20", 10), ("eval/score>=4e1", 40)):
        recorder = ran(Judged(metrics=lambda p: {"loss": p}), 100, target=target, log_every=7)
        assert recorder.reason == "target"
        assert recorder.evaluations()[-1] == at
        assert recorder.saves[-1] == (at, True)
        assert recorder.training()[-1][0] == at
        assert recorder.evaluations().count(at) == 1


def test_a_target_that_is_never_met_ends_with_the_budget() -> None:
    recorder = ran(Judged(), 100, target="eval/score >= 1000")
    assert recorder.reason == "done"


def test_a_target_that_is_not_measured_is_an_error_with_those_that_are() -> None:
    with pytest.raises(ConfigError) as caught:
        ran(Judged(scores=lambda p: {"score": p, "kl": 0.0}), 100, target="eval/scor >= 3")
    assert "'eval/scor'" in str(caught.value)
    assert "eval/score, eval/kl" in str(caught.value)


def test_the_time_ends_the_run_those_before_a_resume_counted_in() -> None:
    walker, recorder = Judged(), Recorder()
    run = RunConfig(max_seconds=10.0, checkpoint_seconds=math.inf)
    assert drive(walker, 100, run, recorder, clock=lambda: 50.0 + walker.progress) == "time"
    assert (walker.progress, recorder.evaluations()[-1], recorder.saves[-1][0]) == (10, 10, 10)
    assert recorder.position.elapsed == 10.0

    longer = RunConfig(max_seconds=15.0, checkpoint_seconds=math.inf)
    resumed = Judged()
    assert drive(resumed, 100, longer, recorder, clock=lambda: 900.0 + resumed.progress) == "time"
    assert resumed.progress == 15


def test_an_interruption_saves_and_neither_logs_nor_evaluates() -> None:
    walker = Judged(metrics=lambda p: {"loss": p})
    recorder = ran(walker, 100, Recorder(interrupt=5), log_every=50)
    assert recorder.reason == "interrupted"
    assert recorder.rows == []
    assert recorder.saves == [(5, False)]
    assert recorder.position.sums == {"loss": 15.0}


def test_a_run_that_has_its_budget_takes_no_step() -> None:
    recorder = ran(Judged(), 10)
    rows = list(recorder.rows)
    resumed = Judged()
    assert ran(resumed, 10, recorder).reason == "done"
    assert (resumed.taken, resumed.asked) == (10, [])
    assert recorder.rows == rows


# -- what must not be --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_metric_that_is_not_finite_ends_the_run_by_name_and_progress(value: float) -> None:
    walker = Walker((600,), lambda p: {"kl": 0.1, "loss": value if p > 1_000 else 1.0})
    recorder = Recorder()
    with pytest.raises(DivergedError, match=f"^loss became {float(value)} after 1,200 paces"):
        ran(walker, 6_000, recorder)
    assert recorder.saves == []


def test_an_evaluation_that_is_not_finite_ends_the_run_likewise() -> None:
    with pytest.raises(DivergedError, match=r"^eval/score became nan after 10 paces"):
        ran(Judged(scores=lambda p: {"score": math.nan}), 100)


@pytest.mark.parametrize("strides", [(0,), (3, -1)])
def test_a_step_that_counts_nothing_is_an_error_and_not_an_endless_loop(
    strides: tuple[int, ...],
) -> None:
    with pytest.raises(PluginError, match=r"Walker\.step\(\) counted no paces"):
        ran(Walker(strides), 10)


# -- going on ----------------------------------------------------------------------------------


class Killed(BaseException):
    """What kill -9 is to the loop."""


@given(
    strides=STRIDES,
    steps=st.integers(1, 60),
    log_every=st.integers(1, 20),
    eval_every=st.integers(0, 20),
    checkpoint_every=st.integers(0, 20),
    kills=st.lists(st.integers(1, 60), max_size=3),
    gentle=st.booleans(),
)
def test_a_loop_that_was_broken_off_anywhere_goes_on_with_the_same_rows(
    strides: list[int],
    steps: int,
    log_every: int,
    eval_every: int,
    checkpoint_every: int,
    kills: list[int],
    gentle: bool,
) -> None:
    plan = {"log_every": log_every, "eval_every": eval_every, "checkpoint_every": checkpoint_every}

    def walker(kill: int = 0) -> Judged:
        def metrics(progress: int) -> dict[str, float]:
            if kill and made.taken == kill:
                raise Killed
            return {"loss": 1 / progress, **({"odd": 0.1 * progress} if progress % 2 else {})}

        made = Judged(strides, lambda p: {"score": p * 7 % 11}, metrics=metrics)
        return made

    unbroken = ran(walker(), steps, **plan)
    recorder = Recorder()
    for kill in kills:
        if gentle:
            recorder.interrupt = kill
            ran(walker(), steps, recorder, **plan)
        else:
            with contextlib.suppress(Killed):
                ran(walker(kill), steps, recorder, **plan)
        # what a sink is told of what comes after the checkpoint is about to be told again
        kept = recorder.kept["progress"] if recorder.kept else 0
        recorder.rows = [row for row in recorder.rows if row[0] <= kept]
    recorder.interrupt = 0
    ran(walker(), steps, recorder, **plan)
    assert recorder.rows == unbroken.rows
    assert recorder.position.best == unbroken.position.best
    assert recorder.kept == unbroken.kept
    assert {p for p, best in recorder.saves if best} == {p for p, best in unbroken.saves if best}


def test_an_environment_that_fails_leaves_a_checkpoint_of_what_was_learned() -> None:
    def metrics(progress: int) -> Mapping[str, Any]:
        if progress == 7:
            raise DataError("the world ended")
        return {}

    recorder = Recorder()
    with pytest.raises(DataError, match="the world ended"):
        ran(Walker(metrics=metrics), 10, recorder)
    assert recorder.saves == [(7, False)]


@pytest.mark.parametrize("at", [4, 10])
def test_an_environment_that_fails_in_an_evaluation_leaves_one_too(at: int) -> None:
    def scores(progress: int) -> Mapping[str, Any]:
        if progress == at:
            raise DataError("the world ended")
        return {"score": 1}

    recorder = Recorder()
    with pytest.raises(DataError, match="the world ended"):
        ran(Judged(scores=scores), 10, recorder, eval_every=2)
    assert recorder.saves[-1] == (at, False)
