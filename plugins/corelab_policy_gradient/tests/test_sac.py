from __future__ import annotations

import functools
import math
from collections import deque

import numpy as np
import pytest
import torch
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_media import Video
from corelab_nets.adam import Adam
from corelab_policy_gradient.replay import Replay
from corelab_policy_gradient.sac import (
    SAC,
    critic_gradient,
    draw,
    policy_gradient,
    temperature_gradient,
)
from corelab_policy_gradient.soft_mlp import SoftMLP
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from corelab import ConfigError, Context, PluginError

QUICK = SAC.Config(warmup=40, batch_size=16, capacity=150, lr=1e-3)
BOX = spaces.Box(np.array([-1, 0]), np.array([3, 10]), dtype=np.float32)


class Scripted:
    """An environment that follows a script, whatever is done, and remembers what was done."""

    name = "Scripted-v0"
    video = False
    fps = 30.0

    def __init__(self, action_space=BOX, num_envs=3, steps=64, seed=0):
        rng = np.random.default_rng(seed)
        self.num_envs = N = num_envs
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.single_action_space = action_space
        self.observations = rng.normal(size=(steps + 1, N, 4))
        self.rewards = rng.normal(size=(steps, N))
        ends = rng.random((2, steps, N)) < 0.15
        self.terminations, self.truncations = ends[0], ends[1] & ~ends[0]
        self.resets = np.zeros((steps, N), bool)
        for t in range(1, steps):
            self.resets[t] = self.terminations[t - 1] | self.truncations[t - 1]
            self.terminations[t] &= ~self.resets[t]
            self.truncations[t] &= ~self.resets[t]
        self.actions = []

    def make(self, num_envs, seed, *, render=False):
        assert num_envs == self.num_envs
        return self

    def reset(self):
        return self.observations[0], {}

    def step(self, actions):
        t = len(self.actions)
        self.actions.append(actions.copy())
        ends = self.terminations[t], self.truncations[t]
        return self.observations[t + 1], self.rewards[t], *ends, {}


def context_of(seed=0, steps=1000):
    return Context(seed=seed, device=torch.device("cpu"), steps=steps)


def sac_on(task, config=QUICK, context=None, sizes=(16, 16)):
    context = context or context_of()
    build = functools.partial(context.build, SoftMLP, SoftMLP.Config(sizes=sizes))
    return SAC(config, task, build, context)


def gymnasium_task(name="Pendulum-v1", **options):
    return GymnasiumTask(GymnasiumTask.Config(id=name, **options))


def weights_of(algorithm):
    nets = algorithm.net.actor, algorithm.net.critics, algorithm.target
    return torch.cat([net.flat.detach() for net in nets] + [algorithm.log_alpha.detach().view(1)])


def doubles(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, dtype=torch.float64, generator=generator)


# The squashed Gaussian.


def test_likelihoods_are_those_of_torch():
    policy, noise = doubles(50, 6, scale=0.6), doubles(50, 3, seed=1)
    drawn = draw(policy, noise)
    mean, log_std = policy.chunk(2, -1)
    squashed = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()),
        torch.distributions.TanhTransform(cache_size=1),
    )
    torch.testing.assert_close(drawn.a, torch.tanh(mean + log_std.exp() * noise))
    expected = squashed.log_prob(drawn.a.clamp(-1 + 1e-15, 1 - 1e-15)).sum(-1)
    torch.testing.assert_close(drawn.log_prob, expected, rtol=1e-5, atol=1e-5)


def test_likelihoods_are_the_slope_of_the_distribution():
    """P(a ≤ x) = Φ((artanh x - μ) / σ), so its derivative is the density."""
    policy, noise = doubles(200, 2, scale=0.3), doubles(200, 1, seed=1)
    drawn = draw(policy, noise)
    mean, log_std = policy.chunk(2, -1)

    def below(x):
        return torch.special.ndtr((torch.atanh(x) - mean) / log_std.exp())

    h = 1e-6 * (1 - drawn.a**2)
    density = (below(drawn.a + h) - below(drawn.a - h)) / (2 * h)
    torch.testing.assert_close(drawn.log_prob, density.log().squeeze(-1), rtol=1e-5, atol=1e-5)


def test_likelihoods_stay_finite_where_the_squashing_saturates():
    policy = torch.tensor([[40.0, 1.0], [-300.0, 50.0], [0.0, -90.0]])
    drawn = draw(policy, torch.ones(3, 1))
    assert drawn.log_prob.isfinite().all()
    assert (drawn.a.abs() <= 1).all()
    assert drawn.log_prob[0].item() == pytest.approx(
        -0.5 - 1 - 0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 40 - math.e)
    )


@given(
    low=st.floats(-1e3, 1e3, width=32),
    span=st.floats(0.125, 1e3, width=32),
    mean=st.floats(-100, 100),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=50)
def test_actions_keep_the_bounds_and_reach_them(low, span, mean, seed):
    low, high = np.float32(low), np.float32(low + span)
    algorithm = sac_on(Scripted(spaces.Box(low, high, (2,), np.float32)))
    a = draw(torch.tensor([[mean, -mean, 2.0, 2.0]]), doubles(1, 2, seed=seed).float()).a
    action = algorithm._to_env(a.numpy())
    assert algorithm.task.single_action_space.contains(action[0].astype(np.float32))
    ends = algorithm._to_env(np.array([[-1.0, 1.0], [0.0, 0.0]], np.float32))
    assert ends[0].tolist() == [low, high]
    assert ends[1] == pytest.approx((float(low) + float(high)) / 2, abs=1e-3)


# The gradients.


def test_the_policy_gradient_is_that_of_the_objective():
    policy = doubles(40, 6, scale=1.5).requires_grad_()
    with torch.no_grad():
        policy[::7, 3:] = torch.tensor([-25.0, 2.5, 1.0])  # beyond the bounds of log σ
    noise, alpha = doubles(40, 3, seed=1), torch.tensor(0.3, dtype=torch.float64)

    def q(a):
        return (a**3 - 2 * a).sum(-1) + a.prod(-1)

    drawn = draw(policy, noise)
    objective = (alpha * drawn.log_prob - q(drawn.a)).mean()
    (expected,) = torch.autograd.grad(objective, policy, retain_graph=True)
    (dQ,) = torch.autograd.grad(q(drawn.a).sum(), drawn.a)
    torch.testing.assert_close(policy_gradient(drawn, alpha, dQ).detach(), expected)
    assert (expected[::7, 3:5] == 0).all()
    assert (expected[::7, 5] != 0).all()


def test_the_critic_gradient_is_that_of_the_objective():
    Q, y = doubles(2, 30, 1).requires_grad_(), doubles(30, seed=1)
    objective = sum(0.5 * ((Q[i, :, 0] - y) ** 2).mean() for i in range(2))
    (expected,) = torch.autograd.grad(objective, Q)
    torch.testing.assert_close(critic_gradient(Q, y).detach(), expected)


@pytest.mark.parametrize(("entropy", "rises"), [(-3.0, True), (0.5, False)])
def test_the_temperature_rises_while_there_is_too_little_entropy(entropy, rises):
    log_alpha = torch.tensor(-0.7, requires_grad=True)
    log_prob = torch.tensor([0.2, -0.2]) - entropy
    gradient = temperature_gradient(log_alpha, log_prob, -1.0)
    (expected,) = torch.autograd.grad(-(log_alpha.exp() * (log_prob - 1.0)).mean(), log_alpha)
    torch.testing.assert_close(gradient, expected)
    assert (gradient < 0) == rises  # downhill is up


def layers_of(net):
    return [[(W.clone(), b.clone()) for W, b in net.layers(i)] for i in range(net.nets)]


def perceptron(layers, x):
    *hidden, (W, b) = layers
    for V, c in hidden:
        x = torch.relu(x @ V + c)
    return x @ W + b


@pytest.mark.parametrize("alpha", [None, 0.2])
def test_updates_are_those_of_the_definitions(alpha):
    """Three updates in float64 against torch's own gradients, optimizer and distributions."""
    config = SAC.Config(lr=3e-3, gamma=0.9, tau=0.1, batch_size=20, alpha=alpha)
    algorithm = sac_on(Scripted(), config)
    for module in (algorithm.net, algorithm.target):
        module.double()
    algorithm.log_alpha.data = algorithm.log_alpha.data.double()
    algorithm.actor_optimizer = Adam(algorithm.actor_optimizer._parameters)
    algorithm.critic_optimizer = Adam(algorithm.critic_optimizer._parameters)
    n, d, B = 4, 2, 20

    actor, critics, targets = (
        layers_of(net) for net in (algorithm.net.actor, algorithm.net.critics, algorithm.target)
    )
    actor_parameters = [p.requires_grad_() for layer in actor[0] for p in layer]
    critic_parameters = [p.requires_grad_() for net in critics for layer in net for p in layer]
    log_alpha = torch.tensor(math.log(alpha or 1.0), dtype=torch.float64, requires_grad=True)
    adams = [torch.optim.Adam(p, 3e-3) for p in (actor_parameters, critic_parameters, [log_alpha])]

    def act(s, noise):
        mean, log_std = perceptron(actor[0], s).chunk(2, -1)
        u = mean + log_std.exp() * noise
        log_prob = torch.distributions.Normal(mean, log_std.exp()).log_prob(u)
        return u.tanh(), (log_prob - torch.log(1 - u.tanh() ** 2)).sum(-1)

    def judge(nets, s, a):
        return [perceptron(net, torch.cat([s, a], -1)).squeeze(-1) for net in nets]

    for k in range(3):
        batch, noise = doubles(B, 2 * n + d + 2, seed=k), doubles(2 * B, d, seed=9 + k)
        batch[:, n : n + d].tanh_()
        batch[:, n + d + 1] = (batch[:, n + d + 1] > -0.5).double()
        with torch.no_grad():
            algorithm._update(batch, noise)

        s, a, r, lives, s_next = batch.split([n, d, 1, 1, n], -1)
        with torch.no_grad():
            temperature = log_alpha.exp()
            a_next, log_prob = act(s_next, noise[B:])
            soft = torch.minimum(*judge(targets, s_next, a_next)) - temperature * log_prob
            y = r.squeeze(-1) + 0.9 * lives.squeeze(-1) * soft
        J_Q = sum(0.5 * ((q - y) ** 2).mean() for q in judge(critics, s, a))
        adams[1].zero_grad()
        J_Q.backward()
        adams[1].step()
        drawn, log_prob = act(s, noise[:B])
        J_pi = (temperature * log_prob - torch.minimum(*judge(critics, s, drawn))).mean()
        adams[0].zero_grad()
        J_pi.backward()
        adams[0].step()
        if alpha is None:
            J_alpha = (-log_alpha.exp() * (log_prob.detach() - d)).mean()
            adams[2].zero_grad()
            J_alpha.backward()
            adams[2].step()
        with torch.no_grad():
            for target, net in zip(targets, critics, strict=True):
                for old, new in zip(target, net, strict=True):
                    for o, w in zip(old, new, strict=True):
                        o.copy_(0.1 * w + 0.9 * o)

    for net, layers in (
        (algorithm.net.actor, actor),
        (algorithm.net.critics, critics),
        (algorithm.target, targets),
    ):
        for i, expected in enumerate(layers):
            for found, wanted in zip(net.layers(i), expected, strict=True):
                for x, y in zip(found, wanted, strict=True):
                    torch.testing.assert_close(x, y.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(algorithm.log_alpha.detach(), log_alpha.detach())
    assert (log_alpha.item() == math.log(alpha)) if alpha else log_alpha.item() != 0


def test_targets_begin_as_the_critics_and_are_not_them():
    algorithm = sac_on(Scripted())
    assert torch.equal(algorithm.target.flat, algorithm.net.critics.flat)
    algorithm.net.critics.flat.data.zero_()
    assert algorithm.target.flat.any()
    assert algorithm.target.trace(torch.ones(1, 6))[0].all()


def test_the_critics_begin_different():
    (first, _), (second, _) = (sac_on(Scripted()).net.critics.layers(i)[0] for i in range(2))
    assert not torch.equal(first, second)


# What is kept, and how much is learned from it.


@settings(deadline=None)
@given(capacity=st.integers(1, 12), added=st.lists(st.integers(0, 12), max_size=8))
def test_the_newest_transitions_are_kept(capacity, added):
    replay, kept, k = Replay(capacity, 2, torch.device("cpu")), deque(maxlen=capacity), 0
    for n in added:
        n = min(n, capacity)
        rows = [[float(k + i), -float(k + i)] for i in range(n)]
        replay.add(torch.tensor(rows).view(-1, 2))
        kept.extend(map(tuple, rows))
        k += n
        assert len(replay) == len(kept)
        assert {tuple(r) for r in replay.state_dict()["rows"].tolist()} == set(kept)
    if kept:
        drawn = replay.sample(3, 200, np.random.default_rng(0))
        assert drawn.shape == (3, 200, 2)
        assert {tuple(r) for r in drawn.view(-1, 2).tolist()} == set(kept)


def test_what_is_kept_are_the_transitions():
    task = Scripted()
    algorithm = sac_on(task, SAC.Config(warmup=10, batch_size=4, capacity=1000))
    seen = [algorithm.step() for _ in range(2)]
    for half, metrics in zip((slice(32), slice(32, 64)), seen, strict=True):
        rewards = task.rewards[half][~task.resets[half]]
        assert metrics["reward"] == pytest.approx(rewards.mean())
    rows = iter(algorithm.replay.state_dict()["rows"])
    low, high = BOX.low, BOX.high
    for t in range(64):
        for i in np.flatnonzero(~task.resets[t]):
            row = next(rows).numpy()
            assert row[:4] == pytest.approx(task.observations[t, i])
            assert low + (row[4:6] + 1) / 2 * (high - low) == pytest.approx(
                task.actions[t][i], abs=1e-5
            )
            assert row[6] == pytest.approx(task.rewards[t, i])
            assert row[7] == (not task.terminations[t, i])
            assert row[8:] == pytest.approx(task.observations[t + 1, i])
    assert next(rows, None) is None
    assert task.truncations.any()
    assert algorithm.progress == len(algorithm.replay) == 64 * 3 - task.resets.sum()


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.5])
def test_as_many_updates_are_made_as_asked(ratio, monkeypatch):
    task, asked = Scripted(), []
    algorithm = sac_on(task, SAC.Config(warmup=50, updates=ratio))
    monkeypatch.setattr(algorithm, "_learn", asked.append)
    algorithm.step(), algorithm.step()
    before = np.cumsum((~task.resets).sum(1)) - (~task.resets).sum(1)
    learned_from = (~task.resets).sum(1)[before >= 50].sum()
    assert sum(asked) == int(ratio * learned_from + 1e-9)


def test_actions_are_uniform_until_learning_begins():
    task = Scripted(spaces.Box(-2, 2, (1,), np.float32), num_envs=50, steps=32)
    sac_on(task, SAC.Config(warmup=10**6)).step()
    drawn = np.sort(np.concatenate(task.actions).ravel())
    uniform = np.linspace(-2, 2, len(drawn))
    assert np.abs(drawn - uniform).max() / 4 < 1.63 / np.sqrt(len(drawn))  # Kolmogorov, 1 %


# Whole runs.


class Echo:
    """Shows a number for a single step, and rewards whoever repeats it in the action's units."""

    name = "Echo-v0"
    num_envs = 4
    video = False
    fps = 30.0
    single_observation_space = spaces.Box(-1, 1, (1,), np.float32)
    single_action_space = spaces.Box(0, 10, (1,), np.float32)

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.over = np.zeros(self.num_envs, bool)

    def make(self, num_envs, seed, *, render=False):
        return self

    def reset(self):
        self.shown = self.rng.uniform(-1, 1, (self.num_envs, 1)).astype(np.float32)
        return self.shown, {}

    def step(self, actions):
        rewards = np.where(self.over, 0, -np.abs(actions / 5 - 1 - self.shown)[:, 0])
        self.over = ~self.over
        return self.reset()[0], rewards, self.over, np.zeros(self.num_envs, bool), {}


def test_episodes_of_one_step_are_learned_from():
    config = SAC.Config(lr=1e-2, warmup=100, batch_size=64, target_entropy=-2.0)
    algorithm = sac_on(Echo(), config, sizes=(32, 32))
    seen = [algorithm.step() for _ in range(24)]
    assert seen[0]["return"] < -0.5
    assert np.mean([m["return"] for m in seen[-3:]]) > -0.2
    assert np.mean([m["entropy"] for m in seen[-3:]]) == pytest.approx(-2.0, abs=0.7)


@pytest.mark.slow
def test_pendulum_is_swung_up():
    preset = SAC.presets["Pendulum-v1"]
    options = {k.split(".")[1]: v for k, v in preset.items() if k.startswith("algorithm.")}
    context = context_of(steps=preset["steps"])
    algorithm = sac_on(
        gymnasium_task(), SAC.Config(**options), context, sizes=preset["model.sizes"]
    )
    while algorithm.progress < context.steps:
        algorithm.step()
    assert algorithm.evaluate()["return"] >= -200


@pytest.mark.parametrize("num_envs", [1, 3])
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(num_envs, resumed):
    task = gymnasium_task(num_envs=num_envs, max_episode_steps=12)

    def begin():
        context = context_of(seed=3)
        return sac_on(task, QUICK, context), context

    uninterrupted, _ = begin()
    expected = [uninterrupted.step() for _ in range(8)]
    assert uninterrupted.progress > QUICK.capacity
    for instant in (1, 5):
        again = resumed(begin, instant, expected)
        assert torch.equal(weights_of(again), weights_of(uninterrupted))
        kept = [a.replay.state_dict()["rows"] for a in (again, uninterrupted)]
        assert torch.equal(*kept)
        assert again.progress == uninterrupted.progress


def test_evaluating_and_filming_change_nothing():
    task = gymnasium_task(max_episode_steps=10)
    a, b = sac_on(task), sac_on(task)
    for _ in range(3):
        a.step(), b.step()
        b.evaluate("validation", 2)
        b.evaluate("validation", 2, stochastic=True)
        assert isinstance(b.sample(), Video)
    assert torch.equal(weights_of(a), weights_of(b))


def test_an_evaluation_is_decided_by_its_seed_and_by_how_it_acts():
    algorithm = sac_on(gymnasium_task(max_episode_steps=10))
    first = algorithm.evaluate("test", 5, seed=1)
    assert algorithm.evaluate("test", 5, seed=1) == first
    assert algorithm.evaluate("test", 5, seed=2) != first
    drawn = algorithm.evaluate("test", 5, seed=1, stochastic=True)
    assert algorithm.evaluate("test", 5, seed=1, stochastic=True) == drawn
    assert drawn != first


# Bad input.


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(2),
        spaces.Box(-np.inf, 1, (2,), np.float32),
        spaces.Box(-1, 1, (2, 2)),
        spaces.Box(0, 9, (2,), np.int64),
    ],
    ids=str,
)
def test_other_actions_are_refused_in_a_sentence(space):
    with pytest.raises(PluginError, match=r"^Scripted-v0 has actions .*; sac takes a bounded Box"):
        sac_on(Scripted(space))


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(3), spaces.Box(0, 1, (8, 8)), spaces.Dict(a=BOX)],
    ids=["discrete", "image", "dict"],
)
def test_other_observations_are_refused_in_a_sentence(space):
    task = Scripted()
    task.single_observation_space = space
    with pytest.raises(PluginError, match=r"^Scripted-v0 shows .*; sac learns from a Box of one"):
        sac_on(task)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0}, "algorithm.lr is 0; it must be positive"),
        ({"tau": 1.5}, "algorithm.tau is 1.5; it must be at most 1"),
        ({"tau": 0}, "algorithm.tau is 0; it must be positive"),
        ({"gamma": -0.1}, "algorithm.gamma is -0.1; it must be between 0 and 1"),
        ({"updates": 0}, "algorithm.updates is 0; it must be positive"),
        ({"batch_size": 0}, "algorithm.batch_size is 0; it must be at least 1"),
        ({"capacity": 0}, "algorithm.capacity is 0; it must be at least 1"),
        (
            {"capacity": 2},
            "algorithm.capacity is 2; it must be at least 3, one for each environment",
        ),
        ({"warmup": 0}, "algorithm.warmup is 0; it must be at least 1"),
        ({"alpha": 0.0}, "algorithm.alpha is 0.0; it must be positive"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(options, message):
    with pytest.raises(ConfigError) as caught:
        sac_on(Scripted(), SAC.Config(**options))
    assert str(caught.value) == message


def test_a_layer_of_no_width_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"^model.sizes is \(16, 0\); it must be widths"):
        sac_on(Scripted(), sizes=(16, 0))
