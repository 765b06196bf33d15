"""Runs: what their directory tells, and that it can be repeated, resumed and trusted."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import corelab as core
from corelab import ConfigError, DivergedError, PluginError, Run, RunError, find_runs

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def here(bandit: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(steps: int = 60, seed: int = 0, **options: Any) -> Run:
    """A run of the tutorial's algorithm, below `runs`."""
    named = {f"run.{key}": value for key, value in options.items()}
    chosen = {"run.sinks": ["jsonl"], **named}
    return core.train("epsilon-greedy", steps=steps, seed=seed, options=chosen)


def weights(run: Run) -> str:
    made = run.record["weights_sha256"]
    assert isinstance(made, str)
    return made


def rows(run: Run) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "time"} for row in run.metrics()]


# -- what the directory tells ------------------------------------------------------------------


def test_the_record_tells_what_was_asked_for_where_it_comes_from_and_what_it_ran_on() -> None:
    run = train(steps=60, seed=3, keep=2)
    record = json.loads((run.path / "run.json").read_text())
    assert run.path.parent == Path("runs")
    assert record == run.record
    assert (run.status, run.progress, run.steps, run.seed, run.unit) == ("done", 60, 60, 3, "pulls")
    assert (run.algorithm, run.task, run.model) == ("epsilon-greedy", "bernoulli-bandit", "")
    assert run.config["algorithm"] == {"name": "epsilon-greedy", "epsilon": 0.1}
    assert run.config["task"] == {"name": "bernoulli-bandit", "arms": 10, "odds_seed": 0}
    assert run.config["run"]["keep"] == 2
    assert record["sources"]["run.keep"] == "python"
    assert record["sources"]["algorithm.epsilon"] == "default"
    assert record["plugins"]["task"] == record["plugins"]["algorithm"]
    owner = {"name": "bandit", "distribution": "corelab-bandit", "version": "0.1.0"}
    assert owner.items() <= record["plugins"]["task"].items()
    assert record["packages"]["numpy"] == version("numpy")
    assert record["python"] == platform.python_version()
    assert record["hardware"]["cores"] == os.cpu_count()
    assert record["corelab"] == core.__version__
    assert record["stopped_by"] == "done"
    assert record["error"] is None
    assert [s["progress"] for s in record["sessions"]] == [0]
    assert record["sessions"][0]["pid"] == os.getpid()
    assert run.best == max(
        (
            {"metric": "eval/odds", "value": r["eval/odds"], "progress": r["progress"]}
            for r in run.metrics()
            if "eval/odds" in r
        ),
        key=lambda best: best["value"],
    )


def test_the_record_tells_the_commit_one_stands_in_and_whether_files_differ() -> None:
    assert train().record["git"] is None
    shutil.rmtree("runs")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "a"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    clean = {"commit": head.stdout.strip(), "changed": False}
    assert train().record["git"] == clean
    assert train().record["git"] == clean | {"changed": True}  # the first run's files are new


def test_runs_that_begin_in_the_same_second_have_directories_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-000000")
    name = "20260101-000000-epsilon-greedy-bernoulli-bandit-s5"
    assert [train(seed=5).path.name for _ in range(3)] == [name, f"{name}-2", f"{name}-3"]


def test_a_name_that_was_chosen_is_kept_and_never_given_twice() -> None:
    run = train(name="mine")
    assert run.path == Path("runs/mine")
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"runs/mine: exists already.*corelab resume runs/mine"):
        train(name="mine")
    assert (run.path / "run.json").read_bytes() == before
    assert [p.name for p in Path("runs").iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["../mine", "a/b", "..", "/tmp/mine"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^run.name is '.*'; it must name one folder"):
        train(name=name)
    assert not Path("runs").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', '{"format": 1'])
def test_a_record_that_cannot_be_read_is_named(text: str) -> None:
    Path("run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json: cannot be read"):
        Run(".")


def test_a_listing_goes_past_a_damaged_record_and_names_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("b", "a", "c"):
        train(name=name)
    Path("runs/b/run.json").write_text("{")
    assert [run.path.name for run in find_runs()] == ["a", "c"]
    assert "runs/b/run.json: cannot be read" in capsys.readouterr().err


def test_a_torn_last_line_of_metrics_is_left_out() -> None:
    run = train()
    whole = run.metrics()
    assert [row["progress"] for row in whole if "train/reward" in row] == list(range(1, 61))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"progress": 61, "train/rew')
    assert run.metrics() == whole


def test_metrics_that_no_sink_wrote_are_answered_with_the_sink_that_does() -> None:
    with pytest.raises(RunError, match=r"has no metrics\.jsonl; the sink `jsonl` writes it"):
        train(sinks=["files"]).metrics()


# -- what has become of it ---------------------------------------------------------------------


def test_a_run_is_running_while_its_process_lives_and_killed_after(tmp_path: Path) -> None:
    words = ["train", "epsilon-greedy", "--steps", "1e9", "--run.name", "long"]
    process = subprocess.Popen(
        [sys.executable, "-m", "corelab", *words, "--run.sinks", "jsonl"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not Path("runs/long/metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.01)
        run = Run("runs/long")
        assert run.status == "running"
        with pytest.raises(RunError, match=rf"by another process \(pid {process.pid} on "):
            run.resume()
        assert process.poll() is None, "looking at it did it harm"
    finally:
        process.kill()
        process.wait()
    assert run.status == "killed"
    assert run.record == Run(run.path).record, "looking at it changed it"


ODD_INDEX = """
from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components():
    return [
        Component("algorithm", "odd", "odd_parts:Odd", "learns", uses=("odd",)),
        Component("task", "odd", "odd_parts:Task", "is learned from", provides="odd"),
    ]
"""
ODD = """
from dataclasses import dataclass

import numpy as np

from corelab import Saved


@dataclass(frozen=True)
class Config:
    fails_at: int = 0


class Task:
    Config = Config

    def __init__(self, config):
        pass


class Odd(Saved):
    Config = Config
    unit, default_task, default_model, default_steps = "steps", "odd", "", 10
    best, highlights, presets, saved = "max eval/none", (), {}, ("progress", "w")

    def __init__(self, config, task, model, context):
        self.config, self.progress, self.w = config, 0, np.zeros(1)

    def step(self):
        self.progress += 1
        self.w += 1
        return {"loss": float("nan") if self.progress == self.config.fails_at else 0.0}
"""


@pytest.fixture
def odd(install: Install) -> None:
    install("odd-toys", ODD_INDEX, modules={"odd_parts": ODD})


def test_a_run_that_failed_says_of_what_and_goes_on_once_that_is_mended(odd: None) -> None:
    options = {"algorithm.fails_at": 7, "run.checkpoint_every": 2, "run.name": "odd"}
    with pytest.raises(DivergedError) as caught:
        core.train("odd", options=options)
    run = Run("runs/odd")
    assert run.status == "failed"
    assert run.record["error"] == str(caught.value)
    last = run.checkpoints.all()[-1]
    assert str(caught.value).startswith("runs/odd: loss became nan after 7 steps")
    assert str(caught.value).endswith(f"the last good checkpoint is {last}")
    assert last.name == "000000000006"
    record = json.loads((run.path / "run.json").read_text())
    record["config"]["algorithm"]["fails_at"] = 0
    (run.path / "run.json").write_text(json.dumps(record))
    resumed = Run("runs/odd").resume()
    assert (resumed.status, resumed.progress) == ("done", 10)
    assert (resumed.resumed_at, resumed.record["error"]) == (6, None)
    assert [s["progress"] for s in resumed.record["sessions"]] == [0, 6]


def test_a_run_whose_plugin_is_gone_names_what_to_install(
    odd: None, install: Install, site: Path
) -> None:
    run = core.train("odd")
    shutil.rmtree(site / "odd_toys-1.0.dist-info")
    install("other-toys", ODD_INDEX.replace('"odd"', '"other"'))
    for use in (run.resume, run.load, run.evaluate):
        with pytest.raises(PluginError, match=r"pip install odd-toys==1\.0$"):
            use()


def test_a_run_that_goes_on_with_another_version_says_so(
    odd: None, install: Install, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = core.train("odd")
    shutil.rmtree(site / "odd_toys-1.0.dist-info")
    install("odd-toys", ODD_INDEX, version="1.1")
    run.resume(steps=20)
    said = [line for line in capsys.readouterr().err.splitlines() if "odd-toys" in line]
    assert len(said) == 2, "one for the algorithm and one for the task"
    assert "was odd-toys 1.0, now it is 1.1" in said[0]


# -- the same again ----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    first, again, other = train(seed=3), train(seed=3), train(seed=4)
    assert weights(first) == weights(again) != weights(other)
    assert rows(first) == rows(again) != rows(other)


def test_a_run_is_repeated_from_its_record_alone() -> None:
    options = {"algorithm.epsilon": 0.3, "task.arms": 4, "run.sinks": ["jsonl"]}
    first = core.train("epsilon-greedy", steps=50, seed=9, options=options)
    again = core.train("epsilon-greedy", config=first.path / "run.json")
    assert again.path != first.path
    assert weights(again) == weights(first)
    assert rows(again) == rows(first)


def test_how_a_run_is_watched_changes_nothing_that_it_learns() -> None:
    often = train(log_every=1, eval_every=1, checkpoint_every=1)
    seldom = train(log_every=60, eval_every=0)
    assert weights(often) == weights(seldom)


def test_a_run_with_a_larger_budget_ends_where_that_budget_would_have() -> None:
    run = train(steps=40)
    before = weights(run)
    longer = run.resume(steps=90)
    assert longer.steps == longer.progress == 90
    assert longer.resumed_at == 40
    assert before != weights(longer) == weights(train(steps=90))


def test_resuming_a_run_that_is_done_changes_nothing() -> None:
    run = train()
    expected, before = weights(run), rows(run)
    again = run.resume()
    assert (weights(again), rows(again), again.status) == (expected, before, "done")


@contextmanager
def unchanged() -> Iterator[None]:
    """What belongs to the caller of `train` is afterwards as it was before."""
    signals = signal.SIGINT, signal.SIGTERM
    handlers = [signal.getsignal(number) for number in signals]
    threads, folder = torch.get_num_threads(), Path.cwd()
    before = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()
    yield
    assert random.getstate() == before[0]
    np.testing.assert_equal(np.random.get_state(legacy=False), before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert [signal.getsignal(number) for number in signals] == handlers
    assert (torch.get_num_threads(), Path.cwd()) == (threads, folder)


def test_training_leaves_the_caller_as_it_was() -> None:
    with unchanged():
        run = train(threads=2)
        run.resume(steps=70)
        run.evaluate()


def test_training_that_fails_leaves_the_caller_as_it_was(odd: None) -> None:
    with unchanged(), pytest.raises(DivergedError):
        core.train("odd", options={"algorithm.fails_at": 3})


def test_training_works_outside_the_main_thread() -> None:
    made: list[Run] = []
    thread = threading.Thread(target=lambda: made.append(train()))
    thread.start()
    thread.join()
    assert weights(made[0]) == weights(train())


# -- using what was learned --------------------------------------------------------------------


def test_any_checkpoint_can_be_loaded_and_measured() -> None:
    run = train(steps=60, checkpoint_every=20, eval_every=20, keep=9)
    rewards = [row["train/reward"] for row in run.metrics() if "train/reward" in row]
    for progress in (20, 40, 60):
        algorithm = run.load(str(progress))
        assert algorithm.progress == progress
        assert (algorithm.value * algorithm.pulls).sum() == pytest.approx(sum(rewards[:progress]))
    evaluations = [row for row in run.metrics() if "eval/odds" in row]
    for row in evaluations:
        assert run.evaluate(checkpoint=str(row["progress"])) == {
            "odds": row["eval/odds"],
            "regret": row["eval/regret"],
        }
    assert run.load("best").progress == run.best["progress"]


@pytest.mark.parametrize("ability", ["evaluate", "sample"])
def test_an_algorithm_without_an_ability_says_so(ability: str, odd: None) -> None:
    run = core.train("odd")
    with pytest.raises(
        PluginError, match=rf"odd has nothing to {ability} \(it has no `{ability}`\)"
    ):
        getattr(run, ability)()


# -- killed at any write -----------------------------------------------------------------------

KILLER = """
import json
import os
import sys
from pathlib import Path

import corelab
from corelab.runs import Run

PLAN = {"eval_every": 4, "checkpoint_every": 6, "keep": 1, "log_every": 3, "sinks": ["jsonl"]}
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir"}
left = None


def die_in_time(event, facts):
    global left
    writes = event == "open" and facts[2] & (os.O_WRONLY | os.O_RDWR)
    if left is not None and (writes or event in CHANGES):
        left -= 1
        if left < 0:
            os._exit(9)


def train(name):
    options = {f"run.{key}": value for key, value in PLAN.items()} | {"run.name": name}
    return corelab.train("epsilon-greedy", steps=9, options=options)


def outcome(run):
    rows = [{k: v for k, v in row.items() if k != "time"} for row in run.metrics()]
    kept = {p.name: run.checkpoints.fault(p) for p in run.checkpoints.all()}
    best = run.checkpoints.pick("best").name
    return [run.status, run.record["weights_sha256"], run.best, best, kept, rows]


sys.addaudithook(die_in_time)
expected = outcome(train("whole"))
kills = 0
while True:
    if (child := os.fork()) == 0:
        left = kills
        train(f"killed-{kills}")
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
    place = Path("runs", f"killed-{kills}")
    if (place / "run.json").exists():
        got = outcome(Run(place).resume())
        if got != expected:
            print(json.dumps({"kill": kills, "got": got[:5], "expected": expected[:5]}))
    kills += 1
print(kills)
"""


def test_a_run_killed_before_any_one_of_its_writes_ends_as_if_it_had_not_been() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *wrong, kills = done.stdout.splitlines()
    assert wrong == []
    assert int(kills) > 40
