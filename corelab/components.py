"""The index of a plugin: what it offers, told without importing it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal, get_args

from corelab.deprecation import Deprecated
from corelab.errors import PluginError, hint

Kind = Literal["algorithm", "model", "task", "verb"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PARTS: tuple[Kind, ...] = ("algorithm", "model", "task")
"""What an experiment is made of: classes with options. A verb is a function."""


@dataclass(frozen=True)
class Component:
    """One thing that a plugin offers. Nothing it names is imported until it is used."""

    kind: Kind
    """`"algorithm"`, `"model"`, `"task"`, or `"verb"`: a verb of the command line."""
    name: str
    """What people type, such as `ppo`."""
    target: str
    """Where the class is: `"module:Class"`. Of a verb: the function, called with the words behind
    the verb as a list of str, that returns the exit code."""
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
    deprecated: Deprecated | None = None
    """Of a name that is going to be removed: since when, and what to use instead."""

    def __post_init__(self) -> None:
        """PluginError for what could not be listed or found."""
        called = f"component {self.name!r}"
        if not isinstance(self.deprecated, Deprecated | None):
            raise PluginError(f"{called}: {self.deprecated!r} is not a corelab.Deprecated")
        for field in fields(self):
            if field.name == "deprecated":
                continue
            value, several = getattr(self, field.name), field.name in ("uses", "examples")
            parts = value if several and isinstance(value, tuple) else (value,)
            if several != isinstance(value, tuple) or not all(isinstance(p, str) for p in parts):
                kind = "a tuple of str" if several else "a str"
                raise PluginError(f"{called}: {value!r} stands where {kind} is needed")
        if self.kind not in KINDS:
            raise PluginError(f"{called}: there is no kind {self.kind!r}; {hint(self.kind, KINDS)}")
        if ":" not in self.target:
            raise PluginError(f'{called}: the target {self.target!r} is not "module:Class"')
        if self.kind in ("model", "task") and not self.provides:
            raise PluginError(f"{called}: say which interface the {self.kind} provides")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise PluginError(
                f"{called}: the pattern {self.pattern!r} is wrong: {error}"
            ) from error
