from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from corelab_kernels import build, perceptron
from corelab_nets.arrays import ArrayPerceptrons
from corelab_nets.compiled import CompiledPerceptrons, engine_of
from corelab_nets.perceptron import Perceptrons
from torch import nn

from corelab import ConfigError


def drawn(*args, dtype=torch.float64, seed=0, **kwargs):
    net = Perceptrons(*args, **kwargs).to(dtype)
    nn.init.normal_(net.flat, std=0.3, generator=torch.Generator().manual_seed(seed))
    return net


@pytest.mark.compiled
@pytest.mark.parametrize("seed", range(40))
def test_the_passes_in_compiled_code_are_those_of_autograd(seed):
    rng = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.integers(1, rng.choice([4, 20, 150]), rng.integers(0, 3)))
    outputs = tuple(int(n) for n in rng.integers(1, rng.choice([3, 40]), rng.integers(1, 4)))
    inputs = int(rng.choice([1, 5, 70]))
    net = drawn(inputs, sizes, outputs, activation=str(rng.choice(["tanh", "relu"])), seed=seed)
    single = copy.deepcopy(net).float()
    fast, fast_single = CompiledPerceptrons(net), CompiledPerceptrons(single)
    for shared, rows in itertools.product([True, False], [1, 7, 100, 49]):  # memory is used again
        x = rng.standard_normal((rows, inputs) if shared else (net.nets, rows, inputs))
        dy = rng.standard_normal((net.nets, rows, net.widths[-1]))
        y = net(torch.from_numpy(x))
        net.flat.grad = None
        y.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(fast.trace(x), y.detach(), rtol=1e-11, atol=1e-12)
        fast.infer(x if shared else x[0])  # disturbs nothing
        np.testing.assert_allclose(fast.pull(dy), net.flat.grad, rtol=1e-11, atol=1e-11)
        for g in range(net.nets):
            seen = x if shared else x[g]
            expected = net.infer(torch.from_numpy(seen), g)
            np.testing.assert_allclose(fast.infer(seen, g), expected, rtol=1e-11, atol=1e-12)
        traced = fast_single.trace(x.astype(np.float32))
        np.testing.assert_allclose(traced, y.detach(), rtol=1e-4, atol=1e-4)
        if net.activation != "relu":  # whose slope jumps where a rounding changes a sign
            pulled = fast_single.pull(dy.astype(np.float32))
            np.testing.assert_allclose(pulled, net.flat.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.compiled
def test_what_only_fills_up_learns_nothing():
    net = Perceptrons(3, (20,), (4, 1))
    fast = CompiledPerceptrons(net)
    rows = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    assert fast.infer(rows, 1).shape == (9, 1)
    y = fast.trace(rows)
    assert not y[1, :, 1:].any()
    dy = np.ones_like(y)
    dy[1, :, 1:] = 0
    weight = net.cut(fast.pull(dy))[2]
    assert not weight[1, :, 1:].any()
    assert weight[1, :, :1].any()


@pytest.mark.compiled
def test_weights_that_were_replaced_or_copied_are_seen():
    net = drawn(3, (5,), 2)
    fast = CompiledPerceptrons(net)
    x = np.ones((4, 3), np.float32)
    net.float()
    expected = fast.infer(x).copy()
    assert expected.dtype == np.float32
    both = nn.ModuleDict({"net": net})
    both.fast = fast
    for twin in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert twin.fast.net is twin["net"]
        np.testing.assert_array_equal(twin.fast.infer(x), expected)
        twin["net"].flat.data.zero_()
        assert not twin.fast.infer(x).any()
    np.testing.assert_array_equal(fast.infer(x), expected)


@pytest.mark.compiled
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_what_is_not_finite_stays_in_its_row_and_reaches_the_gradient(activation):
    net = drawn(3, (20, 20), 2, activation=activation)
    fast = CompiledPerceptrons(net)
    x = np.random.default_rng(0).standard_normal((60, 3))
    clean = fast.trace(x).copy()
    x[7, 1], x[50, 2] = np.nan, np.nan
    y = fast.trace(x)
    ill = np.isnan(y).all((0, 2))
    assert ill.nonzero()[0].tolist() == [7, 50]
    np.testing.assert_array_equal(y[:, ~ill], clean[:, ~ill])
    assert fast.pull(np.ones_like(y)).isnan().any()


@pytest.mark.compiled
def test_rows_that_do_not_fit_are_refused():
    fast = CompiledPerceptrons(Perceptrons(3, (5,), (2, 1)))
    for shape in [(4, 2), (3, 4, 3), (1, 2, 4, 3)]:
        with pytest.raises(ValueError, match=r"2 nets' inputs \[rows, 3\]"):
            fast.trace(np.zeros(shape, np.float32))
    fast.trace(np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(2, 5, 2\) are not of outputs \(2, 4, 2\)"):
        fast.pull(np.zeros((2, 5, 2), np.float32))


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_build_gives_the_same_bits(dtype, monkeypatch):
    levels = {"x86-64-v4": ["", "x86-64-v3"], "x86-64-v3": [""]}.get(build.instructions(), [])
    net = drawn(7, (70, 33), (3, 1), dtype=dtype)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((61, 7)), rng.standard_normal((2, 61, 3))
    found = []
    for flags in (build.exact(), *map(build.exact, levels)):
        library = build.load("perceptron", flags)
        monkeypatch.setattr(perceptron, "_twin", lambda library=library: library)
        fast = CompiledPerceptrons(net)
        y = fast.trace(x)
        found.append([y.tobytes(), fast.pull(dy).numpy().tobytes(), fast.infer(x).tobytes()])
    assert all(one == found[0] for one in found)
    assert len(found) == 1 + len(levels)


@pytest.mark.compiled
def test_a_row_gives_the_same_bits_in_every_batch():
    fast = CompiledPerceptrons(drawn(4, (64, 64), (2, 1), dtype=torch.float32))
    x = np.random.default_rng(0).standard_normal((256, 4)).astype(np.float32)
    y = fast.trace(x)[0].copy()
    for rows in (slice(0, 8), slice(3, 104), slice(255, 256)):
        np.testing.assert_array_equal(fast.infer(x[rows]), y[rows])


def test_without_a_compiler_it_is_refused_in_a_sentence(monkeypatch):
    def none():
        raise build.NoCompiler("perceptron.cpp cannot be compiled: c++ is not installed")

    monkeypatch.setattr(perceptron, "_twin", none)
    net = Perceptrons(3, (5,), 2)
    told = (
        r"model\.engine is compiled, which needs a C\+\+ compiler \(.*c\+\+ is not installed\); .*"
    )
    with pytest.raises(ConfigError, match=told + "choose arrays"):
        engine_of(net, "compiled")
    assert isinstance(engine_of(net, "arrays"), ArrayPerceptrons)
