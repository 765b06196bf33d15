from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from corelab_qlearning.values import Categorical, Expectation, Quantiles, huber, project
from hypothesis import given, settings
from hypothesis import strategies as st

CPU = torch.device("cpu")
seeds = st.integers(0, 2**32)


def distributions(rng, *shape):
    p = rng.random(shape)
    return p / p.sum(-1, keepdims=True)


@settings(deadline=None)
@given(seed=seeds, atoms=st.integers(2, 60), low=st.floats(-20, 5), width=st.floats(0.1, 50))
def test_the_projection_is_that_of_the_definition(seed, atoms, low, width):
    rng = np.random.default_rng(seed)
    z = np.linspace(low, low + width, atoms)
    spacing = width / (atoms - 1)
    p = distributions(rng, 4, atoms)
    returns = rng.normal(low + width / 2, width, (4, 1)) + rng.choice([0.0, 0.9]) * z
    expected = np.zeros_like(p)
    for k in range(4):
        for i in range(atoms):  # Bellemare et al. 2017, eq. 7: a triangle around each atom
            for j in range(atoms):
                distance = abs(np.clip(returns[k, j], z[0], z[-1]) - z[i]) / spacing
                expected[k, i] += max(0.0, 1 - distance) * p[k, j]
    m = project(*(torch.from_numpy(x) for x in (p, returns, z)))
    np.testing.assert_allclose(m, expected, atol=1e-9)
    np.testing.assert_allclose(m.sum(-1), 1, atol=1e-9)


def test_returns_on_the_atoms_stay_where_they_are():
    values = Categorical(5, -2.0, 2.0, CPU)
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    target = values.target(logits, torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(target, values.log_p(logits).exp())
    target = values.target(logits, torch.tensor([1.0, 9.0, -9.0]), torch.zeros(3))
    expected = [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    torch.testing.assert_close(target, torch.tensor(expected, dtype=torch.float32))


@settings(deadline=None)
@given(seed=seeds)
def test_the_expected_loss_is_hubers(seed):
    rng = np.random.default_rng(seed)
    q, y = rng.normal(size=(2, 30)) * 2
    expected = [0.5 * d * d if abs(d) <= 1 else abs(d) - 0.5 for d in q - y]
    loss = Expectation().loss(torch.from_numpy(q)[:, None], torch.from_numpy(y))
    np.testing.assert_allclose(loss.loss, expected)
    np.testing.assert_allclose(loss.error, np.abs(q - y))


@settings(deadline=None)
@given(seed=seeds, atoms=st.integers(2, 40))
def test_the_quantile_loss_is_that_of_the_definition(seed, atoms):
    rng = np.random.default_rng(seed)
    theta, target = rng.normal(size=(2, 3, atoms)) * 2
    expected = np.zeros(3)
    for k in range(3):
        for i in range(atoms):  # Dabney et al. 2018, eq. 9 and 10
            tau = (2 * i + 1) / (2 * atoms)
            for j in range(atoms):
                u = target[k, j] - theta[k, i]
                h = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
                expected[k] += abs(tau - (u < 0)) * h / atoms
    values = Quantiles(atoms, CPU)
    values.tau = values.tau.double()
    loss = values.loss(torch.from_numpy(theta), torch.from_numpy(target))
    np.testing.assert_allclose(loss.loss, expected, rtol=1e-5)


def test_the_quantile_loss_is_least_at_the_quantiles():
    rng = np.random.default_rng(0)
    sample = rng.exponential(size=200_000) * 100  # so wide that Huber's rounding does not matter
    values = Quantiles(5, CPU)
    theta = torch.from_numpy(np.quantile(sample, values.tau.numpy()).astype(np.float32))
    _, gradient, _ = values.loss(theta[None], torch.from_numpy(sample.astype(np.float32))[None])
    assert gradient.abs().max() < 5e-3


@settings(deadline=None)
@given(seed=seeds)
def test_the_categorical_loss_is_the_divergence_from_the_target(seed):
    rng = np.random.default_rng(seed)
    z, m = rng.normal(size=(4, 7)), distributions(rng, 4, 7)
    prior = np.array([0.9 + 0.1 / 7] + 6 * [0.1 / 7])  # of returns from 0 to 1
    p = prior * np.exp(z)
    p /= p.sum(-1, keepdims=True)
    values = Categorical(7, 0.0, 1.0, CPU)
    loss = values.loss(torch.from_numpy(z), torch.from_numpy(m))
    np.testing.assert_allclose(loss.loss, (m * np.log(m / p)).sum(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        values.expected(torch.from_numpy(z)), p @ np.linspace(0, 1, 7), rtol=1e-5
    )


@pytest.mark.parametrize(
    "values",
    [Expectation(), Categorical(6, -3.0, 3.0, CPU), Quantiles(6, CPU)],
    ids=lambda v: type(v).__name__,
)
def test_gradients_are_those_of_autograd(values):
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(50, values.atoms, generator=generator, dtype=torch.float64) * 2
    following = torch.randn(50, values.atoms, generator=generator, dtype=torch.float64) * 2
    reward = torch.randn(50, generator=generator, dtype=torch.float64)
    discount = torch.full((50,), 0.9, dtype=torch.float64)
    if isinstance(values, Categorical):
        values.support = values.support.double()
    target = values.target(following, reward, discount)
    z.requires_grad_(True)
    loss, gradient, error = values.loss(z, target)
    (expected,) = torch.autograd.grad(loss.sum(), z)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert (error >= 0).all()


def test_an_impossible_return_has_no_divergence_of_its_own():
    values = Categorical(3, 0.0, 2.0, CPU)
    m = torch.tensor([[0.0, 1.0, 0.0]])
    loss, gradient, _ = values.loss(torch.zeros(1, 3), m)
    assert loss.item() == pytest.approx(math.log(30))  # the prior's 0.1 is spread over three
    torch.testing.assert_close(gradient, torch.tensor([[28 / 30, 1 / 30, 1 / 30]]) - m)


def test_the_first_guess_of_a_return_is_nothing():
    for low, high in ((-10.0, 10.0), (-1.0, 20.0), (0.0, 7.0)):  # 0 lies on an atom or between two
        values = Categorical(51, low, high, CPU)
        middle = (low + high) / 2  # of the even part
        assert values.expected(torch.zeros(51)).item() == pytest.approx(0.1 * middle, abs=1e-5)


def test_huber_is_square_near_zero_and_straight_beyond_one():
    x = torch.tensor([0.0, 0.5, -1.0, 3.0])
    assert huber(x).tolist() == [0.0, 0.125, 0.5, 2.5]
