"""The index of a plugin: what it offers, told without importing it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from corelab.errors import PluginError, hint

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

    def __post_init__(self) -> None:
        """PluginError for what could not be listed or found."""
        called = f"component {self.name!r}"
        several = (self.uses, self.examples)
        texts = (self.name, self.target, self.summary, self.provides, self.pattern, self.paper)
        if not all(isinstance(text, str) for text in texts):
            wrong = next(text for text in texts if not isinstance(text, str))
            raise PluginError(f"{called}: {wrong!r} stands where a str is needed")
        for names in several:
            if not (isinstance(names, tuple) and all(isinstance(n, str) for n in names)):
                raise PluginError(f"{called}: {names!r} stands where a tuple of str is needed")
        if self.kind not in KINDS:
            known = hint(str(self.kind), KINDS)
            raise PluginError(f"{called}: there is no kind {self.kind!r}; {known}")
        if ":" not in self.target:
            raise PluginError(f'{called}: the target {self.target!r} is not "module:Class"')
        if self.kind != "algorithm" and not self.provides:
            raise PluginError(f"{called}: say which interface the {self.kind} provides")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise PluginError(
                f"{called}: the pattern {self.pattern!r} is wrong: {error}"
            ) from error
