"""The compiled engine: `Search` and `Tableau` of `calculus`, `TreeSearch` of `tree_search`.

A matrix and all that is made of it belong to one thread at a time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from corelab_kernels.build import NoCompiler, load
from numpy.typing import NDArray

from corelab import DataError
from corelab_envs.theorem.calculus import Action, Outcome, Settings, Step
from corelab_envs.theorem.guide import Guide
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.tree_search import Rules
from corelab_envs.theorem.walks import STATE_NUMBERS

State: TypeAlias = NDArray[np.int32]
"""All that a tableau is, to go back to; a copy of its own."""

_Int = ctypes.c_int32
_Pointer = ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "matrix_new": (_Pointer, [_Pointer]),
    "matrix_free": (None, [_Pointer]),
    "search_new": (_Pointer, [_Pointer, _Int, _Int, _Int, _Pointer]),
    "search_free": (None, [_Pointer]),
    "search_run": (_Int, [_Pointer, ctypes.c_int64]),
    "search_inferences": (ctypes.c_int64, [_Pointer]),
    "search_path_limit": (_Int, [_Pointer]),
    "search_complete": (_Int, [_Pointer]),
    "search_steps": (_Int, [_Pointer, _Pointer]),
    "search_write": (_Int, [_Pointer, _Int, _Int, _Pointer, _Int]),
    "tableau_new": (_Pointer, [_Pointer, _Int]),
    "tableau_free": (None, [_Pointer]),
    "tableau_reset": (_Int, [_Pointer]),
    "tableau_step": (_Int, [_Pointer, _Int]),
    "tableau_step_many": (
        None,
        [_Pointer, _Int, _Pointer, _Int, _Pointer, _Pointer, _Pointer],
    ),
    "tableau_observe_many": (
        None,
        [_Pointer, _Int, _Int, _Int, _Int, _Pointer, _Pointer],
    ),
    "tableau_graph_many": (
        None,
        [_Pointer, *5 * [_Int], *4 * [_Pointer]],
    ),
    "tableau_outcome": (_Int, [_Pointer]),
    "tableau_inferences": (_Int, [_Pointer]),
    "tableau_actions": (_Int, [_Pointer, _Pointer, _Int]),
    "tableau_action_count": (_Int, [_Pointer]),
    "tableau_save": (_Int, [_Pointer, _Pointer, _Int]),
    "tableau_restore": (None, [_Pointer, _Pointer]),
    "tableau_features": (None, [_Pointer, _Pointer, _Int]),
    "tableau_action_features": (None, [_Pointer, _Pointer, _Int, _Int]),
    "tableau_steps": (_Int, [_Pointer, _Pointer]),
    "tableau_goal": (_Int, [_Pointer]),
    "tableau_write": (_Int, [_Pointer, _Int, _Int, _Pointer, _Int]),
    "tableau_policy_walks": (_Int, [_Pointer, _Int, _Pointer, _Int, _Pointer]),
    "tableau_value_walks": (_Int, [_Pointer, _Int, _Pointer, _Int, _Pointer]),
    "tree_new": (_Pointer, [_Pointer, _Int, ctypes.c_double, _Int, _Int, _Pointer]),
    "tree_free": (None, [_Pointer]),
    "tree_run": (_Int, [_Pointer, ctypes.c_int64]),
    "tree_inferences": (ctypes.c_int64, [_Pointer]),
    "tree_line": (_Int, [_Pointer, _Pointer, _Pointer, _Int]),
}


@cache
def _library() -> Any:
    library = load("connection")
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@cache
def missing() -> str:
    """Why there is no compiled engine on this machine; "" if there is one."""
    try:
        _library()
    except NoCompiler as reason:
        return str(reason)
    return ""


class _Handle:
    """An object of the library's, which goes when this one does."""

    def __init__(self, pointer: int | None, free: Callable[[int], None]) -> None:
        if not pointer:
            raise DataError("there is not enough memory for the matrix of this problem")
        self.pointer = pointer
        self._free = free

    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            self._free(self.pointer)


def _compiled(matrix: Matrix) -> _Handle:
    """MATRIX as the library keeps it, made once."""
    handle = matrix.__dict__.get("_compiled")
    if not isinstance(handle, _Handle):
        library = _library()
        flat = np.array(_flat(matrix), np.int32)
        handle = _Handle(library.matrix_new(flat.ctypes.data), library.matrix_free)
        matrix.__dict__["_compiled"] = handle
    return handle


def _flat(matrix: Matrix) -> list[int]:
    """MATRIX as `matrix_new` reads it: the number of entries of each part, and the entries."""
    terms: list[int] = []
    first = 0
    for symbol, arguments, ground in zip(
        matrix.symbol, matrix.arguments, matrix.ground, strict=True
    ):
        terms += [symbol, first, len(arguments), ground]
        first += len(arguments)
    starts = np.cumsum([0, *map(len, matrix.connections)]).tolist()
    ground_clauses = [int(width == 0) for width in matrix.width]
    codes = np.array(matrix.codes, np.uint32).view(np.int32).tolist()
    parts: Sequence[Sequence[int]] = (
        list(chain.from_iterable(matrix.arguments)),
        matrix.atom, matrix.key, matrix.clause_of, matrix.begin, matrix.width, ground_clauses,
        starts,
    )  # fmt: skip
    flat = [len(matrix.symbol), *terms]
    for part in parts:
        flat += [len(part), *part]
    connections = list(chain.from_iterable(matrix.connections))
    flat.append(len(connections))
    for literal in connections:
        flat += [literal, *matrix.heads(literal)]
    return [*flat, len(codes), *codes]


class _Weights(ctypes.Structure):
    """A guide as the library sees it; the arrays remain this side's."""

    _fields_ = (
        ("policy", _Pointer),
        ("value", _Pointer),
        ("policy_size", _Int),
        ("value_size", _Int),
        ("temperature", ctypes.c_double),
        ("goals", _Pointer),
        ("entries", _Pointer),
        ("width", _Int),
    )


class _Object:
    """Something of the library's that is made of a matrix and perhaps guided."""

    _kind: str

    def __init__(self, matrix: Matrix, *options: float, guide: Guide | None = None) -> None:
        self.matrix = matrix
        self._library = _library()
        self._matrix = _compiled(matrix)
        self._guide = guide  # which keeps the weights alive
        self._weights: _Weights | None = None
        if guide is not None:
            self._weights = weights = _Weights(
                guide.policy.ctypes.data, guide.value.ctypes.data,
                len(guide.policy), len(guide.value), guide.temperature,
            )  # fmt: skip
            if guide.pairs is not None:
                self._pairs = pairs = guide.pairs(matrix)  # likewise
                weights.goals = pairs.goals.ctypes.data
                weights.entries = pairs.entries.ctypes.data
                weights.width = pairs.goals.shape[1]
        words: tuple[Any, ...] = options
        if self._kind != "tableau":
            words += (self._weights and ctypes.byref(self._weights),)
        new, free = getattr(self._library, f"{self._kind}_new"), f"{self._kind}_free"
        handle = new(self._matrix.pointer, *words)
        self._handle = _Handle(handle, getattr(self._library, free))
        self._self = self._handle.pointer


class _Proof(_Object):
    """What a search and a tableau have in common."""

    def steps(self) -> list[Step]:
        """The inferences in the tableau, in order."""
        function = getattr(self._library, f"{self._kind}_steps")
        out = np.empty((function(self._self, None), 5), np.int32)
        function(self._self, out.ctypes.data)
        return [Step(*row) for row in out.tolist()]

    def write(self, literal: int, offset: int, capacity: int) -> list[int] | None:
        """The atom of LITERAL with its values, as `Matrix.term` reads it; None if it has more
        symbols than CAPACITY.
        """
        out = np.empty(capacity, np.int32)
        function = getattr(self._library, f"{self._kind}_write")
        n = function(self._self, self.matrix.atom[literal], offset, out.ctypes.data, capacity)
        return None if n < 0 else out[:n].tolist()


class Search(_Proof):
    """Depth-first search with iterative deepening on the length of paths, in leanCoP's order."""

    _kind = "search"

    def __init__(self, matrix: Matrix, settings: Settings, guide: Guide | None = None) -> None:
        super().__init__(matrix, settings.cut, settings.scut, settings.comp, guide=guide)
        self.outcome = Outcome.RUNNING

    @property
    def inferences(self) -> int:
        """How many extensions and reductions were made, those undone since included."""
        return int(self._library.search_inferences(self._self))

    @property
    def path_limit(self) -> int:
        """How long paths may be at present."""
        return int(self._library.search_path_limit(self._self))

    @property
    def is_complete(self) -> bool:
        """Whether, if the search is exhausted, nothing was left out."""
        return bool(self._library.search_complete(self._self))

    def run(self, limit: int) -> Outcome:
        """Go on until the search ends or has made LIMIT inferences in all."""
        if self.outcome is Outcome.RUNNING:
            self.outcome = Outcome(self._library.search_run(self._self, limit))
        return self.outcome


class Tableau(_Proof):
    """A tableau that is extended one inference at a time, without backtracking."""

    _kind = "tableau"

    def __init__(self, matrix: Matrix, eager: bool = False) -> None:
        super().__init__(matrix, eager)
        self._buffer = np.empty(4096, np.int32)

    @property
    def outcome(self) -> Outcome:
        """Where it stands."""
        return Outcome(self._library.tableau_outcome(self._self))

    @property
    def inferences(self) -> int:
        """How many steps led here."""
        return int(self._library.tableau_inferences(self._self))

    @property
    def actions(self) -> list[Action]:
        """What applies to the goal, in canonical order; nothing if it is proved or exhausted."""
        n = self.action_count
        out = np.empty((n, 2), np.int32)
        self._library.tableau_actions(self._self, out.ctypes.data, n)
        return [Action(*row) for row in out.tolist()]

    @property
    def action_count(self) -> int:
        """How many inferences apply."""
        return int(self._library.tableau_action_count(self._self))

    @property
    def goal(self) -> int | None:
        """The literal that is to be closed next."""
        literal = int(self._library.tableau_goal(self._self))
        return None if literal < 0 else literal

    def reset(self) -> Outcome:
        """Begin anew."""
        return Outcome(self._library.tableau_reset(self._self))

    def step(self, index: int) -> Outcome:
        """Make the inference of this INDEX among `actions`."""
        if not 0 <= index < self.action_count:
            raise IndexError(index)
        return Outcome(self._library.tableau_step(self._self, index))

    def save(self) -> State:
        """Where it stands."""
        out = self._buffer
        n = self._library.tableau_save(self._self, out.ctypes.data, len(out))
        if n > len(out):
            self._buffer = out = np.empty(2 * n, np.int32)
            self._library.tableau_save(self._self, out.ctypes.data, len(out))
        return out[:n].copy()

    def restore(self, state: State) -> None:
        """Go to STATE, of this tableau or of another with the same matrix."""
        self._library.tableau_restore(self._self, state.ctypes.data)

    def features(self, size: int) -> NDArray[np.float32]:
        """The state as numbers [SIZE]; see the twin."""
        out = np.empty(size, np.float32)
        self._library.tableau_features(self._self, out.ctypes.data, size)
        return out

    def action_features(self, size: int, count: int) -> NDArray[np.float32]:
        """The first COUNT actions as numbers [COUNT, SIZE]; see the twin."""
        out = np.empty((count, size), np.float32)
        self._library.tableau_action_features(self._self, out.ctypes.data, size, count)
        return out

    def policy_walks(self, buckets: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """What a policy sees of all actions, one after the other, as buckets; how many they are of
        each; see the twin.
        """
        counts = np.zeros(self.action_count, np.int32)
        out = self._walks("policy", buckets, counts)
        return out, counts

    def value_walks(self, buckets: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """What a value sees: walks as buckets, and the plain numbers; see the twin."""
        numbers = np.zeros(STATE_NUMBERS, np.float32)
        out = self._walks("value", buckets, numbers)
        return out, numbers

    def _walks(self, kind: str, buckets: int, beside: NDArray[Any]) -> NDArray[np.int32]:
        function = getattr(self._library, f"tableau_{kind}_walks")
        out = self._buffer
        n = function(self._self, buckets, out.ctypes.data, len(out), beside.ctypes.data)
        if n > len(out):
            self._buffer = out = np.empty(2 * n, np.int32)
            function(self._self, buckets, out.ctypes.data, len(out), beside.ctypes.data)
        return out[:n].copy()


class TreeSearch(_Object):
    """Monte Carlo tree search over tableaux; see the twin."""

    _kind = "tree"

    def __init__(self, matrix: Matrix, rules: Rules, guide: Guide | None = None) -> None:
        options = rules.eager, rules.exploration, rules.big_step, rules.depth
        super().__init__(matrix, *options, guide=guide)
        self.outcome = Outcome.RUNNING

    @property
    def inferences(self) -> int:
        """How many inferences were made."""
        return int(self._library.tree_inferences(self._self))

    def run(self, limit: int) -> Outcome:
        """Go on until the search ends or has made LIMIT inferences in all."""
        if self.outcome is Outcome.RUNNING:
            self.outcome = Outcome(self._library.tree_run(self._self, limit))
        return self.outcome

    def line(self) -> list[tuple[int, int]]:
        """The actions that lead to the proof or, without one, to where most playouts went; each
        with its rival: the action besides that was visited most, -1 if none was.
        """
        n = self._library.tree_line(self._self, None, None, 0)
        out = np.empty((2, n), np.int32)
        self._library.tree_line(self._self, out[0].ctypes.data, out[1].ctypes.data, n)
        return list(zip(*out.tolist(), strict=True))


def step_many(
    tableaux: Sequence[Tableau],
    actions: NDArray[np.int32],
    most: int,
    outcomes: NDArray[np.int32],
    inferences: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Make inference ACTIONS[i] in TABLEAUX[i], if it is one of the first MOST that apply: whether
    it was, [n]. OUTCOMES and INFERENCES [n] take how they stand.
    """
    applied = np.empty(len(tableaux), np.bool_)
    _library().tableau_step_many(
        _pointers(tableaux), len(tableaux), actions.ctypes.data, most,
        outcomes.ctypes.data, inferences.ctypes.data, applied.ctypes.data,
    )  # fmt: skip
    return applied


def observe_many(
    tableaux: Sequence[Tableau],
    state_features: int,
    observations: NDArray[np.float32],
    masks: NDArray[np.int8],
) -> None:
    """Write the STATE_FEATURES of each of TABLEAUX and then those of its first k actions into
    OBSERVATIONS [n, s + k a], and which of these actions there are into MASKS [n, k].
    """
    most = masks.shape[1]
    action_features = (observations.shape[1] - state_features) // most
    _library().tableau_observe_many(
        _pointers(tableaux), len(tableaux), state_features, action_features, most,
        observations.ctypes.data, masks.ctypes.data,
    )  # fmt: skip


def graph_many(
    tableaux: Sequence[Tableau],
    nodes: NDArray[np.int32],
    edges: NDArray[np.int32],
    actions: NDArray[np.int32],
    masks: NDArray[np.int8],
    names: int,
) -> None:
    """Write the graph of each of TABLEAUX into NODES [n, ...], EDGES and ACTIONS, as the twin's
    `Tableau.graph` says, and which of the first k actions there are into MASKS [n, k].
    """
    _library().tableau_graph_many(
        _pointers(tableaux), len(tableaux), nodes.shape[1], edges.shape[1], masks.shape[1], names,
        nodes.ctypes.data, edges.ctypes.data, actions.ctypes.data, masks.ctypes.data,
    )  # fmt: skip


def _pointers(tableaux: Sequence[Tableau]) -> Any:
    return (_Pointer * len(tableaux))(*[tableau._self for tableau in tableaux])
