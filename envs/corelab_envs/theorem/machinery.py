"""Tableaux and searches, compiled if there is a compiler, and by their twins in Python if not."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from corelab_envs.theorem import calculus, engine, tree_search
from corelab_envs.theorem.calculus import Settings
from corelab_envs.theorem.guide import Guide
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.tree_search import Rules


def machinery() -> ModuleType:
    """The compiled engine, or its twin in Python if there is no compiler."""
    return calculus if engine.missing() else engine


def tableau(matrix: Matrix, eager: bool = False) -> Any:
    """A `Tableau` of MATRIX."""
    return machinery().Tableau(matrix, eager)


def depth_first(matrix: Matrix, settings: Settings, guide: Guide | None = None) -> Any:
    """A `Search` of MATRIX."""
    return machinery().Search(matrix, settings, guide)


def tree(matrix: Matrix, rules: Rules, guide: Guide | None = None) -> Any:
    """A `TreeSearch` of MATRIX."""
    return (tree_search if engine.missing() else engine).TreeSearch(matrix, rules, guide)


def follow(matrix: Matrix, eager: bool, line: list[tuple[int, int]]) -> Any:
    """The `Tableau` of MATRIX to which the actions of LINE, a `TreeSearch.line`, lead."""
    at = tableau(matrix, eager)
    for action, _ in line:
        at.step(action)
    return at
