from __future__ import annotations

import math

import pytest
import torch
from corelab_generative.mixture import Categorical, Mixture
from hypothesis import given, settings
from hypothesis import strategies as st

C = 3
EVERY = torch.arange(256).reshape(256, 1, 1, 1)


def parameters(likelihood, n=1, channels=1, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    size = (n, likelihood.parameters, channels, 1, 1)
    return scale * torch.randn(size, generator=generator, dtype=torch.float64)


def brute_force(p, symbol, before, components):
    """p of one SYMBOL under the numbers P, by the formula of the paper, in plain floats."""
    logits, mus, log_ss = (p[i * components : (i + 1) * components] for i in range(3))
    total = sum(math.exp(x) for x in logits)
    mass = 0.0
    for i in range(components):
        mu = mus[i] + (2 * i + 1) / components - 1
        for j, level in enumerate(before):
            mu += math.tanh(p[(3 + j) * components + i]) * (level / 127.5 - 1)
        s = math.exp(log_ss[i] - 2)

        def cdf(edge, mu=mu, s=s):
            return 1 / (1 + math.exp(-(edge - mu) / s))

        below = 0.0 if symbol == 0 else cdf((symbol - 0.5) / 127.5 - 1)
        up_to = 1.0 if symbol == 255 else cdf((symbol + 0.5) / 127.5 - 1)
        mass += math.exp(logits[i]) / total * (up_to - below)
    return mass


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 4), st.tuples(*[st.integers(0, 255)] * C), st.integers(0, 10_000))
def test_the_mixture_is_the_formula_of_the_paper(components, levels, seed):
    mixture = Mixture(components, C)
    p = parameters(mixture, channels=C, seed=seed)
    found = mixture.log_prob(torch.tensor(levels).reshape(1, C, 1, 1), p)[0, :, 0, 0]
    for c in range(C):
        expected = brute_force(p[0, :, c, 0, 0].tolist(), levels[c], levels[:c], components)
        assert found[c].exp().item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("seed", range(5))
def test_the_256_levels_of_a_mixture_have_probability_one_together(scale, seed):
    mixture = Mixture(5, 1)
    p = parameters(mixture, seed=seed, scale=scale).expand(256, -1, -1, -1, -1)
    log_p = mixture.log_prob(EVERY, p)
    assert log_p.isfinite().all()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("likelihood", [Mixture(4, C), Categorical(256)])
@pytest.mark.parametrize("c", range(C))
def test_all_levels_of_a_sub_pixel_have_the_probabilities_of_the_image(likelihood, c):
    p = parameters(likelihood, channels=C)
    symbols = torch.tensor([17, 200, 90]).reshape(1, C, 1, 1)
    every = symbols.repeat(256, 1, 1, 1)
    every[:, c] = EVERY[:, 0]
    expected = likelihood.log_prob(every, p.expand(256, -1, -1, -1, -1))[:, c, 0, 0]
    found = likelihood.levels(p[:, :, c, 0, 0], symbols[:, :c, 0, 0]).softmax(1)[0]
    assert torch.allclose(found, expected.exp(), rtol=0, atol=1e-12)


def test_a_channel_of_a_mixture_knows_the_channels_before_it_alone():
    mixture = Mixture(4, C)
    p = parameters(mixture, channels=C)
    symbols = torch.tensor([17, 200, 90]).reshape(1, C, 1, 1)
    usual = mixture.log_prob(symbols, p)[0, :, 0, 0]
    for c in range(C):
        other = symbols.clone()
        other[:, c] = 5
        changed = mixture.log_prob(other, p)[0, :, 0, 0] != usual
        assert changed.tolist() == [i >= c for i in range(C)]


def test_gradients_of_the_mixture_are_those_of_finite_differences():
    mixture = Mixture(3, C)
    symbols = torch.tensor([0, 255, 90]).reshape(1, C, 1, 1)
    p = parameters(mixture, channels=C).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: mixture.log_prob(symbols, p), p)


def test_gradients_are_finite_however_extreme_the_parameters_are():
    mixture = Mixture(2, C)
    for scale in (1e2, 1e10, 1e30):
        p = parameters(mixture, 20, C, scale=scale).float().requires_grad_()
        log_p = mixture.log_prob(torch.randint(0, 256, (20, C, 1, 1)), p)
        (gradient,) = torch.autograd.grad(log_p.sum(), p)
        assert log_p.isfinite().all()
        assert gradient.isfinite().all()


def test_a_categorical_is_that_of_torch():
    p = parameters(Categorical(7), 5, C)
    symbols = torch.randint(0, 7, (5, C, 1, 1))
    expected = torch.distributions.Categorical(logits=p.movedim(1, -1)).log_prob(symbols)
    assert torch.allclose(Categorical(7).log_prob(symbols, p), expected, rtol=1e-12)


def test_a_categorical_begins_with_the_frequencies_that_it_is_told():
    counts = torch.tensor([7.0, 0.0, 1.0])
    categorical = Categorical(3, counts)
    symbols = torch.arange(3).reshape(3, 1, 1, 1)
    p = torch.zeros(3, 3, 1, 1, 1)
    expected = torch.tensor([8, 1, 2]) / 11
    assert torch.allclose(categorical.log_prob(symbols, p).exp().flatten(), expected)
    levels = categorical.levels(p[:1, :, 0, 0, 0], symbols[:1, :0, 0, 0])
    assert torch.allclose(levels.softmax(1)[0], expected)
