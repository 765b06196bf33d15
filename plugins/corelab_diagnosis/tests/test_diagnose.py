"""`corelab diagnose` and the warnings during training, on real runs."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from corelab_diagnosis import live
from corelab_diagnosis.checks import findings
from corelab_diagnosis.examination import examine
from corelab_diagnosis.verb import diagnose

import corelab
from corelab.cli import main

SMALL = {
    "model.width": 32,
    "algorithm.latent": 4,
    "algorithm.batch_size": 8,
    "run.eval_every": 0,
    "run.eval_n": 100,
    "run.sinks": ["jsonl", "diagnosis"],
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("CORELAB_PROGRESS", "off")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One that learns next to nothing, and its healthy twin."""
    folder = tmp_path_factory.mktemp("runs")
    healthy = SMALL | {"run.name": "healthy"}
    slow = SMALL | {"algorithm.lr": 1e-8, "run.name": "sick"}
    return [
        corelab.train("vae", task="digits", steps=1600, run_dir=folder, options=options)
        for options in (slow, healthy)
    ]


def checks(run, **how):
    return [finding.check for finding in findings(*examine(run, **how))]


def test_the_probe_names_what_is_wrong_and_leaves_the_run_as_it_was(runs):
    before = [{f: f.read_bytes() for f in run.path.rglob("*") if f.is_file()} for run in runs]
    slow, healthy = map(checks, runs)
    assert slow == ["learning rate too low"]
    assert healthy == []
    after = [{f: f.read_bytes() for f in run.path.rglob("*") if f.is_file()} for run in runs]
    assert after == before


def test_the_probe_repeats_the_beginning_and_goes_on_from_the_checkpoint(runs):
    _, healthy = runs
    evidence, own = examine(healthy)
    assert own == ()
    assert evidence.provides == "autoencoder"
    assert evidence.updates == 200
    assert evidence.examples == 1437
    assert evidence.start.updates >= 16
    assert evidence.end.updates >= 16
    assert evidence.moved > 0.05
    # at the end of the run the step size is 0, but here half of the greatest
    assert evidence.end.change > 1e-4


def test_what_was_written_down_is_enough_for_some_checks(runs):
    slow, _ = runs
    assert checks(slow, probe=False) == []
    evidence, _ = examine(slow, probe=False)
    assert evidence.start is None
    assert len(evidence.series("train/loss")) == 200


def test_the_verb_prints_sentences_or_json(runs, capsys):
    slow, healthy = runs
    assert diagnose([str(slow.path)]) == 0
    said = capsys.readouterr().out
    assert "1. learning rate too low\n   seen    " in said
    assert "   try     ten times the step size (--algorithm.lr is 1e-08)" in said
    assert "   source  Karpathy" in said
    assert diagnose([str(healthy.path)]) == 0
    assert "Nothing was found" in capsys.readouterr().out
    assert diagnose([str(slow.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [finding["check"] for finding in told["findings"]] == ["learning rate too low"]
    assert set(told["findings"][0]) == {"check", "seen", "why", "advice", "source"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "nowhere: is not a run directory (it has no run.json)"),
        ([], "corelab diagnose: the following arguments are required: RUN; see"),
        (["--probe", "a"], "corelab diagnose: unrecognized arguments: --probe; see"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["diagnose", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said


def test_a_run_without_metrics_or_whole_checkpoints_says_so(runs, tmp_path, capsys):
    slow, _ = runs
    copy = tmp_path / "copy"
    shutil.copytree(slow.path, copy)
    for weights in copy.rglob("weights.safetensors"):
        weights.write_bytes(b"")
    evidence, _ = examine(corelab.Run(copy))  # the beginning can still be repeated
    assert evidence.start is not None
    assert evidence.end is None
    (copy / "metrics.jsonl").unlink()
    assert main(["diagnose", str(copy)]) == 2
    assert "has no metrics.jsonl; the sink `jsonl` writes it" in capsys.readouterr().err


def test_warnings_during_training_come_once_and_change_nothing(tmp_path, capsys, monkeypatch, runs):
    slow, _ = runs
    monkeypatch.setattr(live, "_SHARE", 1e9)  # look whenever there is a new row
    run = corelab.train(
        "vae",
        task="digits",
        steps=1600,
        run_dir=tmp_path,
        options=SMALL | {"algorithm.lr": 1e-8, "run.name": "sick"},
    )
    said = [line for line in capsys.readouterr().err.splitlines() if "learning rate" in line]
    assert len(said) == 1
    assert said[0].startswith(f"corelab: {run.path}: learning rate too low: an update changes")
    assert "learning rate too low" in (run.path / "log.txt").read_text()
    looks = [json.loads(line) for line in (run.path / live.FILE).read_text().splitlines()]
    assert len(looks) > 10
    assert [look["progress"] for look in looks] == sorted({look["progress"] for look in looks})
    names, gradients, changes = zip(*looks[-1]["layers"], strict=True)
    assert len(set(names)) == len(names) > 4
    assert all(1e-6 < gradient < 1e6 for gradient in gradients)
    assert max(changes) < 1e-5  # which is why it is said to be slow
    assert run.record["weights_sha256"] == slow.record["weights_sha256"]


def test_the_monitor_keeps_to_its_share_of_the_time(runs, monkeypatch):
    clock, looks = [0.0], []
    monkeypatch.setattr(live.time, "process_time", lambda: clock[0])

    class Dear(live.Watch):
        def __init__(self, updates=1):
            super().__init__(updates)
            self.seconds = 0.5  # of processor time, whenever it is used

        def __enter__(self):
            looks.append(clock[0])
            return super().__enter__()

    monkeypatch.setattr(live, "Watch", Dear)
    monitor = live.Monitor(runs[1])
    for second in range(1000):
        clock[0] = second
        monitor.hear(second, {})
    monitor.close()
    assert looks[0] == pytest.approx(live._GUESS / live._SHARE, abs=2)
    assert 3 <= len(looks) <= live._SHARE * 1000 / 0.5 + 1


def test_sick_runs_are_left_out_of_the_rate_of_false_alarms(runs, tmp_path):
    for name, run in (("sick", runs[0]), ("a", runs[1]), ("b", runs[1])):
        shutil.copytree(run.path, tmp_path / name)
    with (tmp_path / "b" / "metrics.jsonl").open("a") as file:
        file.writelines('{"progress": 1600, "train/approx_kl": 9}\n' for _ in range(4))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text("{")
    told = []
    reporter = SimpleNamespace(write_sep=lambda _, line: told.append(line), write_line=told.append)
    folders = SimpleNamespace(getbasetemp=lambda: tmp_path)
    conftest = runpy.run_path(str(Path(__file__).parents[3] / "conftest.py"))
    conftest["pytest_terminal_summary"](reporter, SimpleNamespace(_tmp_path_factory=folders))
    assert told == [
        "corelab diagnose --no-probe: 1 of 2 healthy runs were flagged (50.0%)",
        f"{tmp_path / 'b'}: vae on digits: policy update too large",
    ]
