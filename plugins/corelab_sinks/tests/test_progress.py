from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from corelab_sinks import progress as module

from corelab import ConfigError

SINK = "progress"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("CORELAB_PROGRESS", raising=False)


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    return clock


def test_plain_lines(sink, run, clock, capsys):
    sink.start(run)
    for second, metrics in (
        (1.0, {"train/return": 21.53, "train/loss": 3.0}),
        (4.0, {"train/return": 87.4}),
        (4.5, {"eval/return": 120.125}),
        (5.0, {"train/return": 87.4}),
        (9.9, {"train/return": 100.0}),
        (20.0, {"train/return": 499.96, "eval/return": 500.0}),
    ):
        clock.now = 1000.0 + second
        sink.log(run, int(3000 * second), metrics)
    clock.now += 1.2
    sink.end(run)
    assert capsys.readouterr() == (
        "",
        "ppo CartPole-v1  0/60,000 env steps  0%\n"
        "ppo CartPole-v1  15,000/60,000 env steps  25%  3.0k/s  ETA 0:15  "
        "train/return 87.4  eval/return 120.1\n"
        "ppo CartPole-v1  60,000/60,000 env steps  100%  3.0k/s  ETA 0:00  "
        "train/return 500  eval/return 500\n"
        "ppo CartPole-v1  60,000/60,000 env steps  100%  2.8k/s  in 0:21  "
        "train/return 500  eval/return 500\n",
    )


def test_resumed_run_counts_only_what_it_does_itself(sink, new_run, clock, capsys):
    run = new_run(resumed_at=30_000, highlights=())
    sink.start(run)
    clock.now += 6
    sink.log(run, 30_600, {"train/return": 1.0})
    clock.now += 1
    sink.end(run, KeyboardInterrupt())
    assert capsys.readouterr().err.splitlines() == [
        "ppo CartPole-v1  30,000/60,000 env steps  50%",
        "ppo CartPole-v1  30,600/60,000 env steps  51%  100/s  ETA 4:54",
        "ppo CartPole-v1  30,600/60,000 env steps  51%  86/s  stopped after 0:07",
    ]


def test_run_that_fails_at_once_has_no_pace(sink, run, clock, capsys):
    sink.start(run)
    sink.log(run, 10, {})
    sink.end(run, ValueError("no"))
    assert capsys.readouterr().err.splitlines() == [
        "ppo CartPole-v1  0/60,000 env steps  0%",
        "ppo CartPole-v1  10/60,000 env steps  0%  stopped after 0:00",
    ]


def test_pace_is_of_late(run, clock):
    meter = module.Meter(run, live=False)
    for second in range(1, 1001):  # 10 a second, then, after 900 seconds, 20 a second
        clock.now += 1
        meter.update(10 * second + 10 * max(0, second - 900), {})
    assert meter.standing()[2] == "20/s"
    clock.now += 50  # nothing new was heard, but time goes on
    assert meter.standing()[3] == f"ETA {module.duration((60_000 - meter.progress) / 19.65 - 50)}"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0.04, "0.0"),
        (2.94, "2.9"),
        (9.96, "10"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (87_412, "87k"),
        (999_700, "1.0M"),
        (1.2e9, "1.2G"),
        (1e13, "10,000.0G"),
    ],
)
def test_short_numbers(number, words):
    assert module.short(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0:00"),
        (16.4, "0:16"),
        (59.6, "1:00"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (360_061, "100:01:01"),
    ],
)
def test_durations(seconds, words):
    assert module.duration(seconds) == words


def test_plain_lines_hold_no_control_characters(sink, run, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    sink.start(run)
    for progress in range(0, 60_000, 10_000):
        sink.log(run, progress, {"train/return": 1.0})
    sink.end(run)
    lines = capsys.readouterr().err.split("\n")
    assert len(lines) == 9
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("end", [None, KeyboardInterrupt()])
def test_off_is_silent(sink, run, capsys, monkeypatch, end):
    monkeypatch.setenv("CORELAB_PROGRESS", "off")
    sink.start(run)
    sink.log(run, 10, {"train/return": 1.0})
    sink.end(run, end)
    assert capsys.readouterr() == ("", "")


def test_unknown_mode_is_refused_in_a_sentence(sink, run, monkeypatch):
    monkeypatch.setenv("CORELAB_PROGRESS", "fancy")
    with pytest.raises(ConfigError, match="CORELAB_PROGRESS is rich, plain or off, not 'fancy'"):
        sink.start(run)


def test_two_runs_do_not_mix(sink, new_run, clock, capsys):
    one, two = new_run("one", task="A"), new_run("two", task="B")
    sink.start(one)
    sink.start(two)
    clock.now += 2
    sink.log(one, 100, {"train/return": 1.0})
    sink.log(two, 600, {"train/return": 2.0})
    sink.end(two)
    sink.end(one)
    assert capsys.readouterr().err.splitlines()[2:] == [
        "ppo B  600/60,000 env steps  1%  300/s  in 0:02  train/return 2",
        "ppo A  100/60,000 env steps  0%  50/s  in 0:02  train/return 1",
    ]


SCRIPT = """
import signal, sys, time
from pathlib import Path
from types import SimpleNamespace
from corelab_sinks import progress

def new(task):
    return SimpleNamespace(
        path=Path(task), resumed_at=None, algorithm="ppo", task=task, unit="env steps",
        steps=1000, highlights=("train/return",),
    )

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
runs = [new(task) for task in sys.argv[2:]]
for run in runs:
    progress.corelab_run_started(run)
print("a note", file=sys.stderr)
print("a result")
error = None
try:
    for done in (250, 500):
        time.sleep(0.3)
        for run in runs:
            progress.corelab_run_logged(run, done, {"train/return": 7.0})
    time.sleep(0.6)
    if sys.argv[1] == "wait":
        print("waiting")
        time.sleep(60)
except KeyboardInterrupt as interrupt:
    error = interrupt
for run in runs:
    progress.corelab_run_ended(run, error)
    time.sleep(0.6 if run is not runs[-1] else 0.0)
"""


def in_terminal(*words, interrupt_at="", **variables):
    """What SCRIPT writes to a terminal of 120 columns; Ctrl-C once INTERRUPT_AT has appeared."""
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"} | variables
    terminal, inner = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, *words]
    with subprocess.Popen(command, env=environment, stdout=inner, stderr=inner) as process:
        os.close(inner)
        written = b""
        try:
            while chunk := os.read(terminal, 65536):
                written += chunk
                if interrupt_at and interrupt_at.encode() in written:
                    interrupt_at = ""
                    process.send_signal(signal.SIGINT)
        except OSError:  # the other end is closed
            pass
    os.close(terminal)
    assert process.returncode == 0
    return written.decode()


def screen(written):
    """The lines that WRITTEN leaves on a terminal, which knows what rich uses: \\r, \\n, cursor up,
    erase line, and colours."""
    lines, row, column = [""], 0, 0
    for escape, final, character in re.findall(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", written, re.S):
        if final == "A":
            row = max(0, row - int(escape or 1))
        elif final == "K":
            assert escape == "2"
            lines[row] = ""
        elif final:
            assert final in "mhl", final
        elif character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = lines[row][:column].ljust(column) + character + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_terminal_keeps_one_line():
    written = in_terminal("end", "CartPole-v1")
    assert "━" in written
    assert re.search(r"500/1,000 env steps  50%  [\d.]+k?/s  ETA 0:0\d  elapsed 0:0\d", written)
    note, result, summary, *rest = screen(written)
    assert (note, result) == ("a note", "a result")
    assert re.fullmatch(
        r"ppo CartPole-v1  500/1,000 env steps  50%  \d+/s  in 0:0\d  train/return 7", summary
    )
    assert rest == [""]


def test_cursor_is_visible_all_the_time():
    before, note, after = in_terminal("end", "CartPole-v1").partition("a note")
    assert note
    assert before.rfind("\x1b[?25h") > before.rfind("\x1b[?25l")
    assert "\x1b[?25l" not in after


def test_terminal_is_clean_after_ctrl_c():
    written = in_terminal("wait", "CartPole-v1", interrupt_at="waiting")
    lines = screen(written)
    assert lines[:3] == ["a note", "a result", "waiting"]
    assert re.fullmatch(
        r"ppo CartPole-v1  500/1,000 env steps  50%  \d+/s  stopped after 0:0\d  train/return 7",
        lines[-2],
    )
    assert lines[-1] == ""
    assert not any("━" in line or "ETA" in line for line in lines)


def test_two_runs_share_the_terminal():
    written = in_terminal("end", "A", "B")
    *notes, one, two, last = screen(written)
    assert [line.split("  ")[0] for line in (one, two)] == ["ppo A", "ppo B"]
    assert (notes, last) == (["a note", "a result"], "")
    while_b_goes_on = written[written.index("  in 0:") : written.rindex("  in 0:")]
    assert "━" in while_b_goes_on


def test_no_color_leaves_the_bar_without_colours():
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", in_terminal("end", "A"))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", in_terminal("end", "A", NO_COLOR="1"))


@pytest.mark.parametrize("variables", [{"CORELAB_PROGRESS": "plain"}, {"TERM": "dumb"}])
def test_terminal_may_be_plain(variables):
    written = in_terminal("end", "A", **variables)
    assert "\x1b" not in written
    assert written.splitlines()[0] == "ppo A  0/1,000 env steps  0%"


def test_rich_can_be_forced_into_a_pipe():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "end", "A"],
        env=os.environ | {"CORELAB_PROGRESS": "rich", "COLUMNS": "120", "TERM": "xterm"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"a result\n"
    written = done.stderr.decode()
    assert "━" in written
    assert screen(written.replace("\n", "\r\n"))[0] == "a note"
