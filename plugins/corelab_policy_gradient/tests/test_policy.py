"""Masks, memory, normalisation and every kind of observation, on PPO."""

from __future__ import annotations

import functools

import gymnasium as gym
import numpy as np
import pytest
import torch
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_nets.encoder import Convolutions
from corelab_policy_gradient.cnn import CNN
from corelab_policy_gradient.distributions import Categorical
from corelab_policy_gradient.experience import Experience
from corelab_policy_gradient.lstm import LSTM
from corelab_policy_gradient.mlp import MLP
from corelab_policy_gradient.normalisation import Moments, RewardNormaliser
from corelab_policy_gradient.ppo import PPO, clipped_surrogate
from gymnasium import spaces

from corelab import ConfigError, Context, DataError, PluginError

SMALL = {"horizon": 16, "epochs": 2, "batch_size": 32, "lr": 1e-3}


class Everything:
    """A task whose copies show something of a given space and end at times; seeded, saveable."""

    name = "Everything-v0"
    num_envs = 4
    video = False
    fps = 30.0

    def __init__(self, space, actions=None, empty_at=None, bad_at=None, ends=0.1):
        self.single_observation_space = space
        self.single_action_space = actions or spaces.Discrete(3)
        self.empty_at, self.bad_at, self.ends = empty_at, bad_at, ends

    def make(self, num_envs, seed, *, render=False):
        return Copies(self, num_envs, seed)


class Copies:
    def __init__(self, task, num_envs, seed):
        self.task, self.num_envs = task, num_envs
        self.rng = np.random.default_rng(seed)
        self.over = np.zeros(num_envs, bool)
        self.steps = 0
        self.chosen = []

    def _draw(self, space):
        if isinstance(space, spaces.Dict):
            shown = {k: self._draw(s) for k, s in space.spaces.items()}
            if "action_mask" in shown:
                mask = self.rng.integers(0, 2, (self.num_envs, space["action_mask"].shape[0]))
                sure = self.rng.integers(0, mask.shape[1], self.num_envs)
                mask[np.arange(self.num_envs), sure] = 1
                mask[self.over] = 0  # as PettingZoo has it
                if self.steps == self.task.empty_at:
                    self.over[:] = False
                    mask[2] = 0
                shown["action_mask"] = mask.astype(np.int8)
            return shown
        if isinstance(space, spaces.Tuple):
            return tuple(self._draw(s) for s in space.spaces)
        shape = (self.num_envs, *space.shape)
        if np.issubdtype(space.dtype, np.floating):
            return self.rng.normal(size=shape).astype(space.dtype)
        return self.rng.integers(0, 2, shape).astype(space.dtype)

    def reset(self):
        self.shown = self._draw(self.task.single_observation_space)
        return self.shown, {}

    def step(self, actions):
        if "action_mask" in self.shown:
            mask = self.shown["action_mask"]
            assert mask[~self.over, actions[~self.over]].all(), "a forbidden action"
            self.chosen.append(actions)
        self.steps += 1
        rewards = np.where(self.over, 0.0, self.rng.normal(size=self.num_envs))
        ends = ~self.over & (self.rng.random(self.num_envs) < self.task.ends)
        self.over = ends
        self.shown = self._draw(self.task.single_observation_space)
        return self.shown, rewards, ends & (rewards > 0), ends & (rewards <= 0), {}

    def state_dict(self):
        return {
            "rng": self.rng.bit_generator.state,
            "over": self.over,
            "steps": self.steps,
            "shown": self.shown,
        }

    def load_state_dict(self, state):
        self.rng.bit_generator.state = state["rng"]
        self.over, self.steps, self.shown = state["over"], state["steps"], state["shown"]

    def close(self):
        pass


TINY = {MLP: MLP.Config(), CNN: CNN.Config(16), LSTM: LSTM.Config(16, 16)}


def ppo_on(task, model=MLP, context=None, **options):
    context = context or Context(seed=3, device=torch.device("cpu"), steps=10_000)
    build = functools.partial(context.build, model, TINY[model])
    return PPO(PPO.Config(**SMALL | options), task, build, context)


def weights_of(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.net.parameters()])


VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (8, 8, 2), np.uint8)
MASKED = spaces.Dict(observation=VECTOR, action_mask=spaces.Box(0, 1, (3,), np.int8))
MIXED = spaces.Dict(image=IMAGE, rest=spaces.Tuple([VECTOR, spaces.Discrete(2)]))

KINDS = {
    "dict": (spaces.Dict(a=VECTOR, b=spaces.Dict(c=spaces.Discrete(2))), MLP, {}),
    "masked": (MASKED, MLP, {}),
    "image": (IMAGE, CNN, {}),
    "channels-first": (spaces.Box(0, 255, (2, 40, 40), np.uint8), CNN, {}),
    "mixed": (MIXED, CNN, {}),
    "normalised": (MASKED, MLP, {"normalise_observation": True, "normalise_reward": True}),
    "lstm": (VECTOR, LSTM, {"sequence": 8}),
    "lstm-of-everything": (
        spaces.Dict(action_mask=spaces.Box(0, 1, (3,), np.int8), **MIXED.spaces),
        LSTM,
        {"sequence": 8, "normalise_observation": True},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(kind, resumed):
    space, model, options = KINDS[kind]

    def begin():
        context = Context(seed=3, device=torch.device("cpu"), steps=1000)
        return ppo_on(Everything(space), model, context, **options), context

    uninterrupted, _ = begin()
    expected = [uninterrupted.step() for _ in range(5)]
    algorithm = resumed(begin, 3, expected)
    assert torch.equal(weights_of(algorithm), weights_of(uninterrupted))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stochastic", [True, False])
def test_evaluating_changes_nothing(kind, stochastic):
    space, model, options = KINDS[kind]
    a, b = (ppo_on(Everything(space), model, **options) for _ in range(2))
    for _ in range(2):
        a.step(), b.step()
        figures = b.evaluate("validation", 6, stochastic=stochastic)
        assert figures == b.evaluate("validation", 6, stochastic=stochastic)
    assert torch.equal(weights_of(a), weights_of(b))


class Differing(Everything):
    """A task that is measured with longer episodes than it is learned from."""

    @property
    def measured(self):
        return Differing(self.single_observation_space, ends=self.ends / 10)


def test_a_task_that_differs_in_training_is_evaluated_as_it_is_measured():
    learned, measured = (ppo_on(Differing(VECTOR, ends=x)) for x in (0.5, 0.05))
    figures = learned.evaluate("test", 20)
    assert figures == ppo_on(Everything(VECTOR, ends=0.05)).evaluate("test", 20)
    assert figures != measured.evaluate("test", 20)
    assert figures["episode_length"] > 10


@pytest.mark.parametrize("space", [IMAGE, MASKED])
def test_what_was_said_in_acting_is_what_one_pass_over_all_of_it_gives(space):
    algorithm = ppo_on(Everything(space), CNN)
    algorithm.step()
    algorithm.rollout.collect()
    for kept, again in zip(
        algorithm.rollout.outputs(), Experience.outputs(algorithm.rollout), strict=True
    ):
        torch.testing.assert_close(kept, again)


@pytest.mark.parametrize("shape", [(40, 40, 2), (2, 8, 8), (4, 4, 3)])
def test_images_are_seen_as_numbers_up_to_one(shape):
    images = Convolutions(spaces.Box(0, 255, shape, np.uint8), 16)
    x = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    y = x.float() / 255
    y = y.movedim(-1, 1) if shape[2] < shape[0] else y
    for layer in images.layers:
        if isinstance(layer, torch.nn.Conv2d):
            y = torch.conv2d(y, layer.weight, layer.bias, layer.stride)
        else:
            y = layer(y)
    torch.testing.assert_close(images(x), y)


# Masks.


@pytest.mark.parametrize("model", [MLP, CNN, LSTM])
def test_forbidden_actions_are_never_taken_and_all_others_are(model):
    algorithm = ppo_on(Everything(MASKED), model, epochs=1)
    for _ in range(4):
        algorithm.step()  # the environment refuses what is forbidden
    chosen = np.concatenate(algorithm.rollout.envs.chosen)
    assert set(chosen) == {0, 1, 2}
    algorithm.evaluate("validation", 5)
    algorithm.evaluate("validation", 5, stochastic=True)


def test_likelihoods_are_those_among_what_is_allowed():
    algorithm = ppo_on(Everything(MASKED))
    algorithm.rollout.collect()
    p, _ = algorithm.rollout.outputs()
    log_prob, entropy, _ = Categorical(3).likelihood(
        p.flatten(0, 1), algorithm.rollout.actions.flatten()
    )
    raw, _ = algorithm.net(algorithm.rollout.observations.tree[:-1].flatten(0, 1))
    allowed = algorithm.rollout.masks[:-1].flatten(0, 1)
    for i, logits in enumerate(raw.detach()):
        inside = torch.distributions.Categorical(logits=logits[allowed[i]])
        place = int(allowed[i][: algorithm.rollout.actions.flatten()[i]].sum())
        torch.testing.assert_close(log_prob[i], inside.log_prob(torch.tensor(place)))
        torch.testing.assert_close(entropy[i], inside.entropy(), atol=1e-6, rtol=1e-5)


def test_a_mask_that_allows_nothing_is_refused_in_a_sentence():
    algorithm = ppo_on(Everything(MASKED, empty_at=21))
    algorithm.step()
    with pytest.raises(DataError, match=r"^Everything-v0: copy 2 allows no action at step 21;"):
        algorithm.step()


@pytest.mark.parametrize("actions", [spaces.Discrete(4), spaces.Box(-1, 1, (3,))], ids=str)
def test_a_mask_that_does_not_fit_the_actions_is_refused_in_a_sentence(actions):
    with pytest.raises(PluginError, match=r"^Everything-v0 shows an action_mask .* over actions"):
        ppo_on(Everything(MASKED, actions))


class Locks(gym.Env):
    """Two choices, of three and of two, some of which are forbidden in each step; in the step SHUT
    all of the second.
    """

    action_space = spaces.MultiDiscrete([3, 2])
    observation_space = spaces.Dict(
        observation=spaces.Box(-1, 1, (1,), np.float32), action_mask=spaces.MultiBinary(5)
    )

    def __init__(self, shut=None):
        self.shut = shut

    def _show(self):
        self.mask = self.np_random.integers(0, 2, 5, np.int8)
        self.mask[self.np_random.integers([0, 3], [3, 5])] = 1
        if self.t == self.shut:
            self.mask[3:] = 0
        return {"observation": np.zeros(1, np.float32), "action_mask": self.mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._show(), {}

    def step(self, action):
        first, second = action
        assert self.mask[first], "a forbidden action"
        assert self.mask[3 + second], "a forbidden action"
        self.t += 1
        return self._show(), float(first), self.t == 20, False, {}


@pytest.fixture
def locks():
    gym.register("made/Locks-v0", Locks)
    yield lambda *settings: GymnasiumTask(GymnasiumTask.Config("made/Locks-v0", settings=settings))
    gym.registry.pop("made/Locks-v0")


def test_masks_forbid_actions_of_several_choices(locks):
    algorithm = ppo_on(locks())
    for _ in range(3):
        algorithm.step()
    assert algorithm.evaluate("test", 4)["episode_length"] == 20
    mask, actions = algorithm.rollout.masks[:-1], algorithm.rollout.actions
    assert not mask.all()
    allowed = mask.gather(2, actions + torch.tensor([0, 3]))
    assert allowed[torch.from_numpy(algorithm.rollout.valid)].all()


def test_a_choice_of_which_nothing_is_allowed_is_refused_in_a_sentence(locks):
    algorithm = ppo_on(locks("shut=13"))
    told = (
        r"^made/Locks-v0: copy 0 allows no action at step 13; .* all zeros for one of the choices$"
    )
    with pytest.raises(DataError, match=told):
        algorithm.step()


# Memory.


class Corridor(Everything):
    """A cue at the first step, a few steps of nothing, then the action that the cue called for."""

    num_envs = 16
    length = 4

    def __init__(self):
        super().__init__(spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2))

    def make(self, num_envs, seed, *, render=False):
        return CorridorCopies(self, num_envs, seed)


class CorridorCopies(Copies):
    def reset(self):
        self.t = np.zeros(self.num_envs, int)
        self.cue = self.rng.integers(0, 2, self.num_envs)
        return self._show(), {}

    def _show(self):
        shown = np.zeros((self.num_envs, 2), np.float32)
        shown[:, 0] = np.where(self.t == 0, 2 * self.cue - 1, 0)
        shown[:, 1] = self.t == self.task.length
        return shown

    def step(self, actions):
        rewards = np.where(self.t == self.task.length, (actions == self.cue) * 2.0 - 1, 0.0)
        rewards[self.over] = 0
        begins, self.over = self.over, ~self.over & (self.t == self.task.length)
        self.t = np.where(begins, 0, np.where(self.over, self.t, self.t + 1))
        self.cue = np.where(begins, self.rng.integers(0, 2, self.num_envs), self.cue)
        return self._show(), rewards, self.over, np.zeros(self.num_envs, bool), {}


def test_what_was_seen_earlier_is_remembered_by_an_lstm_alone():
    returns = {}
    for model in (LSTM, MLP):
        algorithm = ppo_on(
            Corridor(), model, horizon=24, epochs=6, batch_size=96, lr=1e-2, sequence=12
        )
        for _ in range(25):
            algorithm.step()
        returns[model] = algorithm.evaluate("test", 100)["return"]
    assert returns[LSTM] > 0.95
    assert abs(returns[MLP]) < 0.5


def test_sequences_are_trained_as_they_were_acted():
    """π_old and V_old, from one pass, are found again in the stretches, whatever began in them."""
    algorithm = ppo_on(Everything(VECTOR, ends=0.3), LSTM, sequence=4)
    algorithm.step()
    algorithm.rollout.collect()
    batch = algorithm._batch()
    seen = 0
    for minibatch in batch.shuffled(3, np.random.default_rng(0)):
        p, value, _ = algorithm.policy.outputs(minibatch.inputs, minibatch.rows)
        log_prob, _ = algorithm.policy.distribution.log_prob_and_entropy(
            p, minibatch.columns["action"]
        )
        torch.testing.assert_close(log_prob, minibatch.columns["log_prob"])
        torch.testing.assert_close(value, minibatch.columns["value"])
        seen += len(value)
    assert seen == algorithm.rollout.valid.sum()


def test_an_episode_knows_nothing_of_the_one_before():
    net = LSTM(LSTM.Config(), VECTOR, spaces.Discrete(2))
    x, memory = torch.randn(6, 2, 3), torch.randn(2, net.memory)
    starts = torch.zeros(6, 2, dtype=torch.bool)
    starts[3, 1] = True
    policy, value, after = net(x, memory, starts)
    fresh = net(x[3:, 1:], torch.zeros(1, net.memory), torch.zeros(3, 1, dtype=torch.bool))
    pairs = zip((policy[3:, 1:], value[3:, 1:], after[1:]), fresh, strict=True)
    for whole, part in pairs:
        torch.testing.assert_close(whole, part)
    untouched = net(x[:, :1], memory[:1], starts[:, :1])
    torch.testing.assert_close(policy[:, :1], untouched[0])


def test_a_sequence_that_does_not_divide_the_horizon_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"^algorithm.sequence is 5; it must be a divisor"):
        ppo_on(Everything(VECTOR), LSTM, sequence=5)


# Normalisation.


def test_moments_are_those_of_all_rows():
    rows = np.random.default_rng(0).normal(3, 2, (50, 4))
    moments = Moments((4,))
    for part in np.split(rows, [7, 20]):
        moments.add(part, Context(0, torch.device("cpu"), 1))
    mean, std = moments.mean_and_std()
    np.testing.assert_allclose(mean, rows.mean(0))
    np.testing.assert_allclose(std, rows.std(0))


def test_observations_are_normalised_by_what_earlier_iterations_saw_and_evaluations_add_nothing():
    algorithm = ppo_on(Everything(VECTOR), normalise_observation=True)
    x = torch.randn(5, 3)
    torch.testing.assert_close(algorithm.policy.prepare(x), x)  # nothing is known yet
    algorithm.step()
    seen = algorithm.rollout.observations.tree.flatten(0, 1).clone()
    expected = (x - seen.mean(0)) / seen.std(0, correction=0)
    algorithm.evaluate("validation", 5)
    torch.testing.assert_close(algorithm.policy.prepare(x), expected, atol=1e-5, rtol=1e-5)


def test_rewards_are_divided_by_the_deviation_of_the_discounted_return():
    rng = np.random.default_rng(0)
    rewards, ends = rng.normal(size=(2, 20, 3)), rng.random((2, 20, 3)) < 0.2
    valid = np.ones((20, 3), bool)
    normaliser = RewardNormaliser(3, 0.9, Context(0, torch.device("cpu"), 1))
    scaled = [normaliser(r, e, valid) for r, e in zip(rewards, ends, strict=True)]
    returns, total = [], np.zeros(3)
    for r, e in zip(rewards.reshape(40, 3), ends.reshape(40, 3), strict=True):
        total = 0.9 * total + r
        returns.append(total)
        total = np.where(e, 0, total)
    np.testing.assert_allclose(scaled[1], rewards[1] / np.std(returns), rtol=1e-6)
    np.testing.assert_allclose(scaled[0], rewards[0] / np.std(returns[:20]), rtol=1e-6)


# What ends an update, or a run.


def test_an_update_ends_when_the_policy_has_moved_far_enough():
    free, held = (ppo_on(Everything(VECTOR), lr=1e-2, epochs=20, target_kl=t) for t in (None, 1e-3))
    counts = []
    for algorithm in (free, held):
        learn, seen = algorithm._learn, []
        algorithm._learn = lambda *a, learn=learn, seen=seen: seen.append(1) or learn(*a)
        algorithm.step()
        counts.append(len(seen))
    assert counts[0] == 40
    assert 1 < counts[1] < 40


class Faulty(gym.Env):
    """Shows a number that is not one at its fifth step."""

    observation_space = spaces.Box(-1, 1, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2), {}

    def step(self, action):
        self.t += 1
        return np.full(2, np.nan if self.t == 21 else 0.0), 0.0, False, False, {}


def test_an_observation_that_is_not_a_number_is_named_with_its_step():
    gym.register("Faulty-v0", entry_point=Faulty)
    try:
        task = GymnasiumTask(GymnasiumTask.Config(id="Faulty-v0", num_envs=4))
        algorithm = ppo_on(task)
        algorithm.step()
        with pytest.raises(DataError, match=r"Faulty-v0: copy 0 gave an observation .* step 21"):
            algorithm.step()
    finally:
        del gym.registry["Faulty-v0"]


@pytest.mark.parametrize("actions", [spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(2)], ids=str)
def test_actions_of_several_choices_are_learned(actions):
    class Wanted(Everything):
        def make(self, num_envs, seed, *, render=False):
            copies = Copies(self, num_envs, seed)
            plain = copies.step

            def step(chosen):
                observation, _, *ends, infos = plain(chosen)
                assert chosen.shape == (num_envs, 2)
                return observation, (chosen == [1, 0]).mean(1), *ends, infos

            copies.step = step
            return copies

    algorithm = ppo_on(Wanted(VECTOR, actions), lr=1e-2, epochs=8, gamma=0.0)
    for _ in range(15):
        algorithm.step()
    p, _ = algorithm.rollout.outputs()
    mode = algorithm.policy.distribution.mode(p.flatten(0, 1).numpy())
    assert (mode == [1, 0]).mean() > 0.95


# The gradient itself.


def test_the_first_step_follows_the_gradient_of_the_exact_return():
    """On a small MDP, with every trajectory in the batch as often as π says, the gradient of the
    surrogate at r = 1 is that of the expected return, by finite differences.
    """
    rng = np.random.default_rng(0)
    states, actions, gamma = 3, 2, 0.9
    P = rng.dirichlet(np.ones(states), (states, actions))
    R = rng.normal(size=(states, actions))
    start = np.array([0.5, 0.3, 0.2])
    logits = rng.normal(size=(states, actions))

    def solve(logits):
        pi = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        transition = np.einsum("sa,sat->st", pi, P)
        V = np.linalg.solve(np.eye(states) - gamma * transition, (pi * R).sum(1))
        d = np.linalg.solve(np.eye(states) - gamma * transition.T, start)  # discounted visits
        return pi, V, d

    pi, V, d = solve(logits)
    A = R + gamma * P @ V - V[:, None]
    s, a = (x.ravel() for x in np.meshgrid(range(states), range(actions), indexing="ij"))
    log_prob, _, pull = Categorical(actions).likelihood(logits[s], a)
    weights = d[s] * pi[s, a]
    _, derivative = clipped_surrogate(log_prob - np.log(pi[s, a]), A[s, a], 0.2)
    gradient = np.zeros_like(logits)
    np.add.at(gradient, s, pull(weights * derivative, None))
    expected = np.zeros_like(logits)
    for i in np.ndindex(*logits.shape):
        up, down = logits.copy(), logits.copy()
        up[i] += 1e-6
        down[i] -= 1e-6
        expected[i] = (start @ solve(up)[1] - start @ solve(down)[1]) / 2e-6
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
