from __future__ import annotations

import math

import pytest
import torch
from corelab_diffusion.likelihood import (
    bound_term,
    discretised_gaussian,
    flow_log_density,
    prior_term,
    variational_bound,
)
from corelab_diffusion.schedules import SCHEDULES, edm
from torch.distributions import MultivariateNormal, Normal, kl_divergence

LEVELS = torch.arange(256).double() / 127.5 - 1
MEAN, STD = 0.3, 0.4


def moments(mean=MEAN, std=STD):
    return torch.tensor(mean).double(), 2 * torch.tensor(std).double().log()


MASSES = discretised_gaussian(LEVELS, *moments()).exp()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def exact(nu):
    """The denoiser of the images that `levels` draws."""

    def denoise(x, sigma):
        log_share = MASSES.log() - (x[..., None] - LEVELS) ** 2 / (2 * sigma[..., None] ** 2)
        return torch.softmax(log_share, -1) @ LEVELS, torch.tensor(nu)

    return denoise


def levels(n, seed=0):
    """Images [N, 1, 2, 2] of levels with the masses that N(MEAN, STD²) has in the bins."""
    index = torch.multinomial(MASSES, 4 * n, replacement=True, generator=generator(seed))
    return LEVELS[index].view(n, 1, 2, 2)


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.4), (-1.2, 0.001), (5.0, 0.1), (0.0, 30.0)])
def test_the_masses_of_all_levels_sum_to_one(mean, std):
    log_mass = discretised_gaussian(LEVELS, *moments(mean, std))
    assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-9)
    single = discretised_gaussian(LEVELS.float(), *(m.float() for m in moments(mean, std)))
    assert single.isfinite().all()
    assert torch.allclose(single.double(), log_mass, rtol=2e-3, atol=2e-3)


def test_the_mass_of_a_level_is_that_of_its_bin():
    log_mass = discretised_gaussian(LEVELS, *moments())
    edges = Normal(MEAN, STD).cdf((LEVELS[:-1] + LEVELS[1:]) / 2)
    edges = torch.cat([torch.zeros(1), edges, torch.ones(1)])
    assert torch.allclose(log_mass.exp(), edges.diff())


def test_a_gradient_reaches_moments_that_are_far_off():
    y = torch.tensor([-1.0, 0.0, 1.0])
    mean, log_variance = torch.tensor([9.0, -9.0, 0.0]), torch.tensor([-9.0, -12.0, 3.0])
    mean.requires_grad_(), log_variance.requires_grad_()
    discretised_gaussian(y, mean, log_variance).sum().backward()
    for moment in (mean, log_variance):
        assert moment.grad.isfinite().all()
        assert (moment.grad != 0).all()


@pytest.mark.parametrize("nu", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("t", [1, 500, 999])
def test_a_term_of_the_bound_is_the_divergence_of_the_papers_two_gaussians(t, nu):
    # DDPM, eq. 6 and 7, at its own scale
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    at, before = alpha_bar[t], alpha_bar[t - 1]
    y, n = torch.randn(2, 6, 1, 2, 2, generator=generator(), dtype=torch.float64)
    sigmas = SCHEDULES["linear"](1000)
    x = y + sigmas[t] * n
    D = x / (1 + sigmas[t])

    def posterior(y):
        x_t = at.sqrt() * x
        weighted = before.sqrt() * beta[t] * y + (1 - beta[t]).sqrt() * (1 - before) * x_t
        return weighted / (1 - at)

    least = (1 - before) / (1 - at) * beta[t]
    variance = torch.exp((1 - nu) * least.log() + nu * beta[t].log())
    expected = kl_divergence(
        Normal(posterior(y), least.sqrt()), Normal(posterior(D), variance.sqrt())
    )
    found = bound_term(y, x, D, torch.tensor(nu), torch.full((6, 1, 1, 1), t), sigmas)
    assert torch.allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_the_first_term_is_the_divergence_from_the_prior():
    y, sigma = LEVELS[::50], torch.tensor(12.0).double()
    alpha = (1 + sigma**2).rsqrt()
    expected = kl_divergence(Normal(alpha * y, alpha * sigma), Normal(0.0, 1.0))
    assert torch.allclose(prior_term(y, sigma), expected)


@pytest.mark.parametrize(
    ("schedule", "nu", "greatest"),
    [("edm", 1.0, 0.4), ("linear", 1.0, 0.2), ("cosine", 1.0, 0.2), ("cosine", 0.0, 2.0)],
)
def test_the_bound_is_above_the_exact_likelihood_and_near_it(schedule, nu, greatest):
    y = levels(1000)
    nats = -discretised_gaussian(y, *moments()).flatten(1).sum(1)
    bound = variational_bound(exact(nu), y, SCHEDULES[schedule](100), generator(), full=True)
    gaps = (bound - nats) / (4 * math.log(2))  # bits per dimension
    gap, doubt = gaps.mean().item(), gaps.std().item() / math.sqrt(len(gaps))
    assert 3 * doubt < gap < greatest, (gap, doubt)


def test_a_denoiser_that_is_wrong_costs_bits():
    y, sigmas = levels(100), edm(200)

    def wrong(x, sigma):
        D, nu = exact(0.0)(x, sigma)
        return D + 0.2 * sigma / (1 + sigma), nu

    right, worse = (
        variational_bound(denoise, y, sigmas, generator(1), full=True)
        for denoise in (exact(0.0), wrong)
    )
    assert worse.mean() > right.mean() + 0.1


def test_the_estimate_from_one_level_for_each_image_is_unbiased():
    y, sigmas = levels(5), SCHEDULES["linear"](40)
    full = torch.stack(
        [variational_bound(exact(0.5), y, sigmas, generator(i), full=True) for i in range(20)]
    )
    quick = torch.stack(
        [variational_bound(exact(0.5), y, sigmas, generator(i)) for i in range(1000)]
    )
    off = (quick.mean(0) - full.mean(0)).abs()
    doubt = (quick.var(0) / len(quick) + full.var(0) / len(full)).sqrt()
    assert (off < 4 * doubt).all(), (off, doubt)
    assert (doubt < 0.2 * full.mean(0).abs()).all()


def test_the_flow_gives_the_density_of_a_exact():
    std = torch.tensor([[0.1, 0.4], [0.7, 1.0]]).double()
    x = std * torch.randn(20, 1, 2, 2, generator=generator(), dtype=torch.float64)

    def denoise(x, sigma):
        return std**2 / (std**2 + sigma**2) * x, torch.zeros(())

    sigmas = edm(1000)
    found = flow_log_density(denoise, x, sigmas, generator(1))
    exact = Normal(0.0, (std**2 + sigmas[0] ** 2).sqrt()).log_prob(x).flatten(1).sum(1)
    assert torch.allclose(found, exact, atol=2e-3)  # nats


def test_with_many_signs_the_flow_gives_the_density_of_pixels_that_hang_together():
    root = torch.randn(4, 4, generator=generator(), dtype=torch.float64) / 2
    covariance = root @ root.T
    one = torch.linalg.cholesky(covariance) @ torch.randn(
        4, generator=generator(1), dtype=torch.float64
    )
    x = one.view(1, 1, 2, 2).expand(1000, -1, -1, -1)

    def denoise(x, sigma):
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(4))
        return (x.flatten(1) @ gain.T).view_as(x), torch.zeros(())

    sigmas = edm(300)
    found = flow_log_density(denoise, x, sigmas, generator(2))
    noisy = covariance + sigmas[0] ** 2 * torch.eye(4)
    exact = MultivariateNormal(torch.zeros(4).double(), noisy).log_prob(one).item()
    doubt = found.std().item() / math.sqrt(len(found))
    assert 0.01 < doubt < 0.1
    assert found.mean().item() == pytest.approx(exact, abs=4 * doubt + 0.02)
