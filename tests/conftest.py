"""What the tests of the core share: plugins that seem to be installed, and the command line."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

BANDIT = Path(__file__).parent.parent / "docs" / "examples" / "corelab-bandit"

settings.register_profile("corelab", deadline=None)  # this machine may be busy with other things
settings.load_profile("corelab")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress bars, one thread, and nothing that the person's own shell has set."""
    monkeypatch.setenv("CORELAB_PROGRESS", "off")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("CORELAB_PLUGINS", "CORELAB_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder that this process and its children import from, empty at first."""
    folder = tmp_path_factory.mktemp("site")
    _reach(folder, monkeypatch)
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{folder}{os.sep}"):
            del sys.modules[name]


def _reach(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)


@pytest.fixture
def install(site: Path) -> Callable[..., None]:
    """Put a distribution with a plugin in its place, as pip would.

    SOURCE is the index module's (None: it is missing), MODULES holds others by name. Installing the
    same distribution again adds one more plugin to it.
    """

    def install(
        distribution: str,
        source: str | None,
        *,
        version: str = "1.0",
        entry: str = "",
        module: str = "",
        modules: Mapping[str, str] | None = None,
    ) -> None:
        name = re.sub(r"[-.]+", "_", distribution)
        module = module or name
        _announce(site, distribution, version, f"{entry or name} = {module}")
        sources = {**(modules or {}), **({} if source is None else {module: source})}
        for file, text in sources.items():
            (site / f"{file}.py").write_text(text)
        importlib.invalidate_caches()

    return install


def _announce(site: Path, distribution: str, version: str, entry: str) -> None:
    info = site / f"{re.sub(r'[-.]+', '_', distribution)}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    points = info / "entry_points.txt"
    before = points.read_text() if points.exists() else "[corelab]\n"
    points.write_text(f"{before}{entry}\n")


@pytest.fixture
def bandit(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tutorial's plugin, from its sources, as if it were installed."""
    _announce(site, "corelab-bandit", "0.1.0", "bandit = corelab_bandit")
    _reach(BANDIT, monkeypatch)
    importlib.invalidate_caches()


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a shell in a fresh virtual environment: it has what is installed here, and
    what pip installs, without a network, stays in it.
    """
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    shared = sysconfig.get_path("purelib")
    (packages / "shared.pth").write_text(f"import site; site.addsitedir({shared!r})\n")
    for name in ("corelab", "pip", "pytest"):
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {name} "$@"\n')
        command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "false",  # which is pip's way of saying yes
        "CORELAB_PROGRESS": "off",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables of a shell whose commands `corelab` and `python -m corelab` start at once."""
    folder = tmp_path_factory.mktemp("warm")
    words = [sys.executable, str(Path(__file__).parent / "warm.py"), "serve", str(folder)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    with subprocess.Popen(words, env=environment, text=True, **pipes) as server:
        assert server.stdout
        assert server.stdout.readline() == "ready\n"
        here = Path(sys.executable).parent
        yield {"PATH": os.pathsep.join((str(folder), str(here), os.environ["PATH"]))}


@pytest.fixture
def start(tmp_path: Path, warm: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command `corelab WORDS` in tmp_path; keywords are environment variables.

    What is left of it after the test is killed.
    """
    started = []

    def start(*words: object, **variables: str) -> subprocess.Popen[str]:
        environment = {**os.environ, **warm, **variables}
        command = [str(shutil.which("corelab", path=environment["PATH"])), *map(str, words)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def corelab(
    start: Callable[..., subprocess.Popen[str]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command `corelab WORDS` in tmp_path; keywords are environment variables."""

    def corelab(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        process = start(*words, **variables)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return corelab


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """One Ray, with 4 CPUs, for all tests that need it; the group `ray` keeps them together."""
    reason = "needs Ray: pip install 'corelab-ml[ray]'"
    ray = pytest.importorskip("ray", reason=reason)
    import corelab.cluster  # for its settings

    assert corelab.cluster.SETTINGS
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "CRITICAL"}
    ray.init("local", num_cpus=4, object_store_memory=200_000_000, **quiet)
    yield
    ray.shutdown()


@pytest.fixture
def stepping(install: Callable[..., None]) -> Callable[[str, str], None]:
    """Install an algorithm NAME, with a task of its own, whose `step` has the given BODY."""

    def stepping(name: str, body: str) -> None:
        source = STEPPING.replace("BODY", textwrap.indent(textwrap.dedent(body), " " * 8))
        index = STEPPING_INDEX.replace("NAME", name)
        install(f"{name}-plugin", index, modules={f"{name}_algorithm": source})

    return stepping


STEPPING_INDEX = """
from corelab import Component, hookimpl
corelab_api = (1, 0)

@hookimpl
def corelab_components():
    return [Component("task", "nothing", "NAME_algorithm:Nothing", "", provides="nothing"),
            Component("algorithm", "NAME", "NAME_algorithm:Stepping", "", uses=("nothing",))]
"""

STEPPING = """
import time
from dataclasses import dataclass
from pathlib import Path
from corelab import Saved

@dataclass(frozen=True)
class Config:
    pass

class Nothing:
    Config = Config
    def __init__(self, config): pass

class Stepping(Saved):
    Config = Config
    unit, default_task, default_model, default_steps = "steps", "nothing", "", 10
    best, highlights, presets, saved = "max eval/none", (), {}, ("progress",)
    def __init__(self, config, task, model, context):
        self.progress = 0
    def step(self):
BODY
"""
