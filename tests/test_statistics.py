"""What several runs say together, against rliable 1.2.0 and against brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelab import ConfigError, statistics

SCORES = [
    [0.001, -0.455, -0.492, 0.105, -1.344, -1.842, 0.157, -0.049, -0.979, -0.033],
    [1.597, -0.983, -0.241, -0.861, 0.085, 0.53, 0.626, 1.227, -0.618, 2.769],
    [1.178, 2.18, 3.47, 1.912, -3.704, -1.802, -5.55, -2.59, 5.183, 0.249],
    [-0.562, 8.361, 4.428, 5.781, -2.158, 4.085, 0.845, 1.089, -0.23, 2.553],
]
"""Four tasks of ten runs each. What rliable says of them (20,000 resamples) stands in the tests."""


def test_the_interquartile_mean_is_rliables() -> None:
    assert statistics.summary(SCORES)["iqm"] == pytest.approx(0.25045, abs=1e-9)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40))
def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end(scores: list[int]) -> None:
    cut = len(scores) // 4
    middle = sorted(scores)[cut : len(scores) - cut]
    assert statistics.iqm(np.array(scores, float)) == pytest.approx(sum(middle) / len(middle))


def test_the_stratified_bootstrap_interval_is_rliables() -> None:
    low, high = statistics.interval(SCORES, resamples=20_000)
    assert low == pytest.approx(-0.27125, abs=0.03)
    assert high == pytest.approx(0.8581, abs=0.03)


def test_the_performance_profile_is_rliables() -> None:
    share, low, high = statistics.profile(SCORES, np.array([-2.0, 0.0, 1.0, 3.0]))
    assert share == pytest.approx([0.9, 0.55, 0.35, 0.15])
    assert low == pytest.approx([0.825, 0.4, 0.225, 0.05], abs=0.051)
    assert high == pytest.approx([0.975, 0.7, 0.475, 0.25], abs=0.051)


def test_resampling_keeps_to_the_strata() -> None:
    drawn = statistics.resampled([[0, 1, 2], [10, 11]], resamples=100)
    assert drawn.shape == (100, 5)
    assert (drawn[:, :3] < 3).all()
    assert (drawn[:, 3:] > 9).all()
    assert len(np.unique(drawn, axis=0)) > 30


def test_one_run_says_nothing_of_another_seed() -> None:
    assert statistics.summary([[3.0]]) == {"iqm": 3, "interval": [3, 3], "mean": 3, "runs": 1}


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(200, 20))
    covered = 0
    for scores in samples:
        low, high = statistics.interval([scores.tolist()], resamples=500)
        covered += low <= 0 <= high
    assert 0.85 <= covered / 200 <= 0.99


def rows(task: str, *scores: float, metric: str = "return") -> list[dict[str, object]]:
    return [{"task": task, "metrics": {metric: score}} for score in scores]


def test_tasks_are_told_apart_unless_their_scores_are_normalised() -> None:
    raw = statistics.compare({"g": rows("A", 1, 2) + rows("B", 100)})
    assert [(r["task"], r["iqm"], r["runs"]) for r in raw] == [("A", 1.5, 2), ("B", 100, 1)]
    name = "normalised_return"
    both = statistics.compare({"g": rows("A", 1, 2, metric=name) + rows("B", 3, metric=name)})
    assert [(r["task"], r["iqm"], r["runs"]) for r in both][-1] == ("all", 2, 3)


def test_profiles_are_drawn_and_their_file_is_a_picture(tmp_path: Path) -> None:
    statistics.draw_profiles({"a": rows("A", 1, 2), "b": rows("A", 0)}, tmp_path / "profile.png")
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_profiles_of_scores_that_mean_different_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="different tasks, whose scores cannot be compared"):
        statistics.draw_profiles({"a": rows("A", 1), "b": rows("B", 0)}, tmp_path / "profile.png")


@pytest.mark.parametrize("name", ["profile.nonsense", "missing/profile.png"])
def test_a_picture_that_cannot_be_written_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name}: cannot be written"):
        statistics.draw_profiles({"a": rows("A", 1)}, tmp_path / name)
