"""The index of a plugin: what it offers, told without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["algorithm", "model", "task"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Component:
    """One thing that a plugin offers. Nothing it names is imported until it is used."""

    kind: Kind
    """`"algorithm"`, `"model"` or `"task"`."""
    name: str
    """What people type, such as `ppo`."""
    target: str
    """Where the class is: `"module:Class"`."""
    summary: str
    """One line for listings."""
    provides: str = ""
    """Of a task or a model: the interface that it fulfils, such as `"dataset"`."""
    uses: tuple[str, ...] = ()
    """Of an algorithm: the interfaces of the tasks and models that it can work with."""
    pattern: str = ""
    """Of a task: a regular expression; it also answers to every name that matches in full, and
    finds that name in the field `id` of its config."""
    examples: tuple[str, ...] = ()
    """Of a task with a pattern: names that work, for listings and hints."""
    paper: str = ""
    """The source: authors, year, title."""
