from __future__ import annotations

import copy
import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_media import Video
from corelab_nets.adam import Adam
from corelab_policy_gradient.mlp import MLP
from corelab_policy_gradient.ppo import PPO, clipped_surrogate, kl_estimate, squared_error
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from corelab import ConfigError, Context, PluginError

QUICK = PPO.Config(horizon=16, epochs=2, batch_size=16, lr=1e-2)


class Scripted:
    """An environment that follows a script, whatever is done, and remembers what was done."""

    name = "Scripted-v0"
    num_envs = 2
    video = False
    fps = 30.0

    def __init__(self, action_space, steps=12, seed=0, ends=0.3):
        rng = np.random.default_rng(seed)
        N = self.num_envs
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.single_action_space = action_space
        self.observations = rng.normal(size=(steps + 1, N, 3)).astype(np.float32)
        self.rewards = rng.normal(size=(steps, N))
        self.terminations = rng.random((steps, N)) < ends / 2
        self.truncations = rng.random((steps, N)) < ends / 2
        self.resets = np.zeros((steps, N), bool)
        for t in range(1, steps):
            over = self.terminations[t - 1] | self.truncations[t - 1]
            self.resets[t] = over
            self.rewards[t, over] = 0
            self.terminations[t, over] = self.truncations[t, over] = False
        self.actions = []

    def make(self, num_envs, seed, *, render=False):
        assert num_envs == self.num_envs
        return self

    def reset(self):
        return self.observations[0], {}

    def step(self, actions):
        t = len(self.actions)
        self.actions.append(np.asarray(actions, self.single_action_space.dtype))
        ends = self.terminations[t], self.truncations[t]
        return self.observations[t + 1], self.rewards[t], *ends, {}

    def state_dict(self):
        return {}


def context_of(steps=1000, seed=0):
    return Context(seed=seed, device=torch.device("cpu"), steps=steps)


def ppo_on(task, config=QUICK, context=None, model=MLP, **options):
    context = context or context_of()
    build = functools.partial(context.build, model, model.Config(**options))
    return PPO(config, task, build, context)


def gymnasium_task(name, **options):
    return GymnasiumTask(GymnasiumTask.Config(id=name, **options))


def weights_of(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.net.parameters()])


# The losses.


def clipped(log_ratio, advantage, clip):
    """Eq. 7 as it stands, for autograd."""
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def error(value, target, old, clip):
    """The squared error of eq. 9, or the larger of it and that of a value that is kept near."""
    plain = (value - target) ** 2
    if clip is None:
        return plain
    return torch.maximum(plain, (old + (value - old).clamp(-clip, clip) - target) ** 2)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), clip=st.floats(0.01, 0.9))
def test_the_clipped_surrogate_and_its_derivative_are_those_of_the_definition(seed, clip):
    log_ratio, advantage = np.random.default_rng(seed).normal(size=(2, 20))
    x = torch.from_numpy(log_ratio).requires_grad_()
    expected = clipped(x, torch.from_numpy(advantage), clip)
    expected.sum().backward()
    terms, derivative = clipped_surrogate(log_ratio, advantage, clip)
    np.testing.assert_allclose(terms, expected.detach(), atol=1e-12)
    np.testing.assert_allclose(derivative, x.grad, atol=1e-12)
    tensors = clipped_surrogate(x.detach(), torch.from_numpy(advantage), clip)
    np.testing.assert_allclose(tensors[1], x.grad, atol=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), clip=st.none() | st.floats(0.01, 0.9))
def test_the_squared_error_and_its_derivative_are_those_of_the_definition(seed, clip):
    value, target, old = np.random.default_rng(seed).normal(size=(3, 20))
    x = torch.from_numpy(value).requires_grad_()
    expected = error(x, torch.from_numpy(target), torch.from_numpy(old), clip)
    expected.sum().backward()
    terms, derivative = squared_error(value, target, old, clip)
    np.testing.assert_allclose(terms, expected.detach(), atol=1e-12)
    np.testing.assert_allclose(derivative, x.grad, atol=1e-12)
    tensors = squared_error(x.detach(), *map(torch.from_numpy, (target, old)), clip)
    np.testing.assert_allclose(tensors[1], x.grad, atol=1e-12)


def test_beyond_the_clip_only_what_makes_it_worse_has_a_gradient():
    log_ratio = np.array([0.5, 0.5, -0.5, -0.5, 0.1])
    _, derivative = clipped_surrogate(log_ratio, np.array([1.0, -1.0, 1.0, -1.0, 1.0]), 0.2)
    assert (derivative != 0).tolist() == [False, True, True, False, True]


def test_the_kl_estimate_is_unbiased():
    old, new = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    ratio_weighted = [float(old[i].exp()) * kl_estimate((new - old)[i : i + 1]) for i in range(5)]
    expected = (old.exp() * (old - new)).sum().item()
    assert sum(ratio_weighted) == pytest.approx(expected, abs=1e-6)


# One iteration, against the same computed from the definitions in float64.


def reference(net, task, config, seed, lr):
    """The weights after one iteration on what TASK has recorded; plain loops, torch's own parts."""
    net = copy.deepcopy(net).double()
    discrete = isinstance(task.single_action_space, spaces.Discrete)

    def policy_of(observation):
        policy, value = net(torch.as_tensor(observation, dtype=torch.float64))
        if discrete:
            return torch.distributions.Categorical(logits=policy), value
        mean, log_std = policy.chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.exp())
        return torch.distributions.Independent(normal, 1), value

    T, N = task.rewards.shape
    rows = []
    with torch.no_grad():
        V = [policy_of(task.observations[t])[1].numpy() for t in range(T + 1)]
        for t in range(T):
            old_log_prob = policy_of(task.observations[t])[0].log_prob(
                torch.from_numpy(task.actions[t])
            )
            for n in range(N):
                if task.resets[t, n]:
                    continue
                advantage, weight = 0.0, 1.0
                for k in range(t, T):
                    successor = 0.0 if task.terminations[k, n] else V[k + 1][n]
                    advantage += weight * (task.rewards[k, n] + config.gamma * successor - V[k][n])
                    weight *= config.gamma * config.lam
                    if task.terminations[k, n] or task.truncations[k, n]:
                        break
                rows.append(
                    (
                        task.observations[t, n],
                        task.actions[t][n],
                        old_log_prob[n].item(),
                        V[t][n],
                        advantage,
                        advantage + V[t][n],
                    )
                )
    columns = [torch.from_numpy(np.array(column)) for column in zip(*rows, strict=True)]
    optimizer = torch.optim.Adam(net.parameters(), lr, eps=1e-5)
    rng = context_of(seed=seed).rng("minibatches")
    minibatches = T * N // config.batch_size
    size = math.ceil(len(rows) / minibatches)
    for _ in range(config.epochs):
        order = rng.permutation(len(rows))
        for begin in range(0, len(rows), size):
            observation, action, old_log_prob, old_value, advantage, target = (
                column[order[begin : begin + size]] for column in columns
            )
            distribution, value = policy_of(observation)
            ratio = (distribution.log_prob(action) - old_log_prob).exp()
            if config.normalise_advantage:
                advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
            clipped = torch.clip(ratio, 1 - config.clip, 1 + config.clip)
            objective = torch.minimum(ratio * advantage, clipped * advantage).mean()
            error = (value - target) ** 2
            if config.clip_value:
                kept = old_value + torch.clip(value - old_value, -config.clip, config.clip)
                error = torch.maximum(error, (kept - target) ** 2)
            bonus = distribution.entropy().mean()
            loss = config.value_coef * error.mean() - objective - config.entropy_coef * bonus
            optimizer.zero_grad()
            loss.backward()
            norm = math.sqrt(sum((p.grad**2).sum().item() for p in net.parameters()))
            for p in net.parameters():
                p.grad *= min(1.0, config.max_grad_norm / (norm + 1e-6))
            optimizer.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()]), len(rows)


class Plain(nn.Module):
    """A network that offers nothing but `forward`."""

    Config = MLP.Config

    def __init__(self, *args):
        super().__init__()
        self.mlp = MLP(*args)

    def forward(self, observations):
        return self.mlp(observations)


class Compiled(MLP):
    """A network whose passes are compiled."""

    def __init__(self, config, *args):
        super().__init__(replace(config, engine="compiled"), *args)


def in_double_precision(algorithm):
    algorithm.net.double()
    algorithm.optimizer = Adam(algorithm.net.parameters(), eps=1e-5)
    return algorithm


@pytest.mark.parametrize("model", [MLP, Plain, pytest.param(Compiled, marks=pytest.mark.compiled)])
@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-9, 9, (2,))], ids=str)
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("clip_value", [True, False])
def test_an_iteration_is_that_of_the_definitions(model, space, normalise, clip_value):
    config = PPO.Config(
        horizon=12,
        epochs=4,
        batch_size=8,
        lr=3e-3,
        gamma=0.9,
        lam=0.8,
        clip=0.1,
        clip_value=clip_value,
        entropy_coef=0.05,
        normalise_advantage=normalise,
        max_grad_norm=0.3,
    )
    task = Scripted(space)
    assert task.resets.any()
    assert task.terminations.any()
    assert task.truncations.any()
    algorithm = in_double_precision(ppo_on(task, config, model=model))
    net = copy.deepcopy(algorithm.net)
    algorithm.step()
    expected, transitions = reference(net, task, config, seed=0, lr=config.lr)
    assert algorithm.progress == transitions == 24 - task.resets.sum()
    moved = (expected - torch.cat([p.detach().flatten() for p in net.parameters()])).abs().max()
    assert moved > 1e-2
    torch.testing.assert_close(weights_of(algorithm), expected, atol=1e-9, rtol=0)


def test_rewards_and_actions_of_resetting_steps_change_nothing():
    a, b = Scripted(spaces.Discrete(3)), Scripted(spaces.Discrete(3))
    b.rewards[b.resets] = 1e3
    first, second = (
        ppo_on(a, PPO.Config(horizon=12, batch_size=8)),
        ppo_on(b, PPO.Config(horizon=12, batch_size=8)),
    )
    first.step(), second.step()
    assert torch.equal(weights_of(first), weights_of(second))


def test_return_and_length_are_those_of_the_episodes_that_ended():
    task = Scripted(spaces.Discrete(3), steps=24, ends=0.3)
    algorithm = ppo_on(task, PPO.Config(horizon=12, batch_size=8))
    seen = [algorithm.step() for _ in range(2)]
    for half, metrics in enumerate(seen):
        ended = []
        for n in range(2):
            total = length = 0
            for t in range(24):
                total += task.rewards[t, n]
                length += not task.resets[t, n]
                if task.terminations[t, n] or task.truncations[t, n]:
                    if t // 12 == half:
                        ended.append((total, length, task.truncations[t, n]))
                    total = length = 0
        assert ended, "the script should have an episode end in each half"
        assert metrics["return"] == pytest.approx(np.mean([e[0] for e in ended]))
        assert metrics["episode_length"] == pytest.approx(np.mean([e[1] for e in ended]))
        assert metrics["truncated"] == pytest.approx(np.mean([e[2] for e in ended]))


def test_without_an_episode_that_ended_there_is_no_return():
    metrics = ppo_on(
        Scripted(spaces.Discrete(3), ends=0), PPO.Config(horizon=12, batch_size=8)
    ).step()
    assert "return" not in metrics
    assert "episode_length" not in metrics


def test_before_anything_is_learned_the_metrics_are_known():
    """One epoch over one minibatch: π is still π_old, and the first policy is almost uniform."""
    config = PPO.Config(horizon=12, epochs=1, batch_size=24, anneal_lr=True)
    metrics = ppo_on(Scripted(spaces.Discrete(3)), config, context_of(steps=24)).step()
    assert metrics["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["clip_fraction"] == 0
    assert metrics["policy_loss"] == pytest.approx(0, abs=1e-6)  # advantages have mean 0
    assert metrics["entropy"] == pytest.approx(math.log(3), abs=1e-3)
    assert metrics["lr"] == config.lr


@pytest.mark.parametrize("annealed", [True, False])
def test_step_size_and_clip_range_fall_in_a_straight_line(annealed, monkeypatch):
    clips = []
    monkeypatch.setattr(
        PPO, "_optimize", lambda self, batch, lr, clip: clips.append(clip) or {"entropy": 0.0}
    )
    config = PPO.Config(horizon=12, batch_size=8, anneal_lr=annealed, anneal_clip=annealed)
    algorithm = ppo_on(Scripted(spaces.Discrete(3), steps=48), config, context_of(steps=60))
    for _ in range(4):
        left = 1 - algorithm.progress / 60 if annealed else 1
        metrics = algorithm.step()
        assert metrics["lr"] == pytest.approx(max(0, left) * config.lr)
        assert clips[-1] == pytest.approx(max(0, left) * config.clip)


# Whole runs.


@pytest.mark.parametrize(
    ("name", "config", "model"),
    [
        ("CartPole-v1", QUICK, MLP),
        pytest.param("CartPole-v1", QUICK, Compiled, marks=pytest.mark.compiled),
        ("Pendulum-v1", QUICK, MLP),
        ("FrozenLake-v1", PPO.Config(horizon=8, epochs=2, batch_size=32, anneal_lr=True), MLP),
    ],
)
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(name, config, model, resumed):
    task = gymnasium_task(name, num_envs=4, max_episode_steps=16)

    def begin():
        context = context_of(steps=1500, seed=3)
        return ppo_on(task, config, context, model), context

    uninterrupted, _ = begin()
    expected, ends = [], []
    for iteration in range(12):
        expected.append(uninterrupted.step())
        if uninterrupted.rollout.state_dict()["over"].any():
            ends.append(iteration + 1)
    for instant in {ends[0], *np.random.default_rng(0).integers(12, size=2).tolist()}:
        again = resumed(begin, instant, expected)
        assert torch.equal(weights_of(again), weights_of(uninterrupted))
        assert again.progress == uninterrupted.progress


def test_evaluating_and_filming_change_nothing():
    task = gymnasium_task("CartPole-v1", num_envs=4)
    a, b = ppo_on(task), ppo_on(task)
    for _ in range(3):
        a.step(), b.step()
        b.evaluate("validation")
        b.sample()
    assert b.net.training
    assert torch.equal(weights_of(a), weights_of(b))


def test_an_evaluation_is_decided_by_its_seed_and_split():
    algorithm = ppo_on(gymnasium_task("CartPole-v1"))
    first = algorithm.evaluate("test", 30, seed=1)
    assert algorithm.evaluate("test", 30, seed=1) == first
    assert algorithm.evaluate("test", 30, seed=2) != first
    assert algorithm.evaluate("validation", 30, seed=1) != first


def test_an_evaluation_shows_an_episode_when_asked():
    task = gymnasium_task("CartPole-v1", video=True, max_episode_steps=20)
    metrics = ppo_on(task).evaluate("validation", 2)
    assert isinstance(metrics["episode"], Video)
    assert set(metrics) == {"return", "return_std", "episode_length", "episode"}
    assert "episode" not in ppo_on(gymnasium_task("CartPole-v1")).evaluate("validation", 2)


def test_a_sample_shows_as_many_episodes_as_asked():
    algorithm = ppo_on(gymnasium_task("CartPole-v1", max_episode_steps=6))
    assert len(algorithm.sample().pixels) == 4  # steps 0, 2, 4 and the end
    assert len(algorithm.sample(3).pixels) == 12


def run_preset(name, seed):
    preset = dict(PPO.presets[name])
    context = context_of(steps=preset.pop("steps"), seed=seed)

    def options(part):
        return {k.removeprefix(part): v for k, v in preset.items() if k.startswith(part)}

    with context.owning_globals():
        task = gymnasium_task(name, **options("task."))
        algorithm = ppo_on(task, PPO.Config(**options("algorithm.")), context, **options("model."))
        while algorithm.progress < context.steps:
            algorithm.step()
        return algorithm.evaluate()["return"]


def test_cartpole_is_solved():
    assert run_preset("CartPole-v1", seed=0) >= 475


class Echo(Scripted):
    """Shows something for a single step, and rewards whoever repeats it."""

    num_envs = 8

    def __init__(self, space):
        self.single_observation_space = self.single_action_space = space
        self.over = np.zeros(self.num_envs, bool)
        space.seed(0)

    def reset(self):
        self.shown = np.array([self.single_action_space.sample() for _ in range(self.num_envs)])
        return self.shown, {}

    def step(self, actions):
        distance = np.abs(actions - self.shown).reshape(self.num_envs)
        rewards = np.where(self.over, 0, -np.minimum(1, distance))
        self.over = ~self.over
        return self.reset()[0], rewards, self.over, np.zeros(self.num_envs, bool), {}


@pytest.mark.parametrize("space", [spaces.Discrete(4, start=2), spaces.Box(-1, 1, (1,))], ids=str)
def test_episodes_of_one_step_are_learned_from(space):
    config = PPO.Config(horizon=32, batch_size=64, lr=2e-3, epochs=10, gamma=0.0)
    algorithm = ppo_on(Echo(space), config, log_std=-1.0)
    returns = [algorithm.step()["return"] for _ in range(40)]
    assert algorithm.progress == 40 * 32 * 8 / 2
    assert returns[0] < -0.3
    assert returns[-1] > -0.1


def test_values_of_an_episode_that_is_only_cut_look_beyond_the_cut():
    """Reward 1 for ever is worth 1 / (1 - γ) = 5, however often the clock cuts in."""

    class Salary(Scripted):
        def __init__(self, cut):
            super().__init__(spaces.Discrete(2), steps=1)
            self.cut, self.time = cut, 0

        def reset(self):
            return np.ones((2, 3), np.float32), {}

        def step(self, actions):
            ends = np.zeros((2, 2), bool)
            reset = self.time == 4
            self.time = 0 if reset else self.time + 1
            ends[int(self.cut)] = self.time == 4
            return np.ones((2, 3), np.float32), np.full(2, float(not reset)), *ends, {}

    values = {}
    for cut in (True, False):
        config = PPO.Config(horizon=20, batch_size=40, lr=1e-2, gamma=0.8, max_grad_norm=10)
        algorithm = ppo_on(Salary(cut), config)
        for _ in range(60):
            algorithm.step()
        values[cut] = algorithm.net(torch.ones(1, 3))[1].item()
    assert values[True] == pytest.approx(5, abs=0.1)
    assert values[False] < 3.5


# What cannot be done.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 7}, "batch_size is 7; it must be a divisor, such as 4, .* are 32"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 64}, "batch_size is 64; it must be a divisor, such as 32,"),
        ({"horizon": 1, "batch_size": 2}, "horizon is 1; it must be at least 2"),
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": -1.0}, "lr is -1.0; it must be positive"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0"),
        ({"gamma": 1.1}, "gamma is 1.1; it must be between 0 and 1"),
        ({"lam": -0.1}, "lam is -0.1"),
        ({"value_coef": -1.0}, "value_coef is -1.0; it must be at least 0"),
        ({"entropy_coef": math.nan}, "entropy_coef is nan; it must be a finite number"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_in_a_sentence(options, message):
    config = PPO.Config(**{"horizon": 16, "batch_size": 16} | options)
    with pytest.raises(ConfigError, match=f"^algorithm.{message}"):
        ppo_on(Scripted(spaces.Discrete(2)), config)


def test_observations_that_do_not_fit_are_refused_in_a_sentence():
    task = Scripted(spaces.Discrete(2))
    task.single_observation_space = spaces.Text(5)
    with pytest.raises(PluginError, match=r"^the model mlp reads vectors, .*, not Text"):
        ppo_on(task)
    with pytest.raises(PluginError, match=r"^Scripted-v0 shows Text.*; what can be learned from"):
        ppo_on(task, model=Blind)


class Blind(Plain):
    """A network that takes any space."""

    def __init__(self, config, observation_space, action_space):
        super().__init__(config, spaces.Discrete(1), action_space)
