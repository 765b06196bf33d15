from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from corelab_generative.likelihoods import LIKELIHOODS, Bernoulli, Logistic
from hypothesis import given, settings
from hypothesis import strategies as st

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1
EXTREME = [-1e4, -1.3, -1.0, -0.999, 0.0, 1 / 255, 0.5, 1.0, 1.2, 1e4]


def logistic(x, mu, log_s):
    """log p of each of the X under one MU and one LOG_S."""
    parameters = torch.tensor([mu, log_s], dtype=x.dtype).reshape(1, 2, 1, 1, 1)
    return Logistic().log_prob(x.reshape(1, 1, 1, -1), parameters.expand(1, 2, 1, 1, len(x)))[
        0, 0, 0
    ]


@pytest.mark.parametrize("mu", EXTREME)
@pytest.mark.parametrize("log_s", [-1e6, -30.0, -7.0, -3.0, 0.0, 5.0, 30.0, 1e6])
def test_the_256_levels_have_probability_one_together(mu, log_s):
    log_p = logistic(LEVELS, mu, log_s)
    assert log_p.isfinite().all()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


@settings(deadline=None)
@given(mu=st.floats(-1.5, 1.5), log_s=st.floats(-4, 2))
def test_a_level_has_the_mass_of_the_logistic_distribution_in_its_bin(mu, log_s):
    def cdf(x):
        return 1 / (1 + math.exp(-(x - mu) / math.exp(log_s)))

    edges = [0.0, *(cdf((i + 0.5) / 127.5 - 1) for i in range(255)), 1.0]
    brute = torch.tensor([b - a for a, b in pairwise(edges)])
    assert torch.allclose(logistic(LEVELS, mu, log_s).exp().float(), brute, rtol=1e-5, atol=1e-12)


def test_gradients_are_finite_however_extreme_the_parameters_are():
    images = torch.tensor([0, 1, 128, 254, 255], dtype=torch.uint8).reshape(1, 1, 1, 5)
    x = Logistic().observe(images, torch.Generator())
    for mu in [-1e30, *EXTREME, 1e30]:
        for log_s in (-1e30, -100.0, -7.0, 0.0, 7.0, 100.0, 1e30):
            parameters = torch.tensor([mu, log_s]).reshape(1, 2, 1, 1, 1).repeat(1, 1, 1, 1, 5)
            parameters.requires_grad_()
            log_p = Logistic().log_prob(x, parameters)
            (gradient,) = torch.autograd.grad(log_p.sum(), parameters)
            assert log_p.isfinite().all()
            assert gradient.isfinite().all()


def test_gradients_of_the_logistic_are_those_of_finite_differences():
    x = LEVELS[[0, 1, 90, 254, 255]].reshape(1, 1, 1, 5)
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(1, 2, 1, 1, 5, generator=generator, dtype=torch.float64)
    parameters[:, 1] -= 2
    assert torch.autograd.gradcheck(
        lambda p: Logistic().log_prob(x, p), parameters.requires_grad_()
    )


@pytest.mark.parametrize("logit", [-50.0, -1.0, 0.0, 3.0, 50.0])
def test_the_bernoulli_is_that_of_torch(logit):
    x = torch.tensor([-1.0, 1.0], dtype=torch.float64).reshape(1, 1, 1, 2)
    parameters = torch.full((1, 1, 1, 1, 2), logit, dtype=torch.float64)
    expected = torch.distributions.Bernoulli(logits=parameters[:, 0]).log_prob((x + 1) / 2)
    assert torch.allclose(Bernoulli().log_prob(x, parameters), expected, rtol=1e-12)


def test_images_are_binarised_anew_with_their_grey_levels_as_probabilities():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    generator = torch.Generator().manual_seed(0)
    draws = torch.cat([Bernoulli().observe(images, generator) for _ in range(2000)])
    assert set(draws.unique().tolist()) == {-1.0, 1.0}
    frequency = (draws.mean(0) + 1) / 2
    assert (frequency - images[0] / 255).abs().max() < 5 * math.sqrt(0.25 / 2000)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("seed", range(3))
def test_draws_come_as_often_as_their_probability_says(name, seed):
    likelihood, n = LIKELIHOODS[name], 100_000
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.randn(1, likelihood.parameters, 1, 1, 1, generator=generator)
    parameters[:, 1:] -= 2
    x = likelihood.draw(parameters.expand(n, -1, 1, 1, 1), generator).flatten()
    values, counts = x.unique(return_counts=True)
    k = len(values)
    log_p = likelihood.log_prob(
        values.reshape(-1, 1, 1, 1), parameters.expand(k, -1, 1, 1, 1)
    ).flatten()
    p = log_p.exp()
    assert p.sum() > 0.999
    assert ((counts / n - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1 / n).all()
