"""Every check names what is sick in just its way, and leaves its healthy twin alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from corelab_diagnosis.checks import CHECKS, findings
from corelab_diagnosis.interface import SURE, Evidence, Finding, Layer, Networks, Play

HIDDEN = Layer("layer 2", "Net", rows=64, seen=1024, gradient=1.0, change=1e-3, updates=16)
FIRST = replace(HIDDEN, name="layer 1", first=True, data=True)
LAST = replace(HIDDEN, name="layer 3")


def evidence(
    metrics: Mapping[str, Sequence[float]] | None = None,
    n: int = 20,
    steps: int = 1000,
    **facts: Any,
) -> Evidence:
    """Of a run that wrote METRICS in N rows; those with fewer values have them in the last rows."""
    rows: list[dict[str, float]] = [{"progress": steps * (i + 1) / n} for i in range(n)]
    for name, values in (metrics or {}).items():
        for row, value in zip(rows[n - len(values) :], values, strict=True):
            row[name] = value
    config = {"algorithm": facts.pop("options", {})}
    return Evidence("some", config, steps, rows, **facts)


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
    "batch too large": (
        evidence(updates=20, options={"batch_size": 1024}),
        evidence(updates=20, options={"batch_size": 32}),
    ),
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
        evidence({"train/approx_kl": [0.6] * 20, "train/clip_fraction": [0.7] * 20}),
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
        evidence({"train/kl_nats": line(2, 0)} | {f"eval/kl_nats_{i}": [1e-5] for i in range(9)}),
        evidence({"train/kl_nats": line(2, 3)} | {f"eval/kl_nats_{i}": [0.3] for i in range(9)}),
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
        evidence({"train/explained_variance": [-1.0] * 20, "train/return": [10.0, 20.0] * 10}),
        evidence({"train/explained_variance": [0.0] * 20, "train/return": [10.0, 20.0] * 10}),
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


def test_a_value_may_look_past_the_end_of_an_episode_that_is_cut_off():
    metrics = {
        "train/q": line(0, 60),
        "train/return": [40.0] * 5,
        "train/episode_length": [50] * 5,
        "train/truncated": [0.0] * 5,
    }
    facts = {"options": {"gamma": 0.99}, "play": Play(np.ones(100))}
    assert "overestimation" in [f.check for f in findings(evidence(metrics, **facts))]
    assert findings(evidence(metrics | {"train/truncated": [1.0] * 5}, **facts)) == []


def test_a_value_that_grew_until_the_end_is_judged_by_its_end():
    metrics = {
        "train/q": line(0, 140),
        "train/return": [80.0] * 5,
        "train/episode_length": [100] * 5,
    }
    sick = evidence(metrics, options={"gamma": 1.0}, play=Play(np.ones(100)))
    assert [finding.check for finding in findings(sick)] == ["overestimation"]


RISES, FLAT = {"train/return": line(1, 9, 8)}, {"train/return": [1.0, 2] * 4}
FALLS = {"train/error": line(0.8, 0.5), "eval/error": line(0.8, 0.5, 5)}
YOUNG = {"eval/recall": [0.1], "eval/recall_floor": [0.8]}
LEVELS = {f"eval/error_at_{i}": [1.0, 0.9, 0.8] for i in (1, 2)}
RANDOM = {"train/kl_nats": [0.3] * 20, **{f"eval/kl_nats_{i}": [0.07] for i in range(4)}}
DEFAULT = {"target_every": 500, "train_every": 4, "learning_starts": 1000}
IDLE = Networks([replace(FIRST, network="actor"), replace(FIRST, network="critic", change=1e-7)])


@pytest.mark.parametrize(
    ("metrics", "facts", "named"),
    [
        # half of the ratios are clipped where the clip has shrunk, and nothing else happens
        ({"train/approx_kl": [0.02] * 9, "train/clip_fraction": [0.5] * 9}, {}, ""),
        ({"train/approx_kl": [9.0, *[0.06] * 4]}, {}, ""),  # only the first
        ({"train/approx_kl": [0.2] * 4} | RISES, {}, ""),
        ({"train/approx_kl": [0.2] * 4} | FLAT, {}, "policy update too large"),
        ({"train/approx_kl": [0.2] * 4}, {}, ""),  # nothing is known of what came of it
        ({"train/approx_kl": [2.0] * 4} | RISES, {}, "policy update too large"),
        ({}, {"options": DEFAULT, "steps": 3000}, ""),
        ({}, {"options": DEFAULT | {"target_every": 3000}, "steps": 5000}, "stale replay"),
        ({}, {"options": DEFAULT | {"learning_starts": 2500}, "steps": 4000}, "stale replay"),
        ({"train/explained_variance": [0.0] * 20} | FLAT, {}, ""),
        ({"train/explained_variance": [0.0] * 20} | RISES, {"end": IDLE}, "value explains nothing"),
        (RANDOM, {}, ""),  # what a code carries that has learned nothing
        (RANDOM | {"train/kl_nats": line(3, 0.3)}, {}, "posterior collapse"),
        (LEVELS | {"eval/error_at_3": [1.02, 1.01, 1.0]}, {}, ""),
        (LEVELS | {"eval/error_at_3": [1.02] * 3}, {}, "noise level"),
        (LEVELS | {"eval/error_at_3": [39.0, 20, 16]}, {}, ""),  # it comes down
        (YOUNG, {"options": {"batch_size": 4}}, ""),
        ({"train/win_rate": [0.5] * 9}, {}, ""),  # of a game that people play
        (FALLS, {}, ""),
        (FALLS | {"train/error": [0.7, 0.8] * 10}, {}, "bias"),
    ],
)
def test_a_check_waits_until_there_is_enough_evidence(metrics, facts, named):
    found = [finding.check for finding in findings(evidence(metrics, **facts))]
    assert found == [named] * bool(named)


@pytest.mark.parametrize(
    ("entropies", "returns", "named"),
    [
        ([1.0, 0.1, 0.1, 0.1, 0.1], [2.0, 1, 2, 1, 2], True),
        ([0.1, 0.1, 0.1, 0.1, 0.1], [2.0, 1, 2, 1, 2], True),  # after the first update
        ([1.0, 0.9, 0.8, 0.8, 0.8], [2.0, 1, 2, 1, 2], False),
        ([1.0, 0.1, 0.1, 0.1, 0.1], [1.0, 2, 3, 4, 5], False),
    ],
)
def test_five_updates_are_enough_to_see_that_a_policy_is_certain(entropies, returns, named):
    metrics = {"train/entropy": entropies, "train/return": returns}
    facts = {"options": {"entropy_coef": 0.0}, "play": Play(np.ones(9), actions=3)}
    found = [finding.check for finding in findings(evidence(metrics, n=5, **facts))]
    assert found == ["entropy collapse"] * named


def test_a_trend_is_what_order_alone_would_seldom_give():
    def trend(values, **options):
        return evidence({"train/return": values}, n=len(values)).trend("train/return", **options)

    assert SURE < trend([1, 2, 3, 4]) < 1.7  # 5 / √(4 · 3 · 13 / 18)
    assert trend([4, 3, 2, 1]) < -SURE
    assert trend([1, 2, 3]) < SURE
    assert trend([1]) == trend([1, 1, 1, 1]) == 0
    assert trend([9, 8, 7, 1, 2, 3, 4], since=0.5) > SURE
    rng = np.random.default_rng(0)
    chance = [trend(rng.normal(size=30)) > SURE for _ in range(400)]
    assert 0.02 < np.mean(chance) < 0.08


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
        {"train/approx_kl": [0.6] * 20},
        start=watched(replace(HIDDEN, change=3.0)),
        end=watched(replace(HIDDEN, dead=0.9)),
    )
    expected = ["learning rate too high", "policy update too large", "dead units"]
    assert [finding.check for finding in findings(sick)] == expected


def test_what_is_wrong_before_the_first_update_is_named_before_what_training_did():
    fresh = watched(replace(HIDDEN, saturated=0.7))
    sick = evidence({"train/approx_kl": [0.6] * 20}, fresh=fresh)
    assert [f.check for f in findings(sick)] == ["saturation", "policy update too large"]


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
