"""What is public stays as it is, and what was written for it goes on working."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import corelab as core
from corelab import ConfigError
from corelab.cli import main
from corelab.plugins import Plugins
from corelab.provenance import code_sha256

HERE = Path(__file__).parent
FROZEN = HERE / "frozen"
FROZEN_SHA256 = "07919b77c8c765892d2e872c516323ed19a1a6c89fd70da52129b935b20e31d4"
"""Of the code in tests/frozen/corelab_frozen, which nobody may change: see its README."""

Install = Callable[..., None]


# -- an old plugin -----------------------------------------------------------------------------


@pytest.fixture
def frozen(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin of API 1.0, as if it were installed."""
    monkeypatch.syspath_prepend(str(FROZEN))
    project = tomllib.loads((FROZEN / "pyproject.toml").read_text())["project"]
    for entry, module in project["entry-points"]["corelab"].items():
        install(project["name"], None, version=project["version"], entry=entry, module=module)


def test_the_plugin_of_api_1_0_is_as_it_was_written(frozen: None) -> None:
    assert code_sha256("corelab_frozen") == FROZEN_SHA256


def test_the_plugin_of_api_1_0_trains_resumes_evaluates_and_samples(
    frozen: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sinks = {"run.sinks": ["jsonl", "frozen"]}
    whole = core.train("frozen-descent", steps=400, run_dir=tmp_path / "whole", options=sinks)
    begun = core.train("frozen-descent", steps=200, run_dir=tmp_path / "parts", options=sinks)
    run = core.Run(begun.path).resume(400)
    assert run.record["weights_sha256"] == whole.record["weights_sha256"]
    heard = (run.path / "losses.txt").read_text().splitlines()
    words = [line for line in heard if line[0].isalpha()]
    assert words == ["from None on", "done", "from 200 on", "done"]
    assert run.evaluate(n=500)["loss"] < 0.05 < run.evaluate(n=500, scale=100.0)["loss"]
    assert main(["eval", str(run.path), "--scale", "100", "-n", "500"]) == 0
    letter = tmp_path / "letter.txt"
    assert main(["sample", str(run.path), "-n", "3", "-o", str(letter)]) == 0
    x, y = zip(*(map(float, line.split()) for line in letter.read_text().splitlines()), strict=True)
    assert x == (-1.0, 0.0, 1.0)
    assert y == pytest.approx((-1, 1, 3), abs=0.2)
    with pytest.raises(ConfigError, match="letter"):
        run.sample(3).save(tmp_path / "letter.png")
    capsys.readouterr()
    assert main(["frozen-say", "still", "--here"]) == 0
    assert capsys.readouterr().out == "still --here\n"


def test_the_plugin_of_api_1_0_is_listed_and_its_options_are_told(
    frozen: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not [p for p in Plugins().broken if p.distribution == "corelab-frozen"]
    assert main(["train", "frozen-descent", "--task", "slope-9", "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert '"lr": 0.2' in plan
    assert main(["show", "algorithm", "frozen-descent"]) == 0
    assert "How many points a step sees. (default: 10)" in capsys.readouterr().out
    assert main(["train", "frozen-descent", "--task.noise", "-1"]) == 2
    assert "--task.noise is -1.0; it must be at least 0" in capsys.readouterr().err


# -- the public interface ----------------------------------------------------------------------

LIBRARY = '''"""A library."""

from corelab.machine import Machine, start

__all__ = ["Machine", "start"]
'''
MACHINE = '''"""A machine."""

LIMIT = 3


class Machine:
    """It runs."""

    def run(self, steps: int, seed: int = 0) -> int:
        """Run."""
        return steps


def start(name: str) -> Machine:
    """A machine, running."""
    return Machine()


def stop(machine: Machine, hard: bool = False) -> None:
    """Not public: the library does not list it."""
'''


def git(folder: Path, *words: str) -> None:
    me = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *me, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A repository with a package called corelab, and no tag."""
    (tmp_path / "corelab").mkdir()
    (tmp_path / "corelab" / "__init__.py").write_text(LIBRARY)
    (tmp_path / "corelab" / "machine.py").write_text(MACHINE)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "A library")
    return tmp_path


def breakages(repository: Path) -> tuple[int, str]:
    """The exit code of tests/breakages.py, and what it says."""
    words = [sys.executable, str(HERE / "breakages.py"), str(repository)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_without_a_tag_there_is_nothing_to_compare_with(library: Path) -> None:
    assert breakages(library) == (
        0,
        "there is no tag yet, so there is no earlier interface to compare with\n",
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("def run(self, steps: int, seed: int = 0)", "def run(self, seed: int = 0)", "run(steps)"),
        ("def run(self, steps: int, seed", "def run(self, steps: int, speed", "run(seed)"),
        ("def run(", "def go(", "Machine.run"),
        ("def start(name: str)", "def start(name: str, force: bool)", "start(force)"),
        ("def stop(machine: Machine, hard: bool = False)", "def stop(machine: Machine)", ""),
        ("LIMIT = 3", "LIMIT = 4", ""),
        ("seed: int = 0)", "seed: int = 0, loud: bool = False)", ""),
    ],
    ids=[
        *("parameter gone", "parameter renamed", "method gone", "parameter needed"),
        *("not public", "not public either", "parameter added"),
    ],
)
def test_a_change_since_the_tag_that_breaks_plugins_is_found(
    old: str, new: str, says: str, library: Path
) -> None:
    git(library, "tag", "v1.0.0")
    machine = library / "corelab" / "machine.py"
    assert MACHINE.count(old) == 1
    machine.write_text(MACHINE.replace(old, new))
    code, said = breakages(library)
    assert code == bool(says)
    if says:
        assert "machine.py" in said
        assert says in said
        assert "this breaks plugins that were written for v1.0.0" in said
    else:
        assert said == "nothing public has changed since v1.0.0 that could break a plugin\n"


def test_a_public_name_that_is_gone_is_found(library: Path) -> None:
    git(library, "tag", "v1.0.0")
    file = library / "corelab" / "__init__.py"
    file.write_text(LIBRARY.replace("Machine, start\n", "Machine\n").replace(', "start"', ""))
    code, said = breakages(library)
    assert code == 1
    assert "start" in said


def test_every_public_module_is_named_in_the_policy() -> None:
    modules = re.findall(r'"(corelab[\w.]*)"', (HERE / "breakages.py").read_text())
    policy = (HERE.parent / "docs" / "api-policy.md").read_text()
    assert len(modules) >= 7
    assert [m for m in modules if f"`{m}`" not in policy] == []
