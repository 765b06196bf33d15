"""What tests in all folders share: a compiler, and a summary that says how many of the healthy runs
that they have made `corelab diagnose` would have flagged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from corelab_kernels import build

from corelab import CorelabError, Run

SICK = "sick"
"""In the name of the test, or of the folder, whose runs have a fault that was planted."""
FEWEST = 4
"""Rows of metrics, of fewer of which no check says anything."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a compiler or a GPU where there is none.

    Where there is a compiler, sources of this project that it refuses make tests fail.
    """
    if item.get_closest_marker("compiled"):
        _compiler()
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no NVIDIA GPU")


@pytest.fixture
def cxx() -> str:
    """The path of the C++ compiler."""
    return _compiler()


def _compiler() -> str:
    try:
        return build.compiler(Path("the source"))
    except build.NoCompiler as reason:
        pytest.skip(str(reason))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Diagnose what the session, its workers included, has left in its temporary folders.

    Only what the runs wrote down is looked at, as with --no-probe: that takes milliseconds.
    """
    runs = list(_healthy(config._tmp_path_factory.getbasetemp()))  # type: ignore[attr-defined]
    if not runs:
        return
    from corelab_diagnosis.checks import findings
    from corelab_diagnosis.examination import examine

    flagged = []
    for run in runs:
        named = ", ".join(finding.check for finding in findings(*examine(run, probe=False)))
        if named:
            flagged.append(f"{run.path}: {run.algorithm} on {run.task}: {named}")
    words = (
        f"{len(flagged)} of {len(runs)} healthy runs were flagged ({len(flagged) / len(runs):.1%})"
    )
    terminalreporter.write_sep("-", f"corelab diagnose --no-probe: {words}")
    for line in flagged:
        terminalreporter.write_line(line)


def _healthy(folder: Path) -> Iterator[Run]:
    """The runs below FOLDER that have been trained to their end."""
    for record in sorted(folder.rglob("run.json")):
        if SICK in str(record.relative_to(folder)):
            continue
        with suppress(CorelabError, KeyError, ValueError):  # tests spoil what they have made, too
            run = Run(record.parent)
            trained = run.status == "done" and run.checkpoints.all()
            if trained and len(run.metrics()) >= FEWEST:
                yield run
