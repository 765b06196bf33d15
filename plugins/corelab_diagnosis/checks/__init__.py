"""What experienced people look at first, causes before what they cause."""

from __future__ import annotations

from collections.abc import Iterable

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
"""In the order in which findings are named."""


def findings(evidence: Evidence, more: Iterable[Check] = ()) -> list[Finding]:
    """What CHECKS, and MORE after them, find in EVIDENCE."""
    found = (check(evidence) for check in (*CHECKS, *more))
    return [finding for finding in found if finding is not None]
