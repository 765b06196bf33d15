"""What holds for every sink."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
from corelab_media import Images, Video

NAMES = ("jsonl", "files", "tensorboard", "progress")
PICTURES = Images(np.zeros((4, 5, 5, 1), np.uint8))
VIDEO = Video(np.zeros((2, 5, 5, 3), np.uint8))
every_sink = pytest.mark.parametrize("sink", NAMES, indirect=True)


@pytest.mark.parametrize("name", NAMES)
def test_import_is_light(name):
    heavy = ("numpy", "torch", "PIL", "rich", "tensorboard", "google")
    code = f"import sys, corelab_sinks.{name}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", NAMES)
def test_entry_point_names_the_module(name):
    (entry,) = entry_points(group="corelab", name=name)
    assert entry.value == f"corelab_sinks.{name}"
    assert entry.load().corelab_api == (1, 0)


@every_sink
def test_summary_fits_a_line(sink):
    summary = sink.module.__doc__.split("\n")[0]
    assert 20 < len(summary) <= 100
    assert summary.endswith(".")


@every_sink
def test_strangers_are_ignored(sink, run):
    sink.log(run, 10, {"train/loss": 1.0})
    sink.end(run)
    assert list(run.path.iterdir()) == []


@every_sink
@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ValueError("no")])
def test_ending_twice_is_harmless(sink, run, error):
    sink.start(run)
    sink.log(run, 10, {"train/loss": 1.0}, {"eval/samples": PICTURES, "eval/episode": VIDEO})
    sink.end(run, error)
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    sink.end(run, error)
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before
