from __future__ import annotations

import numpy as np
import pytest
import torch
from corelab_qlearning.replay import PrioritisedReplay, Replay
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from corelab import DataError
from corelab.state import load_tree, save_tree

GAMMA = 0.9


class History:
    """Random experience of N environments, kept whole, and given to a replay as it comes."""

    def __init__(self, replay, seed, N, steps, stack=1, shape=(2,), masked=False, padded=True):
        rng = np.random.default_rng(seed)
        self.N, self.stack, self.masked = N, stack, masked
        self.observations, self.masks, self.rows = [], [], []
        frames = [[] for _ in range(N)]
        over = np.zeros(N, bool)

        def show(fresh):
            shown = []
            for e in range(N):
                frame = rng.integers(1, 256, shape).astype(np.uint8)
                if fresh[e]:
                    frames[e] = [frame if padded else 0 * frame] * (stack - 1)
                frames[e] = (frames[e] + [frame])[-stack:]
                shown.append(np.stack(frames[e]) if stack > 1 else frame)
            self.observations.append(np.stack(shown))
            self.masks.append(rng.random((N, 3)) < 0.7)
            return self.observations[-1], *([self.masks[-1]] if masked else [])

        replay.begin(*show(np.ones(N, bool)))
        for _ in range(steps):
            action, reward = rng.integers(0, 3, N), rng.normal(size=N).astype(np.float32)
            end = rng.random(N)
            terminated, truncated = (end < 0.15) & ~over, (end > 0.9) & ~over
            reward[over] = 0
            self.rows.append((action, reward, terminated, truncated, over))
            shown = show(over)
            replay.add(action, reward, terminated, truncated, *shown)
            over = terminated | truncated

    def transition(self, t, e, n):
        """The n-step transition from step T of environment E, from the definition."""
        action = self.rows[t][0][e]
        ret, discount = 0.0, 1.0
        for _ in range(n):
            if t == len(self.rows):
                break
            _, reward, terminated, truncated, _ = self.rows[t]
            ret += discount * reward[e]
            discount *= GAMMA
            t += 1
            if terminated[e] or truncated[e]:
                discount *= not terminated[e]
                break
        return action, ret, discount, self.observations[t][e], self.masks[t][e]


cases = settings(deadline=None, max_examples=40)


@pytest.mark.parametrize("kind", [Replay, PrioritisedReplay])
@cases
@given(
    seed=st.integers(0, 2**32),
    N=st.integers(1, 3),
    n=st.integers(1, 4),
    stack=st.integers(1, 4),
    steps=st.integers(6, 90),
    padded=st.booleans(),
    masked=st.booleans(),
)
def test_what_is_drawn_is_what_happened(kind, seed, N, n, stack, steps, padded, masked):
    shape = (stack, 2, 3) if stack > 1 else (2, 3)
    space = spaces.Box(0, 255, shape, np.uint8)
    capacity = 30 * N
    replay = kind(space, 3, N, capacity, n_step=n, gamma=GAMMA, stack=stack, masked=masked)
    history = History(replay, seed, N, steps, stack, (2, 3), masked, padded)
    drawn = replay.draw(3, 20, np.random.default_rng(seed))
    assert len(drawn.place) == 60
    for k, index in enumerate(drawn.place):
        row, e = divmod(int(index), N)
        t = row + (steps - row - 1) // 31 * 31  # the latest step that this row was used for
        assert 0 <= t < steps
        assert t >= steps - 30 + (stack - 1) * (steps >= 31)
        assert not history.rows[t][4][e], "a reset was drawn as if it were a transition"
        action, ret, discount, following, mask = history.transition(t, e, n)
        assert np.array_equal(drawn.observation[k], history.observations[t][e])
        assert drawn.action[k] == action
        assert drawn.reward[k].item() == pytest.approx(ret, abs=1e-5)
        assert drawn.discount[k].item() == pytest.approx(discount, abs=1e-6)
        if discount:
            assert np.array_equal(drawn.next_observation[k], following)
        if masked:
            assert np.array_equal(drawn.next_mask[k], mask)
    assert (drawn.next_mask is None) == (not masked)


def test_a_truncated_episode_is_followed_by_its_last_observation():
    replay = Replay(spaces.Box(0, 9, (1,), np.float32), 2, n_step=3, gamma=0.5, capacity=100)
    no, yes = np.array([False]), np.array([True])
    replay.begin(np.array([[0.0]]))
    for shown, reward, truncated in ((1, 1.0, no), (2, 1.0, yes), (3, 0.0, no), (4, 1.0, no)):
        replay.add(np.zeros(1), np.array([reward]), no, truncated, np.array([[shown]]))
    reward, discount, last = replay._returns(np.array([0, 1, 3]))
    assert reward.tolist() == [1.5, 1.0, 1.0]
    assert discount.tolist() == [0.25, 0.5, 0.5]
    assert replay._observations(last).ravel().tolist() == [2.0, 2.0, 4.0]


def test_uniform_draws_are_uniform():
    replay = Replay(spaces.Box(0, 255, (2,), np.uint8), 3, 2, 60)
    history = History(replay, 3, 2, 25)
    resets = sum(int(over.sum()) for *_, over in history.rows)
    index = replay.draw(100, 500, np.random.default_rng(0)).place
    count = np.bincount(index, minlength=50)
    possible = count[count > 0]
    assert len(possible) == 50 - resets
    expected = 50_000 / len(possible)
    assert abs(possible - expected).max() < 5 * expected**0.5


# Priorities.


def prioritised(n=30, alpha=0.7):
    replay = PrioritisedReplay(spaces.Box(0, 255, (2,), np.uint8), 3, 2, 2 * n, alpha=alpha)
    history = History(replay, 7, 2, n - 5)
    valid = np.concatenate([~over for *_, over in history.rows])
    return replay, np.flatnonzero(valid)


def test_probabilities_are_those_of_the_definition():
    replay, valid = prioritised(alpha=0.7)
    rng = np.random.default_rng(0)
    replay.draw(1, 1, rng)
    errors = rng.random(len(valid)) * 3
    replay.prioritise(valid, errors)
    P = (errors + 1e-6) ** 0.7 / ((errors + 1e-6) ** 0.7).sum()  # eq. 1
    drawn = replay.draw(2000, 64, rng)
    frequency = np.bincount(drawn.place, minlength=valid[-1] + 1)[valid] / 128_000
    assert np.abs(frequency - P).max() < 5 * (P.max() / 128_000) ** 0.5
    assert set(drawn.place) <= set(valid)


@cases
@given(
    seed=st.integers(0, 2**32),
    alpha=st.floats(0, 1),
    beta=st.floats(0, 1),
    size=st.integers(1, 40),
)
def test_importance_weights_are_those_of_the_definition(seed, alpha, beta, size):
    replay, valid = prioritised(alpha=alpha)
    rng = np.random.default_rng(seed)
    replay.draw(1, 1, rng)
    errors = rng.exponential(size=len(valid)) * 10.0 ** rng.integers(-3, 3)
    replay.prioritise(valid, errors)
    priority = dict(zip(valid.tolist(), (errors + 1e-6) ** alpha, strict=True))
    P = {index: p / sum(priority.values()) for index, p in priority.items()}  # eq. 1
    drawn = replay.draw(3, size, rng, beta)
    for batch in np.arange(3 * size).reshape(3, size):
        w = np.array([(len(valid) * P[int(drawn.place[k])]) ** -beta for k in batch])  # §3.4
        np.testing.assert_allclose(drawn.weight[batch], w / w.max(), rtol=1e-5)


def test_minibatches_are_stratified():
    replay, valid = prioritised()
    rng = np.random.default_rng(0)
    replay.draw(1, 1, rng)
    errors = np.zeros(len(valid))
    errors[4] = 1e6  # nearly all of the mass
    replay.prioritise(valid, errors)
    assert (replay.draw(1, 8, rng).place == valid[4]).sum() >= 7


def test_new_transitions_have_the_highest_priority_so_far():
    replay, valid = prioritised(alpha=1.0)
    rng = np.random.default_rng(0)
    replay.draw(1, 1, rng)
    replay.prioritise(valid[:3], np.array([5.0, 2.0, 0.5]))
    nothing = np.zeros(2, bool)
    replay.add(np.zeros(2), np.zeros(2), nothing, nothing, np.zeros((2, 2), np.uint8))
    replay.draw(1, 1, rng)
    new = replay._tree.weights[2 * 25 : 2 * 26]
    assert new[~replay_over(replay)].tolist() == [5.000001] * int((~replay_over(replay)).sum())


def replay_over(replay):
    return replay._fates[25] == 3


# Memory and resume.


def test_frames_are_stored_once():
    space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    replay = Replay(space, 18, 8, capacity=10_000, stack=4, n_step=3)
    assert replay.nbytes < 1.01 * 10_000 * 84 * 84
    prioritised = PrioritisedReplay(space, 18, 8, capacity=10_000, stack=4, n_step=3)
    assert prioritised.nbytes < 1.01 * 10_000 * 84 * 84


def test_frames_that_are_no_stack_are_refused():
    space = spaces.Box(0, 255, (3, 2, 2), np.uint8)
    replay = Replay(space, 2, stack=3, capacity=10)
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="3 stacked frames"):
        replay.begin(rng.integers(1, 255, (1, 3, 2, 2)).astype(np.uint8))


@pytest.mark.parametrize("kind", [Replay, PrioritisedReplay])
@pytest.mark.parametrize(("steps", "seed"), [(10, 6), (75, 5)])
def test_a_restored_replay_draws_the_same(kind, steps, seed, tmp_path):
    def make():
        space = spaces.Box(0, 255, (3, 2), np.uint8)
        return kind(space, 3, 2, 60, n_step=2, gamma=GAMMA, stack=3, masked=True)

    def use(replay, rng):
        drawn = replay.draw(2, 8, rng, 0.5)
        if kind is PrioritisedReplay:
            replay.prioritise(drawn.place, rng.random(16))
        no = np.zeros(2, bool)
        newest = rng.integers(1, 255, (2, 1, 2)).astype(np.uint8)
        shown = np.concatenate([replay._observations(last(replay)).numpy()[:, 1:], newest], 1)
        replay.add(np.ones(2), np.ones(2), no, no, shown, np.ones((2, 3), bool))
        return drawn

    def last(replay):
        return replay._head * 2 + np.arange(2)

    whole = make()
    history = History(whole, seed, 2, steps, 3, (2,), True)
    assert not (history.rows[-1][2] | history.rows[-1][3]).any(), "take another seed"
    rng = np.random.default_rng(0)
    use(whole, rng)
    save_tree(tmp_path / "replay", whole.state_dict())
    filled = min(steps + 2, 31)
    assert len(whole.state_dict()["_frames"]) == filled
    resumed = make()
    resumed.load_state_dict(load_tree(tmp_path / "replay"))
    other = np.random.default_rng(1)
    same = np.random.default_rng(1)
    for _ in range(40):
        for a, b in zip(use(whole, other), use(resumed, same), strict=True):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
