"""How well a denoiser does at single levels of noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_PARTS = 4


def errors(
    denoiser: Callable[..., Any],
    y: Tensor,
    labels: Tensor | None,
    told: Tensor | None,
    sigmas: Tensor,
    generator: torch.Generator,
) -> dict[str, float]:
    """The squared error at the middle of each quarter of the levels SIGMAS, `error_at_1` with the
    least noise: as a share of that of the best denoiser that is linear and isotropic,
    μ + v / (v + σ²) (x - μ), where images Y [N, C, H, W] have the mean μ [C, H, W] and the variance
    v. 1 or less is what any training should reach.
    """
    mean = y.mean(0)
    variance = (y - mean).square().mean()
    found = {}
    for part in range(_PARTS):
        sigma = sigmas[len(sigmas) * (2 * part + 1) // (2 * _PARTS)].to(y.dtype)
        noise = torch.randn(y.shape, generator=generator, device=y.device)
        x = y + sigma * noise
        D, _ = denoiser(x, sigma.expand(len(y)), labels, told)
        linear = mean + variance / (variance + sigma**2) * (x - mean)
        share = (D - y).square().mean() / (linear - y).square().mean()
        found[f"error_at_{part + 1}"] = share.item()
    return found
