from __future__ import annotations

import math

import pytest
import torch
from corelab_vae.importance import iwae
from corelab_vae.vae import Bound, kl_to_standard_normal
from torch import nn


def test_the_divergence_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = 3 * torch.randn(2, 50, 7, generator=generator, dtype=torch.float64)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    p = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(q, p)
    assert torch.allclose(kl_to_standard_normal(mean, log_variance), expected, rtol=1e-12)


class Linear(nn.Module):
    """p(x|z) = N(Wz, s²) with orthogonal columns of W, so that p(z|x) is a diagonal Gaussian.

    q is that posterior, with its mean shifted by SHIFT and its variance multiplied by STRETCH.
    """

    W = torch.tensor([[1.2, 0.5], [-0.5, 1.2], [0.0, 0.0]], dtype=torch.float64)
    s = 0.7

    def __init__(self, shift=0.0, stretch=1.0):
        super().__init__()
        precision = 1 + (self.W**2).sum(0) / self.s**2
        self.variance = 1 / precision
        self.shift, self.stretch = shift, stretch

    def encode(self, x, y=None):
        mean = x.flatten(1) @ self.W / self.s**2 * self.variance
        return mean + self.shift, (self.variance * self.stretch).log().expand_as(mean)

    def decode(self, z, y=None):
        return (z.double() @ self.W.T).reshape(-1, 1, 1, 1, 3)


class Gaussian:
    parameters = 1

    def log_prob(self, x, parameters):
        return torch.distributions.Normal(parameters[:, 0], Linear.s).log_prob(x)


X = torch.tensor([0.8, -1.1, 0.4], dtype=torch.float64)


def exact():
    """log p(X)."""
    covariance = Linear.W @ Linear.W.T + Linear.s**2 * torch.eye(3)
    return torch.distributions.MultivariateNormal(X.new_zeros(3), covariance).log_prob(X).item()


def copies(n):
    return X.reshape(1, 1, 1, 3).expand(n, 1, 1, 3)


@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 1.0), (0.3, 1.0), (0.0, 2.0), (-0.4, 0.5)])
def test_the_bound_is_below_the_likelihood_by_the_divergence_from_the_posterior(shift, stretch):
    linear, n = Linear(shift, stretch), 200_000
    epsilon = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nll, kl = Bound(linear, Gaussian())(copies(n), epsilon)
    elbo = -(nll + kl.sum(1))
    spread = (shift**2 / linear.variance + stretch - 1 - math.log(stretch)).sum().item() / 2
    assert elbo.mean().item() == pytest.approx(exact() - spread, abs=5 * elbo.std().item() / n**0.5)
    assert elbo.mean().item() <= exact() + 5 * elbo.std().item() / n**0.5


@pytest.mark.parametrize(("shift", "stretch"), [(0.3, 1.0), (0.0, 0.5), (-0.4, 2.0)])
def test_more_codes_bring_the_bound_from_the_elbo_to_the_likelihood(shift, stretch):
    linear, generator = Linear(shift, stretch), torch.Generator().manual_seed(0)
    means, errors = [], []
    for k in (1, 2, 10, 50):
        n = 200_000 // k
        L_k = iwae(linear, Gaussian(), copies(n), None, k, generator).double()
        means.append(L_k.mean().item())
        errors.append(5 * L_k.std().item() / n**0.5)
    spread = (shift**2 / linear.variance + stretch - 1 - math.log(stretch)).sum().item() / 2
    assert means[0] == pytest.approx(exact() - spread, abs=errors[0])
    for looser, tighter, error in zip(means, means[1:], errors[1:], strict=False):
        assert looser < tighter <= exact() + error
    assert exact() - means[-1] < 0.1 * (exact() - means[0])


@pytest.mark.parametrize("k", [1, 3])
def test_the_bound_is_the_likelihood_where_q_is_the_posterior(k):
    L_k = iwae(Linear(), Gaussian(), copies(5), None, k, torch.Generator().manual_seed(0))
    assert torch.allclose(L_k, torch.full_like(L_k, exact()), rtol=1e-5)


def test_the_weights_are_those_of_the_definition():
    linear, k = Linear(0.3, 2.0), 7
    L_k = iwae(linear, Gaussian(), copies(4), None, k, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    mean, log_variance = linear.encode(copies(4))
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    log_w = []
    for _ in range(k):
        z = mean + q.stddev * torch.randn(mean.shape, generator=generator)
        log_p = Gaussian().log_prob(copies(4), linear.decode(z)).flatten(1).sum(1)
        log_w.append(log_p + prior.log_prob(z).sum(1) - q.log_prob(z).sum(1))
    expected = torch.stack(log_w).exp().mean(0).log()
    assert torch.allclose(L_k, expected.to(L_k.dtype), rtol=1e-5)
