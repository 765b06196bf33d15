"""The public interface as text, held against `api.txt`, so that no change to it goes unnoticed.

`python tests/api.py` compares; `python tests/api.py --write` writes down what is there now.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corelab
import corelab.testing
from corelab import cli, components, errors, hooks, plugins, runs

SNAPSHOT = Path(__file__).with_name("api.txt")


def describe(name: str, value: Any) -> Iterator[str]:
    """NAME with its signature, and the public members of a class."""
    if not inspect.isclass(value):
        yield f"{name}{inspect.signature(value)}" if callable(value) else f"{name} = {value!r}"
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
        if member.startswith("_") and member != "__init__":
            continue
        if isinstance(content, property):
            yield f"    {name}.{member} -> {content.fget.__annotations__.get('return')}"
        elif isinstance(content, classmethod) or inspect.isfunction(content):
            yield f"    {name}.{member}{inspect.signature(getattr(value, member))}"


def interface() -> list[str]:
    """Every public name, hook, constant and verb."""
    lines = [f"API = {corelab.API}", f"FORMAT = {runs.FORMAT}", f"KINDS = {components.KINDS}"]
    lines += [f"GROUP = {plugins.GROUP!r}", f"ALLOW = {plugins.ALLOW!r}"]
    lines += [f"VERBS = {', '.join(cli.VERBS)}"]
    for name in corelab.__all__:
        if name != "API":
            lines += describe(name, getattr(corelab, name))
    for name, value in vars(hooks).items():
        if name.startswith("corelab_"):
            lines += describe(f"hook {name}", value)
    lines += describe("corelab.testing.check_plugin", corelab.testing.check_plugin)
    lines += describe("corelab.testing.Result", corelab.testing.Result)
    lines += [
        f"{e.__name__} is a CorelabError"
        for e in vars(errors).values()
        if inspect.isclass(e) and issubclass(e, errors.CorelabError)
    ]
    return lines


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
