"""For pytest: a line that sums up the tests of `corelab.testing.conformance`.

Every session of pytest where corelab is installed imports this, so it asks for nothing until a
conformance test is there.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pytest

_KEY = "corelab_conformance"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the reports that are to come of checks; with pytest-xdist they come as text."""
    testing: Any = sys.modules.get("corelab.testing")
    for item in items if testing else []:
        callspec = getattr(item, "callspec", None)
        check = callspec and callspec.params.get("check")
        if isinstance(check, testing.Check):
            item.user_properties.append((_KEY, str(check)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many checks ran and failed, and how many were skipped and why."""
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for report in [r for reports in terminalreporter.stats.values() for r in reports]:
        ended = getattr(report, "when", "") == "call"  # what was deselected is no report
        if ended and _KEY in dict(report.user_properties):
            outcomes[report.outcome] += 1
            if report.skipped:
                reasons[report.longrepr[2].removeprefix("Skipped: ")] += 1
    if outcomes:
        ran, skipped = outcomes["passed"] + outcomes["failed"], outcomes["skipped"]
        words = f"{ran} checks ran, {outcomes['failed']} failed, {skipped} skipped"
        terminalreporter.write_sep("-", f"conformance: {words}")
        for reason, times in reasons.items():
            terminalreporter.write_line(f"{times} x {reason}")
