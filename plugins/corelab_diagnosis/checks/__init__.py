"""What experienced people look at first, causes before what they cause."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from corelab_diagnosis.checks import data, fit, generative, layers, reinforcement, updates
from corelab_diagnosis.interface import Check, Evidence, Finding

CHECKS: tuple[Check, ...] = (
    data.inputs,
    data.rewards,
    layers.last_activation,
    layers.initialisation,
    reinforcement.time_limit,
    updates.learning_rate_high,
    updates.learning_rate_low,
    updates.batch_large,
    updates.batch_small,
    reinforcement.stale,
    reinforcement.overestimation,
    reinforcement.step_of_policy,
    generative.discriminator,
    generative.codebook,
    generative.posterior,
    generative.noise_levels,
    layers.dead,
    layers.saturated,
    layers.gradients,
    reinforcement.entropy,
    reinforcement.value,
    generative.modes,
    fit.few_units,
    fit.many_units,
    fit.gap,
    fit.bias,
)
"""In the order in which findings are named, but that some may have been there from the start."""


def findings(evidence: Evidence, more: Iterable[Check] = ()) -> list[Finding]:
    """What CHECKS, and MORE after them, find in EVIDENCE, and first of all what they would find
    before the first update: no training has caused that.
    """
    checks = (*CHECKS, *more)
    begun = replace(evidence, rows=(), error="", start=None, end=None, moved=None, updates=0)
    at_once = {finding.check for check in checks if (finding := check(begun)) is not None}
    found = [finding for check in checks if (finding := check(evidence)) is not None]
    return sorted(found, key=lambda finding: finding.check not in at_once)
