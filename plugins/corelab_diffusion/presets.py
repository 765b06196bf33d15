"""Defaults for single tasks; docs/algorithms/diffusion.md tells what they reach."""

from __future__ import annotations

from typing import Any

_SMALL: dict[str, Any] = {
    "steps": 130_000,
    "model.channels": 32,
    "model.patch": 2,
    "model.attention": 0,
    "algorithm.batch_size": 32,
    "algorithm.lr": 2e-3,
}
"""For 28 x 28 grey pixels and some ten minutes of one thread."""

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {"steps": 40_000, "model.channels": 16, "model.blocks": 1, "algorithm.lr": 4e-3},
    "fashion-mnist": _SMALL,
    "mnist": _SMALL,
    "images": {"steps": 2_000_000, "model.multiples": (1, 2, 2), "model.attention": 2},
}
