from __future__ import annotations

import re
import sys
import warnings

import corelab_envs
import gymnasium as gym
import numpy as np
import pytest
from corelab_envs.gymnasium_task import GymnasiumTask

from corelab import ConfigError, DataError

Config = GymnasiumTask.Config


@pytest.mark.parametrize(
    "name", ["CartPole-v1", "ALE/Pong-v5", "my_module:Env-v0", "my.module:space/Env-v12"]
)
def test_the_index_answers_to_ids_with_a_version(name):
    (component,) = corelab_envs.corelab_components()
    assert re.fullmatch(component.pattern, name)


@pytest.mark.parametrize("name", ["ppo", "fashion-mnist", "CartPole", "CartPole-v", "a/b/C-v1"])
def test_the_index_leaves_other_names_alone(name):
    (component,) = corelab_envs.corelab_components()
    assert not re.fullmatch(component.pattern, name)


def test_spaces_are_those_of_one_copy():
    task = GymnasiumTask(Config(id="Pendulum-v1"))
    env = gym.make("Pendulum-v1")
    assert task.single_observation_space == env.observation_space
    assert task.single_action_space == env.action_space


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1"])
def test_the_step_after_an_end_only_resets(name):
    envs = GymnasiumTask(Config(id=name, max_episode_steps=3)).make(2, seed=0)
    first, _ = envs.reset()
    for _ in range(2):
        envs.step(np.zeros(2))
    last, reward, termination, truncation, _ = envs.step(np.zeros(2))
    assert truncation.all()
    assert not termination.any()
    again, reward, termination, truncation, _ = envs.step(np.ones(2))
    assert not np.array_equal(again, last)
    assert not np.array_equal(again, first)
    assert (reward == 0).all()
    assert not (termination | truncation).any()


def test_gymnasium_vectorises_where_it_can():
    vectors = {
        name: type(GymnasiumTask(Config(id=name)).make(2, seed=0)._vector).__name__
        for name in ("CartPole-v1", "Acrobot-v1", "made/Fallback-v0")
    }
    assert vectors == {
        "CartPole-v1": "CartPoleVectorEnv",
        "Acrobot-v1": "SyncVectorEnv",
        "made/Fallback-v0": "SyncVectorEnv",  # its vector environment resets in the same step
    }


def test_one_copy_alone_is_what_gymnasium_makes():
    envs = GymnasiumTask(Config(id="Acrobot-v1")).make(1, seed=0)
    observations, _ = envs.reset()
    env = gym.make("Acrobot-v1")
    expected, _ = env.reset(seed=envs._copies[0].np_random_seed)
    assert np.array_equal(observations[0], expected)
    for action in [0, 2, 1, 2] * 10:
        observations, rewards, *_ = envs.step(np.array([action]))
        expected, reward, *_ = env.step(action)
        assert np.array_equal(observations[0], expected)
        assert rewards[0] == reward


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "CartPol-v1",
            "CartPol-v1: Gymnasium has no environment of this id; did you mean 'CartPole",
        ),
        ("made/SameStep-v0", "made/SameStep-v0 exists only as a vector environment, and that"),
        ("Zyxwvut-v9", "Zyxwvut-v9: Gymnasium has no environment of this id; is its package"),
        ("no_such:Env-v0", "no_such:Env-v0 needs a package that is missing: no module no_such"),
        (
            "made/Missing-v0",
            "made/Missing-v0 needs a package that is missing: ModuleNotFoundError: No",
        ),
    ],
)
def test_what_cannot_be_made_is_told_in_a_sentence(name, message):
    with pytest.raises(DataError, match=f"^{re.escape(message)}") as told:
        GymnasiumTask(Config(id=name))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "module", "command"),
    [
        ("LunarLander-v3", "Box2D", 'pip install "box2d>=2.3.10" "corelab-ml[render]"'),
        ("HalfCheetah-v5", "mujoco", 'pip install "gymnasium[mujoco]"'),
        ("phys2d/CartPole-v1", "jax", 'pip install "gymnasium[jax]"'),
        ("ALE/Pong-v5", "ale_py", 'pip install "ale-py"'),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    name, module, command, monkeypatch
):
    for loaded in [m for m in sys.modules if m.startswith(("gymnasium.envs.box2d", "ale_py"))]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.delitem(gym.registry, "ALE/Pong-v5", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=re.escape(command)):
        GymnasiumTask(Config(id=name))


def test_a_module_that_fails_to_import_is_told_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "broken_envs.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="broken_envs cannot be imported: RuntimeError: no licence"):
        GymnasiumTask(Config(id="broken_envs:Env-v0"))


def test_a_module_can_register_what_it_brings(tmp_path, monkeypatch):
    (tmp_path / "more_envs.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('More-v0', 'gymnasium.envs.classic_control:AcrobotEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    task = GymnasiumTask(Config(id="more_envs:More-v0"))
    assert task.single_action_space.n == 3


@pytest.mark.parametrize("option", ["num_envs", "max_episode_steps"])
def test_counts_are_at_least_one(option):
    with pytest.raises(ConfigError, match=f"task.{option} is 0"):
        GymnasiumTask(Config(**{option: 0}))


def test_advice_on_newer_versions_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GymnasiumTask(Config(id="CartPole-v0")).make(2, seed=0).reset()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "copy 0 failed in step, episode 0: ZeroDivisionError: the wheel came off"),
        ("observation", "copy 0 gave an observation that is not finite at step 15"),
        ("reward", "copy 0 gave a reward that is not finite at step 15"),
    ],
)
def test_a_fault_in_a_step_is_told_with_its_place(fault, message):
    envs = GymnasiumTask(Config(id=f"made/{fault}-v0")).make(2, seed=0)
    envs.reset()
    for _ in range(14):
        envs.step(np.zeros(2))
    with pytest.raises(DataError, match=f"^made/{fault}-v0: {message}$") as told:
        envs.step(np.zeros(2))
    assert fault != "raises" or isinstance(told.value.__cause__, ZeroDivisionError)


def test_the_copy_that_is_at_fault_is_named():
    envs = GymnasiumTask(Config(id="made/observation-v0")).make(3, seed=0)
    envs.reset()
    envs._copies[2].unwrapped.steps = 14
    with pytest.raises(DataError, match="copy 2 gave an observation"):
        envs.step(np.zeros(3))


def test_an_action_that_does_not_fit_is_told_in_a_sentence():
    envs = GymnasiumTask(Config(id="CartPole-v1")).make(2, seed=0)
    envs.reset()
    with pytest.raises(DataError, match="CartPole-v1 failed in step after 0 steps: AssertionError"):
        envs.step(np.array([0, 7]))
