"""The search against a plain one: a tree of objects, one at a time, in Python's own floats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from corelab_envs.connect_four import ConnectFour
from corelab_envs.tic_tac_toe import TicTacToe
from corelab_mcts import Search, puct, uct

WIDTH = 5


class Maze:
    """States are numbers, and everything about them is drawn from a generator seeded with them."""

    def __init__(self, ends=0.15, dtype=np.int64):
        self.ends, self.dtype = ends, dtype

    def one(self, state, action):
        rng = np.random.default_rng((int(state), int(action)))
        following = int(rng.integers(1, 2**40))
        return following, float(rng.normal()), bool(rng.random() < self.ends)

    def judge(self, state):
        rng = np.random.default_rng(int(state))
        count = int(rng.integers(1, WIDTH + 1))
        p = rng.random(count)
        return p / p.sum(), float(np.tanh(rng.normal()))

    def step(self, states, actions):
        results = [self.one(*both) for both in zip(states, actions, strict=True)]
        following, rewards, over = zip(*results, strict=True) if results else ((), (), ())
        return np.array(following, self.dtype), np.array(rewards, float), np.array(over, bool)

    def evaluate(self, states):
        judged = [self.judge(state) for state in states]
        P = np.zeros((len(states), max(len(p) for p, _ in judged)))
        for row, (p, _) in zip(P, judged, strict=True):
            row[: len(p)] = p
        return P, np.array([v for _, v in judged])


class Node:
    def __init__(self, maze, state, reward=0.0, over=False, untried=None):
        self.state, self.reward, self.over = state, reward, over
        self.P, self.value = ([], 0.0) if over else maze.judge(state)
        self.N = [0] * len(self.P)
        self.Q = [self.value if untried is None else untried] * len(self.P)
        self.came = 0  # how many simulations did
        self.children = {}


def bonus(kind, c, P, N, total, came):
    if kind == "puct":
        return P * (c * math.sqrt(total) / (1 + N))
    return c * P * math.sqrt(math.log(came + 1) / max(N, 1))


def simulate(maze, root, kind, c, discount, untried=None):
    path, node = [], root
    while True:
        scores = [
            q + bonus(kind, c, p, n, sum(node.N), node.came)
            for p, n, q in zip(node.P, node.N, node.Q, strict=True)
        ]
        node.came += 1
        action = scores.index(max(scores))
        path.append((node, action))
        known = action in node.children
        if not known:
            node.children[action] = Node(maze, *maze.one(node.state, action), untried)
        node = node.children[action]
        if not known or node.over:
            node.came += 1
            break
    G = 0.0 if node.over else node.value
    if known:  # an end that was seen before
        assert node.over
    for parent, action in reversed(path):
        G = parent.children[action].reward + discount * G
        parent.N[action] += 1
        parent.Q[action] += (G - parent.Q[action]) / parent.N[action]


def padded(row, fill):
    return [*row, *[fill] * (WIDTH - len(row))]


def search_of(maze, kind="puct", c=1.5, discount=-1.0, **options):
    explore = {"puct": puct, "uct": uct}[kind](c)
    return Search(maze, maze.evaluate, discount=discount, explore=explore, **options)


def assert_same(search, roots):
    width = search.visits.shape[1]
    expected = [padded(root.N, 0)[:width] for root in roots]
    assert search.visits.tolist() == expected
    expected = [padded(root.Q, -math.inf)[:width] for root in roots]
    assert search.values.tolist() == expected


@pytest.mark.parametrize(
    ("kind", "discount", "untried"),
    [("puct", -1.0, None), ("puct", 0.9, None), ("uct", 1.0, 0.0), ("uct", -1.0, None)],
)
def test_batched_search_equals_a_plain_one_move_after_move(kind, discount, untried):
    maze = Maze()
    search = search_of(maze, kind, discount=discount, untried=untried)
    starts = [11, 22, 33, 44]
    search.begin(np.array(starts))
    roots = [Node(maze, state, untried=untried) for state in starts]
    for move in range(6):
        search.run(40)
        for root in roots:
            for _ in range(40):
                simulate(maze, root, kind, 1.5, discount, untried)
        assert_same(search, roots)
        # the least visited action now and then, so that untried ones come up too
        actions = [
            min(range(len(r.N)), key=r.N.__getitem__) if move % 2 else r.N.index(max(r.N))
            for r in roots
        ]
        rewards, over = search.advance(np.array(actions))
        roots = [
            root.children.get(action) or Node(maze, *maze.one(root.state, action), untried)
            for root, action in zip(roots, actions, strict=True)
        ]
        assert rewards.tolist() == [root.reward for root in roots]
        assert over.tolist() == [root.over for root in roots]
        for root in roots:
            root.came = sum(root.N)  # the simulation that made it is forgotten
        ended = np.flatnonzero(over)
        search.replant(ended, ended + 100)
        for tree in ended:
            roots[tree] = Node(maze, int(tree) + 100, untried=untried)
        assert search.states.tolist() == [root.state for root in roots]


def test_states_may_be_objects():
    numbers, objects = search_of(Maze()), search_of(Maze(dtype=object))
    numbers.begin(np.array([5, 6]))
    objects.begin(np.array([5, 6], object))
    for search in (numbers, objects):
        search.run(50)
        search.advance(search.visits.argmax(1))
    assert objects.visits.tolist() == numbers.visits.tolist()


def test_trees_do_not_know_of_each_other():
    together, alone = search_of(Maze()), search_of(Maze())
    together.begin(np.array([7, 8, 9]))
    together.run(60)
    alone.begin(np.array([8]))
    alone.run(60)
    width = alone.visits.shape[1]
    assert together.visits[1, :width].tolist() == alone.visits[0].tolist()


def test_saved_trees_go_on_as_if_nothing_had_happened():
    one, other = search_of(Maze()), search_of(Maze())
    one.begin(np.array([1, 2]))
    one.run(30)
    one.advance(one.visits.argmax(1))
    state = one.state_dict()
    other.load_state_dict(state)
    for search in (one, other):
        search.run(30)
    assert one.visits.tolist() == other.visits.tolist()
    assert one.values.tolist() == other.values.tolist()


def test_root_value_is_the_mean_of_all_simulations():
    search = search_of(Maze())
    search.begin(np.array([3]))
    search.run(25)
    root = Node(Maze(), 3)
    for _ in range(25):
        simulate(Maze(), root, "puct", 1.5, -1.0)
    expected = sum(n * q for n, q in zip(root.N, root.Q, strict=True)) / 25
    assert search.root_values[0] == pytest.approx(expected, abs=1e-12)


def test_noise_enters_the_root_for_one_run_only():
    maze = Maze()
    search = search_of(maze)
    search.begin(np.array([12]))
    priors = maze.judge(12)[0]
    noise = np.zeros((1, search.visits.shape[1]))
    noise[0, len(priors) - 1] = 1.0
    search.run(30, noise, share=0.25)
    root = Node(maze, 12)
    mixed = 0.75 * priors
    mixed[-1] += 0.25
    root.P = mixed
    for _ in range(30):
        simulate(maze, root, "puct", 1.5, -1.0)
    assert_same(search, [root])
    search.run(30)
    root.P = priors
    for _ in range(30):
        simulate(maze, root, "puct", 1.5, -1.0)
    assert_same(search, [root])


def test_dirichlet_noise_is_a_distribution_over_what_is_legal():
    search = search_of(Maze())
    search.begin(np.arange(1, 400))
    noise = search.dirichlet(0.5, np.random.default_rng(0))
    legal = np.isfinite(search.values)
    assert (noise[~legal] == 0).all()
    np.testing.assert_allclose(noise.sum(1), 1)
    pairs = noise[legal.sum(1) == 2].max(1)
    # the larger part of Dir(1/2, 1/2) has mean 1/2 + 1/π
    assert pairs.mean() == pytest.approx(0.5 + 1 / math.pi, abs=0.05)


def uniform(game):
    def evaluate(states):
        legal = game.legal(states)
        return legal / legal.sum(1, keepdims=True), np.zeros(len(states))

    return Search(game, evaluate, discount=-1.0, explore=puct(1.5))


def played(game, moves):
    state = game.initial(1)
    for move in moves:
        state, _, over = game.step(state, np.array([move]))
        assert not over[0]
    return state


@pytest.mark.parametrize(
    ("game", "moves", "best"),
    [
        (ConnectFour, (3, 0, 3, 0, 3, 1), 3),  # three in a column: win
        (ConnectFour, (3, 0, 3, 0, 3), 3),  # the other's three: block
        (ConnectFour, (0, 1, 0, 1, 6, 1, 6), 1),  # win before anything else
        (TicTacToe, (0, 3, 1, 4), 2),  # win rather than block
        (TicTacToe, (0, 4, 1), 2),  # block
    ],
)
def test_search_finds_wins_and_blocks_without_a_network(game, moves, best):
    game = game(game.Config())
    search = uniform(game)
    search.begin(played(game, moves))
    search.run(200)
    assert search.visits[0].argmax() == best


def test_search_sees_a_double_threat_two_moves_ahead():
    game = ConnectFour(ConnectFour.Config())
    search = uniform(game)
    search.begin(played(game, (2, 2, 3, 3)))  # 1 or 4 makes three, open twice
    search.run(800)
    assert search.visits[0].argmax() in (1, 4)
    assert search.root_values[0] > 0.5


def test_what_is_not_legal_is_never_visited():
    game = ConnectFour(ConnectFour.Config())
    rng = np.random.default_rng(1)
    states = game.initial(64)
    for _ in range(25):
        legal = game.legal(states)
        moves = np.array([rng.choice(np.flatnonzero(row)) for row in legal])
        following, _, over = game.step(states, moves)
        states = np.where(over[:, None], states, following)
    legal = game.legal(states)
    assert not legal.all()
    search = uniform(game)
    search.begin(states)
    search.run(100, search.dirichlet(1.0, rng))
    assert (search.visits[~legal] == 0).all()
    assert (search.visits.sum(1) == 100).all()


class Doors:
    """Two doors in each room, three rooms deep; behind one of the last may be a treasure. States
    are the doors taken, as binary digits after a 1.
    """

    def __init__(self, treasure=0):
        self.treasure = treasure

    def step(self, states, actions):
        following = 2 * states + actions
        return following, (following == self.treasure) * 1.0, following >= 8

    def evaluate(self, states):
        return np.tile([0.7, 0.3], (len(states), 1)), np.full(len(states), 0.5)

    def search(self):
        return Search(self, self.evaluate, discount=1.0, explore=uct(1.0), untried=0.0, seek=True)


def test_who_seeks_opens_each_door_once_at_most():
    search = Doors(treasure=0b1101).search()
    search.begin(np.array([1, 0b10, 0b11]))
    search.run(100)
    assert search.found.tolist() == [True, False, True]
    assert search.exhausted.tolist() == [False, True, False]
    assert search.steps[1] == 6  # doors: two and four
    assert search.steps[0] <= 14
    assert [action for action, _ in search.line(0)] == [1, 0, 1]
    assert search.line(1) == []
    assert [action for action, _ in search.line(2)] == [0, 1]
    steps = search.steps.tolist()
    search.run(10)
    assert search.steps.tolist() == steps


def test_a_commitment_holds_until_nothing_is_left_below():
    search = Doors(treasure=0b1111).search()
    search.begin(np.array([1]))
    search.run(4)
    visits = search.visits[0].tolist()
    assert visits[0] > visits[1]
    search.commit()
    search.commit()  # and one room further
    while search.values[0, 0] > -math.inf:
        assert search.visits[0, 1] == visits[1]
        assert search.line(0)[0][0] == 0
        search.run(1)
    assert search.visits[0, 0] == 7  # the door and all behind it
    search.run(100)
    assert search.found.all()
    line = search.line(0)
    assert [action for action, _ in line] == [1, 1, 1]
    assert line[0][1].tolist() == search.visits[0].tolist()


def test_a_saved_search_for_a_goal_goes_on_as_if_nothing_had_happened():
    one, other = Doors(0b1111).search(), Doors(0b1111).search()
    one.begin(np.array([1, 1]))
    one.run(5)
    one.commit()
    other.load_state_dict(one.state_dict())
    for search in (one, other):
        search.run(6)
        search.commit()
        search.run(2)
    assert one.steps.tolist() == other.steps.tolist()
    assert one.visits.tolist() == other.visits.tolist()
