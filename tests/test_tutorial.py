"""The tutorial's plugin is a distribution of its own: built, installed and used as a stranger's."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "corelab-bandit"
PAGE = EXAMPLE.parent.parent / "tutorials" / "plugin.md"
FILE = re.compile(r'```\w+ title="([^"]+)"\n(.*?)```\n', re.DOTALL)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the example is installed by pip, from its wheel."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*build, str(EXAMPLE)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "--target", str(folder / "site"), str(wheel)], check=True, capture_output=True
    )
    return {**os.environ, "PYTHONPATH": str(folder / "site"), "CORELAB_PROGRESS": "off"}


def run(environment: dict[str, str], folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_listed_with_its_own_distribution(installed: dict[str, str], tmp_path: Path) -> None:
    listing = run(installed, tmp_path, "corelab", "plugins")
    assert re.search(r"algorithm +epsilon-greedy +bandit +corelab-bandit 0\.1\.0", listing)


def test_it_trains_and_is_recorded_as_its_own_distribution(
    installed: dict[str, str], tmp_path: Path
) -> None:
    directory = run(installed, tmp_path, "corelab", "train", "epsilon-greedy").splitlines()[-1]
    assert '"distribution": "corelab-bandit"' in (tmp_path / directory / "run.json").read_text()


def test_its_own_tests_pass(installed: dict[str, str], tmp_path: Path) -> None:
    tests = str(EXAMPLE / "tests")
    summary = run(installed, tmp_path, "pytest", "-q", "-p", "no:cacheprovider", tests)
    assert "2 passed" in summary


def test_the_tutorial_shows_the_files_of_the_package_as_they_are() -> None:
    shown = dict(FILE.findall(PAGE.read_text()))
    assert set(shown) >= {"pyproject.toml", "corelab_bandit/__init__.py", "tests/test_bandit.py"}
    for name, text in shown.items():
        assert text == (EXAMPLE / name).read_text(), f"{name} in the tutorial is not the file"


def test_the_plugin_that_follows_a_paper_is_as_short_as_its_page_says(tmp_path: Path) -> None:
    count = runpy.run_path(str(Path(__file__).parent / "lines.py"))["count"]
    text = (PAGE.parent / "algorithm.md").read_text()
    lines = 0
    for name, content in FILE.findall(text):
        file = tmp_path / Path(name).name
        file.write_text(content)
        code = file.suffix == ".py"
        lines += count(file) if code else sum(bool(line) for line in content.splitlines())
    assert f"The whole plugin has {lines} lines" in text
    assert 0 < lines <= 80
