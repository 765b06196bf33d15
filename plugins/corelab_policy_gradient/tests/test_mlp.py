from __future__ import annotations

import numpy as np
import pytest
import torch
from corelab_policy_gradient.cnn import CNN
from corelab_policy_gradient.mlp import MLP
from gymnasium import spaces
from torch import nn

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
    (actor, _), (critic, _) = net.nets.layers(0)[0], net.nets.layers(1)[0]
    torch.testing.assert_close(policy, actor[[0, 2]])
    torch.testing.assert_close(value, critic[[0, 2], 0])


def test_vectors_of_whole_numbers_are_read_as_numbers():
    net = MLP(MLP.Config(), spaces.Box(0, 255, (4,), np.uint8), spaces.Discrete(3))
    whole = torch.tensor([[0, 1, 2, 255]], dtype=torch.uint8)
    torch.testing.assert_close(net(whole), net(whole.float()))


def test_a_box_without_dimensions_is_one_number():
    nets = []
    for shape in ((), (1,)):
        torch.manual_seed(0)
        nets.append(MLP(MLP.Config(), spaces.Box(-1, 1, shape), spaces.Discrete(3)))
    x = torch.linspace(-1, 1, 5)
    for scalar, vector in zip(nets[0](x), nets[1](x[:, None]), strict=True):
        assert torch.equal(scalar, vector)


def test_actor_and_critic_share_nothing():
    net = MLP(MLP.Config(), VECTOR, spaces.Discrete(3))
    net(torch.randn(5, 4))[1].sum().backward()
    for gradient in net.nets.cut(net.nets.flat.grad):
        assert not gradient[0].any()
        assert gradient[1].any()


@pytest.mark.parametrize("actions", [spaces.Discrete(3), spaces.Box(-1, 1, (2,))], ids=str)
@pytest.mark.parametrize("engine", ["arrays", pytest.param("compiled", marks=pytest.mark.compiled)])
def test_the_passes_without_a_graph_are_those_of_autograd(actions, engine):
    net = MLP(MLP.Config(log_std=-0.5, engine=engine), VECTOR, actions).double()
    nn.init.normal_(net.nets.flat)
    x = torch.randn(7, 4)
    policy, value = net(x)
    d_policy, d_value = torch.randn_like(policy), torch.randn_like(value)
    torch.autograd.backward((policy, value), (d_policy, d_value))
    expected = [p.grad.clone() for p in net.parameters()]
    np.testing.assert_allclose(net.act(x), policy.detach(), atol=1e-12)
    p, v, pull = net.trace(x)
    np.testing.assert_allclose(p, policy.detach(), atol=1e-12)
    np.testing.assert_allclose(v, value.detach(), atol=1e-12)
    pull(d_policy.numpy(), d_value.numpy())
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_first_policy_is_almost_uniform():
    net = MLP(MLP.Config(sizes=(64, 32)), VECTOR, spaces.Discrete(3))
    probabilities = net(torch.randn(100, 4))[0].softmax(-1)
    assert (abs(probabilities - 1 / 3) < 0.05).all()


def test_dicts_and_tuples_are_seen_as_one_vector():
    parts = {"a": spaces.Discrete(3), "b": spaces.Tuple([VECTOR, spaces.MultiBinary(2)])}
    net = MLP(MLP.Config(), spaces.Dict(parts), spaces.Discrete(2))
    flat = MLP(MLP.Config(), spaces.Box(-1, 1, (9,)), spaces.Discrete(2))
    flat.load_state_dict(net.state_dict())
    vector, bits = torch.randn(1, 4), torch.tensor([[1, 0]], dtype=torch.int8)
    policy, _ = net({"a": torch.tensor([1]), "b": (vector, bits)})
    one = torch.cat([torch.tensor([[0.0, 1, 0]]), vector, bits.float()], -1)
    torch.testing.assert_close(policy, flat(one)[0])


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (
            spaces.Box(0, 255, (8, 8, 3), np.uint8),
            spaces.Discrete(2),
            "the model mlp .*--model cnn",
        ),
        (spaces.Dict(a=spaces.Text(3)), spaces.Discrete(2), "the model mlp reads .*, not Text"),
        (VECTOR, spaces.Box(-1, 1, (2, 2)), "the task has actions Box"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_a_sentence(observations, actions, message):
    with pytest.raises(PluginError, match=f"^{message}"):
        MLP(MLP.Config(), observations, actions)


def test_what_reads_images_says_so():
    volume = spaces.Box(0, 255, (2, 8, 8, 3), np.uint8)
    with pytest.raises(PluginError) as told:
        CNN(CNN.Config(), spaces.Dict(camera=volume), spaces.Discrete(2))
    assert str(told.value) == (
        "the model cnn reads images [height, width, channels], vectors, Discrete, MultiDiscrete "
        "and MultiBinary observations and Dicts and Tuples of these, "
        "not Box(0, 255, (2, 8, 8, 3), uint8); choose another --model or task"
    )


def test_a_layer_of_no_width_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"^model.sizes is \(64, 0\); it must be at least 1 each"):
        MLP(MLP.Config(sizes=(64, 0)), VECTOR, spaces.Discrete(2))
