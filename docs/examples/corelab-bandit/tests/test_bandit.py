"""What the plugin promises, and that it learns."""

from pathlib import Path

import corelab
from corelab.testing import check_plugin


def test_it_passes_the_conformance_checks() -> None:
    report = check_plugin("corelab_bandit")
    assert [r for r in report if r.outcome == "failed"] == []
    assert sum(r.outcome == "passed" for r in report) >= 10


def test_it_finds_the_best_arm(tmp_path: Path) -> None:
    run = corelab.train("epsilon-greedy", steps=5_000, run_dir=tmp_path)
    assert run.evaluate()["regret"] == 0
