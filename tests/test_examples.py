"""The distributions in docs/examples, installed by pip as a stranger's are, do what they say.

The bandit is the one that the tutorial shows; test_tutorial.py has it.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
OFFERS = {"cem": "algorithm", "catch": "task"}


def run(folder: Path, environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(venv: dict[str, str]) -> dict[str, str]:
    """A virtual environment in which pip has installed both."""
    run(EXAMPLES, venv, "pip", "install", "--quiet", *(f"./corelab-{name}" for name in OFFERS))
    return venv


def test_they_are_listed_with_their_own_distributions(
    installed: dict[str, str], tmp_path: Path
) -> None:
    rows = json.loads(run(tmp_path, installed, "corelab", "plugins", "--json"))
    listed = {row["name"]: (row["kind"], row["distribution"], row["broken"]) for row in rows}
    for name, kind in OFFERS.items():
        assert listed[name] == (kind, f"corelab-{name}", None)


def test_their_own_tests_pass_by_which_they_conform_and_learn(installed: dict[str, str]) -> None:
    settings = ("-c", "corelab-cem/pyproject.toml", "-p", "no:cacheprovider", "-v")
    tests = [f"corelab-{name}/tests" for name in OFFERS]  # in one process, which starts but once
    said = run(EXAMPLES, installed, "pytest", *settings, *tests)
    for name, kind in OFFERS.items():
        assert len(re.findall(rf"test_conformance\[{kind}-{name}-\w+\] PASSED", said)) >= 4
    assert re.search(r"test_it_learns_to_balance_a_pole PASSED", said)
    assert re.search(r"test_ppo_learns_to_catch PASSED", said)
    assert set(re.findall(r"(\w+)\] SKIPPED", said)) <= {"runs_on_a_gpu", "workers_equal_one"}
