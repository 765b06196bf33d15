from __future__ import annotations

import copy

import pytest
import torch
from corelab_nets.perceptron import Perceptrons
from torch import nn


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def plain(net, index):
    """The same network of torch's own layers."""
    layers = []
    for weight, bias in net.layers(index):
        layer = nn.Linear(*weight.shape).to(weight.dtype)
        layer.weight.data, layer.bias.data = weight.T.clone(), bias.clone()
        layers += [layer, nn.Tanh() if net.activation == "tanh" else nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def double(*args, **kwargs):
    net = Perceptrons(*args, **kwargs).double()
    nn.init.normal_(net.flat)
    return net


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("sizes", [(), (5,), (6, 4)], ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_outputs_and_gradients_are_those_of_torch(activation, sizes, shared):
    net = double(3, sizes, 2, nets=3, activation=activation)
    x = torch.randn(7, 3) if shared else torch.randn(3, 7, 3)
    x = x.double().requires_grad_()
    dy = torch.randn(3, 7, 2).double()
    y = net(x)
    y.backward(dy)
    dx, x.grad = x.grad, None
    _, kept = net.trace(x.detach())
    traced, _ = net.pull(kept, dy)
    torch.testing.assert_close(traced, net.flat.grad, atol=0, rtol=0)
    pieces = [[] for _ in range(2 * len(sizes) + 2)]
    for g in range(3):
        twin = plain(net, g)
        seen = x if shared else x[g]
        expected = twin(seen)
        torch.testing.assert_close(y[g], expected)
        torch.testing.assert_close(net.infer(seen.detach(), g), expected.detach())
        expected.backward(dy[g])
        for piece, p in zip(pieces, twin.parameters(), strict=True):
            piece.append(p.grad.mT.flatten() if p.dim() == 2 else p.grad)
    torch.testing.assert_close(net.flat.grad, torch.cat([p for piece in pieces for p in piece]))
    torch.testing.assert_close(dx, x.grad)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gradients_are_finite_differences(activation):
    net = double(3, (5, 4), (2, 1), activation=activation)
    x = torch.randn(6, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, _: net(x), (x, net.flat))


def test_only_the_gradient_that_is_asked_for_is_computed():
    net = double(3, (5,), 1)
    x = torch.randn(4, 3).double().requires_grad_()
    net.flat.requires_grad_(False)
    net(x).sum().backward()
    assert net.flat.grad is None
    expected = x.grad.clone()
    x.grad = None
    net.flat.requires_grad_(True)
    net(x).sum().backward()
    assert torch.equal(x.grad, expected)


def test_nets_of_fewer_outputs_are_filled_up_with_zeros_that_stay():
    net = Perceptrons(3, (5,), (3, 1))
    x = torch.randn(4, 3)
    assert not net(x)[1, :, 1:].any()
    assert net.infer(x, 1).shape == (4, 1)
    (net(x)[0].sum() + net(x)[1, :, 0].sum()).backward()
    torch.optim.Adam(net.parameters(), 0.1).step()
    assert not net(x)[1, :, 1:].any()
    assert net(x)[1, :, 0].any()


def test_first_weights_are_orthogonal_and_the_last_scaled():
    net = Perceptrons(4, (64, 32), (3, 1), gain=(0.01, 1.0))
    for index, (gain, outputs) in enumerate([(0.01, 3), (1.0, 1)]):
        (first, _), (second, _), (last, _) = net.layers(index)
        torch.testing.assert_close(first @ first.T, 2 * torch.eye(4))
        torch.testing.assert_close(second.T @ second, 2 * torch.eye(32))
        last = last[:, :outputs]
        torch.testing.assert_close(last.T @ last, gain**2 * torch.eye(outputs))
        assert all(not bias.any() for _, bias in net.layers(index))
    assert not torch.equal(net.layers(0)[0][0], net.layers(1)[0][0])


def test_uniform_first_weights_are_within_their_bound():
    net = Perceptrons(16, (64,), 2, initial="uniform")
    for weight, bias in net.layers():
        bound = len(weight) ** -0.5
        assert 0.8 * bound < weight.abs().max() <= bound
        assert bias.any()
        assert bias.abs().max() <= bound


def test_weights_can_be_saved_copied_and_moved():
    net, other = Perceptrons(3, (5,), 2), Perceptrons(3, (5,), 2)
    x = torch.randn(4, 3)
    other.infer(x)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.infer(x), net.infer(x))
    twin = copy.deepcopy(net)
    twin.flat.data.zero_()
    assert not twin.infer(x).any()
    assert net.infer(x).any()
    expected = net.infer(x)
    net.double()
    torch.testing.assert_close(net.infer(x.double()).float(), expected)


def test_backward_after_the_weights_have_changed_is_refused():
    net = Perceptrons(3, (5,), 2)
    y = net(torch.randn(4, 3)).sum()
    with torch.no_grad():
        net.flat.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


@pytest.mark.parametrize("initial", ["orthogonal", "uniform"])
def test_where_there_is_nothing_to_see_every_row_gives_the_same(initial):
    y = Perceptrons(0, (4,), 2, initial=initial)(torch.zeros(3, 0))
    assert y.shape == (1, 3, 2)
    assert torch.isfinite(y).all()
    assert torch.equal(y[:, :1].expand_as(y), y)
