"""What a sweep searches: options, and where their values come from.

`algorithm.lr=loguniform(1e-5, 1e-2)` is read without being evaluated, and held against the type of
the option before anything starts.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.sample import Domain

from corelab import config
from corelab.config import Option
from corelab.context import derive
from corelab.errors import ConfigError, hint

RANGES = {
    "uniform": "lower, upper",
    "loguniform": "lower, upper",
    "quniform": "lower, upper, step",
    "randint": "lower, upper",
}
LISTS = ("choice", "grid")
SEARCHED = ("algorithm.", "task.", "model.", "update.")
"""What decides what is learned, and may be searched; the seed as well."""


@dataclass(frozen=True)
class Search:
    """An option, and the values that it may take."""

    name: str
    """Dotted: "algorithm.lr"."""
    kind: str
    """"uniform", "loguniform", "quniform", "randint", "choice" or "grid"."""
    arguments: tuple[Any, ...]
    """The bounds, or the values."""

    def domain(self) -> Domain:
        """What draws a *point*: a number, or in a list the index of a value."""
        if self.kind in LISTS:
            return tune.choice(list(range(len(self.arguments))))
        domain: Domain = getattr(tune, self.kind)(*self.arguments)
        return domain

    def value(self, point: Any) -> Any:
        """The value at POINT, as plain Python."""
        return self.arguments[point] if self.kind in LISTS else np.asarray(point).item()

    def point(self, value: Any) -> Any:
        """Where VALUE, as `run.json` holds it, is."""
        if self.kind in LISTS:
            return [config.to_plain(argument) for argument in self.arguments].index(value)
        return value


def parse(expressions: Sequence[str], known: Mapping[str, Option]) -> tuple[Search, ...]:
    """The searches that EXPRESSIONS ask for. ConfigError for one that cannot be made, or that goes
    over an option which is not KNOWN or does not take such values.
    """
    searches = [_parse(expression, known) for expression in expressions]
    names = [search.name for search in searches]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--search: {name} is searched twice")
    return tuple(searches)


def _parse(expression: str, known: Mapping[str, Option]) -> Search:
    match = re.fullmatch(r"\s*([\w.-]+)\s*=\s*(\w+)\s*\((.*)\)\s*", expression)
    if not match:
        raise ConfigError(
            f'--search takes an expression like "algorithm.lr=loguniform(1e-5, 1e-2)", '
            f"got {expression!r}"
        )
    name, kind, inside = match[1].replace("-", "_"), match[2], match[3]
    words = [word.strip() for word in inside.split(",")]
    searched = {k for k in known if k.startswith(SEARCHED) or k == "seed"}
    if name in known and name not in searched:
        raise ConfigError(f"--search: {name} says how a run is made, so it is the same for all")
    if name not in searched:
        raise ConfigError(f"--search: there is no option {name!r}; {hint(name, searched)}")
    if kind in LISTS:
        return Search(name, kind, _listed(known[name], kind, words))
    if kind not in RANGES:
        raise ConfigError(f"--search {name}: there is no {kind!r}; {hint(kind, [*RANGES, *LISTS])}")
    return Search(name, kind, _range(known[name], kind, words))


def _listed(option: Option, kind: str, words: Sequence[str]) -> tuple[Any, ...]:
    """WORDS as the command line reads them: "64 64" is a value of two words."""
    if "" in words:
        raise ConfigError(f"--search {option.name}: {kind}(…) takes values with commas between")
    flag, values = f"--{option.name}", []
    for word in words:
        argv = [flag, *word.split()] if " " in word else [f"{flag}={word}"]
        values += [a.value for a in config.from_command_line(argv, {option.name: option})]
    if len(set(map(repr, values))) < len(values):
        raise ConfigError(f"--search {option.name}: {kind}(…) has a value twice")
    return tuple(values)


def _range(option: Option, kind: str, words: Sequence[str]) -> tuple[Any, ...]:
    where, shape = f"--search {option.name}", f"{kind}({RANGES[kind]})"
    try:
        numbers = [float(word) for word in words]
        lower, upper, *step = numbers
        if len(numbers) != len(RANGES[kind].split(",")) or not np.isfinite(numbers).all():
            raise ValueError
    except ValueError:
        raise ConfigError(f"{where}: {shape} takes numbers, got ({', '.join(words)})") from None
    if not lower < upper:
        raise ConfigError(f"{where}: in {shape} lower must be below upper, got {lower:g}")
    if kind == "loguniform" and lower <= 0:
        raise ConfigError(f"{where}: in {shape} lower must be above 0, got {lower:g}")
    if kind == "quniform":
        steps = np.divide(numbers[:2], step[0]) if step[0] > 0 else np.array([0.5])
        if not np.allclose(steps, steps.round(), rtol=0, atol=1e-9):
            raise ConfigError(f"{where}: in {shape} both bounds must be multiples of the step")
    whole = all(number.is_integer() for number in numbers)
    if kind == "randint" and not whole:
        raise ConfigError(f"{where}: {shape} takes whole numbers, got ({', '.join(words)})")
    drawn = whole and kind in ("quniform", "randint")
    try:
        for number in (lower, upper if drawn else lower + 0.5):  # 0.5: what no int is
            assigned = {option.name: int(number) if drawn else number}
            list(config.from_mapping(assigned, {option.name: option}, where))
    except ConfigError as error:
        raise ConfigError(f"{error}; choice(…) lists values") from None
    return tuple(int(number) if kind == "randint" else number for number in numbers)


def combinations(searches: Sequence[Search]) -> Iterator[dict[str, Any]]:
    """Every combination of the values that SEARCHES list."""
    for values in itertools.product(*(search.arguments for search in searches)):
        yield dict(zip((search.name for search in searches), values, strict=True))


def draws(searches: Sequence[Search], n: int, seed: int) -> Iterator[dict[str, Any]]:
    """N combinations of values, drawn independently of each other."""
    for i in range(n):
        random = np.random.RandomState(derive(seed, "search", i) % 2**32)
        yield {s.name: s.value(s.domain().sample(random_state=random)) for s in searches}
