"""Several seeds of one experiment: made, stopped, gone on with and measured together."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import corelab as core
from corelab import Run, find_runs

Command = Callable[..., subprocess.CompletedProcess[str]]
TRAIN = ("train", "epsilon-greedy", "--run.sinks", "jsonl", "--run.name", "five")


@pytest.fixture(autouse=True)
def here(bandit: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_seed_is_a_run_like_any_other(corelab: Command) -> None:
    done = corelab(*TRAIN, "--steps", "60", "--seed", "3", "--seeds", "2")
    assert (done.returncode, done.stdout) == (0, "runs/five\n")
    runs = find_runs("runs")
    assert [str(run.path) for run in runs] == ["runs/five/seed-3", "runs/five/seed-4"]
    alone = core.train("epsilon-greedy", steps=60, seed=4, options={"run.sinks": ["jsonl"]})
    assert runs[1].record["weights_sha256"] == alone.record["weights_sha256"]
    assert runs[0].record["weights_sha256"] != alone.record["weights_sha256"]


def test_seeds_side_by_side_end_as_they_do_one_after_the_other(corelab: Command) -> None:
    corelab(*TRAIN, "--steps", "60", "--seeds", "3")
    corelab(*TRAIN[:-1], "beside", "--steps", "60", "--seeds", "3", "--jobs", "3")
    one, other = (
        [run.record["weights_sha256"] for run in find_runs(f"runs/{name}")]
        for name in ("five", "beside")
    )
    assert one == other
    assert len(set(one)) == 3


def test_one_seed_that_fails_leaves_the_others_alone_and_is_gone_on_with(corelab: Command) -> None:
    corelab(*TRAIN, "--steps", "60", "--seeds", "3")
    run = Run("runs/five/seed-1")
    run.update(status="failed")
    for file in (run.path / "checkpoints").rglob("manifest.json"):
        file.unlink()
    (run.path / "checkpoints" / "000000000060").rename(run.path / "checkpoints" / "000000000059")
    Run("runs/five/seed-2").update(status="interrupted")
    ended = corelab("resume", "runs/five")
    assert ended.returncode == 2
    assert "no checkpoint is whole" in ended.stderr
    assert "runs/five: not finished: seed-1; `corelab resume runs/five` goes on" in ended.stderr
    assert [r.status for r in find_runs("runs/five")] == ["done", "failed", "done"]


def test_an_interrupted_group_is_gone_on_with_to_the_same_weights(
    corelab: Command, start: Callable[..., subprocess.Popen[str]]
) -> None:
    corelab(*TRAIN, "--steps", "200000", "--seeds", "2")
    group = start(*TRAIN[:-1], "cut", "--steps", "200000", "--seeds", "2")
    first = Path("runs/cut/seed-0/metrics.jsonl")
    deadline = time.monotonic() + 60
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    group.send_signal(signal.SIGINT)
    assert group.wait(60) == 130
    statuses = [run.status for run in find_runs("runs/cut")]
    assert statuses[1] == "waiting"
    assert statuses[0] == "interrupted"
    resumed = corelab("resume", "runs/cut")
    assert (resumed.returncode, resumed.stdout) == (0, "runs/cut\n")
    one, other = (
        [run.record["weights_sha256"] for run in find_runs(f"runs/{name}")]
        for name in ("five", "cut")
    )
    assert one == other


def test_eval_of_a_folder_tells_each_run_and_what_they_say_together(corelab: Command) -> None:
    corelab(*TRAIN, "--steps", "60", "--seeds", "3")
    told = json.loads(corelab("eval", "runs/five", "-n", "50", "--json").stdout)
    runs = told["runs"]["runs/five"]
    assert [row["seed"] for row in runs] == [0, 1, 2]
    scores = [row["metrics"]["regret"] for row in runs]
    (summary,) = (row for row in told["summary"] if row["metric"] == "regret")
    assert summary["mean"] == pytest.approx(sum(scores) / 3)
    assert min(scores) <= summary["interval"][0] <= summary["iqm"] <= summary["interval"][1]
    table = corelab("eval", "runs/five", "-n", "50").stdout
    assert "95% interval" in table
    assert len([line for line in table.splitlines() if " regret " in line]) == 1


def test_profiles_compare_folders(corelab: Command) -> None:
    corelab(*TRAIN, "--steps", "60", "--seeds", "2")
    corelab("eval", "runs/five", "-n", "5", "--profile", "profile.png")
    assert Path("profile.png").stat().st_size > 1000
    refused = corelab("eval", "runs/five/seed-0", "--profile", "profile.png")
    assert refused.returncode == 2
    assert "--profile compares folders of seeds" in refused.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--seeds", "0"), "--seeds and --jobs are at least 1"),
        (("--jobs", "2"), "say how many seeds"),
        (("--seeds", "x"), "--seeds: invalid whole number value: 'x'"),
    ],
)
def test_a_number_of_seeds_that_makes_no_sense_is_refused(
    words: tuple[str, ...], sentence: str, corelab: Command
) -> None:
    refused = corelab(*TRAIN, *words)
    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not Path("runs").exists()


def test_a_folder_without_runs_is_no_group(corelab: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for verb in ("eval", "resume"):
        refused = corelab(verb, "empty")
        assert refused.returncode == 2
        assert "empty: is not a run directory (it has no run.json), nor are there runs in it" in (
            refused.stderr
        )
