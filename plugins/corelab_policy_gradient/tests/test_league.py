"""The league of past opponents, against what its formulas say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from corelab_policy_gradient.league import LATEST, League, expected_score, prioritised
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from corelab import ConfigError
from corelab.state import load_tree, save_tree


def first_output(net, observations):
    """The move of each row is what NET gives for it, so moves tell who chose them."""
    with torch.no_grad():
        return net(torch.from_numpy(observations["observation"])).numpy()[:, 0].astype(np.int64)


def league_of(seed=0, **options):
    net = nn.Linear(1, 1, bias=False)
    set_weight(net, 0)
    rng = np.random.default_rng(seed)
    return League(League.Config(**options), net, first_output, rng), net


def set_weight(net, value):
    with torch.no_grad():
        net.weight.fill_(value)


def moves(league, opponents):
    seen = {"observation": np.ones((len(opponents), 1), np.float32)}
    return league.choose(seen, np.array(opponents)).tolist()


@given(st.floats(-2000, 2000), st.floats(-2000, 2000))
def test_expected_scores_add_up_to_one(a, b):
    assert expected_score(a, b) + expected_score(b, a) == pytest.approx(1)
    assert (expected_score(a, b) > 0.5) == (a - b > 1e-9) or abs(a - b) <= 1e-9


def test_four_hundred_points_are_ten_to_one():
    assert expected_score(400, 0) == pytest.approx(10 / 11)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_prioritised_draws_are_proportional_to_the_square_of_losing(scores):
    p = prioritised(np.array(scores))
    assert p.sum() == pytest.approx(1)
    weights = [(1 - s) ** 2 for s in scores]
    if sum(weights) > 0:
        assert p == pytest.approx(np.array(weights) / sum(weights))
    else:
        assert p == pytest.approx(1 / len(scores))


def test_each_opponent_moves_with_the_weights_of_its_time():
    league, net = league_of(every=2, size=5)
    for iteration in range(1, 8):
        set_weight(net, iteration)
        league.update()
    assert league.update()["league_size"] == 5
    assert moves(league, [0, 2, 4, 6, LATEST, 2]) == [0, 2, 4, 6, 7, 2]


def test_a_full_league_thins_out_but_keeps_the_first_and_the_latest():
    league, net = league_of(every=1, size=4)
    sizes = []
    for iteration in range(1, 40):
        set_weight(net, iteration)
        sizes.append(int(league.update()["league_size"]))
    assert max(sizes) == 4
    numbers = league.state_dict()["numbers"]
    assert numbers[0] == 0
    assert set(np.diff(numbers)) == {8} or set(np.diff(numbers)) == {16}
    assert moves(league, numbers) == numbers
    gone = next(n for n in range(40) if n not in numbers)
    assert moves(league, [gone]) == [39]  # whose episode goes on against the latest


def test_draws_follow_their_probabilities():
    league, net = league_of(every=1, size=3, latest=0.25, draw="prioritised")
    for iteration in (1, 2):
        set_weight(net, iteration)
        league.update()
    for _ in range(200):  # 0 is always beaten, 1 never, 2 every other time
        league.record(np.array([0, 1, 2, 2]), np.array([1.0, -1.0, 1.0, -1.0]))
    scores = np.array(league.state_dict()["scores"])
    drawn = league.draw(20_000)
    shares = [(drawn == number).mean() for number in (LATEST, 0, 1, 2)]
    assert shares == pytest.approx([0.25, *0.75 * prioritised(scores)], abs=0.015)
    assert shares[2] > shares[3] > shares[1]


def test_uniform_draws_are_alike():
    league, _ = league_of(every=1, size=3, latest=0.1, draw="uniform")
    league.update()
    league.record(np.zeros(100, np.int64), np.ones(100))
    drawn = league.draw(20_000)
    assert [(drawn == n).mean() for n in (0, 1)] == pytest.approx([0.45, 0.45], abs=0.015)


def test_ratings_move_by_the_formula_and_the_first_one_is_the_measure():
    league, _ = league_of(every=1, size=3)
    league.record(np.array([0]), np.array([1.0]))
    assert league.elo == pytest.approx(8)  # K (1 - 0.5)
    league.update()  # joins with the rating 8
    league.record(np.array([1, LATEST]), np.array([-1.0, 1.0]))
    assert league.elo == pytest.approx(0)
    assert league.state_dict()["elos"] == pytest.approx([0, 16])
    before = league.elo
    league.record(np.array([1]), np.array([0.0]))
    assert league.elo == pytest.approx(before + 16 * (0.5 - 1 / (1 + 10 ** (16 / 400))))
    metrics = league.update()
    assert metrics["win_rate"] == 0  # of two games; the one against itself is none
    assert metrics["draw_rate"] == 0.5
    assert "win_rate" not in league.update()


def test_ratings_find_true_strengths():
    """Members of Elo 0, 200 and 400 play a learner of 300, whose rating begins at 0."""
    rng = np.random.default_rng(0)
    league, _ = league_of(every=1, size=4)
    state = league.state_dict()
    weights = state["members"][0]
    state |= {"numbers": [0, 1, 2], "elos": [0.0, 200.0, 400.0], "scores": [0.5] * 3}
    league.load_state_dict(state | {"members": [weights] * 3})
    ratings = []
    for _ in range(3000):
        for number, strength in ((0, 0), (1, 200), (2, 400)):
            won = rng.random() < expected_score(300, strength)
            league.record(np.array([number]), np.array([1.0 if won else -1.0]))
        ratings.append(league.elo)
    assert np.mean(ratings[1000:]) == pytest.approx(300, abs=30)


def test_a_restored_league_goes_on_alike(tmp_path):
    league, net = league_of(every=1, size=3)
    for iteration in range(1, 6):
        set_weight(net, iteration)
        league.record(league.draw(4), np.array([1.0, 0.0, -1.0, 1.0]))
        league.update()
    league.record(np.array([0]), np.array([1.0]))
    save_tree(tmp_path / "league", league.state_dict())
    other, its_net = league_of(every=1, size=3)
    other.load_state_dict(load_tree(tmp_path / "league"))
    set_weight(its_net, 5)
    numbers = league.state_dict()["numbers"]
    assert moves(other, [*numbers, LATEST]) == moves(league, [*numbers, LATEST])
    assert other.update() == league.update()
    assert other.state_dict().keys() == league.state_dict().keys()
    for key, value in league.state_dict().items():
        if key != "members":
            assert other.state_dict()[key] == value, key


@pytest.mark.parametrize(
    ("option", "value"), [("every", 0), ("size", 1), ("latest", -0.1), ("latest", 1.5)]
)
def test_wrong_options_are_told(option, value):
    with pytest.raises(ConfigError, match=rf"algorithm\.league\.{option} is {value}; it must be"):
        league_of(**{option: value})
