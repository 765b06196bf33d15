"""What is seen of networks while they learn, held to what is known of them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from corelab_diagnosis.watch import Watch
from corelab_nets.adam import Adam
from corelab_nets.arrays import ArrayPerceptrons
from corelab_nets.compiled import CompiledPerceptrons
from corelab_nets.perceptron import Perceptrons
from torch import nn
from torch.nn.utils import parametrizations


def learn(net, x, updates=3, lr=0.1):
    optimizer = torch.optim.SGD(net.parameters(), lr)
    with Watch() as watch:
        for _ in range(updates):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    return watch.seen()


def net(*layers):
    return nn.Sequential(*layers)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_inputs_gradients_and_changes_are_those_of_the_layers():
    model = net(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    x = 5 + 2 * torch.randn(200, 3)
    before = copy.deepcopy(model)
    seen = learn(model, x, updates=1, lr=1e-3)
    first, last = seen.layers
    assert (first.name, last.name, first.first, last.first) == ("0", "2", True, False)
    assert (first.data, last.data, first.rows, seen.updates) == (True, False, 200, 1)
    assert first.rms == pytest.approx(x.square().mean().sqrt().item(), rel=1e-5)
    assert first.mean == pytest.approx(x.mean(0).abs().max().item(), rel=1e-5)
    h = before[1](before[0](x))
    assert last.rms == pytest.approx(h.square().mean().sqrt().item(), rel=1e-5)
    before(x).square().mean().backward()
    gradient = before[0].weight.grad
    assert first.gradient == pytest.approx(gradient.square().mean().sqrt().item(), rel=1e-5)
    change = 1e-3 * gradient.norm() / before[0].weight.norm()
    assert first.change == pytest.approx(change.item(), rel=1e-3)


def test_dead_units_are_those_that_are_never_above_zero():
    model = net(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].bias[:] = torch.tensor([-100.0, 5, 5, -100])
    _, last = learn(model, torch.randn(64, 3), lr=1e-3).layers
    assert last.dead == 0.5


def test_the_effective_rank_is_that_of_what_a_hidden_layer_is_given():
    for examples, expected in ((12, 12 / 96), (400, 1.0)):
        model = net(nn.Linear(200, 96), nn.Tanh(), nn.Linear(96, 1))
        nn.init.orthogonal_(model[0].weight, 0.1)
        x = torch.linalg.qr(torch.randn(400, 400)).Q[:examples, :200]
        first, last = learn(model, x.repeat(400 // examples, 1), lr=0.0).layers
        assert (first.units, last.units) == (0, 96)
        assert last.used == pytest.approx(expected, abs=0.1)


def test_of_few_rows_only_so_many_units_are_asked_about_and_of_convolutions_none():
    model = net(nn.Linear(3, 50), nn.ReLU(), nn.Linear(50, 1))
    last = learn(model, torch.randn(4, 3), updates=2).layers[1]
    assert last.units == 50
    assert last.used in [k / 4 for k in (1, 2, 3, 4)]  # eight rows say something about four units
    assert learn(model, torch.randn(1, 3), updates=2).layers[1].used == 0
    image = net(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    assert learn(image, torch.randn(16, 1, 8, 8)).layers[1].units == 0


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Sigmoid()])
def test_flat_activations_are_saturated_and_others_are_not(activation):
    for gain, least, most in ((1.0, 0.0, 0.1), (300.0, 0.8, 1.0)):
        model = net(nn.Linear(8, 16), activation, nn.Linear(16, 1))
        with torch.no_grad():
            model[0].weight *= gain
        _, last = learn(model, torch.randn(64, 8)).layers
        assert least <= last.saturated <= most
    model = net(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    assert learn(model, torch.randn(64, 8)).layers[1].saturated == 0


def test_units_that_are_all_the_same_are_noticed():
    model = net(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    assert not learn(model, torch.randn(64, 3)).layers[1].alike
    nn.init.constant_(model[0].weight, 0.3)
    nn.init.zeros_(model[0].bias)
    nn.init.constant_(model[2].weight, 0.3)
    assert learn(model, torch.randn(64, 3)).layers[1].alike


class Squashed(nn.Module):
    def __init__(self, squash):
        super().__init__()
        self.layer, self.squash = nn.Linear(3, 4), squash

    def forward(self, x):
        return self.squash(self.layer(x)).view(-1)


@pytest.mark.parametrize(
    ("squash", "ending"),
    [
        (lambda y: y.softmax(-1), "softmax"),
        (torch.sigmoid, "sigmoid"),
        (nn.ReLU(), "ReLU"),
        (lambda y: y, None),
        (lambda y: 2 * y.tanh(), None),
    ],
)
def test_what_bounds_an_output_is_found_in_its_graph(squash, ending):
    seen = learn(Squashed(squash), torch.randn(8, 3))
    assert seen.endings.get("Squashed") == ending


def test_evaluations_are_not_watched():
    model = net(nn.Linear(3, 4))
    with Watch() as watch, torch.no_grad():
        model(torch.randn(8, 3))
    assert watch.seen().layers == []


def test_convolutions_and_parametrised_layers_are_seen():
    model = net(
        nn.Conv2d(3, 5, 3),
        nn.ReLU(),
        nn.Flatten(),
        parametrizations.spectral_norm(nn.Linear(5 * 36, 1)),
    )
    conv, linear = learn(model, torch.randn(4, 3, 8, 8)).layers
    assert (conv.rows, linear.rows, linear.updates) == (4 * 64, 4, 3)


@pytest.mark.parametrize(
    "engine",
    [
        None,
        ArrayPerceptrons,
        pytest.param(
            CompiledPerceptrons,
            marks=pytest.mark.compiled,
        ),
    ],
)
def test_perceptrons_are_seen_as_layers_of_modules_are(engine):
    nets = Perceptrons(3, (4,), (2, 1), activation="relu")
    like = net(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        for layer, (W, b) in zip(like[::2], nets.layers(1), strict=True):
            layer.weight.copy_(W.T[: len(layer.weight)])
            layer.bias.copy_(b[: len(layer.bias)])
    x = torch.randn(64, 3)
    dy = torch.zeros(2, 64, 2)
    dy[1, :, 0] = 2 * like(x).detach()[:, 0] / 64
    optimizer = Adam(nets.parameters())
    with Watch() as watch:
        if engine:
            fast = engine(nets)
            fast.trace(x.numpy())
            nets.flat.grad = fast.pull(dy.numpy())
        else:
            _, kept = nets.trace(x)
            nets.flat.grad, _ = nets.pull(kept, dy)
        optimizer.step(1e-3)
    mine = [layer for layer in watch.seen().layers if layer.network == "Perceptrons.1"]
    theirs = learn(like, x, updates=1).layers
    assert [layer.rms for layer in mine] == pytest.approx([layer.rms for layer in theirs])
    assert mine[0].gradient == pytest.approx(theirs[0].gradient, rel=1e-4)
    assert all(layer.change > 0 for layer in mine)


def test_watching_changes_nothing_and_leaves_nothing_behind():
    trace = Perceptrons.trace
    x = torch.randn(64, 3)
    model = net(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    models = [model, copy.deepcopy(model)]
    state = torch.get_rng_state()
    learn(models[0], x, updates=20)
    assert torch.equal(torch.get_rng_state(), state)
    optimizer = torch.optim.SGD(models[1].parameters(), 0.1)
    for _ in range(20):
        optimizer.zero_grad()
        models[1](x).square().mean().backward()
        optimizer.step()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
    assert Perceptrons.trace is trace
    assert not models[0][0].weight._post_accumulate_grad_hooks


def test_a_change_is_that_of_one_update_though_many_follow():
    model = net(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x, same = torch.randn(64, 3), copy.deepcopy(model)
    one = learn(same, x, updates=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Watch(updates=1) as watch:
        for _ in range(50):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    seen = watch.seen().layers
    assert [layer.change for layer in seen] == [layer.change for layer in one.layers]
    assert [layer.rms for layer in seen] == [layer.rms for layer in one.layers]


def test_no_more_updates_are_looked_at_than_asked_for():
    model = net(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Watch(updates=2) as watch:
        for _ in range(10):
            optimizer.zero_grad()
            model(torch.as_tensor(np.ones((8, 3)), dtype=torch.float32)).sum().backward()
            optimizer.step()
    assert watch.done
    assert watch.counted == 10
    assert watch.seen().layers[0].updates <= 3
