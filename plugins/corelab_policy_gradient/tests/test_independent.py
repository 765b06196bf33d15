"""The model with networks for each agent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from corelab_policy_gradient.independent import Independent
from corelab_policy_gradient.interface import FastActorCritic
from gymnasium import spaces

from corelab import ConfigError, PluginError

A, D = 3, 5
VECTORS = spaces.Box(-np.inf, np.inf, (D,), np.float32)
ACTIONS = [spaces.Discrete(4), spaces.Box(-1, 1, (2,), np.float32)]


def model_of(actions, seen=VECTORS, **options):
    torch.manual_seed(0)
    space = spaces.Dict(agent=spaces.Discrete(A), observation=seen)
    model = Independent(Independent.Config(**options), space, actions)
    if model.log_std is not None:
        with torch.no_grad():
            model.log_std.normal_()
    return model


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "agent": torch.from_numpy(rng.integers(A, size=n)),
        "observation": torch.from_numpy(rng.standard_normal((n, D)).astype(np.float32)),
    }


def alone(model, net, x):
    """One row through the layers of one net, written out."""
    *hidden, last = model.nets.layers(net)
    for W, b in hidden:
        x = torch.tanh(x @ W + b)
    return x @ last[0] + last[1]


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("n", [1, 2, 50])
def test_each_row_goes_through_the_networks_of_its_agent(n, actions):
    model, seen = model_of(actions, sizes=(8, 8)), rows(n)
    policy, value = model(seen)
    k = 4 if model.log_std is None else 2
    assert policy.shape == (n, 4)
    assert value.shape == (n,)
    for i, (agent, x) in enumerate(zip(seen["agent"].tolist(), seen["observation"], strict=True)):
        assert torch.allclose(policy[i, :k], alone(model, agent, x)[:k], atol=1e-6)
        assert torch.allclose(value[i], alone(model, A + agent, x)[0], atol=1e-6)
        if model.log_std is not None:
            assert torch.equal(policy[i, k:], model.log_std[agent])


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("engine", ["arrays", pytest.param("compiled", marks=pytest.mark.compiled)])
def test_the_fast_passes_are_those_of_autograd(actions, engine):
    model, seen = model_of(actions, engine=engine).double(), rows(40)
    assert isinstance(model, FastActorCritic)
    policy, value = model(seen)
    d_policy, d_value = torch.randn_like(policy), torch.randn_like(value)
    torch.autograd.backward([policy, value], [d_policy, d_value])
    expected = [p.grad.clone() for p in model.parameters()]
    fast_policy, fast_value, pull = model.trace(seen)
    pull(d_policy.numpy(), d_value.numpy())
    assert np.allclose(fast_policy, policy.detach())
    assert np.allclose(fast_value, value.detach())
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient)
    assert np.allclose(model.act(seen), policy.detach())


def test_what_one_agent_learns_changes_no_other():
    model, seen = model_of(ACTIONS[0]), rows(30)
    policy, value = model(seen)
    of = seen["agent"] == 1
    (policy[of].square().sum() + value[of].sum()).backward()
    model.nets.flat.data = model.nets.flat.grad  # so that the layers show the gradient
    for net in range(2 * A):
        moved = any(bool(W.any()) or bool(b.any()) for W, b in model.nets.layers(net))
        assert moved == (net % A == 1)


def test_the_order_of_rows_does_not_matter():
    model, seen = model_of(ACTIONS[0]), rows(40)
    order = torch.randperm(40)
    policy, value = model(seen)
    shuffled = model({key: column[order] for key, column in seen.items()})
    assert torch.allclose(shuffled[0], policy[order], atol=1e-6)
    assert torch.allclose(shuffled[1], value[order], atol=1e-6)


def test_what_does_not_fit_is_told():
    with pytest.raises(PluginError, match="choose an environment of several agents with --task"):
        Independent(Independent.Config(), VECTORS, ACTIONS[0])
    with pytest.raises(ConfigError, match=r"model\.sizes is \(0,\); it must be at least 1 each"):
        model_of(ACTIONS[0], sizes=(0,))
