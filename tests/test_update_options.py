"""Every option of updates serves every family of generative models."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from corelab.experiments import resolve

OPTIONS = {
    "update.ema": 0.1,
    "update.clip": 0.5,
    "update.accumulate": 2,
    "update.precision": "bfloat16",
    "update.channels_last": True,
    "update.compile": True,
}
SMALL: dict[str, dict[str, Any]] = {
    "vae": {"model.width": 16, "model.blocks": 0},
    "vqvae": {"model.blocks": 0, "algorithm.prior_layers": 1, "algorithm.prior_channels": 8},
    "gan": {"model.sizes": (16,), "algorithm.penalty_every": 2},
    "pixelcnn": {"model.layers": 1, "model.channels": 8},
    "diffusion": {"model.channels": 8, "model.multiples": (1,), "model.attention": 0},
}


@pytest.mark.parametrize("algorithm", SMALL)
def test_a_family_learns_with_all_options_of_updates_at_once(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the same graphs, without the minute that generating code for them takes
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    batch = {"algorithm.batch_size": 16, "steps": 64, "device": "cpu"}
    values = {**OPTIONS, **SMALL[algorithm], **batch}
    experiment = resolve(algorithm, task="digits", values=values)
    context = experiment.context()
    run: Any = experiment.build(context)
    rows = []
    with context.owning_globals():
        while run.progress < 64:
            rows.append({name: float(value) for name, value in run.step().items()})
    assert all(math.isfinite(value) for row in rows for value in row.values())
    losses = [value for row in rows for name, value in row.items() if "loss" in name]
    losses += [row["code_nats"] for row in rows if "code_nats" in row]
    assert len(set(losses)) == len(losses)  # a weight that rests would repeat itself
    assert run.sample(4).pixels.shape == (4, 8, 8, 1)
