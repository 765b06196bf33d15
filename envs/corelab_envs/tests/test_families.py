"""Each family of environments behind an extra: what is seen, and that a resume is exact."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from corelab_envs.gymnasium_task import GymnasiumTask
from corelab_envs.wrappers import bits
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from corelab.state import load_tree, save_tree

TAXI = next(name for name in gym.registry if name.startswith("Taxi-v"))
IMAGE = spaces.Box(0, 255, (7, 7, 3), np.uint8)
BOX2D, MUJOCO, MINATAR, MINIGRID = ("Box2D",), ("mujoco", "imageio"), ("minatar",), ("minigrid",)
FAMILIES = {  # id: the packages it needs, whether it is replayed, what is seen, how many actions
    "FrozenLake8x8-v1": ((), False, spaces.Discrete(64), 4),
    TAXI: ((), False, spaces.Discrete(500), 6),
    "CliffWalking-v1": ((), False, spaces.Discrete(48), 4),
    "Blackjack-v1": ((), False, spaces.Tuple([spaces.Discrete(n) for n in (32, 11, 2)]), 2),
    "LunarLander-v3": (BOX2D, True, (8,), 4),
    "LunarLanderContinuous-v3": (BOX2D, True, (8,), (2,)),
    "BipedalWalker-v3": (BOX2D, True, (24,), (4,)),
    "CarRacing-v3": (BOX2D, True, (96, 96, 3), (3,)),
    "HalfCheetah-v5": (MUJOCO, True, (17,), (6,)),
    "Hopper-v5": (MUJOCO, True, (11,), (3,)),
    "Ant-v5": (MUJOCO, True, (105,), (8,)),
    "MinAtar/Asterix-v1": (MINATAR, False, (10, 10, 4), 5),
    "MinAtar/Breakout-v1": (MINATAR, False, (10, 10, 4), 3),
    "MinAtar/Freeway-v1": (MINATAR, False, (10, 10, 7), 3),
    "MinAtar/Seaquest-v0": (MINATAR, False, (10, 10, 10), 6),
    "MinAtar/SpaceInvaders-v1": (MINATAR, False, (10, 10, 6), 4),
    "MiniGrid-Empty-5x5-v0": (
        MINIGRID,
        True,
        spaces.Dict(image=IMAGE, direction=spaces.Discrete(4)),
        7,
    ),
    "MiniGrid-Fetch-5x5-N2-v0": (
        MINIGRID,
        True,
        spaces.Dict(image=IMAGE, direction=spaces.Discrete(4), mission=spaces.MultiBinary(256)),
        7,
    ),
    "BabyAI-PutNextS4N1-v0": (
        MINIGRID,
        True,
        spaces.Dict(image=IMAGE, direction=spaces.Discrete(4), mission=spaces.MultiBinary(256)),
        7,
    ),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MuJoCo may leave its log


def task_of(name, **options):
    for package in FAMILIES[name][0]:
        pytest.importorskip(package, reason=f"{name} needs {package}, which is not installed")
    return GymnasiumTask(GymnasiumTask.Config(id=name, **options))


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a.dtype == b.dtype and np.array_equal(a, b)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_seen_and_done_is_as_documented(name):
    task = task_of(name)
    _, replays, seen, actions = FAMILIES[name]
    assert task.replays == replays
    space, acts = task.single_observation_space, task.single_action_space
    assert space == seen if isinstance(seen, spaces.Space) else space.shape == seen
    assert acts == spaces.Discrete(actions) if isinstance(actions, int) else acts.shape == actions
    observations, _ = task.make(2, seed=0).reset()
    batch = batch_space(space, 2)
    assert type(observations) is (dict if isinstance(space, spaces.Dict) else type(batch.sample()))
    assert batch.contains(observations)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_restored_environment_goes_on_bit_for_bit(name, tmp_path):
    """Also from the second episode on, so no trace of a first may be carried over a reset."""
    steps, limit = (24, 9) if name == "CarRacing-v3" else (160, 60)
    task = task_of(name, max_episode_steps=limit)
    envs = task.make(2, seed=5)
    envs.reset()
    space = batch_space(task.single_action_space, 2)
    space.seed(0)
    actions = [space.sample() for _ in range(steps)]
    for action in actions[: steps // 2]:
        envs.step(action)
    assert all(copy.episode >= 1 for copy in envs.copies)
    save_tree(tmp_path / "envs", envs.state_dict())
    others = task.make(2, seed=77)
    others.reset()
    others.load_state_dict(load_tree(tmp_path / "envs"))
    ends = 0
    for action in actions[steps // 2 :]:
        expected = envs.step(action)[:4]
        assert same(others.step(action)[:4], expected)
        ends += (expected[2] | expected[3]).sum()
    assert ends > 0


@pytest.mark.parametrize(
    "name", ["LunarLander-v3", "MinAtar/Breakout-v1", "MiniGrid-Fetch-5x5-N2-v0"]
)
def test_the_seed_decides_everything(name):
    task = task_of(name)

    def trajectory(seed):
        envs = task.make(2, seed)
        return (envs.reset()[0], *(envs.step(np.full(2, t % 3))[0] for t in range(30)))

    a, b, c = (trajectory(seed) for seed in (3, 3, 4))
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.parametrize("game", ["Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"])
def test_minatar_is_seeded_as_it_seeds_itself(game):
    name = f"MinAtar/{game}-v1"
    pytest.importorskip("minatar", reason="minatar is not installed")
    (copy,) = GymnasiumTask(GymnasiumTask.Config(id=name)).make(1, seed=3).copies
    env = gym.make(name, disable_env_checker=True)
    for episode in range(4):
        words = np.random.SeedSequence([3, 0, episode]).generate_state(1)
        expected, _ = env.reset(seed=int(words[0] >> 1))
        assert np.array_equal(copy.reset()[0], expected)
        for t in range(60):
            seen, reward, over, *_ = copy.step(t % 3)
            expected, score, ended, *_ = env.step(t % 3)
            assert np.array_equal(seen, expected)
            assert (reward, over) == (score, ended)
            if over:
                break


def test_taxi_tells_which_moves_are_possible():
    task = task_of(TAXI, mask=True)
    assert task.single_observation_space["observation"] == spaces.Discrete(500)
    envs = task.make(3, seed=0)
    observations, _ = envs.reset()
    for t in range(250):
        masks = observations["action_mask"]
        assert masks.shape == (3, 6)
        assert masks.dtype == np.int8
        table = envs.copies[0].unwrapped.P
        stays = np.array(
            [[table[s][a][0][1] == s for a in range(6)] for s in observations["observation"]]
        )
        assert not (masks[:, :4].astype(bool) & stays[:, :4]).any()
        chosen = [np.flatnonzero(mask)[t % mask.sum()] for mask in masks]
        observations, *_ = envs.step(np.array(chosen))


def test_a_mission_becomes_bits_that_tell_its_words_and_their_order():
    seen = bits("put the red ball next to the green box")
    assert seen.shape == (256,)
    assert seen.dtype == np.int8
    assert seen.sum() == 9
    assert not np.array_equal(seen, bits("put the green ball next to the red box"))
    assert np.array_equal(seen, bits("Put the red ball next to the green box"))


def test_a_mission_is_seen_as_it_is_given():
    task = task_of("MiniGrid-Fetch-5x5-N2-v0")
    envs = task.make(4, seed=1)
    observations, _ = envs.reset()
    missions = [copy.unwrapped.mission for copy in envs.copies]
    assert len(set(missions)) > 1
    assert same(observations["mission"], np.stack([bits(mission) for mission in missions]))


def test_rejected_levels_are_no_output_of_a_run(capsys):
    task = task_of("BabyAI-PutNextS4N1-v0")
    envs = task.make(8, seed=0)
    for _ in range(5):
        envs.reset()
    assert capsys.readouterr().out == ""
