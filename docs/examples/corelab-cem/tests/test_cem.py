"""What the plugin promises, and that it learns."""

from pathlib import Path

import corelab
import pytest
from corelab.testing import Check, conformance


@conformance("corelab_cem")
def test_conformance(check: Check) -> None:
    check()


def test_it_learns_to_balance_a_pole(tmp_path: Path) -> None:
    run = corelab.train("cem", steps=50_000, run_dir=tmp_path)
    assert run.evaluate(n=20)["return"] > 195  # random actions reach about 22


def test_an_elite_of_everyone_is_refused_in_a_sentence() -> None:
    with pytest.raises(corelab.ConfigError, match=r"algorithm\.elite is 32"):
        corelab.train("cem", options={"algorithm.elite": 32})


def test_observations_that_are_no_array_are_refused_in_a_sentence() -> None:
    with pytest.raises(corelab.PluginError, match="cem needs observations Box; FrozenLake-v1 has"):
        corelab.train("cem", task="FrozenLake-v1")
