"""Short trainings that are sick in one way each, and their healthy twins.

They and their like are what the checks were tuned on; `benchmarks/diagnosis.py` judges on others.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from corelab_diagnosis.checks import findings
from corelab_diagnosis.examination import examine

import corelab

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SICK = {
    "inputs": ("classifier", "digits", {"algorithm.raw": True}),
    "last activation": ("classifier", "digits", {"model.ending": "softmax"}),
    "initialisation": ("classifier", "digits", {"model.activation": "tanh", "model.gain": 30.0}),
    "learning rate too high": ("classifier", "digits", {"algorithm.lr": 0.3}),
    "learning rate too low": ("ppo", "CartPole-v1", {"algorithm.lr": 1e-7}),
    "batch too large": ("classifier", "digits", {"algorithm.batch_size": 1400}),
    "batch too small": ("classifier", "digits", {"algorithm.batch_size": 2}),
    "dead units": ("classifier", "digits", {"model.bias": -10.0}),
    "vanishing gradients": (
        "classifier",
        "digits",
        {"model.activation": "sigmoid", "model.sizes": [64] * 8},
    ),
    "overfitting": ("classifier", "digits", {"algorithm.examples": 60, "steps": 40_000}),
    "too few units": ("classifier", "digits", {"model.sizes": [2]}),
    "too many units": (
        "classifier",
        "digits",
        {"algorithm.examples": 60, "model.sizes": [1024, 1024]},
    ),
    "rewards": ("ppo", "patients/RichCartPole-v1", {}),
    "truncation as termination": (
        "ppo",
        "patients/EndsCartPole-v1",
        {"algorithm.lr": 2e-3, "steps": 30_000},
    ),
    "entropy collapse": ("ppo", "CartPole-v1", {"model.sharpness": 100.0}),
    "value explains nothing": ("ppo", "CartPole-v1", {"algorithm.value_coef": 1e-9}),
    "stale replay": ("dqn", "CartPole-v1", {"algorithm.target_every": 8000}),
}
HEALTHY = [("classifier", "digits"), ("ppo", "CartPole-v1"), ("dqn", "CartPole-v1")]


@pytest.fixture(autouse=True)
def patients(monkeypatch, tmp_path_factory):
    """The plugin with what can be made sick."""
    monkeypatch.setenv("CORELAB_PROGRESS", "off")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from diagnosis import announce

    announce(tmp_path_factory.mktemp("site"))


def checks(tmp_path, algorithm, task, options):
    quick = {"steps": 16_000, "run.sinks": ["jsonl"], "run.eval_n": 200}
    if algorithm != "classifier":
        quick["run.eval_n"] = 2
    if options.get("algorithm.batch_size") == 2:
        quick["steps"] = 2_000
    model = "patient" if "model.sharpness" in options else None
    run = corelab.train(
        algorithm, task=task, model=model, run_dir=tmp_path, options=quick | options
    )
    return [finding.check for finding in findings(*examine(run))]


@pytest.mark.parametrize("fault", SICK)
def test_the_fault_is_among_the_first_two_that_are_named(fault, tmp_path):
    assert fault in checks(tmp_path, *SICK[fault])[:2]


@pytest.mark.parametrize(("algorithm", "task"), HEALTHY)
def test_a_healthy_run_is_not_flagged(algorithm, task, tmp_path):
    assert checks(tmp_path, algorithm, task, {}) == []
