"""Runs that seem to have been trained, and a browser."""

from __future__ import annotations

import copy
import fcntl
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from corelab import Run
from corelab.cli import main
from corelab.experiments import resolve


@functools.cache
def _record(algorithm, task):
    """What run.json says of such a run."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        values = {"run.dir": folder, "run.sinks": ["jsonl"]}
        return Run.create(resolve(algorithm, task=task, values=values)).record


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Where the runs are: the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CORELAB_PROGRESS", "off")
    return tmp_path


@pytest.fixture
def make_run(place):
    """Write the directory of a run, which has logged the given ROWS."""

    def make_run(
        path, rows=(), seed=0, algorithm="ppo", task="CartPole-v1", status="done", **facts
    ):
        record = copy.deepcopy(_record(algorithm, task))
        options = facts.pop("options", {})
        for name, value in {"seed": seed, **options}.items():
            *parents, last = name.split(".")
            part = functools.reduce(dict.__getitem__, parents, record["config"])
            part[last] = value
            record["sources"][name] = "command line"
        progress = rows[-1]["progress"] if rows else 0
        record |= {"status": status, "progress": progress, "elapsed": 2.0, "steps": 1000}
        record["config"]["steps"] = 1000
        record["sessions"] = [{"began": 0.0, "progress": 0, "pid": 1}]
        folder = place / path
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record | facts))
        if rows:
            (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
        return Run(folder)

    return make_run


@pytest.fixture
def make_seeds(make_run):
    """A folder of runs whose last evaluations give SCORES."""

    def make_seeds(name, scores, **facts):
        for seed, score in enumerate(scores):
            rows = [
                {"progress": at, "time": at / 50, "train/loss": 1 / at, "eval/return": at * score}
                for at in (0.25, 0.5, 1.0)
            ]
            rows = [row | {"progress": int(1000 * row["progress"])} for row in rows]
            hashed = {"weights_sha256": f"{seed}{name}" + 60 * "0"}
            make_run(f"{name}/seed-{seed}", rows, seed, **{**hashed, **facts})

    return make_seeds


@pytest.fixture
def save_weights():
    """Give RUN a checkpoint with these TENSORS as its weights."""

    def save_weights(run, progress, tensors):
        def fill(directory):
            (directory / "algorithm").mkdir()
            save_file(tensors, directory / "algorithm" / "weights.safetensors")

        return run.checkpoints.write(progress, fill) / "algorithm" / "weights.safetensors"

    return save_weights


@pytest.fixture
def picture():
    """Write a small picture of one colour."""

    def picture(path, level):
        path.parent.mkdir(exist_ok=True)
        pixels = np.full((8, 8, 3), level, np.uint8)
        Image.fromarray(pixels).save(path)

    return picture


@pytest.fixture
def corelab(capsys):
    """What the command `corelab WORDS` prints; bad input (CODE 2) does so on standard error."""

    def corelab(*words, code=0):
        assert main([str(word) for word in words]) == code
        captured = capsys.readouterr()
        return captured.err if code == 2 else captured.out

    return corelab


@pytest.fixture
def browser(place):
    """A headless browser; its profile is in the folder of the runs."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    browser = Browser(place / "profile")
    yield browser
    browser.close()


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


class Browser:
    """A process of Chromium, spoken to over two pipes by the DevTools protocol.

    What its pages said, asked for and got wrong is in `events`.
    """

    def __init__(self, profile):
        """Start it, with its files in the folder PROFILE."""
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        flags += [f"--user-data-dir={profile}", "--no-first-run", "--disable-extensions"]
        flags += ["--disable-background-networking", "--disable-component-update", "about:blank"]
        # it reads from 3 and writes to 4, so these two must not be in the way
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]
        place = "import os, sys; a, b, *words = sys.argv[1:]; os.dup2(int(a), 3); "
        place += "os.dup2(int(b), 4); os.execv(words[0], words)"
        command = [sys.executable, "-ISc", place, *map(str, ends), CHROMIUM, *flags]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, pass_fds=ends, stderr=subprocess.DEVNULL, **quiet)
        for end in (to_browser, from_browser, *ends):
            os.close(end)
        self._numbers, self._rest, self.events = itertools.count(1), b"", []
        self._session = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """The answer to METHOD; whatever comes before it is an event."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        while b"\0" not in self._rest:
            piece = os.read(self._in, 1 << 20)
            assert piece, "Chromium has gone"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, page, width=1200, height=900):
        """Show the file PAGE in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.send("Page.navigate", url=page.resolve().as_uri())
        self.until("document.readyState === 'complete'")

    def ask(self, expression):
        """The value of a JavaScript EXPRESSION in the page."""
        told = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def until(self, expression):
        """Wait until the EXPRESSION is true."""
        for _ in range(1200):
            if self.ask(f"Boolean({expression})"):
                return
            time.sleep(0.05)
        raise AssertionError(f"never: {expression}")

    def press(self, key):
        """Press and let go of a KEY, such as "ArrowLeft"."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, " ": 32}
        text = {"text": {"Enter": "\r"}.get(key, key)} if key in ("Enter", " ") else {}
        common = {"key": key, "windowsVirtualKeyCode": codes[key]}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def complaints(self):
        """What the console and the log have said, and every request that left the page."""
        said = [
            json.dumps(event["params"])
            for event in self.events
            if event.get("method")
            in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        ]
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return said + [url for url in asked[1:] if not url.startswith("data:")]

    def close(self):
        """End it."""
        self._session = None
        self.send("Browser.close")
        self._process.wait(timeout=60)
        os.close(self._in)
        os.close(self._out)
