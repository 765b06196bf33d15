from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from corelab_envs.state import Hidden, restore, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corelab.state import load_tree, save_tree


class Holder(gym.Env):
    def __init__(self, **attributes):
        vars(self).update(attributes)


class Thing:
    pass


class Quitter:
    def __del__(self):
        pass


IDLE = Thing()


def restored(env, directory):
    save_tree(directory / "env", snapshot(env))
    other = Holder(left_over=1)
    restore(other, load_tree(directory / "env"))
    return other


def equal(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
            and (a.flags.c_contiguous, a.flags.f_contiguous)
            == (b.flags.c_contiguous, b.flags.f_contiguous)
        )
    if isinstance(a, np.generic):
        return a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple | deque):
        return len(a) == len(b) and all(map(equal, a, b))
    return repr(a) == repr(b)  # which tells 0.0 from -0.0


simple_dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="="),
    hnp.floating_dtypes(endianness="="),
    hnp.unsigned_integer_dtypes(endianness="="),
    hnp.byte_string_dtypes(min_len=1, max_len=5),
)
shapes = hnp.array_shapes(min_dims=0, min_side=0, max_side=3)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec="utf-8"), max_size=5),
    st.binary(max_size=5),
    hnp.from_dtype(np.dtype(np.float32)),
    hnp.arrays(simple_dtypes, shapes),
    hnp.arrays(simple_dtypes, shapes).map(lambda a: np.array(a, order="F")),
)
keys = st.one_of(st.integers(), st.text(st.characters(codec="utf-8"), max_size=3))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(lambda v: deque(v, maxlen=4)),
        st.dictionaries(keys, inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(value=values)
def test_every_plain_value_comes_back_to_the_bit(value, tmp_path_factory):
    other = restored(Holder(value=value), tmp_path_factory.mktemp("state"))
    assert vars(other).keys() == {"value"}
    assert equal(other.value, value)


def test_what_is_reachable_twice_is_so_again(tmp_path):
    rng, array, thing = np.random.default_rng(1), np.arange(3), Thing()
    thing.rng, thing.itself = rng, thing
    env = Holder(rng=rng, array=array, same=[array], thing=thing, things={"a": thing})
    expected = np.random.Generator(np.random.PCG64(1)).random(3)
    other = restored(env, tmp_path)
    assert other.thing.rng is other.rng
    assert other.same[0] is other.array
    assert other.things["a"] is other.thing is other.thing.itself
    assert np.array_equal(other.rng.random(3), expected)


def test_a_legacy_generator_goes_on_where_it_was(tmp_path):
    rng = np.random.RandomState(3)
    rng.normal(size=3)  # an odd number: the fourth is drawn already
    other = restored(Holder(rng=rng, same=[rng]), tmp_path)
    assert other.same[0] is other.rng is not rng
    assert np.array_equal(other.rng.normal(size=5), rng.normal(size=5))
    assert np.array_equal(other.rng.randint(9, size=700), rng.randint(9, size=700))


def test_an_object_that_refers_back_to_the_environment_does_so_again(tmp_path):
    env = Holder(thing=Thing())
    env.thing.env = env
    other = restored(env, tmp_path)
    assert other.thing.env is other


def test_the_snapshot_does_not_follow_what_happens_later():
    env = Holder(array=np.zeros(2), numbers=[1], rng=np.random.default_rng(0))
    tree = snapshot(env)
    for _ in range(2):
        assert env.rng.random() == np.random.default_rng(0).random()
        env.array += 1
        env.numbers.append(2)
        restore(env, tree)
        assert env.array.tolist() == [0, 0]
        assert env.numbers == [1]


def slotted():
    class Slotted:
        __slots__ = ("a",)

    return Slotted()


base = np.arange(6)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (lambda: 0, "function"),
        (iter([1]), "list_iterator"),
        ({1, 2}, "set"),
        (slotted(), "Slotted"),
        (Quitter(), "Quitter"),
        (SimpleNamespace(a=1), "SimpleNamespace"),
        (IDLE, "Thing"),
        (np.random.mtrand._rand, "RandomState"),
        (np.array([object()]), "array of object"),
        (np.arange(6)[::2], "looks into other memory"),
        (np.frombuffer(b"12345678"), "looks into other memory"),
        ([base[:3], base[3:]], "shares its memory"),
        (gym, "module"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_read_is_refused_by_name(value, told):
    thing = Thing()
    thing.inside = [value]
    with pytest.raises(Hidden, match=rf"^Holder\.thing\.inside\[0\].* .*{told}"):
        snapshot(Holder(thing=thing))


def test_a_chain_of_very_many_objects_is_refused():
    env = Holder(thing=None)
    for _ in range(5000):
        env.thing = [env.thing]
    with pytest.raises(Hidden, match="a chain of very many objects"):
        snapshot(env)


def test_a_snapshot_of_another_kind_of_environment_is_refused():
    with pytest.raises(ValueError, match="another kind of environment"):
        restore(gym.make("CartPole-v1"), snapshot(Holder(a=1)))


@pytest.mark.parametrize(
    "name", ["subprocess:Popen", "pathlib:Path", "gymnasium:make", "gymnasium:nothing", "no:Such"]
)
def test_a_file_cannot_name_any_class_it_likes(name):
    tree = snapshot(Holder(thing=Thing()))
    tree[1]["object"] = name
    with pytest.raises(ValueError, match="not known here"):
        restore(Holder(), tree)


def test_what_draws_the_environment_is_not_part_of_its_state():
    env = gym.make("MountainCar-v0", render_mode="rgb_array")
    env.reset(seed=0)
    env.render()
    tree = snapshot(env)
    screen, state = env.unwrapped.screen, env.unwrapped.state
    env.step(2)
    restore(env, tree)
    assert env.unwrapped.screen is screen
    assert np.array_equal(env.unwrapped.state, state)
    env.close()
