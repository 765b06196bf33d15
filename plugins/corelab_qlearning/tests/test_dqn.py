from __future__ import annotations

import copy
import functools
import itertools

import numpy as np
import pytest
import torch
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_media import Video
from corelab_qlearning.dqn import DQN
from corelab_qlearning.mlp import MLP
from corelab_qlearning.rainbow import Rainbow
from gymnasium import spaces

from corelab import ConfigError, Context, DataError, PluginError

QUICK = {"learning_starts": 64, "batch_size": 16, "train_every": 4, "capacity": 500}
DEFAULTS = {name: getattr(DQN.Config(), name) for name in QUICK}


class Corridor:
    """Cells 0 to 4 in a row; action 1 goes right, 0 left, and 2 is forbidden where MASKED.

    An episode ends after `limit` steps: it terminates or, if it is CUT, is truncated. Each step
    pays 1.
    """

    name = "Corridor-v0"
    video = False
    fps = 30.0
    limit = 5

    def __init__(self, num_envs=2, masked=False, cut=True, action_space=None, barred_at=None):
        self.num_envs = num_envs
        self.masked, self.cut, self.barred_at = masked, cut, barred_at
        self.single_action_space = action_space or spaces.Discrete(3)
        cell = spaces.Discrete(5)
        mask = spaces.MultiBinary(3)
        self.single_observation_space = (
            spaces.Dict({"observation": cell, "action_mask": mask}) if masked else cell
        )

    def make(self, num_envs, seed, *, render=False):
        return Corridors(self, num_envs)


class Corridors:
    def __init__(self, task, num_envs):
        self.task, self.num_envs = task, num_envs

    def reset(self):
        self.cell = np.zeros(self.num_envs, np.int64)
        self.steps = np.zeros(self.num_envs, np.int64)
        return self._shown(), {}

    def _shown(self):
        if not self.task.masked:
            return self.cell.copy()
        mask = np.ones((self.num_envs, 3), np.int8)
        mask[:, 2] = 0
        mask[self.cell == 4, 1] = 0
        if self.task.barred_at is not None:
            mask[self.cell == self.task.barred_at] = 0
        mask[self.steps == self.task.limit] = 0  # nothing is left to do
        return {"observation": self.cell.copy(), "action_mask": mask}

    def step(self, actions):
        over = self.steps == self.task.limit
        if self.task.masked:
            assert ((actions != 2) | over).all(), "a forbidden action was taken"
            assert ((actions != 1) | (self.cell != 4) | over).all(), "a forbidden action was taken"
        self.cell = np.where(over, 0, np.clip(self.cell + np.where(actions == 1, 1, -1), 0, 4))
        self.steps = np.where(over, 0, self.steps + 1)
        end = self.steps == self.task.limit
        nothing = np.zeros(self.num_envs, bool)
        ends = (nothing, end) if self.task.cut else (end, nothing)
        return self._shown(), np.where(over, 0.0, 1.0), *ends, {}

    def state_dict(self):
        return {"cell": self.cell, "steps": self.steps}

    def load_state_dict(self, state):
        self.cell, self.steps = state["cell"], state["steps"]

    def close(self):
        pass


def context_of(steps=2000, seed=0):
    return Context(seed=seed, device=torch.device("cpu"), steps=steps)


def dqn_on(task, context=None, kind=DQN, sizes=(16, 16), **options):
    context = context or context_of()
    model = functools.partial(context.build, MLP, MLP.Config(sizes))
    return kind(kind.Config(**{**QUICK, **options}), task, model, context)


def cartpole(num_envs=2):
    return GymnasiumTask(GymnasiumTask.Config(id="CartPole-v1", num_envs=num_envs))


def weights_of(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.net.parameters()])


def until(algorithm, steps):
    while algorithm.progress < steps:
        metrics = algorithm.step()
    return metrics


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# One update, against the same from the definitions.


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("returns", ["expected", "c51", "quantile"])
@pytest.mark.usefixtures("float64")
def test_targets_are_those_of_the_definition(returns, double, masked):
    options = {"v_min": 0.0, "v_max": 5.0, "atoms": 6, "n_step": 2}
    dqn = dqn_on(Corridor(masked=masked, cut=False), returns=returns, double=double, **options)
    until(dqn, 150)
    before = copy.deepcopy(dqn.context.state_dict())
    drawn = dqn.replay.draw(2, 16, dqn.context.rng("replay"))
    dqn.context.load_state_dict(before)
    dqn.copied = dqn.progress  # no copy in between
    index, minibatches, _ = dqn._draw(2)
    assert np.array_equal(index, drawn.place)
    batches = list(minibatches)
    target = torch.cat([b.target for b in batches])
    for k in range(32):
        s = drawn.next_observation[k : k + 1]
        with torch.no_grad():
            judge, chooser = dqn.target_net(s)[0], (dqn.net if double else dqn.target_net)(s)[0]
        q = dqn.values.expected(chooser)
        allowed = drawn.next_mask[k] if masked else torch.ones(3, dtype=torch.bool)
        best = max((a for a in range(3) if allowed[a]), key=lambda a: q[a], default=0)
        expected = dqn.values.target(
            judge[best][None], drawn.reward[k : k + 1], drawn.discount[k : k + 1]
        )
        torch.testing.assert_close(target[k : k + 1], expected)
    assert torch.equal(torch.cat([b.observation for b in batches]), drawn.observation)


@pytest.mark.parametrize("prioritised", [False, True])
@pytest.mark.parametrize(("dueling", "noisy"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("returns", ["expected", "c51", "quantile"])
@pytest.mark.usefixtures("float64")
def test_an_update_equals_autograd(returns, dueling, noisy, prioritised):
    shape = {"dueling": dueling, "noisy": noisy, "prioritised": prioritised, "atoms": 5}
    dqn = dqn_on(Corridor(), returns=returns, max_grad_norm=0.05, lr=1e-2, **shape)
    until(dqn, 150)
    batch = next(dqn._draw(1)[1])
    (m,), (v,), (t,) = dqn.optimizer.state_dict().values()
    assert t > 0
    net = copy.deepcopy(dqn.net)
    adam = torch.optim.Adam(net.parameters(), 1e-2, eps=1e-8)
    begin = 0
    for p in net.parameters():
        part = slice(begin, begin + p.numel())
        adam.state[p] = {
            "step": t.clone(),
            "exp_avg": m[part].clone().view_as(p),
            "exp_avg_sq": v[part].clone().view_as(p),
        }
        begin += p.numel()
    z = net(batch.observation)[torch.arange(16), batch.action[:, 0, 0]]
    loss = dqn.values.loss(z, batch.target).loss
    net.zero_grad()
    (batch.weight.sum((1, 2)) * loss).sum().backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 0.05)
    adam.step()

    seen, error = dqn._update(batch, 1e-2)
    torch.testing.assert_close(seen, loss.detach())
    assert (error >= 0).all()
    expected = torch.cat([p.detach().flatten() for p in net.parameters()])
    torch.testing.assert_close(weights_of(dqn), expected, rtol=1e-9, atol=1e-12)


def test_weights_are_those_of_the_minibatch():
    dqn = dqn_on(Corridor(), prioritised=True)
    until(dqn, 200)
    for batch in dqn._draw(3)[1]:
        assert batch.weight.max().item() == pytest.approx(1 / 16)
        assert ((batch.weight > 0).sum(1) == 1).all()  # that of the action taken


# What is learned.


@pytest.mark.parametrize(
    "options", [{}, {"n_step": 3}, {"returns": "c51"}, {"returns": "quantile"}]
)
@pytest.mark.parametrize(("cut", "worth"), [(True, 2.0), (False, 1.0)])
def test_a_truncated_episode_is_worth_what_would_have_followed(cut, worth, options):
    task = Corridor(num_envs=4, masked=True, cut=cut)
    learning = {"gamma": 0.5, "lr": 5e-3, "target_every": 64, "epsilon_end": 1.0}
    support = {"v_min": 0.0, "v_max": 3.0, "atoms": 31}
    dqn = dqn_on(task, context_of(2500), **learning, **support, **options)
    until(dqn, 2500)
    with torch.no_grad():
        q = dqn.values.expected(dqn.net(torch.arange(5)))
    # Cell 4 can only be reached just before the last step.
    assert q[4, 0].item() == pytest.approx(worth, abs=0.15)


def test_cartpole_is_learned():
    quick = {"lr": 2e-3, "anneal_lr": True, "double": True, "n_step": 10, "target_every": 250}
    dqn = dqn_on(cartpole(4), context_of(10_000), sizes=(128, 128), **{**DEFAULTS, **quick})
    until(dqn, 10_000)
    assert dqn.evaluate("test", 20)["return"] > 300


# Masks.


def test_only_allowed_actions_are_taken():
    dqn = dqn_on(Corridor(masked=True), epsilon_end=0.5)
    until(dqn, 500)  # the corridor looks after itself
    dqn.evaluate("test", 4)
    dqn.evaluate("test", 4, stochastic=True)


def test_a_mask_that_allows_nothing_is_told():
    dqn = dqn_on(Corridor(masked=True, barred_at=3))
    with pytest.raises(DataError, match=r"Corridor-v0: copy \d allows no action at step \d+"):
        until(dqn, 500)


# Resume and repeatability.


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (DQN, {}),
        (DQN, {"capacity": 70, "double": True, "n_step": 5, "anneal_lr": True}),
        (DQN, {"returns": "quantile", "prioritised": True, "dueling": True, "atoms": 5}),
        (DQN, {"returns": "c51", "noisy": True, "atoms": 5, "target_every": 64}),
        (Rainbow, {"atoms": 7, "capacity": 150}),
    ],
)
def test_a_resumed_run_has_the_same_bits(kind, options, tmp_path):
    def make():
        context = context_of(seed=3)
        return dqn_on(cartpole(), context, kind, **options), context

    whole, context = make()
    until(whole, 300)
    whole.save(tmp_path)
    streams = copy.deepcopy(context.state_dict())
    expected = [whole.step() for _ in range(5)]
    resumed, context = make()
    resumed.load(tmp_path)
    context.load_state_dict(streams)
    assert [resumed.step() for _ in range(5)] == expected
    assert "loss" in expected[-1]
    assert torch.equal(weights_of(resumed), weights_of(whole))
    moments = (algorithm.optimizer.state_dict()["v"][0] for algorithm in (resumed, whole))
    assert torch.equal(*moments)


def test_the_same_seed_is_the_same_run_and_another_is_another():
    runs = [dqn_on(cartpole(), context_of(seed=seed)) for seed in (1, 1, 2)]
    for run in runs:
        until(run, 300)
    first, second, third = map(weights_of, runs)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_evaluation_explores_only_if_asked():
    dqn = dqn_on(cartpole(), epsilon_start=1.0, epsilon_end=1.0)
    until(dqn, 200)
    before = weights_of(dqn)
    greedy, again = dqn.evaluate("test", 5), dqn.evaluate("test", 5)
    assert greedy == again
    assert dqn.evaluate("test", 5, stochastic=True) != greedy
    assert torch.equal(weights_of(dqn), before)
    assert dqn.net.training
    assert isinstance(dqn.sample(), Video)


def test_scores_are_normalised_where_the_task_can():
    task = Corridor()
    task.normalise = lambda score: score / 10
    results = dqn_on(task).evaluate("test", 4)
    assert results["return"] == 5.0
    assert results["normalised_return"] == 0.5


def test_warming_up_changes_no_weight():
    dqn = dqn_on(cartpole(), learning_starts=150)
    before = weights_of(dqn)
    metrics = dqn.step()
    assert metrics["epsilon"] == 1.0
    assert "loss" not in metrics
    assert torch.equal(weights_of(dqn), before)
    until(dqn, 300)
    assert not torch.equal(weights_of(dqn), before)


# Bad input.


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lr": -1.0}, "algorithm.lr is -1.0; it must be positive"),
        ({"gamma": 1.5}, "algorithm.gamma is 1.5; it must be between 0 and 1"),
        ({"n_step": 0}, "algorithm.n_step is 0; it must be at least 1"),
        ({"atoms": 1}, "algorithm.atoms is 1; it must be at least 2"),
        ({"v_min": 10.0}, "algorithm.v_min is 10.0; it must be less than algorithm.v_max, 10.0"),
        (
            {"train_every": 5},
            "algorithm.train_every is 5; it must be a multiple of the number of environments, "
            "which is 2",
        ),
        ({"capacity": 9}, "algorithm.capacity is 9; it must be at least 64, so that updates can"),
    ],
)
def test_a_bad_option_is_one_sentence(options, sentence):
    with pytest.raises(ConfigError) as error:
        dqn_on(Corridor(), **options)
    assert str(error.value).startswith(sentence)


def test_continuous_actions_are_refused():
    with pytest.raises(PluginError, match=r"Corridor-v0 has actions Box.* Discrete actions only"):
        dqn_on(Corridor(num_envs=3, action_space=spaces.Box(-1, 1, (2,))))


def test_a_mask_over_other_actions_is_refused():
    with pytest.raises(PluginError, match=r"Corridor-v0 shows an action_mask .* each of n Discr"):
        dqn_on(Corridor(masked=True, action_space=spaces.Discrete(4)))


def test_observations_that_cannot_be_stored_are_refused():
    task = Corridor()
    task.single_observation_space = spaces.Tuple([spaces.Discrete(2)])
    with pytest.raises(PluginError, match=r"Corridor-v0 shows Tuple.*; dqn and rainbow learn from"):
        dqn_on(task)


def test_environments_on_one_worker_change_nothing_and_on_two_are_others(tmp_path):
    def make(W):
        context = Context(3, torch.device("cpu"), 1_000, rollout_workers=W)
        task = GymnasiumTask(GymnasiumTask.Config(num_envs=2))
        build = functools.partial(context.build, MLP, MLP.Config((8,)))
        return DQN(DQN.Config(**QUICK), task, build, context)

    def steps(algorithm, n=2):
        return [algorithm.step() for _ in range(n)]

    none, one, two, resumed = make(0), make(1), make(2), make(2)
    assert steps(none) == steps(one) != steps(two)
    two.save(tmp_path)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(two.context.state_dict())
    assert steps(two) == steps(resumed)
