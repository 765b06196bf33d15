"""Every first-party plugin passes the checks that a stranger's has to pass."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from corelab.testing import check_plugin

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
MODULES = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["corelab"].values()


@pytest.mark.parametrize("module", MODULES)
def test_first_party_plugins_conform(module: str) -> None:
    report = check_plugin(module)
    assert [str(r) for r in report if r.outcome == "failed"] == []
    assert {r.why for r in report if r.outcome == "skipped"} <= {"there is no GPU here"}
    assert sum(r.outcome == "passed" for r in report) >= 2
