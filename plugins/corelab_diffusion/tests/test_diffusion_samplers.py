from __future__ import annotations

import math
from functools import cache, partial
from itertools import pairwise

import pytest
import torch
from corelab_diffusion import samplers
from corelab_diffusion.denoiser import Denoiser
from corelab_diffusion.parametrisations import PARAMETRISATIONS, v
from corelab_diffusion.samplers import ddim, ddpm, dpm, euler, heun
from corelab_diffusion.schedules import SCHEDULES, descent, edm, reverse_log_variances

SAMPLERS = {
    "ddpm": ddpm,
    "ddim": ddim,
    "ddim, eta 1": partial(ddim, eta=1.0),
    "euler": euler,
    "euler, churn": partial(euler, churn=5.0),
    "heun": heun,
    "heun, churn": partial(heun, churn=5.0),
    "dpm": dpm,
}
ZERO = torch.zeros(())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(x, sigma, mean=0.3, std=0.4):
    """E[y | y + σ n] for y ~ N(mean, std²)."""
    return (std**2 * x + sigma**2 * mean) / (std**2 + sigma**2)


def mixture(x, sigma):
    """E[y | y + σ n] for an even mixture of N(-0.7, 0.3²) and N(0.6, 0.2²), number by number."""
    means, stds = torch.tensor([-0.7, 0.6]).double(), torch.tensor([0.3, 0.2]).double()
    x = x[..., None]
    variance = stds**2 + sigma**2
    share = torch.softmax(-((x - means) ** 2) / (2 * variance) - torch.log(variance) / 2, -1)
    return (share * gaussian(x, sigma, means, stds)).sum(-1), ZERO


@cache
def follow(sampler, steps):
    """Where 200 numbers end that start at level 20 and take STEPS steps down to level 0.1.

    Not to 0, as the order would be that of the last step.
    """
    x = 20 * torch.randn(50, 1, 2, 2, generator=generator(), dtype=torch.float64)
    return sampler(mixture, x, edm(steps + 1, 0.1, 20.0).flip(0), generator())


@pytest.mark.parametrize(
    ("sampler", "order"), [(ddim, 1), (euler, 1), (heun, 2), (dpm, 2)], ids=lambda s: str(s)[:14]
)
def test_a_sampler_converges_at_its_published_order(sampler, order):
    steps = [64, 128]
    errors = torch.stack([(follow(sampler, n) - follow(heun, 2048)).norm() for n in steps])
    slopes = torch.log2(errors[:-1] / errors[1:])
    assert torch.allclose(slopes, torch.tensor(float(order)).double(), atol=0.2), slopes
    assert errors[-1] < {1: 0.3, 2: 0.01}[order]


@pytest.mark.parametrize("nu", [0.0, 1.0])
def test_the_variance_that_ddpm_finds_of_a_gaussian_converges_at_order_1(nu, monkeypatch):
    """A step of it makes a x + b + s n of x, so variances can be followed without drawing."""

    def step(levels, x, n):
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        monkeypatch.setattr(samplers, "noise_like", lambda *_: n * one)
        denoise = lambda x, sigma: (gaussian(x, sigma), nu * one)  # noqa: E731
        return ddpm(denoise, x * one, levels, generator()).item()

    def error(steps):
        variance = 20.0**2 + 0.4**2
        for levels in map(torch.stack, pairwise(edm(steps + 1, 0.1, 20.0).flip(0))):
            b = step(levels, 0, 0)
            a, s = step(levels, 1, 0) - b, step(levels, 0, 1) - b
            variance = a**2 * variance + s**2
        return abs(variance - (0.1**2 + 0.4**2))

    assert math.log2(error(64) / error(128)) == pytest.approx(1, abs=0.1)


class Exact(torch.nn.Module):
    """The network that makes D exact where data is N(0.3, 0.4²), whatever it is to predict."""

    def __init__(self, parametrisation):
        super().__init__()
        self.parametrisation = parametrisation

    def forward(self, x, noise, labels):
        sigma = torch.exp(4 * noise)[:, None, None, None]
        c_skip, c_out, c_in = self.parametrisation(sigma)
        return (gaussian(x / c_in, sigma) - c_skip * x / c_in) / c_out


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_whatever_is_predicted_a_sampler_finds_the_moments_of_a_gaussian(
    sampler, parametrisation, schedule
):
    predict = PARAMETRISATIONS[parametrisation]
    denoiser = Denoiser(Exact(predict), predict, "small")
    sigmas = descent(SCHEDULES[schedule](1000), 200)
    x = sigmas[0] * torch.randn(2000, 1, 2, 2, generator=generator(1), dtype=torch.float64)
    y = SAMPLERS[sampler](lambda x, s: denoiser(x, s.expand(len(x))), x, sigmas, generator(2))
    assert y.mean().item() == pytest.approx(0.3, abs=0.018)  # 8,000 numbers: 0.0045 is one sigma
    assert y.std().item() == pytest.approx(0.4, rel=0.05)
    assert torch.corrcoef(y.flatten(1).T).fill_diagonal_(0).abs().max() < 0.08


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_finds_a_mixture(sampler):
    sigmas = descent(edm(1000), 100)
    x = 80 * torch.randn(4000, 1, 1, 2, generator=generator(1), dtype=torch.float64)
    y = SAMPLERS[sampler](mixture, x, sigmas, generator(2)).flatten()
    draws = torch.randn(8000, generator=generator(3), dtype=torch.float64)
    right = torch.arange(8000) % 2 == 0
    truth = torch.where(right, 0.6 + 0.2 * draws, -0.7 + 0.3 * draws)
    apart = (y.sort().values - truth.sort().values).abs().mean()  # the distance of Wasserstein
    assert apart < 0.03


def test_euler_and_ddim_take_the_same_steps():
    sigmas = descent(edm(1000), 13)
    x = 80 * torch.randn(9, 1, 2, 2, generator=generator(), dtype=torch.float64)
    a, b = (sampler(mixture, x, sigmas, generator()) for sampler in (euler, ddim))
    assert torch.allclose(a, b, rtol=0, atol=1e-12)


def test_ddim_with_eta_1_is_ddpm_with_the_smaller_variance():
    sigmas = descent(edm(1000), 13)
    x = 80 * torch.randn(9, 1, 2, 2, generator=generator(), dtype=torch.float64)
    a = ddim(mixture, x, sigmas, generator(5), eta=1.0)
    b = ddpm(mixture, x, sigmas, generator(5))
    assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "euler", "heun", "dpm"])
def test_one_step_to_zero_is_the_denoised_image(sampler):
    x = 80 * torch.randn(9, 1, 2, 2, generator=generator(), dtype=torch.float64)
    sigmas = torch.tensor([80.0, 0.0]).double()
    y = SAMPLERS[sampler](mixture, x, sigmas, generator())
    assert torch.allclose(y, mixture(x, sigmas[0])[0], rtol=0, atol=1e-12)


def test_a_step_of_ddpm_is_that_of_its_paper():
    # eq. 7 and 11 of DDPM, at its own scale
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    sigmas, t = SCHEDULES["linear"](1000), 400
    x = 3 * torch.randn(5, 1, 2, 2, generator=generator(), dtype=torch.float64)
    D, _ = mixture(x, sigmas[t])
    x_t, before = alpha_bar[t].sqrt() * x, alpha_bar[t - 1]
    mean = (before.sqrt() * beta[t] * D + (1 - beta[t]).sqrt() * (1 - before) * x_t) / (
        1 - alpha_bar[t]
    )
    for nu, variance in ((0.0, (1 - before) / (1 - alpha_bar[t]) * beta[t]), (1.0, beta[t])):
        spread = lambda x, s, nu=nu: (mixture(x, s)[0], torch.tensor(nu))  # noqa: E731
        ours = ddpm(spread, x, sigmas[[t, t - 1]], generator(3)) * before.sqrt()
        z = torch.randn(x.shape, generator=generator(3), dtype=torch.float64)
        assert torch.allclose(ours, mean + variance.sqrt() * z, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_forward_process_has_the_moments_of_ddpm(name):
    sigmas = SCHEDULES[name](1000)
    alpha_bar = 1 / (1 + sigmas**2)
    beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
    y, x = torch.tensor(0.8).double(), torch.full((20000,), 0.8).double()
    x = alpha_bar[0].sqrt() * x
    x += (1 - alpha_bar[0]).sqrt() * torch.randn(20000, generator=generator(), dtype=torch.float64)
    for t in range(1, 300):  # step by step, as in eq. 2 of DDPM
        n = torch.randn(20000, generator=generator(t), dtype=torch.float64)
        x = (1 - beta[t - 1]).sqrt() * x + beta[t - 1].sqrt() * n
    assert x.mean().item() == pytest.approx((alpha_bar[299].sqrt() * y).item(), abs=0.02)
    assert x.var().item() == pytest.approx((1 - alpha_bar[299]).item(), rel=0.04)


def test_the_schedules_are_those_of_the_papers():
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    assert torch.allclose(1 / (1 + SCHEDULES["linear"](1000) ** 2), alpha_bar)
    t = torch.arange(1, 991).double() / 1000
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    f0 = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert torch.allclose(1 / (1 + SCHEDULES["cosine"](1000)[:990] ** 2), f / f0)
    sigmas = edm(18)
    assert sigmas[[0, -1]].tolist() == pytest.approx([0.002, 80])
    steps = (sigmas ** (1 / 7)).diff()
    assert torch.allclose(steps, steps[0])
    for levels in (10, 100, 1000):
        for schedule in SCHEDULES.values():
            assert (schedule(levels).diff() > 0).all()
            assert schedule(levels)[-1] > 30


def test_a_descent_goes_from_the_last_level_over_the_first_to_zero():
    grid = torch.arange(1.0, 11.0).double()
    assert descent(grid, 10).tolist() == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert descent(grid, 4).tolist() == [10, 7, 4, 1, 0]
    assert descent(grid, 1).tolist() == [10, 0]


def test_the_bounds_of_the_variance_are_those_of_known_images_and_of_noise():
    sigma, tau = torch.tensor(2.0).double(), torch.tensor(1.5).double()
    lower, upper = reverse_log_variances(sigma, tau)
    for data, expected in ((0.0, lower), (1.0, upper)):
        # of x_τ given x_σ, where x_τ ~ N(0, data² + τ²) and x_σ = x_τ + √(σ² - τ²) n
        prior, added = data**2 + tau**2, sigma**2 - tau**2
        assert expected.exp().item() == pytest.approx((prior * added / (prior + added)).item())


@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_what_the_network_predicts_is_what_its_name_says(name):
    y, n = torch.randn(2, 50, generator=generator(), dtype=torch.float64)
    sigma = torch.rand(50, generator=generator(1), dtype=torch.float64) * 10 + 0.01
    x, alpha = y + sigma * n, (1 + sigma**2).rsqrt()
    c_skip, c_out, c_in = PARAMETRISATIONS[name](sigma)
    target = (y - c_skip * x) / c_out
    s = 0.5
    named = {
        "epsilon": n,
        "x0": y,
        "v": alpha * n - sigma * alpha * y,
        "edm": (sigma * y - s**2 * n) / (s * (sigma**2 + s**2).sqrt()),
    }
    assert torch.allclose(target, named[name])
    assert torch.allclose(c_skip * x + c_out * target, y)
    if name == "edm":  # y has the variance s²
        assert torch.allclose(c_in**2 * (sigma**2 + s**2), torch.ones(50).double())
        variance = (s**2 * sigma**2 + s**4) / (s**2 * (sigma**2 + s**2))
        assert torch.allclose(variance, torch.ones(50).double())
    else:
        assert torch.allclose(c_in, alpha)


def test_velocity_noise_and_image_turn_into_each_other():
    # Salimans & Ho 2022, appendix D: y = α z - σ v and ε = σ z + α v, where z = α y + σ ε
    sigma = torch.tensor([0.1, 1.0, 7.0]).double()
    alpha, spread = (1 + sigma**2).rsqrt(), sigma * (1 + sigma**2).rsqrt()
    y, n = torch.randn(2, 3, generator=generator(), dtype=torch.float64)
    z, velocity = alpha * y + spread * n, alpha * n - spread * y
    c_skip, c_out, c_in = v(sigma)
    x = z / alpha
    assert torch.allclose(c_in * x, z)
    assert torch.allclose(c_skip * x + c_out * velocity, y)
    assert torch.allclose(spread * z + alpha * velocity, n)


def test_the_denoiser_gives_every_image_its_own_level():
    predict = PARAMETRISATIONS["v"]
    denoiser = Denoiser(Exact(predict), predict, "large")
    x = torch.randn(3, 1, 2, 2, generator=generator(), dtype=torch.float64)
    sigma = torch.tensor([0.1, 1.0, 10.0]).double()
    D, nu = denoiser(x, sigma)
    assert torch.allclose(D, gaussian(x, sigma[:, None, None, None]))
    assert nu == 1
