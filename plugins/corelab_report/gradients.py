"""The gradients that came back through each layer, in gradients.jsonl."""

from __future__ import annotations

import json
from typing import Any

from corelab import Run

FILE = "gradients.jsonl"
_LOOKS = 40
"""Places of the slider, at most."""
_LAYERS = 32
"""Layers that are shown, at most: every so many of them."""


def gradients(run: Run) -> list[dict[str, Any]]:
    """For each look at the networks of RUN its progress, and for each layer its name, the root of
    the mean square of its gradient, and by how much of its size an update changed its weights.
    """
    file = run.path / FILE
    looks: list[dict[str, Any]] = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:  # cut short by a kill
            continue
        while looks and looks[-1]["progress"] >= row["progress"]:  # it happened again
            looks.pop()
        looks.append(row)
    return [look | {"layers": _some(look["layers"], _LAYERS)} for look in _some(looks, _LOOKS)]


def _some(items: list[Any], most: int) -> list[Any]:
    """Every so many of ITEMS, so that there are not more than MOST."""
    return items[:: max(1, -(-len(items) // most))]
