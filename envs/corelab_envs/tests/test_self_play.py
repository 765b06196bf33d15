"""Games of two players as an environment for one of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from corelab_envs.interface import play
from corelab_envs.pettingzoo_task import PettingZooTask
from corelab_envs.self_play import SelfPlay
from corelab_envs.self_play_rivals import (
    one_ply_connect_four,
    perfect_tictactoe,
    random_player,
)

from corelab import ConfigError, DataError
from corelab.state import load_tree, save_tree

DIRECTIONS = [(0, 1), (1, 0), (1, 1), (1, -1)]
TICTACTOE, CONNECT_FOUR = "classic/tictactoe_v3", "classic/connect_four_v3"


def task_of(name, **options):
    return PettingZooTask(PettingZooTask.Config(id=name, **options))


def by(rival, seed=0):
    rng = np.random.default_rng(seed)
    return lambda seen: rival(seen["observation"], seen["action_mask"], rng)


class Watched:
    """Opponents that take the first move that is allowed, and remember everything."""

    def __init__(self):
        self.drawn, self.asked, self.results = 0, [], []

    def draw(self, n):
        self.drawn += n
        return np.arange(self.drawn - n, self.drawn)

    def choose(self, observations, opponents):
        assert len(observations["action_mask"]) == len(opponents)
        self.asked.append(opponents.tolist())
        return observations["action_mask"].argmax(-1)

    def record(self, opponents, returns):
        self.results += zip(opponents.tolist(), returns.tolist(), strict=True)


def test_a_step_is_a_move_and_the_answer_to_it():
    task = task_of(TICTACTOE, num_envs=2, flatten=False)
    envs = task.make(2, seed=0)
    envs.face(Watched())
    seen, _ = envs.reset()
    # the learner has the first seat in copy 0, and the second in copy 1
    assert seen["observation"].sum((1, 2)).tolist() == [[0, 0], [0, 1]]
    assert seen["action_mask"].tolist() == [[1] * 9, [0] + [1] * 8]
    seen, rewards, terminations, truncations, _ = envs.step(np.array([4, 4]))
    assert seen["observation"][0, 1, 1].tolist() == [1, 0]
    assert seen["observation"][0, 0, 0].tolist() == [0, 1]
    assert seen["observation"].sum((1, 2)).tolist() == [[1, 1], [1, 2]]
    assert not rewards.any()
    assert not terminations.any()
    assert not truncations.any()


def test_the_result_of_each_episode_reaches_its_opponent():
    envs = task_of(TICTACTOE).make(3, seed=0)
    watched = Watched()
    envs.face(watched)
    seen, _ = envs.reset()
    opponents, returns = np.arange(3), []
    over = np.zeros(3, np.bool_)
    act = by(random_player)
    for _ in range(50):
        begins = watched.drawn
        seen, rewards, terminations, truncations, _ = envs.step(act(seen))
        opponents[over] = np.arange(begins, begins + over.sum())  # in the order of the copies
        over = terminations | truncations
        returns += zip(opponents[over].tolist(), rewards[over].tolist(), strict=True)
        assert not rewards[~over].any()
    assert watched.results == returns
    assert {gained for _, gained in returns} == {-1.0, 1.0}


def test_the_seat_of_a_copy_alternates():
    envs = task_of(TICTACTOE).make(2, seed=0)
    envs.face(Watched())
    seen, _ = envs.reset()
    begins = [[bool(mask.all())] for mask in seen["action_mask"]]
    over = np.zeros(2, np.bool_)
    act = by(random_player)
    for _ in range(60):
        was_over = over
        seen, rewards, terminations, truncations, _ = envs.step(act(seen))
        over = terminations | truncations
        for i in np.flatnonzero(was_over):
            begins[i].append(bool(seen["action_mask"][i].all()))
            assert rewards[i] == 0
    assert begins[0][:6] == [True, False] * 3
    assert begins[1][:6] == [False, True] * 3


def test_opponents_of_all_copies_are_asked_in_one_batch():
    envs = task_of(CONNECT_FOUR).make(6, seed=0)
    watched = Watched()
    envs.face(watched)
    envs.reset()
    assert watched.asked == [[1, 3, 5]]
    envs.step(np.arange(6))
    assert watched.asked[1] == list(range(6))


@pytest.mark.parametrize("name", [TICTACTOE, CONNECT_FOUR, "classic/leduc_holdem_v4"])
def test_a_restored_game_goes_on_bit_for_bit(name, tmp_path):
    task = task_of(name)
    envs = task.make(4, seed=2)
    seen, _ = envs.reset()
    act = by(random_player)
    for step in range(60):
        seen, *_ = envs.step(act(seen))
        if step % 7 == 0:
            save_tree(tmp_path / "envs", envs.state_dict())
            others = task.make(4, seed=9)
            others.reset()
            others.load_state_dict(load_tree(tmp_path / "envs"))
            for _ in range(15):
                move = act(seen)
                ours, theirs = envs.step(move), others.step(move)
                seen = ours[0]
                for a, b in zip(ours[1:4], theirs[1:4], strict=True):
                    assert np.array_equal(a, b)
                for part in seen:
                    assert np.array_equal(seen[part], theirs[0][part])


def test_perfect_tictactoe_never_loses_and_draws_against_itself():
    task = task_of(TICTACTOE, opponent="random")
    returns = play(task, by(perfect_tictactoe), 300, "test", 0).returns
    assert returns.min() == 0 or returns.min() == 1
    assert returns.mean() > 0.8
    perfect = task.against("perfect")
    assert not play(perfect, by(perfect_tictactoe), 60, "test", 0).returns.any()
    assert play(perfect, by(random_player), 100, "test", 0).returns.max() == 0


def brute_force_wins(own, other):
    """The columns in which a piece of OWN completes four, by looking along every direction."""
    wins = []
    for column in range(7):
        free = [row for row in range(6) if not own[row, column] and not other[row, column]]
        if not free:
            continue
        after = own.copy()
        after[max(free), column] = 1
        for row, col, (down, right) in product(range(6), range(7), DIRECTIONS):
            cells = [(row + k * down, col + k * right) for k in range(4)]
            if all(0 <= r < 6 and 0 <= c < 7 and after[r, c] for r, c in cells):
                wins.append(column)
                break
    return wins


def test_the_one_ply_player_wins_and_prevents_as_brute_force_would():
    rng = np.random.default_rng(0)
    envs = task_of(CONNECT_FOUR).make(10, seed=0)
    seen, _ = envs.reset()
    kinds = {"wins": 0, "prevents": 0, "else": 0}
    for _ in range(80):
        observations, masks = seen["observation"], seen["action_mask"]
        moves = one_ply_connect_four(observations, masks, rng)
        boards = observations.reshape(-1, 6, 7, 2)
        for board, mask, move in zip(boards, masks, moves, strict=True):
            own, other = board[..., 0], board[..., 1]
            if brute_force_wins(own, np.zeros_like(own)) or brute_force_wins(other, own):
                kind = "wins" if (wins := brute_force_wins(own, other)) else "prevents"
                expected = wins or brute_force_wins(other, own) or np.flatnonzero(mask).tolist()
            else:
                kind, expected = "else", np.flatnonzero(mask).tolist()
            kinds[kind] += 1
            assert move in expected
        seen, *_ = envs.step(random_player(observations, masks, rng))
    assert min(kinds.values()) > 10


def test_the_one_ply_player_beats_the_random_one():
    returns = play(task_of(CONNECT_FOUR), by(one_ply_connect_four), 60, "test", 0).returns
    assert returns.mean() > 0.6


def test_self_play_is_offered_by_games_alone():
    game, team = task_of(TICTACTOE), task_of("mpe2/simple_spread_v3", num_envs=1)
    assert isinstance(game.make(2, 0), SelfPlay)
    assert not isinstance(team.make(3, 0), SelfPlay)
    assert game.rivals == ("random", "perfect")
    assert task_of(CONNECT_FOUR).rivals == ("random", "one-ply")
    assert team.rivals == ()


def test_a_move_that_is_not_allowed_is_refused():
    envs = task_of(TICTACTOE).make(1, seed=0)
    envs.face(Watched())
    envs.reset()
    envs.step(np.array([0]))
    with pytest.raises(DataError, match=r"copy 0 was given action 0, .* in step 2 of episode 0"):
        envs.step(np.array([0]))


def test_what_cannot_be_is_told_in_a_sentence():
    with pytest.raises(ConfigError, match=r"task\.opponent is perfekt; .* one of: random, perfect"):
        task_of(TICTACTOE, opponent="perfekt")
    with pytest.raises(ConfigError, match=r"task\.opponent is random2; it must be left out"):
        task_of("mpe2/simple_spread_v3", opponent="random2")


def test_boards_are_vectors_unless_asked_for():
    flat, board = task_of(CONNECT_FOUR), task_of(CONNECT_FOUR, flatten=False)
    assert flat.single_observation_space["observation"].shape == (84,)
    assert board.single_observation_space["observation"].shape == (6, 7, 2)
    seen = [task.make(4, 0).reset()[0]["observation"] for task in (flat, board)]
    assert np.array_equal(seen[0], seen[1].reshape(4, 84))
    assert seen[0].any()
