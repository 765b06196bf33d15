from __future__ import annotations

import copy
import functools
import math

import numpy as np
import pytest
import torch
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_media import Video
from corelab_policy_gradient.a2c import A2C, RMSProp
from corelab_policy_gradient.mlp import MLP
from corelab_policy_gradient.returns import gae
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from corelab import ConfigError, Context, DataError, PluginError

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)


class Scripted:
    """An environment that follows a script, whatever is done, and remembers what was done."""

    name = "Scripted-v0"
    num_envs = 2
    video = False
    fps = 30.0

    def __init__(self, action_space, steps=24, seed=0, masked=False):
        rng = np.random.default_rng(seed)
        N = self.num_envs
        self.single_observation_space = VECTOR
        self.single_action_space = action_space
        self.shown = rng.normal(size=(steps + 1, N, 3)).astype(np.float32)
        self.masks = None
        if masked:
            mask = spaces.Box(0, 1, (int(action_space.n),), np.int8)
            self.single_observation_space = spaces.Dict(observation=VECTOR, action_mask=mask)
            self.masks = rng.integers(0, 2, (steps + 1, N, int(action_space.n)), np.int8)
            self.masks[..., 0] |= ~self.masks.any(-1)
        self.rewards = rng.normal(size=(steps, N))
        ends = rng.random((2, steps, N)) < 0.15
        self.terminations, self.truncations = ends[0], ends[1] & ~ends[0]
        self.resets = np.zeros((steps, N), bool)
        for t in range(1, steps):
            self.resets[t] = self.terminations[t - 1] | self.truncations[t - 1]
            self.rewards[t, self.resets[t]] = 0
            self.terminations[t] &= ~self.resets[t]
            self.truncations[t] &= ~self.resets[t]
        self.actions = []

    def make(self, num_envs, seed, *, render=False):
        assert num_envs == self.num_envs
        return self

    def _observation(self, t):
        if self.masks is None:
            return self.shown[t]
        return {"observation": self.shown[t], "action_mask": self.masks[t]}

    def reset(self):
        return self._observation(0), {}

    def step(self, actions):
        t = len(self.actions)
        self.actions.append(actions)
        ends = self.terminations[t], self.truncations[t]
        return self._observation(t + 1), self.rewards[t], *ends, {}


def context_of(steps=1000, seed=0):
    return Context(seed=seed, device=torch.device("cpu"), steps=steps)


def a2c_on(task, config=None, context=None, **model):
    context = context or context_of()
    build = functools.partial(context.build, MLP, MLP.Config(**model))
    return A2C(config or A2C.Config(), task, build, context)


def gymnasium_task(name="CartPole-v1", **options):
    return GymnasiumTask(GymnasiumTask.Config(id=name, **options))


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def n_step_return(rewards, values, terminations, truncations, gamma, t, n):
    """R_t of copy N: rewards to the horizon or an end, and what the last observation is worth."""
    R, weight = 0.0, 1.0
    for k in range(t, len(rewards)):
        R += weight * rewards[k, n]
        weight *= gamma
        if terminations[k, n]:
            return R
        if truncations[k, n]:
            return R + weight * values[k + 1, n]
    return R + weight * values[-1, n]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), T=st.integers(1, 9), gamma=st.floats(0, 1))
def test_advantages_are_those_of_n_step_returns(seed, T, gamma):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(T, 3)), rng.normal(size=(T + 1, 3))
    ends = rng.random((2, T, 3)) < 0.2
    terminations, truncations = ends[0], ends[1] & ~ends[0]
    A = gae(rewards, values, terminations, truncations, gamma, lam=1.0)
    for t in range(T):
        for n in range(3):
            R = n_step_return(rewards, values, terminations, truncations, gamma, t, n)
            assert A[t, n] + values[t, n] == pytest.approx(R, abs=1e-9)


@pytest.mark.parametrize(("optimizer", "normalise"), [("rmsprop", False), ("adam", True)])
@pytest.mark.parametrize(
    ("space", "masked"),
    [(spaces.Discrete(3), False), (spaces.Box(-9, 9, (2,)), False), (spaces.Discrete(3), True)],
    ids=["discrete", "box", "masked"],
)
def test_iterations_are_those_of_the_definitions(space, masked, optimizer, normalise):
    """Two of them, against torch's own distributions and gradients in float64."""
    config = A2C.Config(
        horizon=12,
        lr=3e-3,
        optimizer=optimizer,
        gamma=0.9,
        value_coef=0.4,
        entropy_coef=0.05,
        normalise_advantage=normalise,
        max_grad_norm=0.3,
    )
    task = Scripted(space, masked=masked)
    assert task.resets.any()
    assert task.truncations.any()
    algorithm = a2c_on(task, config)
    net = copy.deepcopy(algorithm.net).double()
    first = weights_of(net)
    seen = [algorithm.step() for _ in range(2)]
    assert algorithm.progress == 48 - task.resets.sum()

    def judge(t, n):
        policy, value = net(torch.from_numpy(task.shown[t, n : n + 1]).double())
        if not isinstance(space, spaces.Discrete):
            mean, log_std = policy[0].chunk(2, -1)
            normal = torch.distributions.Normal(mean, log_std.exp())
            return torch.distributions.Independent(normal, 1), value[0]
        logits = policy[0]
        if masked:
            logits = logits.masked_fill(torch.from_numpy(task.masks[t, n] == 0), -1e8)
        return torch.distributions.Categorical(logits=logits), value[0]

    adam = torch.optim.Adam(net.parameters(), config.lr, eps=1e-5)
    g = [torch.zeros_like(p) for p in net.parameters()]
    for k in range(2):
        now = slice(12 * k, 12 * (k + 1))
        rewards, terminations, truncations = (
            x[now] for x in (task.rewards, task.terminations, task.truncations)
        )
        values = np.array([[judge(12 * k + t, n)[1].item() for n in range(2)] for t in range(13)])
        rows = []
        for t in range(12):
            for n in np.flatnonzero(~task.resets[12 * k + t]):
                pi, V = judge(12 * k + t, n)
                R = n_step_return(rewards, values, terminations, truncations, 0.9, t, n)
                log_prob = pi.log_prob(torch.as_tensor(task.actions[12 * k + t][n]))
                rows.append((log_prob, R - V.item(), (R - V) ** 2, pi.entropy()))
        A = np.array([row[1] for row in rows])
        if normalise:
            A = (A - A.mean()) / (A.std() + 1e-8)
        losses, terms = [], []
        for (log_prob, _, error, entropy), advantage in zip(rows, A, strict=True):
            losses.append(-log_prob * advantage + 0.4 * error - 0.05 * entropy)
            terms.append([(-log_prob * advantage).item(), error.item(), entropy.item()])
        net.zero_grad()
        torch.stack(losses).mean().backward()
        norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm().item()
        for p in net.parameters():
            p.grad *= min(1.0, 0.3 / (norm + 1e-6))
        if optimizer == "adam":
            adam.step()
        else:
            for p, square in zip(net.parameters(), g, strict=True):
                square.copy_(0.99 * square + 0.01 * p.grad**2)
                p.data -= 3e-3 * p.grad / (square + 1e-5).sqrt()
        figures = np.mean(terms, 0)
        for name, figure in zip(("policy_loss", "value_loss", "entropy"), figures, strict=True):
            assert seen[k][name] == pytest.approx(figure, abs=1e-4)
    assert (weights_of(net) - first).abs().max() > 3e-3
    difference = weights_of(algorithm.net).double() - weights_of(net)
    assert difference.abs().max() < 2e-4 if optimizer == "rmsprop" else 2e-5


def test_rmsprop_goes_on_after_being_restored():
    first, second = (torch.ones(4, requires_grad=True) for _ in range(2))
    a, b = RMSProp([first]), RMSProp([second])
    for k in range(3):
        first.grad = torch.arange(4.0) - k
        a.step(0.1, 1e9)
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    second.data.copy_(first.data)
    first.grad, second.grad = torch.ones(4), torch.ones(4)
    a.step(0.1, 1e9), b.step(0.1, 1e9)
    assert torch.equal(first, second)
    assert (first != 1).all()


def test_the_step_size_falls_in_a_straight_line():
    config = A2C.Config(horizon=12, anneal_lr=True)
    algorithm = a2c_on(Scripted(spaces.Discrete(3)), config, context_of(steps=60))
    for _ in range(2):
        left = 1 - algorithm.progress / 60
        assert algorithm.step()["lr"] == pytest.approx(left * config.lr)
    constant = a2c_on(Scripted(spaces.Discrete(3)), A2C.Config(horizon=12))
    assert {constant.step()["lr"] for _ in range(2)} == {A2C.Config().lr}


def test_forbidden_actions_are_never_taken():
    task = Scripted(spaces.Discrete(4), masked=True)
    algorithm = a2c_on(task, A2C.Config(horizon=24))
    algorithm.step()
    for t, actions in enumerate(task.actions):
        for n in np.flatnonzero(~task.resets[t]):
            assert task.masks[t, n, actions[n]]


def test_a_mask_that_allows_nothing_is_an_error_that_names_place_and_step():
    task = Scripted(spaces.Discrete(4), masked=True)
    t = next(t for t in range(5, 24) if not task.resets[t, 1])
    task.masks[t, 1] = 0
    with pytest.raises(DataError, match=rf"^Scripted-v0: copy 1 allows no action at step {t}"):
        a2c_on(task, A2C.Config(horizon=24)).step()


# Whole runs.


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(name, optimizer, resumed):
    task = gymnasium_task(name, num_envs=4, max_episode_steps=16)
    config = A2C.Config(horizon=5, optimizer=optimizer, lr=1e-2, anneal_lr=True)

    def begin():
        context = context_of(steps=600, seed=3)
        return a2c_on(task, config, context), context

    uninterrupted, _ = begin()
    expected = [uninterrupted.step() for _ in range(20)]
    for instant in (3, 4, 11):  # mid-episode, where some are over, and later
        again = resumed(begin, instant, expected)
        assert torch.equal(weights_of(again.net), weights_of(uninterrupted.net))
        assert again.progress == uninterrupted.progress


def test_evaluating_and_filming_change_nothing():
    task = gymnasium_task(num_envs=4, max_episode_steps=20)
    a, b = a2c_on(task), a2c_on(task)
    for _ in range(3):
        a.step(), b.step()
        first = b.evaluate("validation", 4)
        assert b.evaluate("validation", 4) == first
        assert b.evaluate("validation", 4, stochastic=True) != first
        assert isinstance(b.sample(), Video)
    assert torch.equal(weights_of(a.net), weights_of(b.net))


def run_preset(name, seed):
    preset = dict(A2C.presets[name])
    context = context_of(steps=preset.pop("steps"), seed=seed)

    def options(part):
        return {k.removeprefix(part): v for k, v in preset.items() if k.startswith(part)}

    with context.owning_globals():
        task = gymnasium_task(name, **options("task."))
        algorithm = a2c_on(task, A2C.Config(**options("algorithm.")), context, **options("model."))
        while algorithm.progress < context.steps:
            algorithm.step()
        return algorithm.evaluate()["return"]


def test_cartpole_is_solved():
    assert run_preset("CartPole-v1", seed=0) >= 475


@pytest.mark.slow
def test_acrobot_is_solved():
    assert run_preset("Acrobot-v1", seed=0) >= -100


# Bad input.


def test_networks_that_remember_are_refused_in_a_sentence():
    class Remembers(torch.nn.Linear):
        memory = 4

    with pytest.raises(PluginError, match=r"^a2c does not train networks that remember"):
        A2C(A2C.Config(), gymnasium_task(), lambda *spaces: Remembers(4, 2), context_of())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "algorithm.horizon is 0; it must be at least 1"),
        ({"lr": 0}, "algorithm.lr is 0; it must be positive"),
        ({"max_grad_norm": -1}, "algorithm.max_grad_norm is -1; it must be positive"),
        ({"gamma": 1.1}, "algorithm.gamma is 1.1; it must be between 0 and 1"),
        ({"lam": -0.1}, "algorithm.lam is -0.1; it must be between 0 and 1"),
        ({"value_coef": -1}, "algorithm.value_coef is -1; it must be at least 0"),
        ({"entropy_coef": math.nan}, "algorithm.entropy_coef is nan; it must be a finite number"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(options, message):
    with pytest.raises(ConfigError) as caught:
        a2c_on(gymnasium_task(), A2C.Config(**options))
    assert str(caught.value) == message
