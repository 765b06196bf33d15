"""Every check names what is sick in just its way, and leaves its healthy twin alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from corelab_diagnosis.checks import CHECKS, findings
from corelab_diagnosis.interface import Evidence, Finding, Layer, Networks, Play

HIDDEN = Layer("layer 2", "Net", rows=64, seen=1024, gradient=1.0, change=1e-3, updates=16)
FIRST = replace(HIDDEN, name="layer 1", first=True, data=True)
LAST = replace(HIDDEN, name="layer 3")


def evidence(
    metrics: Mapping[str, Sequence[float]] | None = None, n: int = 20, **facts: Any
) -> Evidence:
    """Of a run that wrote METRICS in N rows; those with fewer values have them in the last rows."""
    rows: list[dict[str, float]] = [{"progress": 1000.0 * (i + 1) / n} for i in range(n)]
    for name, values in (metrics or {}).items():
        for row, value in zip(rows[n - len(values) :], values, strict=True):
            row[name] = value
    config = {"algorithm": facts.pop("options", {})}
    return Evidence("some", config, 1000, rows, **facts)


def watched(layer: Layer = HIDDEN, **facts: Any) -> Networks:
    change = layer.change
    layers = [replace(FIRST, change=change), layer, replace(LAST, change=change)]
    return Networks(layers, updates=16, **facts)


def line(a: float, b: float, n: int = 20) -> list[float]:
    return [float(x) for x in np.linspace(a, b, n)]


def first(**facts: Any) -> Networks:
    return Networks([replace(FIRST, **facts), HIDDEN, LAST], updates=16)


LEARNS = {"start": watched(), "end": watched(), "moved": 0.5, "updates": 5000}
STUCK = {"train/error": [0.25] * 20, "eval/error": [0.26] * 5}
BY_HEART = {"train/loss": line(2, 0.01), "eval/loss": [2, 1, 1.2, 1.5, 1.8, 2.1]}
CERTAIN = {"train/entropy": [0.69, 0.69, *[1e-3] * 18]}
CASES: dict[str, tuple[Evidence, Evidence]] = {
    "inputs": (
        evidence(end=first(mean=190.0, std=80.0, largest=255.0, rms=200.0)),
        evidence(end=first(mean=0.9, std=9.0, largest=30.0)),
    ),
    "rewards": (
        evidence(play=Play(np.full(512, 1e4))),
        evidence(play=Play(np.full(512, 1e4)), options={"normalise_reward": True}),
    ),
    "last activation": (
        evidence(fresh=watched(endings={"Net": "softmax"}), provides="classifier"),
        evidence(fresh=watched(endings={"Net": "softmax"}), provides="autoencoder"),
    ),
    "initialisation": (
        evidence(fresh=watched(replace(HIDDEN, rms=1e-5))),
        evidence(fresh=watched(replace(HIDDEN, rms=0.05))),
    ),
    "truncation as termination": (
        evidence(
            {"train/episode_length": [20, 200, 90, 200, 200, 200], "train/truncated": [0.0] * 6}
        ),
        evidence(
            {"train/episode_length": [20, 200, 90, 200, 200, 200], "train/truncated": [0, 1] * 3}
        ),
    ),
    "learning rate too high": (
        evidence(**LEARNS | {"start": watched(replace(HIDDEN, change=3.0)), "moved": 40.0}),
        evidence(**LEARNS | {"start": watched(replace(HIDDEN, change=0.08)), "moved": 4.0}),
    ),
    "learning rate too low": (
        evidence(end=watched(replace(HIDDEN, change=1e-6)), moved=1e-4, updates=5000),
        evidence(end=watched(replace(HIDDEN, change=1e-6)), moved=0.05, updates=5000),
    ),
    "batch too large": (evidence(updates=20), evidence(updates=2000)),
    "batch too small": (evidence(end=first(rows=2)), evidence(end=first(rows=16))),
    "stale replay": (
        evidence(options={"target_every": 500}),
        evidence(options={"target_every": 50}),
    ),
    "overestimation": (
        evidence(
            {
                "train/q": line(0, 300),
                "train/return": [200.0] * 5,
                "train/episode_length": [200] * 5,
            },
            options={"gamma": 0.99},
            play=Play(np.ones(100)),
        ),
        evidence(
            {
                "train/q": line(0, 95),
                "train/return": [200.0] * 5,
                "train/episode_length": [200] * 5,
            },
            options={"gamma": 0.99},
            play=Play(np.ones(100)),
        ),
    ),
    "policy update too large": (
        evidence({"train/approx_kl": [0.4] * 20, "train/clip_fraction": [0.7] * 20}),
        evidence({"train/approx_kl": [0.01] * 20, "train/clip_fraction": [0.2] * 20}),
    ),
    "discriminator": (
        evidence({"train/win_rate": [1.0] * 20, "train/saturation": [0.99] * 20}),
        evidence({"train/win_rate": [0.9] * 20, "train/saturation": [0.3] * 20}),
    ),
    "codebook": (
        evidence({"eval/used": [0.02], "eval/perplexity": [3.0]}, options={"entries": 512}),
        evidence({"eval/used": [0.9], "eval/perplexity": [200.0]}, options={"entries": 512}),
    ),
    "posterior collapse": (
        evidence({f"eval/kl_nats_{i}": [1e-5] for i in range(1, 9)}),
        evidence({f"eval/kl_nats_{i}": [1.0 / i] for i in range(1, 9)}),
    ),
    "noise level": (
        evidence({"eval/error_at_1": [0.9], "eval/error_at_2": [40.0]}),
        evidence({"eval/error_at_1": [0.9], "eval/error_at_2": [0.4]}),
    ),
    "dead units": (
        evidence(end=watched(replace(HIDDEN, dead=0.9))),
        evidence(end=watched(replace(HIDDEN, dead=0.3))),
    ),
    "saturation": (
        evidence(end=watched(replace(HIDDEN, saturated=0.9))),
        evidence({"train/return": line(0, 9)}, end=watched(replace(HIDDEN, saturated=0.9))),
    ),
    "vanishing gradients": (
        evidence(end=first(gradient=1e-6)),
        evidence(end=first(gradient=1e-2)),
    ),
    "exploding gradients": (
        evidence(end=first(gradient=1e6)),
        evidence(end=first(gradient=1e2)),
    ),
    "entropy collapse": (
        evidence(CERTAIN | {"train/return": [10.0] * 20}, options={"entropy_coef": 0.0}),
        evidence(
            CERTAIN | {"train/return": [10.0, 10, *[400.0] * 18]}, options={"entropy_coef": 0.0}
        ),
    ),
    "value explains nothing": (
        evidence({"train/explained_variance": [0.0] * 20, "train/return": line(10, 30)}),
        evidence({"train/explained_variance": line(0, 0.9), "train/return": line(10, 30)}),
    ),
    "mode collapse": (
        evidence({"eval/recall": [0.1], "eval/recall_floor": [0.8]}),
        evidence({"eval/recall": [0.6], "eval/recall_floor": [0.8]}),
    ),
    "too few units": (
        evidence(STUCK, end=watched(replace(HIDDEN, units=3, used=1.0))),
        evidence(STUCK, end=watched(replace(HIDDEN, units=64, used=1.0))),
    ),
    "too many units": (
        evidence(BY_HEART, end=watched(replace(HIDDEN, units=1024, used=0.1))),
        evidence(end=watched(replace(HIDDEN, units=1024, used=0.1))),
    ),
    "overfitting": (
        evidence(BY_HEART, end=watched(replace(HIDDEN, units=128, used=0.6))),
        evidence({"train/loss": line(2, 0.9), "eval/loss": [2, 1.5, 1.3, 1.2, 1.1, 1.11]}),
    ),
    "bias": (
        evidence({"train/error": [0.6] * 20, "eval/error": [0.62] * 5}),
        evidence({"train/error": line(0.9, 0.02), "eval/error": line(0.9, 0.05, 5)}),
    ),
}


FOLLOWS = {"too many units": ["overfitting"]}
"""What else is named, since the fault shows in it."""


@pytest.mark.parametrize("name", CASES)
def test_the_sick_run_is_named_and_its_healthy_twin_is_not(name):
    sick, healthy = CASES[name]
    assert [finding.check for finding in findings(sick)] == [name, *FOLLOWS.get(name, [])]
    assert findings(healthy) == []


@pytest.mark.parametrize(
    ("why", "metrics", "facts"),
    [
        ("effective rank 100%), and the error rate", STUCK, {}),
        ("explains only 0.10", {"train/explained_variance": [0.1] * 9}, {}),
        ("the code has 16", {}, {"options": {"latent": 16}, "provides": "autoencoder"}),
    ],
)
def test_there_are_three_signs_of_too_few_units(why, metrics, facts):
    narrow = watched(replace(HIDDEN, units=3, used=1.0))
    found = {
        finding.check: finding.seen for finding in findings(evidence(metrics, end=narrow, **facts))
    }
    assert why in found["too few units"]


@pytest.mark.parametrize(
    ("metrics", "used"),
    [
        ({"train/error": line(0.9, 0.2)}, 1.0),  # it still gets better
        ({"train/error": [0.25] * 20, "eval/optimal_error": [0.2]}, 1.0),
        ({"train/error": [0.05] * 20}, 1.0),
        (STUCK, 0.3),  # others of its units are idle
    ],
)
def test_a_narrow_network_that_does_what_it_can_is_left_alone(metrics, used):
    narrow = watched(replace(HIDDEN, units=4, used=used))
    assert "too few units" not in [f.check for f in findings(evidence(metrics, end=narrow))]


def test_a_soft_value_may_be_above_what_rewards_alone_allow():
    metrics = {
        "train/q": line(0, 3),
        "train/return": [-30.0] * 5,
        "train/episode_length": [50] * 5,
    }
    rewards = Play(-np.ones(100))
    sick = evidence(metrics, options={"gamma": 0.99}, play=rewards)
    assert [finding.check for finding in findings(sick)] == ["overestimation"]
    soft = metrics | {"train/alpha": [0.1] * 20, "train/entropy": [1.5] * 20}
    assert findings(evidence(soft, options={"gamma": 0.99}, play=rewards)) == []


def test_a_value_that_grew_until_the_end_is_judged_by_its_end():
    metrics = {
        "train/q": line(0, 140),
        "train/return": [80.0] * 5,
        "train/episode_length": [100] * 5,
    }
    sick = evidence(metrics, options={"gamma": 1.0}, play=Play(np.ones(100)))
    assert [finding.check for finding in findings(sick)] == ["overestimation"]


def test_a_policy_that_is_paid_for_being_certain_is_not_excused_by_being_good():
    entropies = {"train/entropy": [1.1, 1.0, *[0.01] * 6]}
    metrics = entropies | {"train/return": [-26.0, -10, 0, 0, 0, 0, 0, 0]}
    for coefficient, named in ((-2.0, ["entropy collapse"]), (0.0, [])):
        told = evidence(metrics, n=8, options={"entropy_coef": coefficient})
        assert [finding.check for finding in findings(told)] == named


def test_every_check_has_a_case():
    found = {finding.check for sick, _ in CASES.values() for finding in findings(sick)}
    assert len(found) == len(CASES) == len(CHECKS) + 1  # gradients vanish or explode


@pytest.mark.parametrize("name", CASES)
def test_a_finding_has_figures_and_a_source_that_can_be_found(name):
    finding = findings(CASES[name][0])[0]
    assert any(c.isdigit() for c in finding.seen) or name == "last activation"
    assert finding.why
    assert finding.advice
    assert any(year in finding.source for year in map(str, range(1998, 2026)))


def test_of_a_run_of_which_nothing_is_known_nothing_is_said():
    assert findings(evidence(n=1)) == []
    assert findings(Evidence("some", {}, 1000)) == []


def test_causes_are_named_before_what_they_cause():
    sick = evidence(
        {"train/approx_kl": [0.4] * 20},
        start=watched(replace(HIDDEN, change=3.0)),
        end=watched(replace(HIDDEN, dead=0.9)),
    )
    expected = ["learning rate too high", "policy update too large", "dead units"]
    assert [finding.check for finding in findings(sick)] == expected


def test_where_no_gradient_comes_back_the_step_size_is_not_blamed():
    still = Networks([replace(FIRST, gradient=0.0, change=0.0), replace(LAST, gradient=0.0)])
    assert findings(evidence(start=still, end=still, moved=0.0, updates=500)) == []


def test_a_run_that_diverged_names_the_step_size_and_what_was_seen():
    (finding,) = findings(evidence(error="runs/a: train/loss became nan after 300 examples: try"))
    assert finding.check == "learning rate too high"
    assert "train/loss became nan after 300 examples" in finding.seen


def test_the_four_error_rates_are_told():
    sick = evidence(
        {
            "train/error": line(0.9, 0.0),
            "eval/error": [0.5, 0.4, 0.4, 0.4],
            "eval/optimal_error": [0.05],
        },
        test={"error": 0.41},
    )
    (finding,) = findings(sick)
    assert finding.check == "overfitting"
    assert "optimal 5.0%, training 0.0%, validation 40.0%, test 41.0%" in finding.seen


def test_an_algorithm_brings_checks_of_its_own():
    own = Finding("temperature", "seen", "why", "advice", "source")
    assert findings(evidence(), [lambda e: own]) == [own]
