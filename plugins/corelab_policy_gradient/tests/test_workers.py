"""Rollout workers that live in this process; that it changes nothing is for test_ray_rollouts."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest
import torch
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_envs.interface import CopyError, make_environments
from corelab_envs.pettingzoo_task import PettingZooTask
from corelab_policy_gradient.a2c import A2C
from corelab_policy_gradient.lstm import LSTM
from corelab_policy_gradient.mlp import MLP
from corelab_policy_gradient.ppo import PPO
from corelab_policy_gradient.sac import SAC
from corelab_policy_gradient.soft_mlp import SoftMLP
from corelab_policy_gradient.workers import RolloutConfig
from gymnasium import spaces

from corelab import ConfigError, Context, DataError, Pool

CENTRAL, ASYNCHRONOUS = RolloutConfig(inference="central"), RolloutConfig(asynchronous=True)


class SealedPool(Pool):
    """A pool whose arguments and results are copies that cannot be written to, as Ray's are."""

    def call(self, method, *args):
        return [sealed(result) for result in super().call(method, *map(sealed, args))]

    def submit(self, i, method, *args):
        super().submit(i, method, *map(sealed, args))

    def take(self):
        i, result = super().take()
        return i, sealed(result)


def sealed(value):
    buffers = []
    data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])


class SealedContext(Context):
    def pool(self, factory, n, cpus=1.0):
        factory = pickle.loads(pickle.dumps(factory))
        pool = SealedPool(factory, n)
        pool.factory = factory
        return pool


class Noisy:
    """An environment of a given space that ends at times, and fails in one step if asked to."""

    name = "Noisy-v0"
    video = False
    fps = 30.0

    def __init__(self, space=None, num_envs=4, fails_at=None):
        self.single_observation_space = space or spaces.Box(-9, 9, (3,), np.float32)
        self.single_action_space = spaces.Discrete(3)
        self.num_envs, self.fails_at = num_envs, fails_at

    def make(self, num_envs, seed, *, render=False):
        return NoisyCopies(self, num_envs, seed)


class NoisyCopies:
    def __init__(self, task, num_envs, seed):
        self.task, self.num_envs, self.seed = task, num_envs, seed
        self.rng = np.random.default_rng(seed)
        self.over, self.steps = np.zeros(num_envs, bool), 0

    def _draw(self, space):
        if isinstance(space, spaces.Dict):
            shown = {k: self._draw(s) for k, s in space.spaces.items()}
            if "action_mask" in shown:
                shown["action_mask"][:, 1] = 1
            return shown
        if np.issubdtype(space.dtype, np.floating):
            return self.rng.normal(3, 2, (self.num_envs, *space.shape)).astype(space.dtype)
        return self.rng.integers(0, 2, (self.num_envs, *space.shape)).astype(space.dtype)

    def reset(self):
        return self._draw(self.task.single_observation_space), {}

    def step(self, actions):
        self.steps += 1
        if self.steps == self.task.fails_at:
            raise DataError(f"{self.task.name}: copy 1 failed at step {self.steps}: boom")
        rewards = np.where(self.over, 0.0, self.rng.normal(size=self.num_envs) + actions)
        ends = ~self.over & (self.rng.random(self.num_envs) < 0.1)
        self.over = ends
        shown = self._draw(self.task.single_observation_space)
        return shown, rewards, ends & (rewards > 0), ends & (rewards <= 0), {}

    def state_dict(self):
        return {"rng": self.rng.bit_generator.state, "over": self.over, "steps": self.steps}

    def load_state_dict(self, state):
        self.rng.bit_generator.state = state["rng"]
        self.over, self.steps = state["over"], state["steps"]


DICT = spaces.Dict(
    a=spaces.Box(-9, 9, (2,), np.float32),
    b=spaces.Discrete(2),
    action_mask=spaces.Box(0, 1, (3,), np.int8),
)
SMALL = {"horizon": 16, "epochs": 2, "batch_size": 8, "lr": 1e-3}
NORMALISED = {"normalise_observation": True, "normalise_reward": True}


def context_with(W, seed=3, steps=2_000):
    return SealedContext(seed, torch.device("cpu"), steps, rollout_workers=W)


def ppo_on(task, W, model=MLP, context=None, **options):
    context = context or context_with(W)
    config = {MLP: MLP.Config((8,)), LSTM: LSTM.Config(8, 8)}[model]
    build = functools.partial(context.build, model, config)
    return PPO(PPO.Config(**SMALL | options), task, build, context)


def a2c_on(task, W, sizes=(8,), steps=2_000, **options):
    context = context_with(W, steps=steps)
    build = functools.partial(context.build, MLP, MLP.Config(sizes))
    return A2C(A2C.Config(**{"horizon": 8, **options}), task, build, context)


def sac_on(task, W):
    context = context_with(W)
    build = functools.partial(context.build, SoftMLP, SoftMLP.Config((8,)))
    return SAC(SAC.Config(warmup=64, batch_size=8, capacity=500), task, build, context)


def weights(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.net.parameters()])


def steps(algorithm, n):
    return [algorithm.step() for _ in range(n)]


CASES = {
    "normalised": functools.partial(ppo_on, Noisy(), **NORMALISED),
    "recurrent": functools.partial(ppo_on, Noisy(), model=LSTM),
    "masked parts": functools.partial(ppo_on, Noisy(DICT)),
    "a2c": functools.partial(a2c_on, Noisy()),
}


@pytest.mark.parametrize("rollout", [RolloutConfig(), CENTRAL], ids=["worker", "central"])
@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_one_worker_does_what_none_does(make, rollout):
    none, one = make(W=0), make(W=1, rollout=rollout)
    assert steps(none, 3) == steps(one, 3)
    assert torch.equal(weights(none), weights(one))


def test_one_worker_steps_the_environments_of_sac_as_none_does():
    task = GymnasiumTask(GymnasiumTask.Config("Pendulum-v1", num_envs=2))
    none, one, two = sac_on(task, 0), sac_on(task, 1), sac_on(task, 2)
    assert steps(none, 2) == steps(one, 2) != steps(two, 2)
    assert torch.equal(weights(none), weights(one))


def test_each_worker_has_an_equal_share_of_the_rows_and_streams_of_its_own():
    algorithm = ppo_on(Noisy(), 2)
    algorithm.rollout.collect()
    both, (first, second) = algorithm.rollout, algorithm.rollout._pool._workers
    for i, worker in enumerate((first, second)):
        rows = slice(2 * i, 2 * i + 2)
        mine = worker._rollout.arrays()
        for name, column in both.arrays().items():
            np.testing.assert_array_equal(column[:, rows], mine[name])
    seen = both.observations.tree
    assert not torch.equal(seen[:, :2], seen[:, 2:])
    ended = [worker._rollout.returns for worker in (first, second)]
    np.testing.assert_array_equal(both.returns, np.concatenate(ended))
    alone = ppo_on(Noisy(num_envs=2), 0)  # the first worker's streams are those without workers
    alone.rollout.collect()
    np.testing.assert_array_equal(alone.rollout.rewards, both.rewards[:, :2])


def test_agents_of_an_environment_stay_with_one_worker():
    task = PettingZooTask(PettingZooTask.Config("mpe2/simple_spread_v3", num_envs=4))
    algorithm = ppo_on(task, 2, batch_size=32)
    assert [w._rollout.rewards.shape for w in algorithm.rollout._pool._workers] == [(16, 6)] * 2
    assert algorithm.step()["value_loss"] > 0
    with pytest.raises(ConfigError, match=r"rollout_workers is 3; .*environments, which is 4"):
        ppo_on(task, 3)


RESUMED = {
    "in step": functools.partial(ppo_on, Noisy(DICT), W=2, **NORMALISED),
    "central": functools.partial(ppo_on, Noisy(), W=2, rollout=CENTRAL),
    "recurrent": functools.partial(ppo_on, Noisy(), W=2, model=LSTM),
    "asynchronous": functools.partial(ppo_on, Noisy(), W=2, rollout=ASYNCHRONOUS, **NORMALISED),
    "a2c asynchronous": functools.partial(a2c_on, Noisy(), W=4, rollout=ASYNCHRONOUS),
    "gymnasium": functools.partial(
        ppo_on, GymnasiumTask(GymnasiumTask.Config("Acrobot-v1", num_envs=4)), W=2
    ),
    "sac": functools.partial(
        sac_on, GymnasiumTask(GymnasiumTask.Config("Pendulum-v1", num_envs=2)), W=2
    ),
}


@pytest.mark.parametrize("make", RESUMED.values(), ids=RESUMED)
def test_a_saved_run_goes_on_as_if_it_had_not_been_interrupted(make, tmp_path):
    whole, half, resumed = make(), make(), make()
    expected = steps(whole, 6)[3:]
    steps(half, 3)
    half.save(tmp_path)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(half.context.state_dict())
    assert steps(resumed, 3) == expected
    assert torch.equal(weights(resumed), weights(whole))
    assert steps(half, 3) == expected, "saving changes nothing"


def test_asynchronous_experience_is_as_old_as_the_updates_since_its_weights_were_sent():
    algorithm = a2c_on(Noisy(num_envs=3), 3, rollout=ASYNCHRONOUS)
    metrics = steps(algorithm, 6)
    assert [m["policy_lag"] for m in metrics] == [0, 1, 2, 3, 3, 3]
    assert "policy_lag" not in a2c_on(Noisy(), 2).step()


def test_asynchronous_experience_tells_the_likelihood_under_the_weights_that_acted():
    algorithm = ppo_on(Noisy(DICT), 2, rollout=ASYNCHRONOUS)
    acted = []
    for _ in range(5):
        acted.append({k: v.clone() for k, v in algorithm.net.state_dict().items()})
        lag = int(algorithm.step()["policy_lag"])
    rollout, newest = algorithm.rollout, algorithm.net.state_dict()
    newest = {k: v.clone() for k, v in newest.items()}
    log_prob = {}
    for name, state in (("then", acted[-1 - lag]), ("now", newest)):
        algorithm.net.load_state_dict(state)
        p, _ = rollout.outputs()
        taken = rollout.actions.flatten()
        log_prob[name] = algorithm.policy.distribution.likelihood(p.flatten(0, 1), taken)[0]
    mu = rollout.log_mu.ravel()
    np.testing.assert_allclose(mu, log_prob["then"].numpy(), atol=1e-5)
    assert lag == 2
    assert abs(mu - log_prob["now"].numpy()).max() > 1e-3


@pytest.mark.parametrize("make", [ppo_on, a2c_on])
def test_asynchronous_updates_are_those_in_step_while_the_weights_do_not_change(make):
    """A step size of almost nothing keeps every policy the same, so V-trace corrects nothing."""
    options = {"lr": 1e-30, "rollout": ASYNCHRONOUS}
    one, in_step = make(Noisy(), 1, **options), make(Noisy(), 1, lr=1e-30)
    for asynchronous, synchronous in zip(steps(one, 3), steps(in_step, 3), strict=True):
        for name, value in synchronous.items():
            assert asynchronous[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name


def test_cart_pole_is_learned_from_experience_that_is_four_updates_old():
    task = GymnasiumTask(GymnasiumTask.Config(num_envs=16))
    options = {"horizon": 32, "lr": 1e-3, "anneal_lr": True, "lam": 0.95, "optimizer": "adam"}
    options |= {"normalise_advantage": True, "rollout": ASYNCHRONOUS}
    algorithm = a2c_on(task, 4, sizes=(64, 64), steps=60_000, **options)
    lags = []
    while algorithm.progress < 60_000:
        lags.append(algorithm.step()["policy_lag"])
    assert np.mean(lags[4:]) == 4
    assert algorithm.evaluate("validation")["return"] > 195


LOST = {
    "in step": functools.partial(ppo_on, Noisy(), W=2),
    "asynchronous": functools.partial(ppo_on, Noisy(), W=2, rollout=ASYNCHRONOUS),
    "central": functools.partial(ppo_on, Noisy(), W=2, rollout=CENTRAL),
}


@pytest.mark.parametrize("make", LOST.values(), ids=LOST)
def test_a_new_worker_in_the_place_of_a_lost_one_begins_other_episodes(make):
    algorithm = make()
    said = []
    algorithm.context.say = said.append
    steps(algorithm, 3)
    pool = getattr(algorithm.rollout, "_pool", None) or algorithm.rollout.envs._pool
    first_seed = seed_of(pool._workers[1])
    pool._workers[1] = pool.factory(1)
    assert seed_of(pool._workers[1]) == first_seed, "it is blank"
    assert all(np.isfinite(list(m.values())).all() for m in steps(algorithm, 3))
    assert seed_of(pool._workers[1]) != first_seed
    if hasattr(algorithm.rollout, "_pool"):
        assert said == ["rollout worker 1: its 2 environments begin new episodes"]


def seed_of(worker):
    return worker._rollout.envs.seed if hasattr(worker, "_rollout") else worker._envs.seed


def test_episodes_of_a_lost_worker_are_cut_off_when_the_network_acts_centrally():
    context = context_with(2)
    envs = make_environments(Noisy(), 4, context)
    envs.reset()
    for _ in range(3):
        envs.step(np.zeros(4, int))
    envs._pool._workers[1] = envs._pool.factory(1)
    before = envs._pool._workers[0]._envs.steps
    shown, rewards, terminations, truncations, _ = envs.step(np.ones(4, int))
    assert envs._pool._workers[0]._envs.steps == before + 1
    assert truncations[2:].all()
    assert not terminations[2:].any()
    assert not rewards[2:].any()
    first = envs._pool._workers[1]._first[0]
    np.testing.assert_array_equal(shown[2:], first)
    _, rewards, _, truncations, _ = envs.step(np.ones(4, int))  # which only resets
    assert envs._pool._workers[1]._envs.steps == 0
    assert not truncations[2:].any()
    assert not rewards[2:].any()
    _, rewards, *_ = envs.step(np.ones(4, int))
    assert envs._pool._workers[1]._envs.steps == 1
    assert rewards[2:].all()


@pytest.mark.parametrize("rollout", [RolloutConfig(), CENTRAL], ids=["worker", "central"])
def test_an_environment_that_fails_on_a_worker_is_told_in_the_same_sentence(rollout):
    sentences = set()
    for W in (0, 1, 2):
        algorithm = ppo_on(Noisy(fails_at=5), W, **({"rollout": rollout} if W else {}))
        with pytest.raises(DataError) as caught:
            algorithm.step()
        sentences.add(str(caught.value))
    assert sentences == {"Noisy-v0: copy 1 failed at step 5: boom"}


@pytest.mark.parametrize("rollout", [RolloutConfig(), CENTRAL])
def test_the_copies_of_all_workers_are_numbered_together(rollout, monkeypatch):
    algorithm = ppo_on(Noisy(), 2, rollout=rollout)
    pool = (algorithm.rollout.envs if rollout == CENTRAL else algorithm.rollout)._pool

    def fail(actions):
        raise CopyError("Noisy-v0", 1, "stumbled")

    worker = pool._workers[1]
    envs = worker._envs if rollout == CENTRAL else worker._rollout.envs
    monkeypatch.setattr(envs, "step", fail)
    with pytest.raises(DataError, match=r"^Noisy-v0: copy 3 stumbled$") as caught:
        algorithm.step()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_does_not_fit_rollout_workers_is_told_in_a_sentence():
    with pytest.raises(ConfigError, match=r"rollout_workers is 3; it must be a divisor of .* 4"):
        ppo_on(Noisy(), 3)
    with pytest.raises(ConfigError, match="takes effect with --rollout-workers only"):
        ppo_on(Noisy(), 0, rollout=ASYNCHRONOUS)
    both = RolloutConfig(inference="central", asynchronous=True)
    with pytest.raises(ConfigError, match="cannot be asynchronous"):
        ppo_on(Noisy(), 2, rollout=both)
    with pytest.raises(ConfigError, match=r"batch_size is 64; .*which are 32 .2 environments"):
        ppo_on(Noisy(), 2, rollout=ASYNCHRONOUS, batch_size=64)
    game = PettingZooTask(PettingZooTask.Config("classic/tictactoe_v3", num_envs=4))
    with pytest.raises(ConfigError, match="past policies"):
        ppo_on(game, 2)
