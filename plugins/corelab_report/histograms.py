"""How the weights in a run's checkpoints are distributed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from corelab import Run
from corelab_report.curves import rounded

_BINS = 40
_TENSORS = 24
"""Histograms of one checkpoint, at most: of the largest tensors."""
_FEWEST = 16
"""Numbers that a tensor needs for a histogram."""


def histograms(run: Run) -> list[dict[str, Any]]:
    """For each whole checkpoint of RUN its progress, and for each tensor of the weights its
    histogram, with the same bins in all checkpoints.
    """
    whole = [place for place in run.checkpoints.all() if not run.checkpoints.fault(place)]
    files = {int(place.name): place / "algorithm" / "weights.safetensors" for place in whole}
    tensors = {progress: _tensors(file) for progress, file in files.items() if file.exists()}
    if not tensors:
        return []
    newest = tensors[max(tensors)]
    largest = sorted(newest, key=lambda name: newest[name].size, reverse=True)[:_TENSORS]
    names = [name for name in newest if name in largest]
    spans = {
        name: (
            min(float(of[name].min()) for of in tensors.values()),
            max(float(of[name].max()) for of in tensors.values()),
        )
        for name in names
    }
    return [
        {
            "progress": progress,
            "tensors": [_histogram(name, of[name], spans[name]) for name in names],
        }
        for progress, of in tensors.items()
    ]


def _tensors(file: Path) -> dict[str, Any]:
    from corelab.state import load_tensors

    read = {
        name: tensor for name, tensor in load_tensors(file).items() if tensor.is_floating_point()
    }
    return {name: t.float().numpy() for name, t in read.items() if t.numel() >= _FEWEST}


def _histogram(name: str, tensor: Any, span: tuple[float, float]) -> dict[str, Any]:
    low, high = span if span[0] < span[1] else (span[0] - 0.5, span[1] + 0.5)
    counts, _ = np.histogram(tensor, _BINS, (low, high))
    return {
        "name": name,
        "shape": list(tensor.shape),
        "span": rounded([low, high]),
        "counts": counts.tolist(),
        "mean": rounded([tensor.mean(dtype=np.float64)])[0],
        "std": rounded([tensor.std(dtype=np.float64)])[0],
    }
