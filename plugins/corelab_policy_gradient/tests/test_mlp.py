from __future__ import annotations

import numpy as np
import pytest
import torch
from corelab_policy_gradient.mlp import MLP
from gymnasium import spaces

from corelab import ConfigError, PluginError

VECTOR = spaces.Box(-1, 1, (4,))


def test_the_actor_gives_logits_for_discrete_actions_and_the_critic_values():
    policy, value = MLP(MLP.Config(), VECTOR, spaces.Discrete(3))(torch.zeros(5, 4))
    assert policy.shape == (5, 3)
    assert value.shape == (5,)


def test_standard_deviations_are_the_same_in_every_state():
    net = MLP(MLP.Config(log_std=-0.5), VECTOR, spaces.Box(-1, 1, (2,)))
    policy, _ = net(torch.randn(5, 4))
    assert policy.shape == (5, 4)
    assert (policy[:, 2:] == -0.5).all()
    policy[:, 2:].sum().backward()
    assert net.log_std.grad.tolist() == [5, 5]


def test_discrete_observations_are_seen_as_one_hot():
    net = MLP(MLP.Config(sizes=()), spaces.Discrete(3, start=1), spaces.Discrete(2))
    policy, value = net(torch.tensor([1, 3]))
    torch.testing.assert_close(policy, net.actor[0].weight.T[[0, 2]])
    torch.testing.assert_close(value, net.critic[0].weight[0, [0, 2]])


def test_vectors_of_whole_numbers_are_read_as_numbers():
    net = MLP(MLP.Config(), spaces.Box(0, 255, (4,), np.uint8), spaces.Discrete(3))
    whole = torch.tensor([[0, 1, 2, 255]], dtype=torch.uint8)
    torch.testing.assert_close(net(whole), net(whole.float()))


def test_actor_and_critic_share_nothing():
    net = MLP(MLP.Config(), VECTOR, spaces.Discrete(3))
    net(torch.randn(5, 4))[1].sum().backward()
    assert all(p.grad is None for p in net.actor.parameters())
    assert all(p.grad is not None for p in net.critic.parameters())


def test_weights_are_orthogonal_and_the_first_policy_almost_uniform():
    net = MLP(MLP.Config(sizes=(64, 32)), VECTOR, spaces.Discrete(3))
    for perceptron, gain in ((net.actor, 0.01), (net.critic, 1.0)):
        first, second, last = perceptron[0].weight, perceptron[2].weight, perceptron[4].weight
        torch.testing.assert_close(first.T @ first, 2 * torch.eye(4))
        torch.testing.assert_close(second @ second.T, 2 * torch.eye(32))
        torch.testing.assert_close(last @ last.T, gain**2 * torch.eye(len(last)))
    probabilities = net(torch.randn(100, 4))[0].softmax(-1)
    assert (abs(probabilities - 1 / 3) < 0.05).all()


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), spaces.Discrete(2), "reads vectors or Discrete"),
        (spaces.Dict(a=VECTOR), spaces.Discrete(2), "reads vectors or Discrete"),
        (VECTOR, spaces.MultiDiscrete([2, 2]), "gives Discrete or Box actions"),
        (VECTOR, spaces.Box(-1, 1, (2, 2)), "gives Discrete or Box actions"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_a_sentence(observations, actions, message):
    with pytest.raises(PluginError, match=f"^the model mlp {message}"):
        MLP(MLP.Config(), observations, actions)


def test_a_layer_of_no_width_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"^model.sizes is \(64, 0\); each width"):
        MLP(MLP.Config(sizes=(64, 0)), VECTOR, spaces.Discrete(2))
