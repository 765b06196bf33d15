"""Options: frozen dataclasses, filled from presets, a file and the command line, in this order.

Every layer becomes assignments `dotted.name = value`. Words of the command line are read by tyro,
values of files and of Python are held against the same types. Where each one came from is kept.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
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
from typing import Annotated, Any, Literal, Union

from corelab.deprecation import RENAMED, Deprecated
from corelab.errors import ConfigError, hint


@dataclass(frozen=True)
class Option:
    """One option of a (nested) config."""

    name: str
    """Dotted: "algorithm.lr"."""
    type: Any
    default: Any
    help: str
    formerly: Mapping[str, Deprecated] = dataclasses.field(default_factory=dict)
    """Former names, dotted."""


@dataclass(frozen=True)
class Assignment:
    """A value for an option, of its type, and where it was written."""

    name: str
    value: Any
    source: str


def options(config: type, prefix: str = "") -> Iterator[Option]:
    """Every option of the dataclass CONFIG, nested ones by their dotted names."""
    hints, sentences = typing.get_type_hints(config, include_extras=False), field_help(config)
    renamed: Mapping[str, Deprecated] = getattr(config, RENAMED, {})
    for field in dataclasses.fields(config):
        kind, name = hints[field.name], prefix + _shown(field)
        if dataclasses.is_dataclass(kind):
            yield from options(typing.cast(type, kind), f"{name}.")
        else:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            former = {prefix + k: d for k, d in renamed.items() if prefix + d.instead == name}
            yield Option(name, kind, default, sentences.get(field.name, ""), former)


def _shown(field: dataclasses.Field[Any]) -> str:
    """The name of FIELD, without the "_" behind what is a word of Python's: `class_` is "class"."""
    return field.name.removesuffix("_")


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
    """The string under each field of the dataclass CONFIG, those it inherits included."""
    return {k: text for base in reversed(config.__mro__) for k, text in _own_help(base).items()}


@functools.cache
def _own_help(config: type) -> dict[str, str]:
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


def _convert(value: Any, kind: Any) -> Any:
    """VALUE, as a file or Python gives it, as the type KIND. TypeError if it is no such value."""
    arguments, origin = typing.get_args(kind), typing.get_origin(kind)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if origin in (Union, types.UnionType):
        for argument in sorted(arguments, key=lambda a: a is not type(value)):
            with contextlib.suppress(TypeError):
                return _convert(value, argument)
    elif origin is Literal:
        if any(value == a and type(value) is type(a) for a in arguments):
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(_convert(v, arguments[0]) for v in value)
    elif kind is float and number:
        return float(value)
    elif kind is int and number and (isinstance(value, int) or value.is_integer()):
        return int(value)
    elif kind is Path and isinstance(value, str | Path):
        return Path(value)
    elif kind not in (int, float) and isinstance(value, kind):
        return value
    raise TypeError


def from_mapping(
    values: Mapping[str, Any], known: Mapping[str, Option], source: str
) -> Iterator[Assignment]:
    """Assignments from nested or dotted VALUES. ConfigError for an unknown key or a wrong type."""
    for written, value in flatten(values):
        name = _current(written, known, source)
        if name not in known:
            raise ConfigError(f"{source}: there is no option {name!r}; {hint(name, known)}")
        try:
            yield Assignment(name, _convert(value, known[name].type), source)
        except TypeError:
            raise ConfigError(
                f"{source}: {name} takes {type_name(known[name].type)}, got {value!r}"
            ) from None


def _current(name: str, known: Mapping[str, Option], source: str) -> str:
    """What the option that SOURCE calls NAME is called now."""
    for option in known.values():
        if name in option.formerly and name not in known:
            now = dataclasses.replace(option.formerly[name], instead=option.name)
            now.warn(f"{source}: the option {name}", stacklevel=2)
            return option.name
    return name


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The nested VALUES by their dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
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


def from_command_line(argv: Sequence[str], known: Mapping[str, Option]) -> Iterator[Assignment]:
    """Assignments from `--name value …`, `--name=value`, `--flag` and `--no-flag`.

    ConfigError for an unknown option or a wrong type.
    """
    words, source = list(argv), "command line"
    while words:
        flag = words.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"{source}: {flag!r} belongs to no option")
        flag, equals, value = flag.partition("=")
        name = _current(flag[2:].replace("-", "_"), known, source)
        given = [value] if equals else []
        while not equals and words and not words[0].startswith("--"):
            given.append(words.pop(0))
        head, dot, last = name.rpartition(".")
        positive = _current(f"{head}{dot}{last.removeprefix('no_')}", known, source)
        if name not in known and positive in known and known[positive].type is bool:
            if given:
                raise ConfigError(f"{source}: {flag} takes no value, got {' '.join(given)!r}")
            name, given = positive, ["false"]
        if name not in known:
            flags = ("--" + k.replace("_", "-") for k in known)
            raise ConfigError(f"{source}: there is no option {flag}; {hint(flag, flags)}")
        yield Assignment(name, _read(given, known[name], flag), source)


def _read(words: list[str], option: Option, flag: str) -> Any:
    """The value that tyro reads in WORDS, which stood behind FLAG."""
    import tyro

    if option.type is bool:
        truth = {"true": "True", "false": "False"}
        words = [truth.get(word.lower(), word) for word in words] or ["True"]
    if int in (option.type, *typing.get_args(option.type)):
        words = [_as_integer(word) for word in words]
    several = typing.get_origin(option.type) is tuple
    argv = ["--value", *words] if several or len(words) != 1 else [f"--value={words[0]}"]
    kind: Any = option.type
    reader: Any = dataclasses.make_dataclass(
        "Reader", [("value", Annotated[kind, tyro.conf.FlagConversionOff])]
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # tyro's box becomes one sentence
            return tyro.cli(reader, args=argv).value
    except SystemExit:
        kind_name, said = type_name(option.type), " ".join(words)
        raise ConfigError(f"command line: {flag} takes {kind_name}, got {said!r}") from None


def _as_integer(word: str) -> str:
    """1e6 is how people write a million."""
    with contextlib.suppress(ValueError):
        int(word)
        return word
    with contextlib.suppress(ValueError, OverflowError):
        if float(word).is_integer():
            return str(int(float(word)))
    return word


def fill(config: type, assignments: Iterable[Assignment]) -> tuple[Any, dict[str, str]]:
    """An instance of CONFIG, and for each option the source of its value: the last one wins."""
    final = {a.name: a for a in assignments}
    sources = {
        o.name: final[o.name].source if o.name in final else "default" for o in options(config)
    }

    def build(cls: type, prefix: str) -> Any:
        hints, values = typing.get_type_hints(cls), {}
        for field in dataclasses.fields(cls):
            name = prefix + _shown(field)
            if dataclasses.is_dataclass(hints[field.name]):
                values[field.name] = build(hints[field.name], f"{name}.")
            elif name in final:
                values[field.name] = final[name].value
        return cls(**values)

    return build(config, ""), sources


def to_plain(value: Any) -> Any:
    """A config, or a part of one, as JSON can hold it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    return str(value.absolute()) if isinstance(value, Path) else value
