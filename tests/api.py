"""The public interface as text, held against `api.txt`, so that no change to it goes unnoticed.

`python tests/api.py` compares; `python tests/api.py --write` writes down what is there now.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from breakages import MODULES

import corelab
from corelab import cli, components, plugins, runs

SNAPSHOT = Path(__file__).with_name("api.txt")


def describe(name: str, value: Any) -> Iterator[str]:
    """NAME with its signature, and the public members of a class."""
    if not inspect.isclass(value):
        kind = "hook " if hasattr(value, "corelab_spec") else ""
        shown = str(inspect.signature(value)) if inspect.isroutine(value) else f" = {value!r}"
        yield f"{kind}{name}{shown}"
        return
    bases = ", ".join(b.__name__ for b in value.__bases__ if b is not object)
    yield f"class {name}({bases})"
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            default = "" if field.default is dataclasses.MISSING else f" = {field.default!r}"
            yield f"    {name}.{field.name}: {field.type}{default}"
    elif not issubclass(value, Exception):
        for member, kind in inspect.get_annotations(value).items():
            if not member.startswith("_"):
                yield f"    {name}.{member}: {kind}"
    for member, content in vars(value).items():
        if member.startswith("_") and member not in ("__init__", "__call__"):
            continue
        if isinstance(content, property):
            yield f"    {name}.{member} -> {content.fget.__annotations__.get('return')}"
        elif isinstance(content, classmethod) or inspect.isfunction(content):
            yield f"    {name}.{member}{inspect.signature(getattr(value, member))}"


def interface() -> list[str]:
    """Every public name, hook, constant and verb, with its signature."""
    lines = [f"API = {corelab.API}", f"FORMAT = {runs.FORMAT}", f"KINDS = {components.KINDS}"]
    lines += [f"GROUP = {plugins.GROUP!r}", f"ALLOW = {plugins.ALLOW!r}"]
    lines += [f"VERBS = {', '.join(cli.VERBS)}"]
    for path in MODULES:
        module = importlib.import_module(path)
        lines.append(f"module {path}")
        for name in public(module):
            lines += describe(name, getattr(module, name))
    return lines


def public(module: ModuleType) -> list[str]:
    """The names that MODULE lists, or else those that it defines, without an underscore."""
    defined = [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", module.__name__) == module.__name__
        and not (
            name.startswith("_")
            or inspect.ismodule(value)
            or name in ("annotations", "TYPE_CHECKING")
        )
    ]
    return list(getattr(module, "__all__", defined))


if __name__ == "__main__":
    now = interface()
    if "--write" in sys.argv:
        SNAPSHOT.write_text("\n".join(now) + "\n")
    then = SNAPSHOT.read_text().splitlines() if SNAPSHOT.exists() else []
    changes = list(difflib.unified_diff(then, now, "api.txt", "this checkout", lineterm="", n=0))
    if changes:
        print(*changes, sep="\n")
        sys.exit("the public interface changed: if it was meant, run `make api` and add a fragment")
    print(f"the public interface is unchanged ({len(now)} lines)")
