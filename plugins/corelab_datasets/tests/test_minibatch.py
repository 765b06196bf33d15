from __future__ import annotations

import time

import pytest
import torch
from corelab_datasets.interface import Split, minibatch
from hypothesis import given
from hypothesis import strategies as st

from corelab import Context

counts = st.integers(1, 40)
seeds = st.integers(0, 2**63 - 1)


def visits(n, size, batches, seed, progress=0):
    drawn = []
    for _ in range(batches):
        drawn.append(minibatch(n, size, progress, seed))
        progress += size
    return torch.cat(drawn)


@given(n=counts, size=counts, seed=seeds)
def test_every_epoch_visits_every_example_once(n, size, seed):
    order = visits(n, size, -(-3 * n // size), seed)
    for epoch in range(3):
        assert sorted(order[epoch * n : (epoch + 1) * n].tolist()) == list(range(n))


@given(n=counts, size=counts, seed=seeds, progress=st.integers(0, 200))
def test_a_minibatch_is_full_and_a_piece_of_one_sequence(n, size, seed, progress):
    sequence = visits(n, 1, progress + size, seed)
    batch = minibatch(n, size, progress, seed)
    assert batch.dtype == torch.int64
    assert torch.equal(batch, sequence[progress:])


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [minibatch(100, 100, 100 * epoch, seed) for epoch in range(3) for seed in range(3)]
    assert len({tuple(order.tolist()) for order in orders}) == 9


def test_changing_a_minibatch_in_place_changes_no_later_one():
    before = minibatch(50, 50, 0, 7).clone()
    minibatch(50, 50, 0, 7).zero_()
    assert torch.equal(minibatch(50, 50, 0, 7), before)


def test_ranks_share_one_order_and_see_disjoint_parts_of_it():
    parts = []
    for rank in range(2):
        context = Context(seed=3, device=torch.device("cpu"), steps=100)
        context.rank, context.world = rank, 2
        order = context.seed_for("order", shared=True)
        parts.append(context.shard(minibatch(20, 10, 10, order)))
    alone = Context(seed=3, device=torch.device("cpu"), steps=100)
    whole = minibatch(20, 10, 10, alone.seed_for("order", shared=True))
    assert len(parts[0]) == len(parts[1]) == 5
    assert torch.equal(torch.cat(parts), whole)


def test_slicing_a_minibatch_takes_less_than_a_fifth_of_a_millisecond():
    images = torch.zeros(60_000, 1, 28, 28, dtype=torch.uint8)
    split = Split(images, torch.zeros(60_000, dtype=torch.int64))
    minibatch(len(split), 128, 0, 0)  # the order of the epoch is drawn once, before it is timed
    timings = []
    for i in range(200):
        start = time.perf_counter()
        split.take(minibatch(len(split), 128, 128 * i, 0))
        timings.append(time.perf_counter() - start)
    assert sorted(timings)[len(timings) // 2] < 2e-4


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 1, 3, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.uint8)),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
    ],
)
def test_a_split_of_other_types_or_shapes_is_refused(images, labels):
    with pytest.raises(ValueError, match="Split takes images uint8"):
        Split(images, labels)


def test_a_split_gives_the_examples_that_are_asked_for():
    images = torch.arange(10).reshape(10, 1, 1, 1).byte()
    x, y = Split(images, torch.arange(10) * 2).take(torch.tensor([7, 0, 7]))
    assert x.flatten().tolist() == [7, 0, 7]
    assert y.tolist() == [14, 0, 14]


def test_the_length_of_a_split_is_the_number_of_its_examples():
    split = Split(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    assert len(split) == 2
