from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

SINK = "jsonl"


def rows(run):
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def untimed(run):
    return [{k: v for k, v in row.items() if k != "time"} for row in rows(run)]


def row_at(progress):
    return {"train/loss": 1 / progress, "train/return": progress**0.5}


def test_row_holds_progress_time_and_metrics(sink, run):
    before = time.time()
    sink.start(run)
    sink.log(run, 300, {"train/loss": 0.1, "train/kl": -2e-9})
    sink.log(run, 300, {"eval/return": 12.0})
    sink.log(run, 300, {}, {"eval/samples": None})
    sink.end(run)
    first, second = rows(run)
    assert list(first) == ["progress", "time", "train/loss", "train/kl"]
    assert before - 1e-3 <= first.pop("time") <= second.pop("time") <= time.time() + 1e-3
    assert first == {"progress": 300, "train/loss": 0.1, "train/kl": -2e-9}
    assert second == {"progress": 300, "eval/return": 12.0}


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_floats_come_back_exactly(values):
    from types import SimpleNamespace

    from corelab_sinks import jsonl

    with tempfile.TemporaryDirectory() as folder:
        run = SimpleNamespace(path=Path(folder), resumed_at=None)
        jsonl.corelab_run_started(run)
        jsonl.corelab_run_logged(run, 1, {f"train/{i}": v for i, v in enumerate(values)})
        jsonl.corelab_run_ended(run)
        (row,) = rows(run)
    assert [row[f"train/{i}"].hex() for i in range(len(values))] == [v.hex() for v in values]


def test_kill_loses_no_row(run):
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from types import SimpleNamespace
        from corelab_sinks import jsonl
        run = SimpleNamespace(path=Path(sys.argv[1]), resumed_at=None)
        jsonl.corelab_run_started(run)
        for progress in range(1, 51):
            jsonl.corelab_run_logged(run, progress, {"train/loss": 1.0})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [row["progress"] for row in rows(run)] == list(range(1, 51))


def test_resumed_file_is_that_of_an_unbroken_run(sink, new_run):
    unbroken = new_run("unbroken")
    sink.start(unbroken)
    for progress in range(1, 9):
        sink.log(unbroken, progress, row_at(progress))
    sink.end(unbroken)
    whole = (unbroken.path / "metrics.jsonl").read_bytes()
    saved = sum(len(line) for line in whole.splitlines(keepends=True)[:4])

    for written in range(saved, len(whole) + 1):  # killed after any byte
        resumed = new_run("resumed", resumed_at=4)
        (resumed.path / "metrics.jsonl").write_bytes(whole[:written])
        sink.start(resumed)
        for progress in range(5, 9):
            sink.log(resumed, progress, row_at(progress))
        sink.end(resumed)
        assert untimed(resumed) == untimed(unbroken)
    assert [p.name for p in resumed.path.iterdir()] == ["metrics.jsonl"]


def test_line_without_its_end_is_dropped(sink, new_run):
    run = new_run(resumed_at=2)
    (run.path / "metrics.jsonl").write_text('{"progress": 1}\n{"progress": 2}')
    sink.start(run)
    sink.log(run, 3, {"train/loss": 1.0})
    sink.end(run)
    assert [row["progress"] for row in rows(run)] == [1, 3]


def test_run_resumed_before_its_first_row_begins_a_file(sink, new_run):
    run = new_run(resumed_at=0)
    sink.start(run)
    sink.log(run, 5, row_at(5))
    sink.end(run)
    assert untimed(run) == [{"progress": 5, **row_at(5)}]


def test_failure_while_rows_are_dropped_leaves_the_old_file(sink, new_run, monkeypatch):
    run = new_run(resumed_at=1)
    old = b'{"progress": 1}\n{"progress": 2}\n'
    (run.path / "metrics.jsonl").write_bytes(old)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        sink.start(run)
    assert (run.path / "metrics.jsonl").read_bytes() == old


def test_two_runs_do_not_mix(sink, new_run):
    one, two = new_run("one"), new_run("two")
    sink.start(one)
    sink.start(two)
    for progress in (1, 2):
        sink.log(one, progress, {"train/loss": 1.0})
        sink.log(two, progress, {"train/loss": 2.0})
        if progress == 1:
            sink.end(two)
    sink.end(one)
    assert untimed(one) == [{"progress": p, "train/loss": 1.0} for p in (1, 2)]
    assert untimed(two) == [{"progress": 1, "train/loss": 2.0}]
