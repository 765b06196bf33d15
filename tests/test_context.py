"""Random streams, devices and workers, as an algorithm sees them."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from corelab import ConfigError, Context
from corelab.context import derive, find_device
from corelab.state import load_tree, save_tree

CPU = torch.device("cpu")


def context(seed: int = 0, rank: int = 0, threads: int = 1) -> Context:
    made = Context(seed, CPU, steps=10, threads=threads)
    made.rank, made.world = rank, 2
    return made


def draw(stream: np.random.Generator | torch.Generator, n: int = 4) -> list[float]:
    if isinstance(stream, np.random.Generator):
        return stream.random(n).tolist()
    return torch.rand(n, generator=stream).tolist()


def globals_drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


# -- streams -----------------------------------------------------------------------------------


def test_seeds_are_the_same_in_every_version() -> None:
    """A change here changes the results of every run that anybody has recorded."""
    assert derive(0) == 7520536977032167579
    assert derive(7, 0, "envs", 3) == 5471985555785554970
    assert Context(7, CPU, 10).seed_for("envs", 3) == derive(7, 0, "envs", 3)


NAMES = st.lists(st.text(max_size=3) | st.integers(0, 9), min_size=1, max_size=3).map(tuple)


@settings(max_examples=50)
@given(st.lists(NAMES, min_size=2, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_a_stream_depends_on_its_name_and_neither_on_order_nor_on_others(
    names: list[tuple[Any, ...]], order: random.Random
) -> None:
    alone = [draw(context().rng(*name)) + draw(context().generator(*name)) for name in names]
    together = context()
    mixed = list(enumerate(names))
    order.shuffle(mixed)
    drawn = {i: draw(together.rng(*name)) + draw(together.generator(*name)) for i, name in mixed}
    assert [drawn[i] for i in range(len(names))] == alone
    assert len({tuple(values) for values in alone}) == len(names)


def test_the_parts_of_a_name_are_not_run_together() -> None:
    seeds = [("a", "b"), ("ab",), ("a", 1), ("a", "1"), ("a1",), ("a",), ()]
    assert len({context().seed_for(*path) for path in seeds}) == len(seeds)


def test_asking_again_gives_the_same_generator_and_not_a_fresh_one() -> None:
    c = context()
    first = draw(c.rng("a"))
    assert draw(c.rng("a")) != first
    assert c.rng("a") is c.rng("a")
    assert c.generator("a") is c.generator("a")


STREAMS: dict[str, Callable[..., Any]] = {
    "seed": lambda c, **kw: c.seed_for("a", **kw),
    "numpy": lambda c, **kw: draw(c.rng("a", **kw)),
    "torch": lambda c, **kw: draw(c.generator("a", **kw)),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_processes_have_their_own_streams_and_share_those_that_are_shared(kind: str) -> None:
    stream = STREAMS[kind]
    assert stream(context(rank=0)) != stream(context(rank=1))
    assert stream(context(rank=0), shared=True) == stream(context(rank=1), shared=True)
    assert stream(context(rank=1), shared=True) != stream(context(rank=1))
    assert stream(context(seed=0)) != stream(context(seed=1))


# -- state -------------------------------------------------------------------------------------


def written(c: Context, folder: Path) -> Any:
    """The state of C as it comes back from a checkpoint."""
    save_tree(folder / "streams", c.state_dict())
    return load_tree(folder / "streams")


def test_generators_go_on_where_they_were_also_those_handed_out_before(tmp_path: Path) -> None:
    c = context()
    with c.owning_globals():
        for stream in (c.rng("a"), c.rng("b", shared=True), c.generator("c"), c.generator("d")):
            draw(stream)
        torch.randn(3, generator=c.generator("d"))
        c.rng("a").normal()
        globals_drawn()
        random.gauss(0, 1)  # draws a pair and keeps one half, as the next one does
        np.random.normal()
        state = written(c, tmp_path)
        expected = [
            draw(c.rng("a")),
            draw(c.rng("b", shared=True)),
            draw(c.generator("c")),
            draw(c.generator("d")),
            globals_drawn(),
            [random.gauss(0, 1), np.random.normal()],
        ]
    other = context()
    held = other.rng("a"), other.generator("d")
    with other.owning_globals():
        other.load_state_dict(state)
        drawn = [
            draw(held[0]),
            draw(other.rng("b", shared=True)),
            draw(other.generator("c")),
            draw(held[1]),
            globals_drawn(),
            [random.gauss(0, 1), np.random.normal()],
        ]
    assert drawn == expected


def test_a_stream_first_used_after_a_restore_begins_as_it_would_have(tmp_path: Path) -> None:
    c, other = context(), context()
    draw(c.rng("a"))
    other.load_state_dict(written(c, tmp_path))
    assert draw(other.rng("late")) == draw(c.rng("late"))


def test_a_network_built_after_a_restore_has_the_weights_it_would_have_had(
    tmp_path: Path,
) -> None:
    linear = functools.partial(torch.nn.Linear, 3, 3)
    c = context()
    for _ in range(2):  # the second one belongs to a step, such as a reset of the network
        c.build(linear)
    resumed = context()
    resumed.build(linear)
    resumed.load_state_dict(written(c, tmp_path))
    assert torch.equal(resumed.build(linear).weight, c.build(linear).weight)


# -- global generators -------------------------------------------------------------------------


def blas_threads() -> list[int]:
    """Threads of each library that NumPy or SciPy multiplies matrices with."""
    return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]


@contextmanager
def unchanged() -> Iterator[None]:
    """The global generators and the number of threads are afterwards as they were before."""
    threads = torch.get_num_threads(), blas_threads()
    before = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()
    yield
    assert random.getstate() == before[0]
    np.testing.assert_equal(np.random.get_state(legacy=False), before[1])
    assert torch.equal(torch.get_rng_state(), before[2])
    assert (torch.get_num_threads(), blas_threads()) == threads


def test_the_global_generators_and_threads_are_lent_and_given_back() -> None:
    with unchanged(), context(threads=torch.get_num_threads() + 1).owning_globals():
        globals_drawn()


def test_they_are_given_back_after_an_exception_too() -> None:
    def fail() -> None:
        with context(threads=torch.get_num_threads() + 1).owning_globals():
            globals_drawn()
            raise RuntimeError

    with unchanged(), pytest.raises(RuntimeError):
        fail()


def test_within_a_run_the_global_generators_are_the_seeds_own() -> None:
    drawn = []
    for seed, rank, before in ((0, 0, 1), (0, 0, 2), (1, 0, 1), (0, 1, 1)):
        random.seed(before)
        np.random.seed(before)
        torch.manual_seed(before)
        with context(seed, rank).owning_globals():
            drawn.append(globals_drawn())
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3
    assert all(len(set(column)) == 3 for column in zip(*drawn, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_within_a_run_torch_and_numpy_have_the_threads_of_the_run(threads: int) -> None:
    with context(threads=threads).owning_globals():
        assert torch.get_num_threads() == threads
        assert set(blas_threads()) == {threads}


# -- networks ----------------------------------------------------------------------------------


def test_weights_are_the_seeds_own_whatever_was_drawn_before() -> None:
    linear = functools.partial(torch.nn.Linear, 3)
    with unchanged():
        first = context().build(linear, 2, bias=False)
        other = context(seed=1).build(linear, 2, bias=False)
    with context().owning_globals():
        torch.rand(7)
        c = context(rank=1)
        draw(c.rng("a"))
        second = c.build(linear, 2, bias=False)
    assert first.bias is None
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, other.weight)


def test_two_networks_of_a_run_begin_with_different_weights() -> None:
    c = context()
    first, second = (c.build(torch.nn.Linear, 3, 2) for _ in range(2))
    assert not torch.equal(first.weight, second.weight)


# -- the machine -------------------------------------------------------------------------------


def test_the_shards_of_all_processes_make_up_the_batch() -> None:
    batch = torch.arange(6)
    shards = [context(rank=rank).shard(batch) for rank in (0, 1)]
    assert [shard.tolist() for shard in shards] == [[0, 1, 2], [3, 4, 5]]
    assert context().shard(None) is None
    alone = Context(0, CPU, 10)
    assert alone.shard(batch) is batch


class Worker:
    def __init__(self, number: int) -> None:
        self.number = number

    def times(self, factor: int) -> int:
        return self.number * factor


def test_a_pool_answers_in_the_order_of_its_workers() -> None:
    pool = context().pool(Worker, 3)
    ten = pool.share(10)
    assert pool.call("times", ten) == [0, 10, 20]
    assert dict(pool.stream("times", ten)) == {0: 0, 1: 10, 2: 20}


def test_auto_is_a_device_that_is_there() -> None:
    found = find_device("auto")
    assert found.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["tpu", "cuda:99", ""])
def test_a_device_that_is_not_there_is_answered_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_device(name)
    assert f"--device {name}: " in str(caught.value)
    assert "there is: cpu" in str(caught.value)
    assert "\n" not in str(caught.value)
