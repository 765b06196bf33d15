"""The state of an environment that is written in Python, as a tree without pickle, and back.

An environment is a chain of wrappers around an object, and its state is what can be reached through
their attributes. `snapshot` copies it if it consists of numbers, text, arrays, NumPy generators,
lists, tuples, dicts, deques and plain objects of these; it raises `Hidden` if there is anything
else, since a physics engine, a closure or a set (whose order depends on its past) may hold what
cannot be read or put back. `restore` writes it into another environment of the same kind. What is
reachable twice, such as one generator that two objects draw from, is so again afterwards.
"""

from __future__ import annotations

import sys
from collections import deque
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

Tree = list[dict[str, Any]]
"""One node for each object that can change or be shared; a node refers to others by number."""

_LEAVES = (bool, int, float, str, bytes, type(None))


class Hidden(Exception):  # noqa: N818 - a finding, not an error
    """Part of the state cannot be seen from Python; says which part."""


class _Plain:
    """The size of its instances is that of any object that has nothing but a `__dict__`."""


def snapshot(env: Any) -> Tree:
    """The state of ENV, a Gymnasium environment or vector environment; `Hidden` if it has more."""
    try:
        return _Writer(env).nodes
    except RecursionError:
        raise Hidden(f"{type(env).__name__} holds a chain of very many objects") from None


def restore(env: Any, tree: Tree) -> None:
    """Make the state of ENV the one in TREE. `ValueError` if ENV is of another kind."""
    _Reader(env, tree).node(0)


def _chain(env: Any) -> list[Any]:
    chain = [env]
    while isinstance(chain[-1], gym.Wrapper):
        chain.append(chain[-1].env)
    return chain


def _packages(chain: list[Any]) -> set[str]:
    """Where objects inside of an environment may come from: its own packages, and Gymnasium."""
    return {"gymnasium"} | {_package(type(env)) for env in chain}


def _module(cls: type) -> str:
    return str(getattr(cls, "__module__", ""))  # some classes written in C have none


def _package(cls: type) -> str:
    return _module(cls).partition(".")[0]


def _class_name(cls: type) -> str:
    return f"{_module(cls)}:{cls.__qualname__}"


def _is_plain(cls: type) -> bool:
    """Whether all that instances of CLS know is in their `__dict__`, and they end quietly."""
    slots = any(vars(base).get("__slots__") for base in cls.__mro__)
    return (
        not slots
        and cls.__basicsize__ <= _Plain.__basicsize__
        and cls.__itemsize__ == 0
        and not hasattr(cls, "__del__")
    )


def _is_simple(dtype: np.dtype[Any]) -> bool:
    """Whether values of DTYPE are nothing but their bytes."""
    return dtype.kind in "biufcSUmM" and dtype.itemsize > 0


def _is_constant(value: Any) -> bool:
    """Whether VALUE has a name in its module or class: code may ask if something `is` it."""
    cls = type(value)
    named = (vars(sys.modules[cls.__module__]), vars(cls))
    return any(value is constant for names in named for constant in names.values())


def _is_scenery(value: Any) -> bool:
    """Whether VALUE is no state: the recipe of the environment, or something to draw with."""
    return isinstance(value, EnvSpec) or _package(type(value)) == "pygame"


class _Writer:
    def __init__(self, env: Any) -> None:
        self.nodes: Tree = []
        self._chain = _chain(env)
        self._packages = _packages(self._chain)
        self._number: dict[int, int] = {}
        self._memory: set[int] = set()
        self.value(env, type(env).__name__)

    def value(self, value: Any, at: str) -> Any:
        if type(value) in _LEAVES:
            return value
        if type(value) is tuple:
            return tuple(self.value(v, f"{at}[{i}]") for i, v in enumerate(value))
        if isinstance(value, np.generic) and _is_simple(value.dtype):
            return {"scalar": value.tobytes(), "dtype": value.dtype.str}
        if isinstance(value, np.dtype) and _is_simple(value):
            return {"dtype": value.str}
        if id(value) not in self._number:
            number = self._number[id(value)] = len(self.nodes)
            self.nodes.append({})  # its place, for what refers back to it
            self.nodes[number] = self._node(value, at)
        return {"node": self._number[id(value)]}

    def _node(self, value: Any, at: str) -> dict[str, Any]:
        for i, env in enumerate(self._chain):
            if value is env:
                name = _class_name(type(env))
                return {"env": i, "class": name, **self._attributes(env, type(env).__name__)}
        if type(value) is np.ndarray:
            return self._array(value, at)
        if type(value) is np.random.Generator:
            return {"generator": deepcopy(value)}
        if type(value) is np.random.RandomState and value is not np.random.mtrand._rand:
            return {"random_state": value.get_state(legacy=False)}
        if type(value) is list:
            return {"list": [self.value(v, f"{at}[{i}]") for i, v in enumerate(value)]}
        if type(value) is deque:
            items = [self.value(v, f"{at}[{i}]") for i, v in enumerate(value)]
            return {"deque": items, "maxlen": value.maxlen}
        if type(value) is dict:
            return {
                "dict": [
                    [self.value(k, f"{at}[{k!r}]"), self.value(v, f"{at}[{k!r}]")]
                    for k, v in value.items()
                ]
            }
        cls = type(value)
        known = _package(cls) in self._packages and _named(cls) is cls
        if known and hasattr(value, "__dict__") and _is_plain(cls) and not _is_constant(value):
            return {"object": _class_name(cls), **self._attributes(value, at)}
        raise Hidden(f"{at} is a {_class_name(cls).replace(':', '.')}")

    def _attributes(self, value: Any, at: str) -> dict[str, Any]:
        on_chain = any(value is env for env in self._chain)
        attributes, scenery = {}, []
        for name, attribute in vars(value).items():
            if on_chain and _is_scenery(attribute):
                scenery.append(name)
            else:
                attributes[name] = self.value(attribute, f"{at}.{name}")
        return {"attributes": attributes, "scenery": scenery}

    def _array(self, value: np.ndarray[Any, Any], at: str) -> dict[str, Any]:
        # The order in which an array lies in memory decides the order in which it is summed.
        axes = sorted(range(value.ndim), key=lambda axis: -value.strides[axis])
        base = value
        while isinstance(base.base, np.ndarray):
            base = base.base
        if not _is_simple(value.dtype):
            raise Hidden(f"{at} is an array of {value.dtype}")
        if not value.transpose(axes).flags.c_contiguous or base.base is not None:
            raise Hidden(f"{at} is an array that looks into other memory")
        if id(base) in self._memory:
            raise Hidden(f"{at} is an array that shares its memory with another")
        self._memory.add(id(base))
        data = np.frombuffer(value.transpose(axes).tobytes(), np.uint8)
        return {"array": data, "dtype": value.dtype.str, "shape": value.shape, "axes": axes}


class _Reader:
    def __init__(self, env: Any, tree: Tree) -> None:
        self._tree = tree
        self._chain = _chain(env)
        self._packages = _packages(self._chain)
        self._built: dict[int, Any] = {}

    def value(self, code: Any) -> Any:
        match code:
            case {"node": number}:
                return self.node(number)
            case {"scalar": data, "dtype": dtype}:
                return np.frombuffer(data, dtype)[0]
            case {"dtype": dtype}:
                return np.dtype(dtype)
            case tuple():
                return tuple(self.value(item) for item in code)
        return code

    def node(self, number: int) -> Any:
        """The object with this NUMBER; a container is known by it before it is filled."""
        if number in self._built:
            return self._built[number]
        match self._tree[number]:
            case {"array": data, "dtype": dtype, "shape": shape, "axes": axes}:
                laid_out = np.frombuffer(data.tobytes(), dtype).reshape([shape[i] for i in axes])
                value = np.array(laid_out, order="C").transpose(np.argsort(axes))
                return self._built.setdefault(number, value)
            case {"generator": generator}:
                return self._built.setdefault(number, deepcopy(generator))
            case {"random_state": state}:
                random_state = self._built.setdefault(number, np.random.RandomState())
                random_state.set_state(state)
                return random_state
            case {"list": items}:
                filled: list[Any] = self._built.setdefault(number, [])
                filled.extend(self.value(item) for item in items)
                return filled
            case {"deque": items, "maxlen": maxlen}:
                queue: deque[Any] = self._built.setdefault(number, deque(maxlen=maxlen))
                queue.extend(self.value(item) for item in items)
                return queue
            case {"dict": items}:
                mapping: dict[Any, Any] = self._built.setdefault(number, {})
                mapping.update((self.value(k), self.value(v)) for k, v in items)
                return mapping
            case {"env": i, "class": name} as node if name == _class_name(type(self._chain[i])):
                return self._fill(number, self._chain[i], node)
            case {"object": name} as node:
                return self._fill(number, self._new(name), node)
        raise ValueError("it was saved from another kind of environment")

    def _fill(self, number: int, value: Any, node: dict[str, Any]) -> Any:
        self._built[number] = value
        attributes = {name: self.value(code) for name, code in node["attributes"].items()}
        scenery = {name: vars(value)[name] for name in node["scenery"] if name in vars(value)}
        vars(value).clear()
        vars(value).update(attributes | scenery)
        return value

    def _new(self, name: str) -> Any:
        """An empty object of the class NAME, if environments of this kind may contain one.

        Nothing is imported and nothing but `object.__new__` runs on the word of a file.
        """
        module, _, path = name.partition(":")
        cls: Any = sys.modules.get(module)
        for part in path.split("."):
            cls = getattr(cls, part, None)
        if (
            module.partition(".")[0] not in self._packages
            or not isinstance(cls, type)
            or not _is_plain(cls)
        ):
            raise ValueError(f"it contains a {name.replace(':', '.')}, which is not known here")
        return object.__new__(cls)


def _named(cls: type) -> Any:
    """What the name of CLS leads to, which is not CLS if that was made inside of a function."""
    found: Any = sys.modules.get(_module(cls))
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found
