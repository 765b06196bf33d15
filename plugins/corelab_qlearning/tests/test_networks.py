from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from corelab_nets.adam import Adam
from corelab_qlearning.cnn import CNN, Patches
from corelab_qlearning.flat import flatten
from corelab_qlearning.mlp import MLP
from corelab_qlearning.parts import NoisyLinear, draw_noise, join
from gymnasium import spaces

from corelab import ConfigError, PluginError

VECTOR = spaces.Box(-1, 1, (5,), np.float32)
MINATAR = spaces.Box(0, 1, (10, 10, 4), bool)
ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)


def mlp(space=VECTOR, actions=3, atoms=2, dueling=False, noisy=False, sizes=(8, 6)):
    torch.manual_seed(0)
    return MLP(MLP.Config(sizes), space, actions, atoms, dueling=dueling, noisy=noisy)


def cnn(space, actions=3, atoms=2, dueling=False, noisy=False, width=None):
    torch.manual_seed(0)
    return CNN(CNN.Config(width), space, actions, atoms, dueling=dueling, noisy=noisy)


def test_dueling_streams_are_joined_as_in_the_paper():
    y = torch.randn(4, (1 + 3) * 2, generator=torch.Generator().manual_seed(0))
    Q = join(y, atoms=2, dueling=True)
    for b in range(4):
        for z in range(2):
            V, *A = y[b, z::2].tolist()
            for a in range(3):
                assert Q[b, a, z].item() == pytest.approx(V + A[a] - sum(A) / 3, abs=1e-6)
    assert join(y, atoms=2, dueling=False).shape == (4, 4, 2)


def traced(net, x, dz):
    """What NET traces of X, which with the gradient pulled back from DZ must be autograd's."""
    z, pull = net.trace(x)
    with_graph = net(x)
    with_graph.backward(dz)
    expected = torch.cat([p.grad.flatten() for p in net.parameters()])
    torch.testing.assert_close(z, with_graph.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pull(dz), expected, rtol=1e-10, atol=1e-12)
    return z


@pytest.mark.parametrize("dueling", [False, True])
def test_pulling_a_gradient_back_equals_autograd(dueling):
    net = mlp(dueling=dueling).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    dz = torch.randn(7, 3, 2, dtype=torch.float64)
    z = traced(net, x, dz)
    with torch.no_grad():
        torch.testing.assert_close(net(x), z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
def test_pulling_a_gradient_back_through_small_pictures_equals_autograd(dueling, noisy):
    net = cnn(MINATAR, dueling=dueling, noisy=noisy, width=12).double()
    draw_noise(net, torch.Generator().manual_seed(1))
    x = torch.rand(20, 10, 10, 4) < 0.3
    dz = torch.randn(20, 3, 2, dtype=torch.float64)
    z = traced(net, x, dz)
    with torch.no_grad():  # few rows are disturbed in another way
        torch.testing.assert_close(net(x[:5]), z[:5], rtol=1e-10, atol=1e-12)


def test_patches_are_convolved():
    layer = Patches(4, outputs=6, kernel=3)
    x = torch.rand(2, 10, 9, 4)
    kernels = layer.weight.view(6, 3, 3, 4).movedim(-1, 1)
    convolved = torch.conv2d(x.movedim(-1, 1), kernels, layer.bias).relu().movedim(1, -1)
    torch.testing.assert_close(layer(layer.cut(x)).view(2, 8, 7, 6), convolved)


def test_discrete_observations_are_one_hot():
    net = mlp(spaces.Discrete(5, start=2))
    same = mlp(spaces.Box(0, 1, (5,), np.float32))
    torch.testing.assert_close(net(torch.tensor([2, 6])), same(torch.eye(5)[[0, 4]]))


def test_channels_may_stand_first_or_last():
    first, last = spaces.Box(0, 1, (4, 10, 10), np.float32), MINATAR
    x = torch.rand(2, 4, 10, 10) < 0.5
    torch.testing.assert_close(cnn(first)(x), cnn(last)(x.movedim(1, -1)))


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("space", [MINATAR, ATARI])
def test_pictures_are_scaled_to_one(space, noisy):
    net = cnn(space, dueling=True, noisy=noisy, width=16)
    shape = (2, *space.shape)
    assert net(
        torch.zeros(shape, dtype=torch.from_numpy(np.empty(0, space.dtype)).dtype)
    ).shape == (
        2,
        3,
        2,
    )
    seen = []
    first = net.trunk if isinstance(net.trunk, Patches) else net.trunk[0]
    first.register_forward_hook(lambda _, given, __: seen.append(given[0].max().item()))
    net(torch.from_numpy(np.full(shape, space.high.max(), space.dtype)))
    assert seen == [1.0]


def test_noise_is_factorised_and_absent_in_evaluation():
    torch.manual_seed(0)
    layer = NoisyLinear(6, 4)
    draw_noise(layer, torch.Generator().manual_seed(1))
    x = torch.randn(3, 6)
    epsilon = torch.randn(6, generator=torch.Generator().manual_seed(1))
    f = epsilon.sign() * epsilon.abs().sqrt()  # eq. 10
    torch.testing.assert_close(layer.noise_in, f)
    weight = layer.mu + layer.sigma * torch.outer(layer.noise_out, layer.noise_in)
    bias = layer.mu_bias + layer.sigma_bias * layer.noise_out
    torch.testing.assert_close(layer(x), x @ weight.T + bias)  # eq. 9
    layer.eval()
    torch.testing.assert_close(layer(x), x @ layer.mu.T + layer.mu_bias)


@pytest.mark.parametrize(
    ("make", "space"), [(mlp, MINATAR), (mlp, ATARI), (cnn, VECTOR), (cnn, spaces.Discrete(4))]
)
def test_spaces_that_do_not_fit_are_refused(make, space):
    with pytest.raises(PluginError, match="there is --model"):
        make(space)


def test_widths_must_be_positive():
    with pytest.raises(ConfigError, match=r"model.sizes is \(8, 0\); it must be one or more"):
        mlp(sizes=(8, 0))
    with pytest.raises(ConfigError, match=r"model.width is 0; it must be positive"):
        cnn(MINATAR, width=0)


def test_a_flat_network_learns_as_torch_would_have_it():
    net = mlp(noisy=True)
    other = copy.deepcopy(net)
    theta = flatten(net)
    adam = Adam([theta], fused=True)
    reference = torch.optim.Adam(other.parameters(), 1e-2, eps=1e-8)
    x, dz = torch.randn(4, 5), torch.randn(4, 3, 2)
    for _ in range(250):
        theta.grad.zero_()
        net(x).backward(dz)
        adam.step(1e-2)
        reference.zero_grad()
        other(x).backward(dz)
        reference.step()
    for mine, its in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)
    assert torch.equal(theta, torch.cat([p.detach().flatten() for p in net.parameters()]))
