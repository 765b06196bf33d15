from __future__ import annotations

import copy
import functools
import math

import numpy as np
import pytest
import torch
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_media import Video
from corelab_policy_gradient.mlp import MLP
from corelab_policy_gradient.reinforce import REINFORCE, returns_to_go
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from corelab import ConfigError, Context, DataError, PluginError

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)


class Copy:
    """One copy of `Scripted`: its episodes have the lengths that it was given."""

    num_envs = 1

    def __init__(self, task, lengths, seed):
        self.task, self.lengths = task, lengths
        self.rng = np.random.default_rng(seed)
        self.episode, self.t, self.over = 0, 0, False
        self.begun = []  # per episode: observations, masks, actions, rewards

    def _show(self):
        shown = self.rng.normal(size=(1, 3)).astype(np.float32)
        mask = self.rng.integers(0, 2, (1, 3), np.int8)
        mask[0, 1] |= not mask.any()
        self.begun[-1][0].append(shown[0]), self.begun[-1][1].append(mask[0])
        return {"observation": shown, "action_mask": mask} if self.task.masked else shown

    def reset(self):
        self.begun.append(([], [], [], []))
        self.t, self.over = 0, False
        return self._show(), {}

    def step(self, actions):
        no = np.zeros(1, bool)
        if self.over:
            self.episode += 1
            return self.reset()[0], np.zeros(1), no, no, {}
        self.t += 1
        reward = self.rng.normal(size=1)
        self.begun[-1][2].append(np.array(actions[0])), self.begun[-1][3].append(reward[0])
        self.over = self.t == self.lengths[self.episode]
        ends = np.array([self.over])
        cut = ends & self.task.cuts(self.episode)
        return self._show(), reward, ends & ~cut, cut, {}


class Scripted:
    """Copies whose episodes are of given lengths; every second of them ends by being cut off."""

    name = "Scripted-v0"
    num_envs = 3
    video = False
    fps = 30.0
    LENGTHS = ((1, 4), (7, 2), (3, 5))

    def __init__(self, action_space=None, masked=False):
        self.masked = masked
        self.single_action_space = action_space or spaces.Discrete(3)
        self.single_observation_space = VECTOR
        if masked:
            mask = spaces.Box(0, 1, (3,), np.int8)
            self.single_observation_space = spaces.Dict(observation=VECTOR, action_mask=mask)
        self.copies = []

    def cuts(self, episode):
        return episode == 1

    def make(self, num_envs, seed, *, render=False):
        i = len(self.copies)
        self.copies.append(Copy(self, self.LENGTHS[i], i))
        return self.copies[-1]


def context_of(steps=1000, seed=0):
    return Context(seed=seed, device=torch.device("cpu"), steps=steps)


def reinforce_on(task, config=None, context=None, **model):
    context = context or context_of()
    build = functools.partial(context.build, MLP, MLP.Config(**model))
    return REINFORCE(config or REINFORCE.Config(), task, build, context)


def gymnasium_task(name="CartPole-v1", **options):
    return GymnasiumTask(GymnasiumTask.Config(id=name, **options))


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), T=st.integers(1, 12), gamma=st.floats(0, 1))
def test_returns_are_sums_of_discounted_rewards(seed, T, gamma):
    rewards = np.random.default_rng(seed).normal(size=(T, 2))
    G = returns_to_go(rewards, gamma)
    for t in range(T):
        expected = sum(gamma ** (k - t) * rewards[k] for k in range(t, T))
        assert G[t] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    ("space", "masked"),
    [(spaces.Discrete(3), False), (spaces.Box(-9, 9, (2,)), False), (spaces.Discrete(3), True)],
    ids=["discrete", "box", "masked"],
)
def test_iterations_are_those_of_the_definitions(space, masked, plain, baseline):
    """Two of them, with ends and cuts, against torch's distributions and gradients in float64."""
    config = REINFORCE.Config(
        lr=3e-3,
        gamma=0.9,
        baseline=baseline,
        discount_steps=not plain,
        normalise_advantage=not plain,
        entropy_coef=0.0 if plain else 0.1,
    )
    task = Scripted(space, masked)
    algorithm = reinforce_on(task, config)
    net = copy.deepcopy(algorithm.net).double()
    adam = torch.optim.Adam(net.parameters(), config.lr)
    for k in range(2):
        metrics = algorithm.step()
        rows, returns = [], []
        for played in task.copies:
            shown, masks, actions, rewards = played.begun[k]
            T = played.lengths[k]
            assert len(rewards) == T
            returns.append(sum(rewards))
            policy, value = net(torch.from_numpy(np.stack(shown)).double())
            if baseline and k == 1:
                rewards[-1] += 0.9 * value[T].item()
            for t in range(T):
                G = sum(0.9 ** (j - t) * rewards[j] for j in range(t, T))
                logits = policy[t]
                if masked:
                    logits = logits.masked_fill(torch.from_numpy(masks[t] == 0), -1e8)
                if isinstance(space, spaces.Discrete):
                    pi = torch.distributions.Categorical(logits=logits)
                else:
                    mean, log_std = policy[t].chunk(2, -1)
                    normal = torch.distributions.Normal(mean, log_std.exp())
                    pi = torch.distributions.Independent(normal, 1)
                log_prob = pi.log_prob(torch.as_tensor(actions[t]))
                rows.append((t, G, value[t], log_prob, pi.entropy()))
        A = torch.tensor([G - V.item() * baseline for _, G, V, *_ in rows], dtype=torch.float64)
        weights = A
        if not plain:
            weights = (A - A.mean()) / (A.std(correction=0) + 1e-8)
            weights = weights * torch.tensor([0.9**t for t, *_ in rows], dtype=torch.float64)
        loss = 0.0
        for w, (_, G, V, log_prob, entropy) in zip(weights, rows, strict=True):
            loss = loss - w * log_prob / 3 - config.entropy_coef * entropy / 3
            if baseline:
                loss = loss + 0.5 * (G - V) ** 2 / 3
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert metrics["return"] == pytest.approx(np.mean(returns))
        assert metrics["episode_length"] == pytest.approx(len(rows) / 3)
        assert metrics["entropy"] == pytest.approx(np.mean([r[4].item() for r in rows]), abs=1e-4)
        assert ("value_loss" in metrics) == baseline
        if baseline:
            assert metrics["value_loss"] == pytest.approx((A**2).mean().item(), abs=1e-3)
    assert algorithm.progress == 1 + 7 + 3 + 4 + 2 + 5
    difference = weights_of(algorithm.net).double() - weights_of(net)
    assert difference.abs().max() < 5e-5
    if not baseline:
        untouched = algorithm.net.nets.layers(1)
        context = context_of()
        fresh = context.build(MLP, MLP.Config(), VECTOR, space).nets.layers(1)
        for (W, b), (V, c) in zip(untouched, fresh, strict=True):
            assert torch.equal(W, V)
            assert torch.equal(b, c)


def test_every_copy_plays_one_episode_and_waits_for_the_others():
    task = Scripted()
    algorithm = reinforce_on(task)
    for k in range(2):
        algorithm.step()
        for played in task.copies:
            finished = [len(rewards) for *_, rewards in played.begun]
            assert finished == [*played.lengths[: k + 1], 0]  # and the next has only begun


def test_forbidden_actions_are_never_taken():
    task = Scripted(masked=True)
    algorithm = reinforce_on(task)
    algorithm.step(), algorithm.step()
    for played in task.copies:
        for _, masks, actions, _ in played.begun:
            assert all(mask[action] for mask, action in zip(masks, actions, strict=False))


def test_a_mask_that_allows_nothing_is_an_error_that_names_the_environment():
    task = Scripted(masked=True)
    algorithm = reinforce_on(task)
    task.copies[1].rng = None
    task.copies[1]._show = lambda: {
        "observation": np.zeros((1, 3), np.float32),
        "action_mask": np.zeros((1, 3), np.int8),
    }
    algorithm.observations[1] = task.copies[1]._show()
    with pytest.raises(DataError, match=r"^Scripted-v0: copy \d allows no action"):
        algorithm.step()


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(name, resumed):
    task = gymnasium_task(name, num_envs=3, max_episode_steps=16)
    config = REINFORCE.Config(lr=1e-2, anneal_lr=True)

    def begin():
        context = context_of(steps=600, seed=3)
        return reinforce_on(task, config, context), context

    uninterrupted, _ = begin()
    expected = [uninterrupted.step() for _ in range(8)]
    for instant in (1, 5):
        again = resumed(begin, instant, expected)
        assert torch.equal(weights_of(again.net), weights_of(uninterrupted.net))
        assert again.progress == uninterrupted.progress


def test_copies_play_different_episodes():
    algorithm = reinforce_on(gymnasium_task(num_envs=4))
    shown = {tuple(observation[0]) for observation in algorithm.observations}
    algorithm.step()
    shown |= {tuple(observation[0]) for observation in algorithm.observations}
    assert len(shown) == 8


def test_evaluating_and_filming_change_nothing():
    task = gymnasium_task(num_envs=2, max_episode_steps=20)
    a, b = reinforce_on(task), reinforce_on(task)
    for _ in range(3):
        a.step(), b.step()
        first = b.evaluate("validation", 4)
        assert b.evaluate("validation", 4) == first
        assert b.evaluate("validation", 4, stochastic=True) != first
        assert isinstance(b.sample(), Video)
    assert torch.equal(weights_of(a.net), weights_of(b.net))


def test_an_episode_that_never_ends_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr("corelab_policy_gradient.reinforce._LONGEST", 6)
    with pytest.raises(DataError, match=r"has not ended after 6 steps; set a limit with --task"):
        reinforce_on(Scripted()).step()


def test_cartpole_is_solved():
    preset = dict(REINFORCE.presets["CartPole-v1"])
    context = context_of(steps=preset.pop("steps"))
    options = {k.removeprefix("algorithm."): v for k, v in preset.items() if "algorithm" in k}
    with context.owning_globals():
        algorithm = reinforce_on(gymnasium_task(), REINFORCE.Config(**options), context)
        while algorithm.progress < context.steps:
            algorithm.step()
        assert algorithm.evaluate()["return"] >= 475


# Bad input.


def test_networks_that_remember_are_refused_in_a_sentence():
    class Remembers(torch.nn.Linear):
        memory = 4

    with pytest.raises(PluginError, match=r"^reinforce does not train networks that remember"):
        REINFORCE(
            REINFORCE.Config(), gymnasium_task(), lambda *spaces: Remembers(4, 2), context_of()
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0}, "algorithm.lr is 0; it must be positive"),
        ({"gamma": 1.1}, "algorithm.gamma is 1.1; it must be between 0 and 1"),
        ({"entropy_coef": math.nan}, "algorithm.entropy_coef is nan; it must be a finite number"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(options, message):
    with pytest.raises(ConfigError) as caught:
        reinforce_on(gymnasium_task(), REINFORCE.Config(**options))
    assert str(caught.value) == message


@pytest.mark.parametrize("fault", [ValueError("lost"), SystemExit("lost")])
def test_the_copy_that_fails_is_named(fault):
    def fail(action):
        raise fault

    reinforce = reinforce_on(gymnasium_task(num_envs=4))
    reinforce.copies._copies[2].copies[0].env.step = fail
    told = rf"^CartPole-v1: copy 2 failed in episode 0 at step 1: {type(fault).__name__}: lost$"
    with pytest.raises(DataError, match=told):
        reinforce.step()
