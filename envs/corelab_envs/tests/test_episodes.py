from __future__ import annotations

import sys

import numpy as np
import pytest
from corelab_envs import episodes
from corelab_envs.episodes import Tally, film, play
from corelab_envs.gymnasium_task import GymnasiumTask

from corelab import ConfigError, DataError


def task_of(name, **options):
    return GymnasiumTask(GymnasiumTask.Config(id=name, **options))


def stay(observations):
    return np.zeros(len(observations), np.int64)


@pytest.mark.parametrize("n", [1, 20, 33])
def test_exactly_n_episodes_are_counted(n):
    played = play(task_of("made/Lengths-v0"), stay, n, "test", seed=0)
    assert len(played.returns) == len(played.lengths) == n
    assert np.array_equal(played.returns, played.lengths)


def test_short_episodes_are_not_preferred():
    """Lengths are uniform on 1 … 30. Had the first 400 to end been counted, their mean would be
    smaller, for of the episodes that are running when the count is full none is short."""
    task, n = task_of("made/Lengths-v0"), 400
    lengths = play(task, stay, n, "test", seed=0).lengths
    copies = [copy.env for copy in task.make(20, episodes._seed("test", 0)).copies]
    expected = []
    for i, env in enumerate(copies):
        root = episodes._seed("test", 0)
        for episode in range(n // 20):
            words = np.random.SeedSequence([root, i, episode]).generate_state(1)
            env.reset(seed=int(words[0] >> 1))
            expected.append(env.unwrapped.left)
    assert lengths.tolist() == expected
    assert abs(lengths.mean() - 15.5) < 3 * np.sqrt((30**2 - 1) / 12 / n)


def test_mean_and_deviation_are_those_of_the_returns():
    played = play(task_of("made/Lengths-v0"), stay, 33, "test", seed=0)
    assert played.metrics() == {
        "return": pytest.approx(sum(played.returns) / 33),
        "return_std": pytest.approx(np.std(played.returns)),
        "episode_length": pytest.approx(sum(played.lengths) / 33),
    }


def test_the_same_seed_plays_the_same_episodes_and_each_split_has_its_own():
    task = task_of("made/Lengths-v0")
    splits = ["test", "test", "validation"]
    a, b, c = (play(task, stay, 50, split, seed=1).lengths.tolist() for split in splits)
    d = play(task, stay, 50, "test", seed=2).lengths.tolist()
    assert a == b
    assert len({tuple(a), tuple(c), tuple(d)}) == 3


def test_an_episode_that_never_ends_is_told(monkeypatch):
    monkeypatch.setattr(episodes, "_LONGEST", 200)
    task = task_of("MountainCar-v0", max_episode_steps=10**6)
    with pytest.raises(DataError, match=r"not ended after 200 steps; .*--task.max_episode_steps"):
        play(task, stay, 2, "test", seed=0)


def test_no_episodes_cannot_be_played():
    with pytest.raises(ConfigError, match="0 episodes"):
        play(task_of("made/Lengths-v0"), stay, 0, "test", seed=0)


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0"])
def test_a_film_shows_whole_episodes(name):
    task = task_of(name, max_episode_steps=9)
    video = film(task, stay, 2, "test", seed=0)
    every = {"CartPole-v1": 2, "MountainCar-v0": 1}[name]
    steps = int(play(task, stay, 1, "test", seed=0).lengths[0])
    assert steps == 9
    assert len(video.pixels) == 2 * (9 // every + 1 + (9 % every > 0))
    assert video.pixels.shape[1:] == (200, 300, 3)
    assert video.fps == task.fps / every
    moves = [np.any(a != b) for a, b in zip(video.pixels, video.pixels[1:], strict=False)]
    assert sum(moves) >= len(moves) - 2  # a first step may move less than a pixel


def test_a_film_has_an_end_even_if_the_episode_has_none(monkeypatch):
    monkeypatch.setattr(episodes, "_LONGEST_FILM", 5)
    assert len(film(task_of("Pendulum-v1"), lambda o: -o[:, :1], 1, "test", 0).pixels) == 5


def test_without_pygame_the_command_that_brings_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(DataError, match=r'pip install "corelab-ml\[render\]"'):
        film(task_of("CartPole-v1"), stay, 1, "test", seed=0)


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(DataError, match="made/Lengths-v0 cannot be filmed"):
        film(task_of("made/Lengths-v0"), stay, 1, "test", seed=0)


def test_a_tally_counts_each_episode_once_though_some_wait_or_only_reset():
    tally = Tally(2)
    no = np.zeros(2, bool)
    assert tally.add(np.array([1.0, 2.0]), no, no).tolist() == [True, True]
    assert tally.metrics() == {}
    tally.add(np.array([1.0, 3.0]), np.array([True, False]), no)
    assert tally.metrics() == {"return": 2.0, "episode_length": 2.0, "truncated": 0.0}
    # The first waits, and ends again at each step; the second is cut off.
    first, second = np.array([True, False]), np.array([False, True])
    assert tally.add(np.array([0.0, 4.0]), first, second).tolist() == [False, True]
    assert tally.metrics() == {"return": 9.0, "episode_length": 3.0, "truncated": 1.0}
    resumed = Tally(2)
    resumed.load_state_dict(tally.state_dict())
    assert resumed.over.tolist() == [True, True]
    assert resumed.add(np.zeros(2), no, no).tolist() == [False, False]
    assert resumed.metrics() == {}
