from __future__ import annotations

import numpy as np
import pytest
import torch
from corelab_policy_gradient.distributions import (
    Categorical,
    Categoricals,
    Gaussian,
    distribution_over,
)
from gymnasium import spaces

from corelab import PluginError

LOGITS = torch.tensor([[0.0, 1.0, -2.0], [3.0, -1.0, 0.5]], dtype=torch.float64)
GAUSSIAN = torch.tensor([[0.0, 2.0, -1.0, 0.3], [1.0, -2.0, 0.0, -0.5]], dtype=torch.float64)


def test_categorical_likelihoods_are_those_of_torch():
    actions = torch.tensor([2, 0])
    log_prob, entropy = Categorical(3).log_prob_and_entropy(LOGITS, actions)
    expected = torch.distributions.Categorical(logits=LOGITS)
    torch.testing.assert_close(log_prob, expected.log_prob(actions))
    torch.testing.assert_close(entropy, expected.entropy())


def test_gaussian_likelihoods_are_those_of_torch():
    actions = torch.tensor([[0.5, -1.0], [7.0, 0.0]], dtype=torch.float64)
    log_prob, entropy = Gaussian(spaces.Box(-1, 1, (2,))).log_prob_and_entropy(GAUSSIAN, actions)
    mean, log_std = GAUSSIAN.chunk(2, -1)
    expected = torch.distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(log_prob, expected.log_prob(actions).sum(-1))
    torch.testing.assert_close(entropy, expected.entropy().sum(-1))


def test_categorical_draws_have_the_probabilities_of_the_softmax():
    n = 20_000
    p = np.repeat(LOGITS[:1].float().numpy(), n, 0)
    drawn = Categorical(3).sample(p, np.random.default_rng(0))
    probabilities = LOGITS[0].softmax(-1).numpy()
    deviation = np.sqrt(probabilities * (1 - probabilities) / n)
    assert (abs(np.bincount(drawn, minlength=3) / n - probabilities) < 4 * deviation).all()


def test_gaussian_draws_have_the_mean_and_deviation_of_the_policy():
    n = 20_000
    p = np.repeat(GAUSSIAN[:1].float().numpy(), n, 0)
    drawn = Gaussian(spaces.Box(-1, 1, (2,))).sample(p, np.random.default_rng(0))
    mean, std = GAUSSIAN[0, :2].numpy(), GAUSSIAN[0, 2:].exp().numpy()
    assert (abs(drawn.mean(0) - mean) < 4 * std / np.sqrt(n)).all()
    assert (abs(drawn.std(0) / std - 1) < 4 / np.sqrt(2 * n)).all()


def test_the_mode_is_the_likeliest_action():
    assert Categorical(3).mode(LOGITS.numpy()).tolist() == [1, 0]
    assert Gaussian(spaces.Box(-1, 1, (2,))).mode(GAUSSIAN.numpy()).tolist() == [[0, 2], [1, -2]]


def test_actions_reach_the_environment_as_it_wants_them():
    assert Categorical(3, start=5).to_env(np.array([0, 2])).tolist() == [5, 7]
    clipped = Gaussian(spaces.Box(np.array([-1, -2]), np.array([1, 2]), dtype=np.float64))
    assert clipped.to_env(np.array([[-3.0, 1.5], [3.0, -2.5]])).tolist() == [[-1, 1.5], [1, -2]]


def test_several_choices_are_independent():
    several = distribution_over(spaces.MultiDiscrete([2, 3], start=[0, 4]), "Foo-v0")
    p = torch.randn(5, 5, dtype=torch.float64)
    actions = torch.tensor([[0, 2], [1, 0], [1, 1], [0, 0], [1, 2]])
    log_prob, entropy = several.log_prob_and_entropy(p, actions)
    parts = [
        torch.distributions.Categorical(logits=p[:, :2]),
        torch.distributions.Categorical(logits=p[:, 2:]),
    ]
    expected = sum(part.log_prob(actions[:, i]) for i, part in enumerate(parts))
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(entropy, sum(part.entropy() for part in parts))
    assert several.to_env(np.array([[1, 2]])).tolist() == [[1, 6]]
    assert several.mode(np.array([[0.0, 1, 5, 4, 3]])).tolist() == [[1, 0]]


def test_binary_actions_are_choices_of_two():
    several = distribution_over(spaces.MultiBinary(3), "Foo-v0")
    assert isinstance(several, Categoricals)
    p = np.array([[0.0, 9, 9, 0, 0, 9]])
    assert several.to_env(several.mode(p)).tolist() == [[1, 0, 1]]
    assert several.to_env(several.mode(p)).dtype == np.int8


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(2),
        spaces.Box(-1, 1, (2,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("on_arrays", [True, False])
def test_gradients_in_closed_form_are_those_of_autograd(space, on_arrays):
    distribution = distribution_over(space, "Foo-v0")
    p = torch.randn(6, distribution.size, dtype=torch.float64, requires_grad=True)
    drawn = distribution.sample(p.detach().numpy(), np.random.default_rng(0))
    d_log_prob, d_entropy = torch.randn(2, 6, dtype=torch.float64)
    log_prob, entropy = distribution.log_prob_and_entropy(p, torch.from_numpy(drawn))
    torch.autograd.backward((log_prob, entropy), (d_log_prob, d_entropy))
    as_given = (lambda x: x.detach().numpy()) if on_arrays else (lambda x: x.detach())
    values = distribution.likelihood(as_given(p), drawn if on_arrays else torch.from_numpy(drawn))
    np.testing.assert_allclose(values[0], log_prob.detach(), atol=1e-12)
    np.testing.assert_allclose(values[1], entropy.detach(), atol=1e-12)
    np.testing.assert_allclose(
        values[2](as_given(d_log_prob), as_given(d_entropy)), p.grad, atol=1e-12
    )
    p.grad = None
    distribution.log_prob_and_entropy(p, torch.from_numpy(drawn))[0].backward(d_log_prob)
    np.testing.assert_allclose(values[2](as_given(d_log_prob), None), p.grad, atol=1e-12)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2, 2)),
        spaces.Box(0, 9, (2,), np.int64),
        spaces.Dict(a=spaces.Discrete(2)),
    ],
    ids=str,
)
def test_other_actions_are_refused_in_a_sentence(space):
    with pytest.raises(PluginError, match=r"^Foo-v0 has actions .*; what fits is Discrete"):
        distribution_over(space, "Foo-v0")
