"""Interrupting and going on gives, bit for bit, what would have come without the interruption."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from corelab_envs import gymnasium_task
from corelab_envs.gymnasium_task import GymnasiumTask

from corelab import DataError
from corelab.state import load_tree, save_tree

TAXI = next(name for name in gym.registry if name.startswith("Taxi-v"))
READ = [
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "FrozenLake-v1",
    TAXI,
    "Blackjack-v1",
    "made/Objects-v0",
]
REPLAYED = [f"made/{name}-v0" for name in ("Closure", "Slots", "Iterators", "Traces", "Vectors")]
N = 3


def task_of(name, **options):
    return GymnasiumTask(GymnasiumTask.Config(id=name, **options))


def begin(name, seed=5, **options):
    task = task_of(name, **options)
    envs = task.make(N, seed)
    envs.reset()
    return task, envs


def actions_of(task, steps, seed=0):
    task.single_action_space.seed(seed)
    sample = task.single_action_space.sample
    return [np.array([sample() for _ in range(N)]) for _ in range(steps)]


def through_a_file(envs, task, directory):
    """What goes on after the interruption: other environments, made with another seed."""
    save_tree(directory / "envs", envs.state_dict())
    others = task.make(N, seed=77)
    others.reset()
    others.load_state_dict(load_tree(directory / "envs"))
    return others


def same(a, b):
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a.dtype == b.dtype and np.array_equal(a, b)


@pytest.fixture(autouse=True)
def traces_are_known(monkeypatch):
    entry_point = gym.spec("made/Traces-v0").entry_point
    monkeypatch.setattr(gymnasium_task, "_REMADE", (entry_point,))


@pytest.mark.parametrize("name", READ + REPLAYED)
def test_a_restored_environment_goes_on_bit_for_bit(name, tmp_path):
    task, envs = begin(name, max_episode_steps=30)
    assert task.replays == (name in REPLAYED)
    instants = {0, *np.random.default_rng(1).integers(1, 200, 2).tolist()}
    over = np.zeros(N, np.bool_)
    ends = 0
    for step, action in enumerate(actions_of(task, 200)):
        if step in instants or (over.any() and ends == 2):
            restored = through_a_file(envs, task, tmp_path)
            for following in actions_of(task, 70, seed=step):
                expected = envs.step(following)[:4]
                assert same(restored.step(following)[:4], expected)
            over = expected[2] | expected[3]
        _, _, termination, truncation, _ = envs.step(action)
        over = termination | truncation
        ends += over.any()
    assert ends > 2, "no episode ended, so that instant was not tried"


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "made/Closure-v0"])
def test_saving_changes_nothing(name):
    task, envs = begin(name)
    _, undisturbed = begin(name)
    for action in actions_of(task, 60):
        envs.state_dict()
        assert same(envs.step(action)[:4], undisturbed.step(action)[:4])


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "made/Closure-v0"])
def test_the_seed_decides_everything(name):
    task, a = begin(name, seed=3)
    _, b = begin(name, seed=3)
    _, c = begin(name, seed=4)
    trajectories = [[envs.step(action)[0] for action in actions_of(task, 60)] for envs in (a, b, c)]
    assert np.array_equal(trajectories[0], trajectories[1])
    assert not np.array_equal(trajectories[0], trajectories[2])


def test_every_copy_and_every_episode_begins_differently():
    task, envs = begin("made/Closure-v0", max_episode_steps=1)
    begun = [envs.step(action)[0][:, 0] for action in actions_of(task, 20)][1::2]
    assert len(np.unique(begun)) == 10 * N


def test_an_unrepeatable_environment_is_not_restored_wrongly(tmp_path):
    task, envs = begin("made/Unrepeatable-v0")
    with pytest.raises(DataError, match=r"^made/Unrepeatable-v0: copy 0 cannot be restored"):
        through_a_file(envs, task, tmp_path)


def test_state_that_becomes_unreadable_is_told_when_it_is_saved():
    _, envs = begin("made/Objects-v0")
    envs.copies[1].unwrapped.engine = object()
    with pytest.raises(DataError, match=r"copy 1 cannot be saved.*Objects\.engine is a builtins"):
        envs.state_dict()


def test_the_state_of_other_environments_is_refused(tmp_path):
    cartpole = task_of("CartPole-v1").make(8, seed=0)
    cartpole.reset()
    _, acrobot = begin("Acrobot-v1")
    pendulum = task_of("Pendulum-v1").make(N, seed=0)
    with pytest.raises(KeyError):
        acrobot.load_state_dict(cartpole.state_dict())
    with pytest.raises(ValueError, match="another kind of environment"):
        pendulum.load_state_dict(acrobot.state_dict())
    with pytest.raises(ValueError, match="argument"):
        task_of("Acrobot-v1").make(N + 1, seed=0).load_state_dict(acrobot.state_dict())
