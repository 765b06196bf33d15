from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from corelab_nets.arrays import ArrayPerceptrons, log_softmax
from corelab_nets.perceptron import Perceptrons
from torch import nn


def double(*args, **kwargs):
    net = Perceptrons(*args, **kwargs).double()
    nn.init.normal_(net.flat, generator=torch.Generator().manual_seed(0))
    return net


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("sizes", [(), (5,), (6, 4)], ids=str)
@pytest.mark.parametrize("shared", [True, False])
def test_the_passes_on_arrays_are_those_of_autograd(activation, sizes, shared):
    net = double(3, sizes, (2, 1), activation=activation)
    fast = ArrayPerceptrons(net)
    generator = torch.Generator().manual_seed(1)
    for rows in (7, 4, 9, 7):  # buffers are used again
        x = torch.randn((rows, 3) if shared else (2, rows, 3), generator=generator).double()
        dy = torch.randn(2, rows, 2, generator=generator).double()
        y = net(x)
        net.flat.grad = None
        y.backward(dy)
        np.testing.assert_allclose(fast.trace(x.numpy()), y.detach(), atol=1e-12)
        fast.infer((x if shared else x[0]).numpy())  # disturbs nothing
        np.testing.assert_allclose(fast.pull(dy.numpy()), net.flat.grad, atol=1e-12)
        for g in range(2):
            seen = x if shared else x[g]
            np.testing.assert_allclose(fast.infer(seen.numpy(), g), net.infer(seen, g), atol=1e-12)


def test_weights_that_were_replaced_or_copied_are_seen():
    net = double(3, (5,), 2)
    fast = ArrayPerceptrons(net)
    x = np.ones((4, 3), np.float32)
    net.float()
    assert fast.infer(x).dtype == np.float32
    both = nn.ModuleDict({"net": net})
    both.fast = fast
    twin = copy.deepcopy(both)
    twin["net"].flat.data.zero_()
    assert not twin.fast.infer(x).any()
    assert fast.infer(x).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_log_softmax_is_that_of_torch(axis):
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double() * 100
    expected = x.log_softmax(axis)
    np.testing.assert_allclose(log_softmax(x.numpy(), axis), expected, atol=1e-12)
