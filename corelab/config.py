"""Options: frozen dataclasses, filled from presets, a file and the command line, in this order.

Every layer is turned into assignments `dotted.name = tokens`, and tyro reads them all at once, so
that a value means the same wherever it is written. Where each value came from is kept.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import itertools
import json
import textwrap
import tomllib
import types
import typing
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from corelab.errors import ConfigError, hint


@dataclass(frozen=True)
class Option:
    """One option of a (nested) config."""

    name: str
    """Dotted: "algorithm.lr"."""
    type: Any
    default: Any
    help: str


@dataclass(frozen=True)
class Assignment:
    """A value for an option, as words of a command line, and where it was written."""

    name: str
    words: tuple[str, ...]
    source: str


def options(config: type, prefix: str = "") -> Iterator[Option]:
    """Every option of the dataclass CONFIG, nested ones by their dotted names."""
    hints, sentences = typing.get_type_hints(config, include_extras=False), field_help(config)
    for field in dataclasses.fields(config):
        kind, name = hints[field.name], prefix + field.name
        if dataclasses.is_dataclass(kind):
            yield from options(typing.cast(type, kind), f"{name}.")
        else:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            yield Option(name, kind, default, sentences.get(field.name, ""))


def from_signature(function: Callable[..., Any], besides: Container[str]) -> type:
    """The parameters of FUNCTION, all with defaults, as a dataclass; not those named in BESIDES."""
    hints = typing.get_type_hints(function)
    fields = [
        (p.name, hints[p.name], dataclasses.field(default=p.default))
        for p in inspect.signature(function).parameters.values()
        if p.name not in besides
    ]
    return dataclasses.make_dataclass("Options", fields, frozen=True)


def field_help(config: type) -> dict[str, str]:
    """The string under each field of the dataclass CONFIG."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0]
    except (OSError, TypeError, SyntaxError):  # made at run time: no source to read
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def type_name(kind: Any) -> str:
    """KIND as a person would write it."""
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case None:
            return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))
        case typing.Literal:
            return "one of " + ", ".join(map(repr, arguments))
        case typing.Union | types.UnionType:
            return " or ".join(map(type_name, arguments))
        case origin if origin is tuple:
            return f"any number of {type_name(arguments[0])}"
    return str(kind)


def _fits(value: Any, kind: Any) -> bool:
    """Whether VALUE, as a file or Python gives it, is of the type KIND."""
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, a) for a in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        items = isinstance(value, list | tuple)
        return items and all(_fits(v, arguments[0]) for v in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and value == int(value)
    if kind is Path:
        return isinstance(value, str | Path)
    return isinstance(value, kind)


def _words(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(repr(v) if isinstance(v, float) else str(v) for v in items)


def from_mapping(
    values: Mapping[str, Any], known: Mapping[str, Option], source: str
) -> Iterator[Assignment]:
    """Assignments from nested or dotted VALUES. ConfigError for an unknown key or a wrong type."""
    for name, value in _flatten(values):
        if name not in known:
            raise ConfigError(f"{source}: there is no option {name!r}; {hint(name, known)}")
        if not _fits(value, known[name].type):
            raise _wrong(name, known[name], value, source)
        yield Assignment(name, _words(value), source)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def from_file(path: Path) -> dict[str, Any]:
    """The nested values in a TOML file, or in the `run.json` of a run that is to be repeated."""
    try:
        text = path.read_text()
        if path.suffix == ".json":
            return dict(json.loads(text)["config"])
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        what = "a run.json" if path.suffix == ".json" else "TOML"
        raise ConfigError(f"{path}: is not {what} ({error})") from error


def from_command_line(argv: Sequence[str], known: Iterable[str]) -> Iterator[Assignment]:
    """Assignments from `--name value …`, `--name=value`, `--flag` and `--no-flag`."""
    known, source = set(known), "command line"
    words = list(argv)
    while words:
        flag = words.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"{source}: {flag!r} belongs to no option")
        flag, equals, value = flag[2:].partition("=")
        name = flag.replace("-", "_")
        given = [value] if equals else []
        while not equals and words and not words[0].startswith("--"):
            given.append(words.pop(0))
        head, dot, last = name.rpartition(".")
        if name not in known and last.startswith("no_") and f"{head}{dot}{last[3:]}" in known:
            name, given = f"{head}{dot}{last[3:]}", ["False"]
        if name not in known:
            flags = ("--" + k.replace("_", "-") for k in known)
            raise ConfigError(f"{source}: there is no option --{flag}; {hint('--' + flag, flags)}")
        yield Assignment(name, tuple(given), source)


def fill(config: type, assignments: Iterable[Assignment]) -> tuple[Any, dict[str, str]]:
    """An instance of CONFIG, and for each option the source of its value.

    Later assignments win over earlier ones. ConfigError for a value that is not of its type.
    """
    import tyro

    known = {option.name: option for option in options(config)}
    final = {a.name: a for a in assignments}

    def read(chosen: Iterable[Assignment]) -> Any:
        argv = [word for a in chosen for word in _as_flags(a, known[a.name])]
        with contextlib.redirect_stderr(io.StringIO()):  # tyro's boxes become one sentence
            return tyro.cli(config, args=argv, use_underscores=True)

    try:
        instance = read(final.values())
    except SystemExit:
        for a in final.values():  # tyro says no to the whole: find out to which part
            try:
                read([a])
            except SystemExit:
                raise _wrong(a.name, known[a.name], " ".join(a.words), a.source) from None
        raise ConfigError(f"these options do not go together: {', '.join(final)}") from None
    sources = {name: final[name].source if name in final else "default" for name in known}
    return instance, sources


def _as_flags(a: Assignment, option: Option) -> list[str]:
    words = a.words
    if option.type is bool:
        value = words[0].lower() if len(words) == 1 else "true" if not words else ""
        head, dot, last = a.name.rpartition(".")
        return {"true": [f"--{a.name}"], "false": [f"--{head}{dot}no_{last}"]}.get(
            value, [f"--{a.name}", *words, "is not a truth value"]
        )
    if int in (option.type, *typing.get_args(option.type)):
        words = tuple(map(_as_integer, words))
    if len(words) == 1 and typing.get_origin(option.type) is not tuple:
        return [f"--{a.name}={words[0]}"]
    return [f"--{a.name}", *words]


def _as_integer(word: str) -> str:
    """1e6 is how people write a million."""
    try:
        number = float(word)
        return str(int(number)) if number == int(number) and not word.isdigit() else word
    except (ValueError, OverflowError):
        return word


def _wrong(name: str, option: Option, value: Any, source: str) -> ConfigError:
    flag = f"--{name.replace('_', '-')}" if source == "command line" else name
    return ConfigError(f"{source}: {flag} takes {type_name(option.type)}, got {value!r}")


def to_plain(value: Any) -> Any:
    """A config, or a part of one, as JSON can hold it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    return str(value.absolute()) if isinstance(value, Path) else value
