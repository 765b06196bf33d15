"""Atari by the emulator's own vector environment: what is seen, what is counted, and resume."""

from __future__ import annotations

import re
import sys

import corelab_envs
import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("ale_py", reason="the extra corelab-ml[atari] is not installed")

from corelab_envs import atari
from corelab_envs.atari import AtariTask
from corelab_envs.atari_scores import _SCORES
from corelab_envs.episodes import film, play

from corelab import ConfigError, DataError
from corelab.state import load_tree, save_tree

Config = AtariTask.Config


def breakout(**options):
    return AtariTask(Config(id="ALE/Breakout-v5", **options))


def acts(task, steps, n, seed=0):
    return np.random.default_rng(seed).integers(0, task.single_action_space.n, (steps, n))


def test_the_index_answers_to_games():
    def answering(name):
        return [c.name for c in corelab_envs.corelab_components() if re.fullmatch(c.pattern, name)]

    assert answering("ALE/Pong-v5") == answering("ALE/MsPacman-v5") == ["atari"]


def test_the_standards_are_those_of_the_papers():
    machado, mnih = breakout(), breakout(standard="mnih")
    assert machado.settings == (0.25, True, False, 0, 27_000)
    assert mnih.settings == (0.0, False, True, 30, 4_500)
    assert machado.single_action_space.n == 18
    assert mnih.single_action_space.n == 4
    mixed = breakout(standard="mnih", sticky_actions=0.1, full_actions=True, life_loss=False)
    assert mixed.settings == (0.1, True, False, 30, 4_500)


def test_observations_are_the_last_four_screens_the_newest_last():
    task = breakout()
    envs = task.make(2, seed=0)
    before, _ = envs.reset()
    assert task.single_observation_space == gym.spaces.Box(0, 255, (task.stack, 84, 84), np.uint8)
    for action in acts(task, 30, 2):
        after, *_ = envs.step(action)
        assert np.array_equal(after[:, :-1], before[:, 1:])
        before = after
    assert after[:, -1].std() > 0


def test_a_copy_does_not_depend_on_those_beside_it():
    task = breakout()
    two, one = task.make(2, seed=4), task.make(1, seed=4)
    begun = two.reset()[0], one.reset()[0]
    assert np.array_equal(begun[0][:1], begun[1])
    for action in acts(task, 60, 2):
        a, b = two.step(action), one.step(action[:1])
        assert np.array_equal(a[0][:1], b[0])


def test_threads_change_nothing():
    one, two = breakout().make(2, seed=4), breakout(threads=2).make(2, seed=4)
    assert np.array_equal(one.reset()[0], two.reset()[0])
    for action in acts(breakout(), 40, 2):
        for a, b in zip(one.step(action)[:4], two.step(action)[:4], strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("standard", ["machado", "mnih"])
def test_the_seed_decides_everything(standard):
    task = breakout(standard=standard)
    actions = acts(task, 80, 1)

    def screens(seed):
        envs = task.make(1, seed)
        return np.array([envs.reset()[0]] + [envs.step(action)[0] for action in actions])

    a, b, c = screens(3), screens(3), screens(4)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_actions_stick_with_the_probability_that_is_asked_for():
    """Without, two seeds play the same game from the same actions."""
    actions = acts(breakout(), 40, 1)

    def last(task, seed):
        envs = task.make(1, seed)
        envs.reset()
        return [envs.step(action)[0] for action in actions][-1]

    certain, sticky = breakout(sticky_actions=0.0), breakout()
    assert np.array_equal(last(certain, 1), last(certain, 2))
    assert not np.array_equal(last(sticky, 1), last(sticky, 2))


def test_an_episode_is_truncated_and_the_next_step_only_resets():
    task = breakout(max_episode_steps=7)
    envs = task.make(2, seed=0)
    envs.reset()
    for step in range(1, 25):
        _, rewards, terminations, truncations, _ = envs.step(np.zeros(2))
        assert not terminations.any()
        assert truncations.all() == truncations.any() == (step % 8 == 7)
        assert not rewards.any()


def test_rewards_are_clipped_in_training_and_scores_are_measured():
    task = AtariTask(Config(id="ALE/Seaquest-v5", full_actions=False))
    envs, raw = task.make(1, seed=0), task.measured.make(1, seed=0)
    envs.reset()
    raw.reset()
    pairs = set()
    for action in acts(task, 250, 1):
        pairs.add((float(envs.step(action)[1][0]), float(raw.step(action)[1][0])))
    assert pairs == {(0.0, 0.0), (1.0, 20.0)}
    assert task.measured.measured.config == task.measured.config


def test_a_lost_life_ends_an_episode_in_training_only():
    task = breakout(standard="mnih", sticky_actions=0.25)
    envs, whole = task.make(1, seed=0), task.measured.make(1, seed=0)
    envs.reset()
    whole.reset()
    over, lives, ends, games = False, 5, [], 0
    for action in acts(task, 500, 1):
        action = np.zeros(1, np.int64) if over else action
        screen, reward, termination, _, info = envs.step(action)
        expected, score, game_over, _, _ = whole.step(action)
        assert np.array_equal(screen, expected)
        if over:
            assert not reward.any()
        else:
            assert reward == np.sign(score)
        lost = 0 < info["lives"][0] < lives
        assert bool(termination[0]) == bool((lost and not over) or game_over[0])
        games += int(game_over[0])
        ends.append(bool(termination[0]))
        over, lives = ends[-1], info["lives"][0]
    assert games >= 1
    assert sum(ends) >= 5 * games


@pytest.mark.parametrize("options", [{}, {"standard": "mnih", "sticky_actions": 0.25}])
def test_a_restored_game_goes_on_bit_for_bit(options, tmp_path, monkeypatch):
    """Also where copies got their seeds at different times."""
    monkeypatch.setattr(atari, "_SEEDED_FOR", 100)
    task = breakout(**options)
    envs = task.make(2, seed=5)
    envs.reset()
    actions = acts(task, 340, 2)
    for action in actions[:280]:
        envs.step(action)
    save_tree(tmp_path / "envs", envs.state_dict())
    assert len({len(acted) for acted in envs._acted}) == 2
    assert max(envs._seedings) > 1
    other = task.make(2, seed=77)
    other.reset()
    other.load_state_dict(load_tree(tmp_path / "envs"))
    for action in actions[280:]:
        for x, y in zip(other.step(action)[:4], envs.step(action)[:4], strict=True):
            assert x.dtype == y.dtype
            assert np.array_equal(x, y)
    assert other._seedings == envs._seedings
    assert other._acted == envs._acted


def test_another_past_is_not_restored_wrongly():
    task = breakout()
    envs = task.make(2, seed=5)
    envs.reset()
    for action in acts(task, 30, 2):
        envs.step(action)
    state = envs.state_dict()
    state["acted"][1] = state["acted"][1][:-1]
    with pytest.raises(DataError, match=r"^ALE/Breakout-v5: copy 1 cannot be restored"):
        envs.load_state_dict(state)


def test_scores_are_normalised_by_random_and_human_play():
    task = AtariTask(Config(id="ALE/Breakout-v5"))
    assert len(_SCORES) == 57
    assert task.normalise(1.7) == 0
    assert task.normalise(30.5) == 1
    assert task.normalise(1.7 + 2 * 28.8) == pytest.approx(2)
    assert not hasattr(AtariTask(Config(id="ALE/Tetris-v5")), "normalise")


def test_whole_games_are_measured_by_their_score():
    task = AtariTask(Config(id="ALE/Breakout-v5", standard="mnih", max_episode_steps=60))
    played = play(task, lambda o: np.full(len(o), 1), 2, "test", seed=0)
    assert played.lengths.tolist() == [60, 60]  # more than one life


def test_a_film_is_in_colour():
    video = film(breakout(max_episode_steps=5), lambda o: np.full(len(o), 3), 1, "test", seed=0)
    assert video.pixels.shape == (6, 210, 160, 3)
    assert np.ptp(video.pixels.astype(int), axis=3).max() > 50
    assert any(np.any(a != b) for a, b in zip(video.pixels, video.pixels[1:], strict=False))


@pytest.mark.parametrize("actions", [[18], [-1], [0, 0]])
def test_an_action_that_does_not_exist_is_told(actions):
    envs = breakout().make(1, seed=0)
    envs.reset()
    with pytest.raises(DataError, match=r"^ALE/Breakout-v5: the actions at step 1 are .* 0 to 17$"):
        envs.step(np.array(actions))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sticky_actions": 1.0}, "task.sticky_actions is 1.0; it must be at least 0 and below 1"),
        ({"threads": 0}, "task.threads is 0; it must be at least 1"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        breakout(**options)


def test_a_misspelt_game_gets_a_hint():
    with pytest.raises(DataError, match="did you mean 'ALE/Breakout-v5'"):
        AtariTask(Config(id="ALE/Brakeout-v5"))


def test_without_the_emulator_the_command_that_brings_it_is_told(monkeypatch):
    monkeypatch.delitem(gym.registry, "ALE/Pong-v5", raising=False)
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(DataError, match=re.escape('pip install "corelab-ml[atari]"')):
        AtariTask(Config(id="ALE/Pong-v5"))
