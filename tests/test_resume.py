"""A run that is killed at any instant and resumed ends with the weights of one that never was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import corelab
from corelab.experiments import resolve
from corelab.plugins import Plugins
from corelab.runs import Run

Start = Callable[..., subprocess.Popen[str]]
RUNS: dict[str, dict[str, Any]] = {
    "dqn": {"task": "CartPole-v1", "steps": 3_000},
    "ppo": {"task": "CartPole-v1", "steps": 20_000},
    "vae": {"task": "digits", "steps": 15_000, "options": {"model.width": 32}},
}
"""A run of a second or two for each algorithm."""


def whole(algorithm: str, folder: Path) -> Run:
    chosen = RUNS[algorithm]
    options = chosen.get("options", {}) | {"run.name": "whole", "run.sinks": ["jsonl"]}
    return corelab.train(algorithm, **chosen | {"seed": 7, "run_dir": folder, "options": options})


def begin(algorithm: str, folder: Path, *words: str) -> list[str]:
    """The words of the command for that run, under another name."""
    chosen = RUNS[algorithm]
    command = ["train", algorithm, "--task", chosen["task"], "--steps", str(chosen["steps"])]
    command += ["--seed", "7", "--run.dir", str(folder), "--run.name", "broken"]
    for option, value in chosen.get("options", {}).items():
        command += [f"--{option}", str(value)]
    return [*command, "--run.sinks", "jsonl", *words]


def kill_after(process: subprocess.Popen[str], begun: Path, seconds: float) -> None:
    """Wait until PROCESS has written to the file BEGUN, then SECONDS more, then kill -9."""
    before = begun.stat().st_mtime_ns if begun.exists() else 0
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if begun.exists() and begun.stat().st_mtime_ns != before:
            break
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    process.communicate()


def rows(run: Run) -> list[dict[str, float]]:
    """The metrics, without the only thing that may differ."""
    return [{k: v for k, v in row.items() if k != "time"} for row in run.metrics()]


def check_kills(algorithm: str, folder: Path, start: Start, kills: int) -> None:
    expected = whole(algorithm, folder)
    lasts = expected.record["elapsed"]
    instants = random.Random(algorithm)
    record = folder / "broken" / "run.json"
    # A checkpoint after every step, so that kills hit the writing of checkpoints as well.
    process = start(*begin(algorithm, folder, "--run.checkpoint-seconds", "0"))
    interrupted = 0
    for _ in range(kills):
        kill_after(process, record, instants.uniform(0, 1.5 * lasts / kills))
        interrupted += process.returncode == -signal.SIGKILL
        process = start("resume", str(record.parent))
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert stdout.splitlines()[-1] == str(record.parent)
    broken = Run(record.parent)
    assert interrupted >= kills * 2 // 3, "most of the kills came too late to test anything"
    assert broken.status == "done"
    assert broken.record["weights_sha256"] == expected.record["weights_sha256"]
    assert rows(broken) == rows(expected)


@pytest.mark.parametrize("algorithm", RUNS)
def test_ten_kills_at_random_instants_change_no_weight_and_no_row(
    algorithm: str, tmp_path: Path, start: Start
) -> None:
    check_kills(algorithm, tmp_path, start, kills=10)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", RUNS)
def test_sixty_kills_at_random_instants_change_no_weight_and_no_row(
    algorithm: str, tmp_path: Path, start: Start
) -> None:
    check_kills(algorithm, tmp_path, start, kills=60)


@pytest.mark.parametrize("algorithm", RUNS)
def test_ctrl_c_saves_exits_with_130_and_resumes_to_the_same_weights(
    algorithm: str, tmp_path: Path, start: Start
) -> None:
    expected = whole(algorithm, tmp_path)
    process = start(*begin(algorithm, tmp_path))
    metrics = tmp_path / "broken" / "metrics.jsonl"
    while not metrics.exists() or metrics.stat().st_size == 0:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    broken = Run(tmp_path / "broken")
    assert broken.status == "interrupted"
    assert f"corelab resume {broken.path}" in stderr
    assert 0 < broken.progress < broken.steps
    assert int(broken.checkpoints.all()[-1].name) == broken.progress
    resumed = broken.resume()
    assert resumed.record["weights_sha256"] == expected.record["weights_sha256"]
    assert rows(resumed) == rows(expected)


def test_a_second_ctrl_c_ends_a_long_step_at_once(
    tmp_path: Path, stepping: Callable[[str, str], None], start: Start
) -> None:
    stepping("slow", f"Path({str(tmp_path / 'stepping')!r}).touch()\ntime.sleep(60)")
    process = start("train", "slow", "--run.dir", str(tmp_path), "--run.name", "slow")
    while not (tmp_path / "stepping").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "the first one waits for the end of the step"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - began < 5
    assert Run(tmp_path / "slow").status == "interrupted"


def test_a_torn_newest_checkpoint_costs_only_itself_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = whole("vae", tmp_path)
    newest = expected.checkpoints.all()[-1]
    weights = newest / "algorithm" / "weights.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    resumed = expected.resume()
    assert f"{newest}: passed over a damaged checkpoint" in capsys.readouterr().err
    assert resumed.record["weights_sha256"] == expected.record["weights_sha256"]
    assert resumed.checkpoints.fault(newest) == ""


def test_a_larger_budget_goes_on_from_the_end(tmp_path: Path) -> None:
    run = corelab.train("vae", task="digits", steps=2_000, run_dir=tmp_path)
    rows_before = rows(run)
    longer = run.resume(steps=4_000)
    assert longer.progress >= 4_000
    assert longer.record["steps"] == 4_000
    assert rows(longer)[: len(rows_before)] == rows_before
    assert json.loads((run.path / "run.json").read_text())["config"]["steps"] == 4_000


@pytest.mark.parametrize(
    ("algorithm", "task", "options"),
    [
        ("ppo", "CartPole-v1", {"algorithm.horizon": 16, "algorithm.batch_size": 32}),
        ("a2c", "CartPole-v1", {}),
        ("dqn", "CartPole-v1", {"algorithm.learning_starts": 64}),
        ("sac", "Pendulum-v1", {"algorithm.warmup": 8, "algorithm.batch_size": 8}),
        ("vae", "digits", {"model.width": 16}),
        ("diffusion", "digits", {"model.channels": 16, "model.blocks": 1}),
        ("pixelcnn", "digits", {"model.layers": 1, "model.channels": 8}),
    ],
)
def test_a_learning_rate_that_changed_counts_under_the_state_it_finds(
    algorithm: str, task: str, options: dict[str, Any], tmp_path: Path
) -> None:
    plugins = Plugins()
    assert "lr" in plugins.load(plugins.find("algorithm", algorithm)).adjustable
    steps = 80 if algorithm in ("dqn", "sac") else 3

    def learned(**others: Any) -> dict[str, Any]:
        experiment = resolve(algorithm, task=task, values=options | {"seed": 3} | others)
        with (context := experiment.context("cpu")).owning_globals():
            made = experiment.build(context)
            if others:
                made.load(tmp_path)
            for _ in range(steps):
                made.step()
            made.save(tmp_path)
        return load_file(tmp_path / "weights.safetensors")

    before, after = learned(), learned(**{"algorithm.lr": 1e-12})
    followers = ("target", "updater", "ema")  # which move towards the weights
    weights = [key for key in after if not key.startswith(followers)]
    assert weights
    for key in weights:
        assert torch.allclose(after[key], before[key], rtol=0, atol=1e-6), key
