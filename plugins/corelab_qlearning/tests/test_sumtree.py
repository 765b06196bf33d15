from __future__ import annotations

import numpy as np
import pytest
from corelab_qlearning.sumtree import SumTree
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 700))
def test_masses_find_what_a_running_sum_finds(seed, n):
    rng = np.random.default_rng(seed)
    tree = SumTree(n)
    weights = np.zeros(n)
    for _ in range(3):
        index = rng.permutation(n)[: rng.integers(1, n + 1)]
        weight = rng.integers(0, 5, len(index)).astype(float)  # sums of these are exact
        tree.set(index, weight)
        weights[index] = weight
    assert tree.total == weights.sum()
    if weights.any():
        mass = rng.random(100) * weights.sum()
        assert np.array_equal(tree.find(mass), np.searchsorted(weights.cumsum(), mass, "right"))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 700))
def test_what_has_no_weight_is_never_found(seed, n):
    rng = np.random.default_rng(seed)
    tree = SumTree(n)
    weights = rng.random(n) * (rng.random(n) < 0.3) * 10.0 ** rng.integers(-8, 8, n)
    weights[rng.integers(n)] = 1e-9
    tree.set(np.arange(n), weights)
    mass = np.append(rng.random(200), [0.0, 1.0, np.nextafter(1, 0)]) * tree.total
    assert (tree.weights[tree.find(mass)] > 0).all()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 700))
def test_sums_do_not_depend_on_the_order_of_changes(seed, n):
    rng = np.random.default_rng(seed)
    weights = rng.random(n)
    whole, pieces = SumTree(n), SumTree(n)
    whole.set(np.arange(n), weights)
    for index in np.array_split(rng.permutation(n), 7):
        if len(index):
            pieces.set(index, rng.random(len(index)))
            pieces.set(index, weights[index])
    assert whole.total == pieces.total
    mass = rng.random(100) * whole.total
    assert np.array_equal(whole.find(mass), pieces.find(mass))


def test_memory_is_little_more_than_the_weights():
    assert SumTree(1_000_000).nbytes == pytest.approx(8e6 * 16 / 15, rel=0.001)
