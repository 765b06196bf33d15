"""Noise levels, and the Gaussian steps between them.

Everywhere in this package an image x = y + σ n carries noise n ~ N(0, I) of the level σ, as in
Karras et al. 2022 (EDM, arXiv:2206.00364). The process of DDPM (Ho et al. 2020, arXiv:2006.11239),
x_t = √ᾱ_t y + √(1 - ᾱ_t) ε, is the same one seen through a scale: √ᾱ_t (y + σ_t n) with
σ_t = √((1 - ᾱ_t) / ᾱ_t). So each schedule is a grid of σ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_BETA_MAX = 0.999
"""No step of DDPM adds more noise than this (Nichol & Dhariwal 2021, section 3.2)."""


def linear(levels: int) -> Tensor:
    """σ [levels], rising, float64: β from 1e-4 to 0.02 in equal steps (DDPM, section 4).

    That is for 1,000 levels; β is larger in proportion where there are fewer.
    """
    scale = 1000 / levels
    return _from_beta(torch.linspace(1e-4, 0.02, levels, dtype=torch.float64) * scale)


def cosine(levels: int) -> Tensor:
    """σ [levels], rising, float64: ᾱ falls like a squared cosine.

    Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 17.
    """
    t = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return _from_beta(1 - f[1:] / f[:-1])


def edm(levels: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """σ [levels], rising, float64: equal steps of σ^(1/ρ) (EDM, eq. 5)."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return torch.linspace(low, high, levels, dtype=torch.float64) ** rho


def _from_beta(beta: Tensor) -> Tensor:
    alpha_bar = torch.cumprod(1 - beta.clamp(max=_BETA_MAX), 0)
    return ((1 - alpha_bar) / alpha_bar).sqrt()


SCHEDULES: Mapping[str, Callable[[int], Tensor]] = {"edm": edm, "linear": linear, "cosine": cosine}


def descent(sigmas: Tensor, steps: int) -> Tensor:
    """The way down the rising grid SIGMAS in STEPS steps: [STEPS + 1], from its last σ to 0.

    The levels in between are evenly spaced in their index, the first of the grid among them.
    """
    index = torch.linspace(len(sigmas) - 1, 0, steps, dtype=torch.float64).round().long()
    return torch.cat([sigmas[index], sigmas.new_zeros(1)])


def reverse_log_variances(sigma: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """The bounds of the log-variance of a step from level SIGMA down to TAU > 0.

    The lower, β̃, is right if the image is one that is known, the upper, β, if the image is any of
    N(0, I) (DDPM, section 3.2; here as variances of y + τ n rather than of its scaled twin).
    """
    fresh = torch.log(sigma**2 - tau**2)
    lower = fresh + 2 * torch.log(tau / sigma)
    upper = fresh + torch.log1p(tau**2) - torch.log1p(sigma**2)
    return lower, upper
