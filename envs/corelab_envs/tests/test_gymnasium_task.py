from __future__ import annotations

import re
import sys
import warnings

import corelab_envs
import gymnasium as gym
import numpy as np
import pytest
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_envs.vector import first_line

import corelab as core
import corelab.cli
from corelab import ConfigError, DataError
from corelab.state import save_tree

Config = GymnasiumTask.Config


def answering(name):
    return [c for c in corelab_envs.corelab_components() if re.fullmatch(c.pattern or " ", name)]


@pytest.mark.parametrize(
    "name",
    [
        "CartPole-v1",
        "MinAtar/Breakout-v1",
        "ale_py:ALE/Pong-v5",
        "my_module:Env-v0",
        "my.module:space/Env-v12",
    ],
)
def test_the_index_answers_to_ids_with_a_version(name):
    assert [c.name for c in answering(name)] == ["gymnasium"]


@pytest.mark.parametrize("name", ["ppo", "fashion-mnist", "CartPole", "CartPole-v", "a/b/C-v1"])
def test_the_index_leaves_other_names_alone(name):
    assert not answering(name)


def test_spaces_are_those_of_one_copy():
    task = GymnasiumTask(Config(id="Pendulum-v1"))
    env = gym.make("Pendulum-v1")
    assert task.single_observation_space == env.observation_space
    assert task.single_action_space == env.action_space


@pytest.mark.parametrize(("name", "n"), [("CartPole-v1", 8), ("CartPole-v1", 2), ("Acrobot-v1", 2)])
def test_the_step_after_an_end_only_resets(name, n):
    envs = GymnasiumTask(Config(id=name, max_episode_steps=3)).make(n, seed=0)
    first, _ = envs.reset()
    for _ in range(2):
        envs.step(np.zeros(n))
    last, reward, termination, truncation, _ = envs.step(np.zeros(n))
    assert truncation.all()
    assert not termination.any()
    again, reward, termination, truncation, _ = envs.step(np.ones(n))
    assert not np.array_equal(again, last)
    assert not np.array_equal(again, first)
    assert (reward == 0).all()
    assert not (termination | truncation).any()


@pytest.mark.parametrize("n", [2, 8])
def test_another_reset_begins_other_episodes_and_a_restored_copy_the_same_ones(n):
    task = GymnasiumTask(Config(id="CartPole-v1"))
    envs, others = task.make(n, seed=0), task.make(n, seed=1)
    first, _ = envs.reset()
    others.load_state_dict(envs.state_dict())
    second, _ = envs.reset()
    assert not np.array_equal(first, second)
    assert np.array_equal(second, others.reset()[0])


@pytest.mark.parametrize("n", [2, 8])
def test_the_state_follows_from_the_seed_alone(n, tmp_path):
    for name in ("one", "two"):
        envs = GymnasiumTask(Config(id="CartPole-v1")).make(n, seed=0)
        envs.reset()
        save_tree(tmp_path / name, envs.state_dict())
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


def test_gymnasium_vectorises_where_it_can():
    kinds = {
        (name, n): type(GymnasiumTask(Config(id=name)).make(n, seed=0)).__name__
        for name, n in [
            ("CartPole-v1", 5),
            ("CartPole-v1", 6),
            ("Acrobot-v1", 8),
            ("made/Fallback-v0", 8),
        ]
    }
    assert kinds == {
        ("CartPole-v1", 5): "Copies",  # so few are faster one by one
        ("CartPole-v1", 6): "Native",
        ("Acrobot-v1", 8): "Copies",
        ("made/Fallback-v0", 8): "Copies",  # its vector environment resets in the same step
    }


def test_spaces_are_not_those_of_a_vector_environment_that_is_not_used():
    task = GymnasiumTask(Config(id="made/Fallback-v0"))
    assert (
        task.single_observation_space == gym.spec("made/Objects-v0").entry_point.observation_space
    )


def test_one_copy_alone_is_what_gymnasium_makes():
    envs = GymnasiumTask(Config(id="Acrobot-v1")).make(1, seed=0)
    observations, _ = envs.reset()
    env = gym.make("Acrobot-v1")
    expected, _ = env.reset(seed=envs.copies[0].np_random_seed)
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
        ("LunarLander-v3", "Box2D", 'pip install "corelab-ml[box2d]"'),
        ("HalfCheetah-v5", "mujoco", 'pip install "corelab-ml[mujoco]"'),
        ("phys2d/CartPole-v1", "jax", 'pip install "gymnasium[jax]"'),
        ("ale_py:PongNoFrameskip-v4", "ale_py", 'pip install "corelab-ml[atari]"'),
        ("MinAtar/Breakout-v1", "minatar", 'pip install "corelab-ml[minatar]"'),
        ("MiniGrid-Empty-5x5-v0", "minigrid", 'pip install "corelab-ml[minigrid]"'),
        ("BabyAI-GoToRedBall-v0", "minigrid", 'pip install "corelab-ml[minigrid]"'),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    name, module, command, monkeypatch
):
    brought = ("gymnasium.envs.box2d", "gymnasium.envs.mujoco", "ale_py", "minatar", "minigrid")
    for loaded in [m for m in sys.modules if m.startswith(brought)]:
        monkeypatch.delitem(sys.modules, loaded)
    if "gymnasium" not in str(getattr(gym.registry.get(name), "entry_point", "")):
        monkeypatch.delitem(gym.registry, name, raising=False)
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
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    task = GymnasiumTask(Config(id="more_envs:More-v0"))
    assert task.single_action_space.n == 3


def test_settings_reach_the_environment():
    lake = GymnasiumTask(Config(id="FrozenLake-v1", settings=("map_name=8x8", "is_slippery=False")))
    assert lake.single_observation_space.n == 64
    envs = lake.make(1, seed=0)
    envs.reset()
    assert envs.step(np.array([2]))[4] == {"prob": [1.0]}  # where the ice is slippery, 1/3
    cartpole = Config(id="CartPole-v1", settings=("sutton_barto_reward=True",))
    envs = GymnasiumTask(cartpole).make(8, seed=0)  # by Gymnasium's vector environment
    envs.reset()
    assert not envs.step(np.zeros(8))[1].any()
    with pytest.raises(DataError, match=r"^CartPole-v1 cannot be made: .* argument 'gravity'"):
        GymnasiumTask(Config(id="CartPole-v1", settings=("gravity=1",)))


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
        ("raises", "copy 0 failed in episode 0 at step 15: ZeroDivisionError: the wheel came off"),
        ("exits", "copy 0 failed in episode 0 at step 15: SystemExit: the keys are gone"),
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


def test_an_error_without_words_is_told_by_its_name():
    assert first_line(AssertionError()) == "AssertionError"
    assert first_line(ValueError("no\nway")) == "ValueError: no"


def test_the_copy_that_is_at_fault_is_named():
    envs = GymnasiumTask(Config(id="made/observation-v0")).make(3, seed=0)
    envs.reset()
    envs.copies[2].unwrapped.steps = 14
    with pytest.raises(DataError, match="copy 2 gave an observation"):
        envs.step(np.zeros(3))


def test_an_action_that_does_not_fit_is_told_in_a_sentence():
    native = GymnasiumTask(Config(id="CartPole-v1")).make(8, seed=0)
    native.reset()
    with pytest.raises(DataError, match=r"^CartPole-v1 failed at step 1: AssertionError"):
        native.step(np.full(8, 7))
    copies = GymnasiumTask(Config(id="CartPole-v1")).make(2, seed=0)
    copies.reset()
    with pytest.raises(DataError, match="copy 1 failed in episode 0 at step 1: AssertionError"):
        copies.step(np.array([0, 7]))
    with pytest.raises(DataError, match=r"CartPole-v1: copy .* ValueError: zip"):
        copies.step(np.zeros(3))


def test_a_number_that_is_not_finite_is_found_in_nested_spaces():
    envs = GymnasiumTask(Config(id="made/Nested-v0")).make(2, seed=0)
    envs.reset()
    actions = (np.zeros(2), np.array([[0.5, 0], [-0.5, 0]]))
    for step in range(1, 15):
        observations, *_ = envs.step(actions)
        assert observations["count"].tolist() == [step, step]
        assert observations["place"][0].tolist() == [step % 3] * 2
        assert observations["place"][1].tolist() == [[0, 0.5], [0, -0.5]]
    with pytest.raises(DataError, match="copy 0 gave an observation that is not finite at step 15"):
        envs.step(actions)


class Showing(gym.Env):
    """Shows what it was made with."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, observation_space, shown):
        self.observation_space, self.shown = observation_space, shown

    def reset(self, *, seed=None, options=None):
        return self.shown, {}

    def step(self, action):
        return self.shown, 0.0, False, False, {}


def showing(space, shown):
    gym.registry.pop("made/Showing-v0", None)
    gym.register("made/Showing-v0", Showing, kwargs={"observation_space": space, "shown": shown})
    return GymnasiumTask(Config(id="made/Showing-v0")).make(2, seed=0).reset()[0]


def test_a_space_that_is_written_in_several_lines_is_told_in_one(monkeypatch, capsys):
    monkeypatch.setattr(Showing, "action_space", gym.spaces.MultiDiscrete([[2, 3], [4, 5]]))
    showing(gym.spaces.Discrete(2), 1)
    assert core.cli.main(["train", "dqn", "--task", "made/Showing-v0"]) == 2
    told = capsys.readouterr().err
    assert "has actions MultiDiscrete([[2 3] [4 5]]" in told
    assert told.count("\n") == 1


BYTES = gym.spaces.Box(0, 255, (3,), np.uint8)


@pytest.mark.parametrize(
    ("space", "shown", "expected"),
    [
        (gym.spaces.Discrete(5), np.int32(4), [4, 4]),
        (gym.spaces.Discrete(5, start=-2), -2, [-2, -2]),
        (BYTES, [1, 2, 255], [[1, 2, 255]] * 2),
        (BYTES, np.array([1.0, 2.0, 3.0]), [[1, 2, 3]] * 2),
        (gym.spaces.MultiBinary(2), [True, False], [[1, 0]] * 2),
        (gym.spaces.MultiDiscrete([[2, 3]]), [[1, 2]], [[[1, 2]]] * 2),
    ],
)
def test_what_a_space_has_room_for_is_shown_by_value(space, shown, expected):
    plain = showing(space, shown)
    assert plain.dtype == space.dtype
    assert plain.tolist() == expected
    nested = showing(gym.spaces.Dict(a=gym.spaces.Tuple((space,))), {"a": (shown,)})["a"][0]
    assert nested.dtype == space.dtype
    assert nested.tolist() == expected


@pytest.mark.parametrize(
    ("space", "shown", "told"),
    [
        (gym.spaces.Discrete(5), 5, "5 is not in Discrete(5)"),
        (gym.spaces.Discrete(5), -1, "-1 is not in Discrete(5)"),
        (gym.spaces.Discrete(5), 3.7, "3.7 is not in Discrete(5)"),
        (gym.spaces.MultiDiscrete([[2, 3]]), [[1, 3]], "3 is not in MultiDiscrete([[2 3]])"),
        (BYTES, np.full(3, 0.5), "0.5 is not in Box(0, 255, (3,), uint8)"),
        (BYTES, np.array([1, 2, 300]), "300 is not in Box(0, 255, (3,), uint8)"),
    ],
)
def test_numbers_that_a_space_has_no_room_for_are_not_bent_to_fit(space, shown, told):
    for where, what in ((space, shown), (gym.spaces.Dict(a=space), {"a": shown})):
        with pytest.raises(DataError, match=rf"copy 0 gave an observation .*{re.escape(told)}$"):
            showing(where, what)


def test_large_numbers_are_finite():
    envs = GymnasiumTask(Config(id="made/Nested-v0")).make(1, seed=0)
    envs.reset()
    huge = np.array([[3e38, 0]], np.float32)  # its square is not, in 32 bits
    observations, *_ = envs.step((np.zeros(1), huge))
    assert observations["place"][1][0, 1] == huge[0, 0]


def test_an_observation_of_another_shape_than_promised_is_told():
    with pytest.raises(DataError, match=r"copy 0 gave an observation that does .* \(1,\) is not"):
        GymnasiumTask(Config(id="made/Shapeless-v0"))


def test_what_is_allowed_moves_into_the_observation():
    task = GymnasiumTask(Config(id="made/Masked-v0", mask=True))
    envs = task.make(2, seed=0)
    observations, infos = envs.reset()
    assert set(task.single_observation_space) == {"observation", "action_mask"}
    assert infos == {}
    for step in range(14):
        assert observations["action_mask"].tolist() == [[1 - step % 2, step % 2]] * 2
        observations, *_ = envs.step(observations["action_mask"].argmax(1))
    with pytest.raises(DataError, match="Masked-v0: copy 0 allows no action at step 15, and its"):
        envs.step(observations["action_mask"].argmax(1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CartPole-v1", "the environment does not say what is allowed"),
        ("Pendulum-v1", r"the actions are Box\(.*\), not discrete"),
    ],
)
def test_a_mask_that_there_is_not_is_told(name, message):
    with pytest.raises(DataError, match=f"^task.mask is true, but {message}$"):
        GymnasiumTask(Config(id=name, mask=True))


def test_information_comes_by_its_name():
    envs = GymnasiumTask(Config(id="FrozenLake-v1")).make(2, seed=0)
    assert envs.reset()[1] == {"prob": [1, 1]}
    assert set(envs.step(np.zeros(2))[4]["prob"]) <= {1, 1 / 3, 1 - 2 / 3, 0.3333333333333333}


def test_a_run_whose_environment_raises_keeps_what_was_learned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"task.num_envs": 2, "run.eval_every": 0, "run.name": "late"}
    with pytest.raises(
        DataError, match=r"^made/late-v0: copy 0 failed in episode 0 at step 600: Ze"
    ):
        core.train("ppo", task="made/late-v0", steps=5_000, options=options)
    run = core.Run(tmp_path / "runs" / "late")
    assert 0 < int(run.checkpoints.pick("last").name) <= 1200
