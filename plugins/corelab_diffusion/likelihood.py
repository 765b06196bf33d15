"""How probable an image is: the variational bound, and the probability-flow equation."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from corelab_diffusion.samplers import Denoise
from corelab_diffusion.schedules import reverse_log_variances

_HALF = 1 / 255
"""Half the distance between two of the 256 levels of a pixel in [-1, 1]."""


def discretised_gaussian(y: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The log-probability of Y in nats, of its shape: the mass of a Gaussian in the bin around it.

    Y is one of the 256 levels in [-1, 1], and the outermost bins reach to infinity (Ho et al. 2020,
    eq. 13).
    """
    inverse = torch.exp(-log_variance / 2)
    low, high = (y - _HALF - mean) * inverse, (y + _HALF - mean) * inverse
    # Φ(high) - Φ(low) in the lower tail, where neither of them is rounded to 1
    flipped = low + high > 0
    a, b = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    inside = log_b + torch.log(-torch.expm1((log_a - log_b).clamp(max=-1e-7)))
    first, last = y < -1 + _HALF, y > 1 - _HALF
    edge = torch.where(first, torch.special.log_ndtr(high), torch.special.log_ndtr(-low))
    return torch.where(first | last, edge, inside)


def bound_term(y: Tensor, x: Tensor, D: Tensor, nu: Tensor, t: Tensor, sigmas: Tensor) -> Tensor:
    """L_t in nats, of the shape of Y, for t [N, 1, 1, 1] among the rising levels SIGMAS [T].

    X = y + σ_t n, D and NU are what the denoiser makes of it. L_t is the divergence of the step
    down from level t, and for t = 0 it is -log p(y|x) (Ho et al. 2020, eq. 5 and 8; with the
    variance of Nichol & Dhariwal 2021, eq. 15). That last step has the larger variance, as the
    smaller would be 0.
    """
    first = t == 0
    sigma, tau = sigmas[t.clamp(min=1)], sigmas[t.clamp(min=1) - 1]
    lower, upper = (bound.to(y.dtype) for bound in reverse_log_variances(sigma, tau))
    log_variance = lower + nu * (upper - lower)
    off = (1 - (tau / sigma) ** 2).to(y.dtype) * (y - D)
    divergence = (
        log_variance
        - lower
        + torch.exp(lower - log_variance)
        - 1
        + off**2 * torch.exp(-log_variance)
    ) / 2
    last = (2 * torch.log(sigmas[0]) - torch.log1p(sigmas[0] ** 2)).to(y.dtype)
    return torch.where(first, -discretised_gaussian(y, D, last), divergence)


def prior_term(y: Tensor, sigma: Tensor) -> Tensor:
    """L_T in nats, of the shape of Y: the divergence of y + σ n from the prior N(0, 1 + σ²)."""
    share = sigma**2 / (1 + sigma**2)
    return ((share - 1 - torch.log(share)) + (y**2) / (1 + sigma**2)).to(y.dtype) / 2


def variational_bound(
    denoise: Denoise, y: Tensor, sigmas: Tensor, generator: torch.Generator, full: bool = False
) -> Tensor:
    """A bound from above on -log p(y) in nats, [N], of levels Y [N, C, H, W] in [-1, 1].

    It is the sum of all L_t if FULL, with fresh noise for each, or else its unbiased estimate: L_T
    and L_0, and for the sum of the others one at a random t for each image. These t are spread
    evenly, as the mean over images is less noisy then (Kingma et al. 2021, arXiv:2107.00630,
    appendix I.1).
    """
    T, N, device = len(sigmas), len(y), y.device
    if full:
        levels = [torch.full((N,), t, device=device) for t in range(1, T)]
    else:
        start = torch.rand((), generator=generator, dtype=torch.float64, device=device)
        share = torch.randperm(N, generator=generator, device=device) / N
        levels = [1 + ((start + share) % 1 * (T - 1)).long().clamp(max=T - 2)]
    total = prior_term(y, sigmas[-1])
    for t in [torch.zeros_like(levels[0]), *levels]:
        t = t[:, None, None, None]
        sigma = sigmas[t]
        n = torch.randn(y.shape, generator=generator, dtype=y.dtype, device=device)
        x = y + sigma.to(y.dtype) * n
        D, nu = denoise(x, sigma)
        weight = torch.where(t == 0, 1.0, (T - 1) / len(levels))
        total = total + weight * bound_term(y, x, D, nu, t, sigmas)
    return total.flatten(1).sum(1)


def flow_log_density(
    denoise: Denoise, x: Tensor, sigmas: Tensor, generator: torch.Generator
) -> Tensor:
    """The log-density in nats, [N], of X at the first of the rising levels SIGMAS.

    The probability-flow equation carries x up to the last level, whose density is N(0, 1 + σ²), and
    its divergence says how the density changes on the way (Song et al. 2021, arXiv:2011.13456,
    eq. 39). With λ = log σ that is d log p / dλ = tr ∂D/∂x - d on the way up; the trace is
    estimated with one vector of random signs for each image (Hutchinson; eq. 40). Steps are those
    of Heun.
    """
    signs = torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x.dtype) * 2 - 1
    d = x[0].numel()
    gained = x.new_zeros(len(x))
    for sigma, tau in pairwise(sigmas):
        D, trace = _denoised_and_trace(denoise, x, sigma, signs)
        slope = (x - D) / sigma.to(x.dtype)
        ahead = x + (tau - sigma).to(x.dtype) * slope
        D, trace_ahead = _denoised_and_trace(denoise, ahead, tau, signs)
        x = x + (tau - sigma).to(x.dtype) * (slope + (ahead - D) / tau.to(x.dtype)) / 2
        gained += math.log(tau / sigma) * (d - (trace + trace_ahead) / 2)
    variance = 1 + sigmas[-1].item() ** 2
    prior = -(x**2).flatten(1).sum(1) / (2 * variance) - d / 2 * math.log(2 * math.pi * variance)
    return prior + gained


def _denoised_and_trace(
    denoise: Denoise, x: Tensor, sigma: Tensor, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """D(x; σ), and the estimate of tr ∂D/∂x, [N]."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        D, _ = denoise(x, sigma)
        (pulled,) = torch.autograd.grad((D * signs).sum(), x)
    return D.detach(), (pulled * signs).flatten(1).sum(1)
