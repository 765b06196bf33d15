"""Rollout workers as Ray actors do what they do in this process, and survive being killed."""

from __future__ import annotations

import functools
import sys
import time

import numpy as np
import pytest
import torch
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_policy_gradient.mlp import MLP
from corelab_policy_gradient.ppo import PPO
from corelab_policy_gradient.workers import RolloutConfig
from gymnasium import spaces

import corelab
from corelab import Context, DataError

pytestmark = pytest.mark.xdist_group("ray")
ASYNCHRONOUS = RolloutConfig(asynchronous=True)
CENTRAL = RolloutConfig(inference="central")


class Failing:
    """Two copies of an environment that shows noise and fails in its third step."""

    name = "Failing-v0"
    num_envs = 2
    video = False
    fps = 30.0
    single_observation_space = spaces.Box(-9, 9, (3,), np.float32)
    single_action_space = spaces.Discrete(2)

    def make(self, num_envs, seed, *, render=False):
        return FailingCopies(num_envs)


class FailingCopies:
    def __init__(self, num_envs):
        self.num_envs, self.steps = num_envs, 0

    def reset(self):
        return np.zeros((self.num_envs, 3), np.float32), {}

    def step(self, actions):
        self.steps += 1
        if self.steps == 3:
            raise DataError("Failing-v0: copy 0 failed in episode 0 at step 3: ValueError: boom")
        none = np.zeros(self.num_envs, bool)
        return self.reset()[0], np.ones(self.num_envs), none, none, {}


def cart_poles(num_envs=4):
    return GymnasiumTask(GymnasiumTask.Config(num_envs=num_envs))


def acrobots(num_envs=2):
    return GymnasiumTask(GymnasiumTask.Config("Acrobot-v1", num_envs=num_envs))


def ppo(task, kind, W, **options):
    context = kind(3, torch.device("cpu"), 10_000, rollout_workers=W)
    build = functools.partial(context.build, MLP, MLP.Config((8,)))
    config = {"horizon": 32, "epochs": 2, "batch_size": 32, "lr": 1e-3} | options
    return PPO(PPO.Config(**config), task, build, context)


@pytest.fixture
def actors(cluster):
    from corelab.cluster.actors import ActorContext

    return ActorContext


def steps(algorithm, n):
    return [algorithm.step() for _ in range(n)]


def weights(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.net.parameters()])


CASES = {
    "in step": (acrobots(), 2, {"normalise_observation": True}),
    "central": (acrobots(), 1, {"rollout": CENTRAL}),
    "asynchronous": (cart_poles(), 1, {"rollout": ASYNCHRONOUS}),
}


@pytest.mark.parametrize(("task", "W", "options"), CASES.values(), ids=CASES)
def test_actors_learn_bit_for_bit_what_workers_in_this_process_do(
    task, W, options, actors, tmp_path
):
    here, there = ppo(task, Context, W, **options), ppo(task, actors, W, **options)
    assert steps(here, 2) == steps(there, 2)
    there.save(tmp_path)
    streams = there.context.state_dict()
    assert steps(here, 2) == steps(there, 2)
    assert torch.equal(weights(here), weights(there))
    there.load(tmp_path)  # what was saved can be gone on with, by actors and without
    there.context.load_state_dict(streams)
    steps(there, 2)
    assert torch.equal(weights(here), weights(there))


@pytest.mark.parametrize(
    "rollout",
    [
        pytest.param(RolloutConfig(), id="in step"),
        pytest.param(ASYNCHRONOUS, id="asynchronous", marks=pytest.mark.slow),
    ],
)
def test_training_goes_on_after_an_actor_was_killed(rollout, actors):
    import ray

    algorithm = ppo(cart_poles(), actors, 2, rollout=rollout)
    said = []
    algorithm.context.say = said.append
    steps(algorithm, 2)
    ray.kill(algorithm.rollout._pool._actors[1], no_restart=False)
    began = time.monotonic()
    first = None
    while not any("worker 1: its 2 environments begin new episodes" in s for s in said):
        algorithm.step()
        first = first or time.monotonic() - began
        assert time.monotonic() - began < 200, "it takes a second or two on a machine at rest"
    print(f"{first:.1f} s to the next update, {time.monotonic() - began:.1f} s to the new actor")
    before = algorithm.progress
    assert all(np.isfinite(list(m.values())).all() for m in steps(algorithm, 4))
    assert algorithm.progress > before


def test_an_environment_that_fails_on_an_actor_is_told_in_the_same_sentence(actors):
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        for kind in (Context, actors):
            algorithm = ppo(Failing(), kind, 1)
            with pytest.raises(DataError) as caught:
                algorithm.step()
            sentence = "Failing-v0: copy 0 failed in episode 0 at step 3: ValueError: boom"
            assert str(caught.value) == sentence
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_a_run_with_an_actor_that_was_interrupted_ends_with_the_weights_of_one_without(
    cluster, tmp_path
):
    options = {
        "task.num_envs": 4,
        "algorithm.horizon": 32,
        "algorithm.batch_size": 128,
        "algorithm.anneal_lr": False,
        "algorithm.anneal_clip": False,
        "run.eval_every": 0,
        "run.eval_n": 1,
        "run.sinks": ("jsonl",),
    }
    train = functools.partial(corelab.train, "ppo")
    whole = train(steps=1_000, run_dir=tmp_path / "whole", options=options)
    options["rollout_workers"] = 1
    half = train(steps=500, run_dir=tmp_path / "half", options=options)
    resumed = half.resume(1_000)
    assert resumed.record["weights_sha256"] == whole.record["weights_sha256"]
