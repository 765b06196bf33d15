"""`corelab new`: a distribution for a plugin of one's own, ready to install, train and test.

What it is made of are the files in `corelab/templates`: those in `any`, and those in the folder of
the kind. Their paths are templates, too.
"""

from __future__ import annotations

import builtins
import keyword
import re
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Jinja by itself: copier adds questions, version control and later updates, none of which is needed
# here, and twelve packages to install, while torch brings Jinja in any case.
import jinja2

from corelab import API, ConfigError, __version__
from corelab.errors import hint
from corelab.plugins import Plugins, installed

SUMMARIES = {
    "algorithm": "advantage actor-critic, in its plainest form",
    "task": "walk along a row of cells to the goal",
    "model": "a residual network that the policy and the value share",
    "sink": "a table of all that a run logs, metrics.csv",
}
"""What each kind is until its author makes something else of it."""
PROVIDES = {"task": "environment", "model": "actor-critic"}
"""The interface of the task, and of the model, which is one for ppo, a2c and reinforce."""
LONGEST = 24
"""Letters in a name: with more of them, lines of the templates would become too long."""
TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".jinja"


def write(kind: str, name: str, folder: Path | None = None) -> Path:
    """Write a distribution with one plugin, the KIND called NAME, to FOLDER (`corelab-NAME`).

    `ConfigError` for a name that cannot be used, and for a folder in which there is something.
    """
    if kind not in SUMMARIES:
        raise ConfigError(f"new: there is no kind {kind!r}; {hint(kind, SUMMARIES, 'kinds')}")
    templates = {
        path.relative_to(TEMPLATES / part): path.read_text(encoding="utf-8")
        for part in ("any", kind)
        for path in sorted((TEMPLATES / part).rglob(f"*{SUFFIX}"))
    }
    if why := _unusable(kind, name, "".join(templates.values())):
        raise ConfigError(f"new: the name {name!r} cannot be used: {why}")
    folder = folder or Path(_distribution(name))
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"new: {folder} is there already; name another folder with -o")
        for path, text in _render(kind, name, templates).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"new: {folder} cannot be written ({error.strerror})") from error
    return folder


def _unusable(kind: str, name: str, code: str) -> str:
    """Why the KIND cannot be called NAME in CODE, the templates; "" if it can."""
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or len(name) > LONGEST:
        return (
            f"it takes at most {LONGEST} small letters and digits, a letter first, in words that "
            "are joined by - or _, such as my-idea"
        )
    cls = _class(name)
    taken = re.search(rf"^\s*(class|from|import) .*\b{cls}\b", code, re.MULTILINE)
    if taken or keyword.iskeyword(name) or cls in vars(builtins):
        return "it has a meaning in the code already; choose another one"
    plugins, interface = Plugins(), PROVIDES.get(kind, "")
    for plugin in plugins.sinks:
        if (kind, name) == ("sink", plugin.name):
            return f"{plugin} has the sink {name!r} already; choose another one"
    for offer in plugins.offers:
        c = offer.component
        if (kind, name, interface) == (c.kind, c.name, c.provides):
            return f"{offer.plugin} has the {kind} {name!r} already; choose another one"
    if find_spec(_package(name)) or _distribution(name) in installed():
        return f"a package {_package(name)} is installed already; choose another one"
    return ""


def _render(kind: str, name: str, templates: dict[Path, str]) -> dict[Path, str]:
    """The files of the distribution, by their paths in it."""
    jinja = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    words: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "distribution": _distribution(name),
        "package": _package(name),
        "module": _module(name),
        "cls": _class(name),
        "summary": SUMMARIES[kind],
        "provides": PROVIDES.get(kind, ""),
        "api": API,
        "version": __version__,
        "year": datetime.now(UTC).year,
    }
    return {
        Path(jinja.from_string(str(path)).render(words).removesuffix(SUFFIX)): (
            jinja.from_string(text).render(words)
        )
        for path, text in templates.items()
    }


def _distribution(name: str) -> str:
    return f"corelab-{name.replace('_', '-')}"


def _package(name: str) -> str:
    return f"corelab_{_module(name)}"


def _module(name: str) -> str:
    return name.replace("-", "_")


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in _module(name).split("_"))
