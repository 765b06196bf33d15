from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest


@pytest.fixture
def events(place):
    """Two folders with what TensorBoard reads."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    for name in ("a", "b"):
        (place / name).mkdir()
        with (place / name / "events.out.tfevents.1.000").open("xb") as file:
            RecordWriter(file).write(Event(file_version="brain.Event:2").SerializeToString())


def test_each_run_is_shown_by_its_name_until_ctrl_c(events):
    code = """
import signal, sys
from corelab_report.board import tensorboard
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
sys.exit(tensorboard(sys.argv[1:]))
"""
    words = [sys.executable, "-c", code, "a", "b", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            address, rest = process.stdout.readline().split(" ", 1)
            assert rest == "(Ctrl-C ends it)\n"
            with urllib.request.urlopen(f"{address}data/environment") as answer:
                told = json.load(answer)["data_location"]
            assert all(f"{name}:" in told for name in ("a", "b"))
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "runs: there is nothing for TensorBoard in it; the sink `tensorboard` writes it"),
        (("a", "--port", "70000"), "--port is 70000; it must be between 0 and 65535"),
        (("a", "--port", "x"), "corelab tensorboard: argument --port: invalid int value: 'x'"),
        (("a", "c,d"), "c,d: the names of several runs can have no comma or colon"),
        (("a", "--host", "nowhere.invalid"), "nowhere.invalid: cannot be served at ("),
    ],
)
def test_bad_input_is_one_sentence(events, place, corelab, words, sentence):
    shutil.copytree(place / "a", place / "c,d")
    said = corelab("tensorboard", *words, code=2)
    assert said.startswith(f"corelab: {sentence}")
    assert said.count("\n") == 1


def test_a_port_in_use_is_told_in_one_sentence(events, corelab):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = corelab("tensorboard", "a", "--port", port, code=2)
    assert said == f"corelab: port {port} is in use; take another one, or --port 0\n"
