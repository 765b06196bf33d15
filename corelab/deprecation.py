"""What is going to be removed says so in time, and keeps working until then."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

RENAMED = "__corelab_renamed__"
"""Where a config keeps the former names of its options."""


class DeprecatedWarning(FutureWarning):
    """Something that was used here will not exist in a later version."""


@dataclass(frozen=True)
class Deprecated:
    """Since when something should no longer be used, when it is removed, and what replaces it.

    The versions are those of whoever removes it: of the API for corelab, of its distribution for a
    plugin. As a decorator it makes a function warn when it is called.
    """

    since: str
    """The version that first warns: "1.1"."""
    removed_in: str
    """The version that no longer has it: "1.3"."""
    instead: str = ""
    """What to use: a name, or a few words."""

    def warn(self, what: str, stacklevel: int = 1) -> None:
        """Warn that WHAT is deprecated: STACKLEVEL 1 blames the caller, 2 the caller's caller."""
        mend = f": use {self.instead}" if self.instead else ""
        text = f"{what} is deprecated since {self.since} and removed in {self.removed_in}{mend}"
        warnings.warn(text, DeprecatedWarning, stacklevel=stacklevel + 1)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """FUNCTION, which warns."""

        @functools.wraps(function)
        def warning(*args: P.args, **kwargs: P.kwargs) -> R:
            self.warn(f"{function.__module__}.{function.__qualname__}", stacklevel=2)
            return function(*args, **kwargs)

        return warning

    def parameter(self, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """A decorator for a function whose parameter NAME is now called `instead`."""

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            @functools.wraps(function)
            def renaming(*args: Any, **kwargs: Any) -> R:
                if name in kwargs and self.instead not in kwargs:
                    self.warn(f"the parameter {name} of {function.__qualname__}", stacklevel=2)
                    kwargs[self.instead] = kwargs.pop(name)
                return function(*args, **kwargs)

            return renaming

        return decorate

    def option(self, name: str) -> Callable[[C], C]:
        """A decorator for a Config whose option NAME is now called `instead`."""

        def decorate(config: C) -> C:
            setattr(config, RENAMED, {**getattr(config, RENAMED, {}), name: self})
            return config

        return decorate


@contextmanager
def one_line_each(say: Callable[[str], None]) -> Iterator[None]:
    """Within, SAY what is deprecated, each thing once."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, DeprecatedWarning):
                say(str(message))
            else:
                show(message, category, *where, **more)

        warnings.simplefilter("once", DeprecatedWarning)
        warnings.showwarning = tell
        yield
