"""The games against PettingZoo's, move by move."""

from __future__ import annotations

import numpy as np
import pytest
from corelab_envs.connect_four import ConnectFour
from corelab_envs.pettingzoo_game import PettingZooGame
from corelab_envs.tic_tac_toe import TicTacToe
from hypothesis import given
from hypothesis import strategies as st

from corelab import ConfigError, DataError

pytest.importorskip("pettingzoo.classic")


def peer(name):
    from pettingzoo.classic.connect_four import connect_four
    from pettingzoo.classic.tictactoe import tictactoe

    env = {"connect-four": connect_four, "tic-tac-toe": tictactoe}[name].raw_env()
    env.reset(seed=0)
    return env


def made(game):
    return game(game.Config())


GAMES = [ConnectFour, TicTacToe]


@pytest.mark.parametrize("game", GAMES)
def test_random_games_go_as_they_do_in_pettingzoo(game):
    game = made(game)
    rng = np.random.default_rng(0)
    n = 40
    states, envs = game.initial(n), [peer(game.name) for _ in range(n)]
    on = np.arange(n)
    results = []
    while len(on):
        seen, legal = game.observe(states), game.legal(states)
        for i, env in enumerate(envs):
            theirs = env.observe(env.agent_selection)
            np.testing.assert_array_equal(seen[i], theirs["observation"])
            np.testing.assert_array_equal(legal[i], theirs["action_mask"])
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in legal])
        before = states.copy()
        following, outcome, over = game.step(states, actions)
        np.testing.assert_array_equal(states, before)
        for i, env in enumerate(envs):
            mover = env.agent_selection
            env.step(int(actions[i]))
            assert (outcome[i], over[i]) == (env.rewards[mover], env.terminations[mover])
        results += outcome[over].tolist()
        on, states = on[~over], following[~over]
        envs = [env for env, ended in zip(envs, over, strict=True) if not ended]
    assert {0.0, 1.0} >= set(results)
    assert sum(results) > n / 2


def test_a_full_board_without_a_line_is_drawn():
    game = made(ConnectFour)
    # columns filled in pairs so that no four of a colour meet
    order = [*(0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 0, 1), *(2, 3, 2, 3, 3, 2, 3, 2, 2, 3, 2, 3)]
    order += [*(4, 5, 4, 5, 5, 4, 5, 4, 4, 5, 4, 5), *[6] * 6]
    states = game.initial(1)
    for k, move in enumerate(order):
        states, outcome, over = game.step(states, np.array([move]))
        assert over[0] == (k == 41)
    assert outcome[0] == 0


@pytest.mark.parametrize("game", GAMES)
@given(moves=st.lists(st.integers(0, 8), max_size=30))
def test_symmetries_leave_the_game_the_same(game, moves):
    game = made(game)
    for cells, actions in game.symmetries:
        original, mirrored = game.initial(1), game.initial(1)
        # action i of the mirrored state is action actions[i] of the original one
        back = np.argsort(actions)
        for move in moves:
            move %= game.actions
            seen = game.observe(original).reshape(1, -1, 2)[:, cells]
            np.testing.assert_array_equal(game.observe(mirrored).reshape(1, -1, 2), seen)
            legal = game.legal(original)
            np.testing.assert_array_equal(game.legal(mirrored), legal[:, actions])
            if not legal[0, move]:
                continue
            original, outcome, over = game.step(original, np.array([move]))
            mirrored, outcome_2, over_2 = game.step(mirrored, np.array([back[move]]))
            assert (outcome[0], over[0]) == (outcome_2[0], over_2[0])
            if over[0]:
                break


def lines():
    for r in range(6):
        for c in range(7):
            for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
                line = [(r + k * dr, c + k * dc) for k in range(4)]
                if all(0 <= r < 6 and 0 <= c < 7 for r, c in line):
                    yield line


def test_heuristic_counts_open_lines_of_two_and_three():
    game = made(ConnectFour)
    rng = np.random.default_rng(3)
    for _ in range(60):
        states = game.initial(1)
        for _ in range(rng.integers(4, 30)):
            move = rng.choice(np.flatnonzero(game.legal(states)[0]))
            following, _, over = game.step(states, np.array([move]))
            if over[0]:
                break
            states = following
        mine, theirs = game.observe(states)[0].transpose(2, 0, 1)
        score = 0
        for line in lines():
            a, b = sum(mine[cell] for cell in line), sum(theirs[cell] for cell in line)
            weight = {2: 1, 3: 4}
            score += weight.get(int(a), 0) * (b == 0) - weight.get(int(b), 0) * (a == 0)
        assert game.heuristic(states)[0] * 4 * len(list(lines())) == pytest.approx(score)


@pytest.mark.parametrize("game", GAMES)
def test_pictures_show_the_same_stones_whoever_is_to_move(game):
    game = made(game)
    states = game.initial(1)
    empty = game.render(states)
    states, _, _ = game.step(states, np.array([0]))
    one = game.render(states)
    states, _, _ = game.step(states, np.array([1]))
    two = game.render(states)
    assert (one != empty).any(-1).sum() > 0
    # the second stone changes pixels that the first one did not
    assert not ((two != one).any(-1) & (one != empty).any(-1)).any()


@pytest.mark.parametrize(
    ("id_", "game"),
    [("classic/connect_four_v3", ConnectFour), ("classic/tictactoe_v3", TicTacToe)],
)
def test_copied_pettingzoo_games_equal_the_vectorised_ones(id_, game):
    copied, game = PettingZooGame(PettingZooGame.Config(id=id_)), made(game)
    rng = np.random.default_rng(5)
    ours, theirs = game.initial(6), copied.initial(6)
    while len(ours):
        np.testing.assert_array_equal(copied.observe(theirs), game.observe(ours))
        np.testing.assert_array_equal(copied.legal(theirs), game.legal(ours))
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in game.legal(ours)])
        ours, outcome, over = game.step(ours, actions)
        theirs, outcome_2, over_2 = copied.step(theirs, actions)
        np.testing.assert_array_equal(outcome, outcome_2)
        np.testing.assert_array_equal(over, over_2)
        ours, theirs = ours[~over], theirs[~over]


def test_a_forgotten_position_is_played_again():
    game = PettingZooGame(PettingZooGame.Config(id="classic/tictactoe_v3"))
    states = game.initial(1)
    for move in (4, 0, 8):
        states, _, _ = game.step(states, np.array([move]))
    seen = game.observe(states)
    fresh = PettingZooGame(PettingZooGame.Config(id="classic/tictactoe_v3"))
    np.testing.assert_array_equal(fresh.observe(states), seen)


def test_a_game_beyond_the_longest_is_drawn():
    game = PettingZooGame(PettingZooGame.Config(id="classic/tictactoe_v3", max_length=2))
    states, _, over = game.step(game.initial(1), np.array([0]))
    assert not over[0]
    _, outcome, over = game.step(states, np.array([1]))
    assert over[0]
    assert outcome[0] == 0


@pytest.mark.parametrize(
    ("id_", "sentence"),
    [
        ("classic/rps_v2", "cannot be searched"),
        ("classic/conect_four_v3", "did you mean 'connect_four_v3'"),
    ],
)
def test_what_cannot_be_searched_is_told_in_a_sentence(id_, sentence):
    with pytest.raises(DataError, match=sentence):
        PettingZooGame(PettingZooGame.Config(id=id_))
    with pytest.raises(ConfigError, match="at least 1"):
        PettingZooGame(PettingZooGame.Config(max_length=0))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda seen: seen | {"action_mask": np.zeros(9, np.int8)}, "no action at move 2"),
        (None, "failed at move 2: AssertionError"),
    ],
)
def test_a_game_that_breaks_is_told_in_a_sentence(monkeypatch, change, sentence):
    from pettingzoo.classic.tictactoe.tictactoe import raw_env

    game = PettingZooGame(PettingZooGame.Config(id="classic/tictactoe_v3"))
    states, _, _ = game.step(game.initial(1), np.array([0]))
    if change:
        observe = raw_env.observe
        monkeypatch.setattr(raw_env, "observe", lambda self, agent: change(observe(self, agent)))
        with pytest.raises(DataError, match=sentence):
            game.legal(states)
    else:
        with pytest.raises(DataError, match=sentence):
            game.step(states, np.array([0]))
