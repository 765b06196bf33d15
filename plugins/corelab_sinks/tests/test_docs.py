"""What docs/sinks.md says is so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

DOCS = (Path(__file__).parents[3] / "docs" / "sinks.md").read_text()


def block(language, containing):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    (found,) = [text for said, text in blocks if said == language and containing in text]
    return found


def test_rows_of_the_example_are_json():
    rows = [json.loads(line) for line in block("json", "train/return").splitlines()]
    assert [row["progress"] for row in rows] == [12288, 12288]


def test_plain_line_of_the_example_is_what_is_printed(run, monkeypatch, capsys):
    from corelab_sinks import progress

    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "monotonic", lambda: clock.now)
    monkeypatch.setenv("CORELAB_PROGRESS", "plain")
    progress.corelab_run_started(run)
    clock.now = 12_288 / 2_900
    progress.corelab_run_logged(run, 12_288, {"train/return": 87.4, "eval/return": 120.1})
    progress._meters[run.path].say(progress._meters[run.path].line())
    progress.corelab_run_ended(run, None)
    assert capsys.readouterr().err.splitlines(keepends=True)[1] == block("", "12,288/60,000")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the example is installed into, built from the page as a reader would."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "corelab_summary.py").write_text(block("python", "corelab_run_started"))
    (source / "pyproject.toml").write_text(block("toml", "corelab-summary"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    return target


def test_example_is_listed_with_its_summary(installed):
    listed = subprocess.run(
        [sys.executable, "-m", "corelab", "plugins"],
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = [line for line in listed.stdout.splitlines() if " summary " in line]
    assert line.startswith("sink ")
    assert line.endswith("A short report of each run that ends, in report.md")


def test_example_reports(installed, run, sink_of, monkeypatch):
    monkeypatch.syspath_prepend(installed)
    sink = sink_of("corelab_summary")
    sink.start(run)
    sink.log(run, 10, {"train/loss": 0.5, "train/kl": 1.0})
    sink.log(run, 20, {"train/loss": 0.25})
    sink.end(run)
    report = (run.path / "report.md").read_text()
    assert report == "# ppo on CartPole-v1: done\n\n- train/kl: 1\n- train/loss: 0.25\n"
