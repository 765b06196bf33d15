from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from corelab_generative.likelihoods import Logistic
from corelab_vae.mixture import LogisticMixture

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def random_parameters(k, seed=0, n=1):
    """Parameters [n, 3k, 1, 1, 1] of moderately narrow components."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3 * k, 1, 1, 1, generator=generator, dtype=torch.float64)


def of_all_levels(likelihood, parameters):
    """log p of each of the 256 levels."""
    x, shape = LEVELS.reshape(256, 1, 1, 1), (256, -1, -1, -1, -1)
    return likelihood.log_prob(x, parameters.expand(shape)).flatten()


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_a_level_has_the_mass_of_the_mixture_in_its_bin(k, seed):
    parameters = random_parameters(k, seed)
    logits, locations, log_scales = parameters.flatten().reshape(3, k).tolist()
    begin = [(2 * i + 1) / k - 1 for i in range(k)]
    total = sum(map(math.exp, logits))

    def cdf(x):
        return sum(
            math.exp(a) / total / (1 + math.exp(-(x - mu - b) / math.exp(s - 2)))
            for a, mu, b, s in zip(logits, locations, begin, log_scales, strict=True)
        )

    edges = [0.0, *(cdf((i + 0.5) / 127.5 - 1) for i in range(255)), 1.0]
    brute = torch.tensor([b - a for a, b in pairwise(edges)], dtype=torch.float64)
    p = of_all_levels(LogisticMixture(k), parameters).exp()
    assert torch.allclose(p, brute, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("extreme", [-1e30, -1e4, 1e4, 1e30])
@pytest.mark.parametrize("which", range(6))
def test_probabilities_and_gradients_are_finite_however_extreme_a_parameter_is(extreme, which):
    parameters = torch.zeros(1, 6, 1, 1, 1)
    parameters[:, which] = extreme
    log_p = of_all_levels(LogisticMixture(2), parameters.requires_grad_())
    (gradient,) = torch.autograd.grad(log_p.sum(), parameters)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-4)
    assert log_p.isfinite().all()
    assert gradient.isfinite().all()


def test_one_component_is_a_logistic():
    mixture, parameters = LogisticMixture(1), random_parameters(1)
    alone = parameters[:, 1:] - torch.tensor([0.0, 2.0]).reshape(1, 2, 1, 1, 1)
    log_p = of_all_levels(Logistic(), alone)
    assert torch.allclose(of_all_levels(mixture, parameters), log_p)
    assert torch.equal(mixture.centre(parameters), Logistic().centre(alone))


@pytest.mark.parametrize("seed", range(3))
def test_levels_are_drawn_as_often_as_their_probability_says(seed):
    likelihood, n = LogisticMixture(2), 100_000
    parameters = random_parameters(2, seed).float()
    generator = torch.Generator().manual_seed(seed)
    x = likelihood.draw(parameters.expand(n, -1, -1, -1, -1), generator)
    counts = torch.bincount(((x + 1) * 127.5).round().long().flatten(), minlength=256)
    p = of_all_levels(likelihood, parameters.double()).exp()
    assert ((counts / n - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1 / n).all()


def test_the_centre_is_between_the_components_by_their_weights():
    parameters = torch.tensor([math.log(3), 0.0, 0.1, -0.3, -5.0, -5.0]).reshape(1, 6, 1, 1, 1)
    assert LogisticMixture(2).centre(parameters).item() == pytest.approx(0.75 * -0.4 + 0.25 * 0.2)
    parameters[:, 3] = 9.0
    assert LogisticMixture(2).centre(parameters).item() == pytest.approx(0.75 * -0.4 + 0.25)
