"""Samplers: from noise to images down a grid of levels, all with the same signature.

Each takes a denoiser, x = σ_0 n (to which the image adds next to nothing), the levels
σ_0 > σ_1 > … ≥ 0 as `schedules.descent` gives them, and a generator for the noise that it adds on
the way; it gives x at the last level. Deterministic ones follow the probability-flow equation

    dx/dσ = (x - D(x; σ)) / σ                          (Karras et al. 2022, EDM, eq. 1 and 3, s = 1)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from corelab import ConfigError, require
from corelab_diffusion.schedules import reverse_log_variances

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Called with x [N, C, H, W] and its level [] or [N, 1, 1, 1] it gives D, of the shape of x, and
where the log-variance of a reverse step lies between its lower bound (0) and its upper (1), of a
shape that broadcasts to x."""
Sampler = Callable[[Denoise, Tensor, Tensor, torch.Generator], Tensor]


def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, generator: torch.Generator) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, algorithm 2), with the variance that ν says."""
    for sigma, tau in pairwise(sigmas):
        D, nu = denoise(x, sigma)
        x = D + (tau / sigma) ** 2 * (x - D)
        if tau > 0:
            lower, upper = reverse_log_variances(sigma, tau)
            x = x + torch.exp((lower + nu * (upper - lower)) / 2) * noise_like(x, generator)
    return x


def ddim(
    denoise: Denoise, x: Tensor, sigmas: Tensor, generator: torch.Generator, eta: float = 0.0
) -> Tensor:
    """Song et al. 2020 (arXiv:2010.02502), eq. 12 and 16; with ETA 1 it is `ddpm` with ν = 0."""
    for sigma, tau in pairwise(sigmas):
        D, _ = denoise(x, sigma)
        added = eta * tau * (1 - (tau / sigma) ** 2).sqrt()
        x = D + (tau**2 - added**2).sqrt() / sigma * (x - D)
        if added > 0:
            x = x + added * noise_like(x, generator)
    return x


def euler(
    denoise: Denoise, x: Tensor, sigmas: Tensor, generator: torch.Generator, churn: float = 0.0
) -> Tensor:
    """Euler's method, with noise added before each step if CHURN > 0 (EDM, algorithm 2).

    Without churn it takes the same steps as `ddim`.
    """
    for sigma, tau in pairwise(sigmas):
        x, sigma = _stirred(x, sigma, churn / (len(sigmas) - 1), generator)
        D, _ = denoise(x, sigma)
        x = x + (tau - sigma) * (x - D) / sigma
    return x


def heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, generator: torch.Generator, churn: float = 0.0
) -> Tensor:
    """Heun's method of order 2 (EDM, algorithm 1; with CHURN > 0 its algorithm 2).

    It asks for two denoised images a step, but in the last one if that leads to σ = 0.
    """
    for sigma, tau in pairwise(sigmas):
        x, sigma = _stirred(x, sigma, churn / (len(sigmas) - 1), generator)
        D, _ = denoise(x, sigma)
        slope = (x - D) / sigma
        ahead = x + (tau - sigma) * slope
        if tau > 0:
            D, _ = denoise(ahead, tau)
            ahead = x + (tau - sigma) * (slope + (ahead - D) / tau) / 2
        x = ahead
    return x


def dpm(denoise: Denoise, x: Tensor, sigmas: Tensor, generator: torch.Generator) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2).

    A multi-step method of order 2 in λ = -log σ, with one denoised image a step; its first step,
    and the last one if that leads to σ = 0, are of order 1.
    """
    D_before, h_before = x, math.inf
    for sigma, tau in pairwise(sigmas):
        D, _ = denoise(x, sigma)
        h = math.log(sigma / tau) if tau > 0 else math.inf
        ahead = D
        if h_before < math.inf and h < math.inf:
            r = h_before / h
            ahead = D + (D - D_before) / (2 * r)
        x = tau / sigma * x - math.expm1(-h) * ahead
        D_before, h_before = D, h
    return x


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of the shape, type and device of X."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _stirred(
    x: Tensor, sigma: Tensor, churn: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """X with noise added, and its new level (EDM, algorithm 2, lines 4 to 6).

    S_tmin, S_tmax and S_noise are 0.05, 50 and 1.003, as for EDM's ImageNet (table 5).
    """
    if churn <= 0 or not 0.05 <= sigma <= 50:
        return x, sigma
    raised = sigma * (1 + min(churn, math.sqrt(2) - 1))
    return x + 1.003 * (raised**2 - sigma**2).sqrt() * noise_like(x, generator), raised


def slerp(a: Tensor, b: Tensor, n: int) -> Tensor:
    """N points on the arcs from A to B, both noise [N, C, H, W], as [N, n, C, H, W].

    Unlike those of a straight line they have the length of noise (Shoemake 1985).
    """
    a, b = a.double()[:, None], b.double()[:, None]
    w = torch.linspace(0, 1, n, dtype=a.dtype, device=a.device)[:, None, None, None]
    over = (2, 3, 4)
    lengths = a.square().sum(over, keepdim=True) * b.square().sum(over, keepdim=True)
    angle = torch.acos((a * b).sum(over, keepdim=True) / lengths.sqrt())
    return ((torch.sin((1 - w) * angle) * a + torch.sin(w * angle) * b) / torch.sin(angle)).float()


SamplerName = Literal["ddpm", "ddim", "euler", "heun", "dpm"]
DETERMINISTIC = ("ddim", "euler", "heun", "dpm")
"""Samplers that add no noise unless asked to."""


def choose_sampler(name: SamplerName, eta: float = 0.0, churn: float = 0.0) -> Sampler:
    """The sampler NAME; ETA is for `ddim`, CHURN for `euler` and `heun`."""
    require(0 <= eta <= 1, "--eta", eta, "between 0 and 1")
    require(0 <= churn < math.inf, "--churn", churn, "zero or positive")
    if eta and name != "ddim":
        raise ConfigError(f"--eta is for --sampler ddim, not for {name}")
    if churn and name not in ("euler", "heun"):
        raise ConfigError(f"--churn is for --sampler euler or heun, not for {name}")
    samplers: Mapping[str, Sampler] = {
        "ddpm": ddpm,
        "ddim": partial(ddim, eta=eta),
        "euler": partial(euler, churn=churn),
        "heun": partial(heun, churn=churn),
        "dpm": dpm,
    }
    return samplers[name]
