from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from corelab_envs.connect_four import ConnectFour
from corelab_envs.pettingzoo_game import PettingZooGame
from corelab_envs.tic_tac_toe import TicTacToe
from corelab_search.alphazero import AlphaZero, drawn, policy_loss, value_loss
from corelab_search.cnn import CNN
from corelab_search.matches import openings, play_matches
from corelab_search.minimax import best_actions, minimax, random_actions
from corelab_search.mlp import MLP
from corelab_search.positions import Positions
from corelab_search.resnet import ResNet

from corelab import ConfigError, Context

QUICK = AlphaZero.Config(games=8, simulations=8, batch_size=32, capacity=300, eval_simulations=10)


def made(game):
    return game(game.Config())


def built(config=QUICK, game=None, model=MLP, steps=1000, seed=0):
    context = Context(seed, torch.device("cpu"), steps)
    model = functools.partial(context.build, model, model.Config())
    return AlphaZero(config, game or made(TicTacToe), model, context), context


def some_positions(game, n, moves, seed=0):
    return openings(game, np.full(n, moves), np.random.default_rng(seed))


def plain_minimax(game, state, depth):
    legal = game.legal(state)[0]
    values = []
    for action in range(game.actions):
        if not legal[action]:
            values.append(-math.inf)
            continue
        following, outcome, over = game.step(state, np.array([action]))
        if over[0]:
            values.append(outcome[0])
        elif depth == 1:
            values.append(-0.99 * game.heuristic(following)[0])
        else:
            values.append(-0.99 * max(plain_minimax(game, following, depth - 1)))
    return values


@pytest.mark.parametrize(
    ("game", "moves", "depth"),
    [(ConnectFour, 12, 3), (ConnectFour, 30, 4), (TicTacToe, 3, 6), (TicTacToe, 0, 2)],
)
def test_minimax_equals_a_plain_recursion(game, moves, depth):
    game = made(game)
    states = some_positions(game, 4, moves)
    expected = [plain_minimax(game, states[i : i + 1], depth) for i in range(len(states))]
    np.testing.assert_allclose(minimax(game, states, depth), expected, rtol=1e-12)


def test_perfect_players_draw_tic_tac_toe():
    game = made(TicTacToe)
    np.testing.assert_array_equal(minimax(game, game.initial(1), 9), 0)
    rng = np.random.default_rng(0)

    def perfect(states):
        return best_actions(minimax(game, states, 9), rng)

    outcomes, _ = play_matches(game, perfect, perfect, game.initial(50), np.arange(50) % 2 == 0)
    assert (outcomes == 0).all()


def test_matches_count_wins_for_the_player_whoever_begins():
    game = made(ConnectFour)
    rng = np.random.default_rng(0)

    def strong(states):
        return best_actions(minimax(game, states, 3), rng)

    def weak(states):
        return random_actions(game.legal(states), rng)

    first = np.arange(40) % 2 == 0
    states = some_positions(game, 40, 2)
    outcomes, record = play_matches(game, strong, weak, states, first)
    assert outcomes[first].mean() > 0.8
    assert outcomes[~first].mean() > 0.8
    outcomes, _ = play_matches(game, weak, strong, states, first)
    assert outcomes.mean() < -0.8
    np.testing.assert_array_equal(record[0][1], states)
    stones = [game.observe(states).sum((1, 2, 3)) for _, states in record]
    assert [set(s) for s in stones[:4]] == [{2}, {3}, {4}, {5}]


def test_ties_are_broken_evenly():
    values = np.tile([0.5, -np.inf, 0.5, 0.1], (4000, 1))
    chosen = np.bincount(best_actions(values, np.random.default_rng(0)), minlength=4) / 4000
    np.testing.assert_allclose(chosen, [0.5, 0, 0.5, 0], atol=0.03)


def test_moves_are_drawn_in_proportion_to_visits():
    visits = np.tile([3.0, 0.0, 1.0, 4.0], (8000, 1))
    chosen = np.bincount(drawn(visits, np.random.default_rng(0)), minlength=4) / 8000
    np.testing.assert_allclose(chosen, [3 / 8, 0, 1 / 8, 4 / 8], atol=0.02)


def test_losses_are_those_of_the_paper():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    policy = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    expected = (-0.5 * math.log(0.25) - 0.5 * math.log(0.75) + math.log(2)) / 2
    assert policy_loss(logits, policy).item() == pytest.approx(expected)
    value = value_loss(torch.tensor([0.5, -1.0]), torch.tensor([1.0, 1.0]))
    assert value.item() == pytest.approx((0.25 + 4) / 2)


def test_memory_keeps_the_newest_positions():
    memory = Positions(5, (1,), 2)
    for k in range(4):
        rows = np.arange(2 * k, 2 * k + 2)
        memory.add(rows[:, None], np.stack([rows, rows], 1), rows)
    assert sorted(memory.outcome.tolist()) == [3, 4, 5, 6, 7]
    seen, policy, outcome = memory.draw(100, np.random.default_rng(0))
    assert set(outcome.tolist()) == {3, 4, 5, 6, 7}
    assert (seen[:, 0] == outcome).all()
    assert (policy == outcome[:, None]).all()


def test_outcomes_are_told_from_the_side_that_is_to_move():
    algorithm, _ = built(AlphaZero.Config(games=16, simulations=4, batch_size=8, value_mix=0.0))
    for _ in range(30):
        algorithm.step()
    memory = algorithm.positions
    stones = memory.seen[: memory.size].sum((1, 2, 3)).numpy()
    z = memory.outcome[: memory.size].numpy()
    begins = np.flatnonzero(stones == 0)
    assert len(begins) > 30
    results = set()
    for begin, end in zip(begins, [*begins[1:], memory.size], strict=True):
        np.testing.assert_array_equal(stones[begin:end], np.arange(end - begin))
        assert z[end - 1] >= 0  # whoever moves last has won or drawn
        np.testing.assert_array_equal(z[begin : end - 1], -z[begin + 1 : end])
        results.add(float(z[begin]))
    assert {-1.0, 1.0} <= results
    assert (memory.policy[: memory.size].sum(1) - 1).abs().max() < 1e-6
    illegal = memory.seen[: memory.size].sum(-1).flatten(1).bool()
    assert (memory.policy[: memory.size][illegal] == 0).all()


def test_targets_of_values_mix_outcome_and_search():
    runs = {}
    for mix in (0.0, 0.25, 1.0):
        config = AlphaZero.Config(games=4, simulations=8, batch_size=8, lr=1e-9, value_mix=mix)
        algorithm, _ = built(config)
        for _ in range(12):
            algorithm.step()
        runs[mix] = algorithm.positions.outcome[: algorithm.positions.size]
    torch.testing.assert_close(runs[0.25], 0.75 * runs[0.0] + 0.25 * runs[1.0], atol=1e-5, rtol=0)
    assert not torch.equal(runs[0.0], runs[1.0])


def test_minibatches_show_every_symmetry():
    algorithm, _ = built(game=made(ConnectFour), model=CNN)
    seen = torch.from_numpy(algorithm.game.observe(some_positions(algorithm.game, 8, 9)))
    policy = torch.rand(8, 7)
    mirrored, turned = algorithm._mirrored(seen, policy, np.random.default_rng(0))
    same = [torch.equal(a, b) for a, b in zip(seen, mirrored, strict=True)]
    assert sorted(same) == [False] * 4 + [True] * 4
    for i in range(8):
        assert torch.equal(mirrored[i], seen[i] if same[i] else seen[i].flip(1))
        assert torch.equal(turned[i], policy[i] if same[i] else policy[i].flip(0))


@pytest.mark.parametrize("model", [MLP, CNN, ResNet])
@pytest.mark.parametrize("shape", [(6, 7, 2), (3, 3, 2), (1, 1, 5)])
def test_models_give_logits_and_bounded_values(model, shape):
    net = model(model.Config(), shape, 7)
    logits, values = net(torch.randn(11, *shape) * 100)
    assert logits.shape == (11, 7)
    assert values.shape == (11,)
    assert values.abs().max() <= 1


@pytest.mark.parametrize(
    ("model", "config", "option"),
    [
        (MLP, {"sizes": (0,)}, "model.sizes"),
        (CNN, {"window": 0}, "model.window"),
        (CNN, {"channels": 0}, "model.channels"),
        (ResNet, {"blocks": -1}, "model.blocks"),
    ],
)
def test_models_refuse_what_makes_no_network(model, config, option):
    with pytest.raises(ConfigError, match=option):
        model(model.Config(**config), (3, 3, 2), 9)


@pytest.mark.parametrize(
    "config",
    [
        {"games": 0},
        {"simulations": 0},
        {"lr": 0.0},
        {"noise_share": 1.5},
        {"value_mix": -0.1},
        {"minimax_depth": -1},
    ],
)
def test_bad_options_are_named(config):
    (option,) = config
    with pytest.raises(ConfigError, match=f"algorithm.{option}"):
        built(AlphaZero.Config(**config))


def state_of(algorithm, folder):
    folder.mkdir()
    algorithm.save(folder)
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("game", [TicTacToe, ConnectFour, PettingZooGame])
def test_a_resumed_run_ends_with_the_same_bits(game, tmp_path):
    config = game.Config()
    if game is PettingZooGame:
        config = game.Config(id="classic/tictactoe_v3", max_length=9)
    settings = AlphaZero.Config(games=6, simulations=6, batch_size=16, capacity=90)
    whole, context = built(settings, game(config))
    for _ in range(17):
        whole.step()
    (tmp_path / "middle").mkdir()
    whole.save(tmp_path / "middle")
    streams = context.state_dict()
    rows = [whole.step() for _ in range(25)]

    resumed, context = built(settings, game(config))
    resumed.load(tmp_path / "middle")
    context.load_state_dict(streams)
    assert [resumed.step() for _ in range(25)] == rows
    assert state_of(resumed, tmp_path / "a") == state_of(whole, tmp_path / "b")


def test_same_seed_evaluates_the_same_and_training_goes_on_undisturbed():
    config = AlphaZero.Config(games=8, simulations=8, batch_size=32, minimax_depth=2)
    one, _ = built(config)
    other, _ = built(config)
    for _ in range(10):
        one.step()
        other.step()
    first = one.evaluate("validation", 10, 3)
    assert one.evaluate("validation", 10, 3) == first
    assert one.evaluate("validation", 10, 4, stochastic=True) != first
    assert first["minimax_win"] + first["minimax_draw"] + first["minimax_loss"] == pytest.approx(1)
    assert first["return"] == pytest.approx(first["minimax_win"] - first["minimax_loss"])
    assert one.step() == other.step()


def test_a_film_shows_each_game_to_its_end():
    algorithm, _ = built()
    video = algorithm.sample(2)
    assert video.pixels.shape[1:] == (72, 72, 3)
    assert 2 * (6 + 3) <= len(video.pixels) <= 2 * (10 + 3)


def worst_outcome(player, game, begins):
    """The worst that can happen to PLAYER, whatever the opponent does."""
    states, worst, mine = game.initial(1), 1.0, begins
    while len(states):
        if mine:
            actions = player(states)
        else:
            state, actions = game.legal(states).nonzero()
            states = states[state]
        states, outcome, over = game.step(states, actions)
        if over.any():
            worst = min(worst, (outcome if mine else -outcome)[over].min())
        states, mine = np.unique(states[~over], axis=0), not mine
    return worst


def test_tic_tac_toe_is_learned_until_no_opponent_can_win():
    config = AlphaZero.Config(
        games=64,
        updates=2,
        random_moves=2,
        temperature_moves=4,
        eval_simulations=400,
        minimax_depth=9,
    )
    steps = 20_000
    algorithm, _ = built(config, steps=steps)
    while algorithm.progress < steps:
        algorithm.step()
    result = algorithm.evaluate("test", 100)
    assert result["minimax_loss"] == 0
    assert result["random_loss"] == 0
    assert result["random_win"] > 0.8
    for begins in (True, False):
        assert worst_outcome(algorithm.act, algorithm.game, begins) == 0


def test_an_untrained_network_does_lose():
    config = AlphaZero.Config(games=2, eval_simulations=2, batch_size=8)
    algorithm, _ = built(config)
    assert worst_outcome(algorithm.act, algorithm.game, False) == -1
