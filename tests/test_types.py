"""A plugin that is right passes mypy and pyright, and each kind of mistake is found where it is.

Every mistake is a change of one of the right plugins below. The checkers see all of them at once,
and must flag exactly the line that is told, or nothing at all.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FROZEN = Path(__file__).parent / "frozen"
HOOK = "@hookimpl"

PARTS = '''
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from corelab import Algorithm, Context, Evaluates, Media, Model, Samples, Split, Task
from corelab_datasets.interface import Dataset, SplitName
from corelab_datasets.interface import Split as Part
from corelab_envs.interface import Environment, Environments
from corelab_media import Images
from gymnasium import Space


@dataclass(frozen=True)
class Options:
    size: int = 3
    """How big it is."""


class Toy:
    Config = Options
    unit: ClassVar[str] = "steps"
    default_task: ClassVar[str] = "shapes"
    default_model: ClassVar[str] = "net"
    default_steps: ClassVar[int] = 10
    best: ClassVar[str] = "min eval/loss"
    highlights: ClassVar[tuple[str, ...]] = ("train/loss",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, config: Options, task: Dataset, model: Any, context: Context) -> None:
        self.progress = 0

    def step(self) -> dict[str, float]:
        raise NotImplementedError

    def save(self, directory: Path) -> None: ...

    def load(self, directory: Path) -> None: ...

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0, tries: int = 1
    ) -> dict[str, float]:
        return {}

    def sample(self, n: int = 64, seed: int = 0) -> Images:
        raise NotImplementedError


class Shapes:
    Config = Options
    shape: tuple[int, int, int] = (1, 8, 8)
    classes: tuple[str, ...] = ("round",)

    def __init__(self, config: Options) -> None: ...

    def split(self, name: SplitName) -> Part:
        raise NotImplementedError


class World:
    Config = Options
    name = "world"
    num_envs: int | None = None
    video = False
    fps = 30.0
    single_observation_space: Space[Any]
    single_action_space: Space[Any]

    def __init__(self, config: Options) -> None: ...

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> Environments:
        raise NotImplementedError


class Net(torch.nn.Module):
    Config = Options

    def __init__(self, config: Options, shape: tuple[int, ...]) -> None: ...


algorithm: type[Algorithm] = Toy
measured: type[Evaluates] = Toy
samples: type[Samples] = Toy
task: type[Task] = Shapes
model: type[Model] = Net
data: Dataset = Shapes(Options())
world: Environment = World(Options())
'''
ALGORITHM = "algorithm: type[Algorithm] = Toy"

INDEX = """
from __future__ import annotations

from collections.abc import Mapping

import SELF
from corelab import Component, Deprecated, Media, Run, hookimpl
from corelab.hooks import Index, Sink

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    return [
        Component("verb", "prove", "toys.prove:main", "prove something"),
        Component("task", "old", "toys:Task", "", provides="x", deprecated=Deprecated("1", "2")),
    ]


@hookimpl
def corelab_run_started(run: Run) -> None: ...


@hookimpl
def corelab_run_logged(run: Run, progress: int, metrics: Mapping[str, float], **_: object) -> None:
    print(run.path, progress, metrics["train/loss"])


@hookimpl
def corelab_run_ended(run: Run, error: BaseException | None) -> None: ...


index: Index = SELF
sink: Sink = SELF
"""

MEDIA = """
from __future__ import annotations

from collections.abc import Mapping

from corelab import Media, Run, hookimpl


@hookimpl
def corelab_run_logged(run: Run, progress: int, media: Mapping[str, Media]) -> None:
    raise NotImplementedError
"""

MISTAKES = {
    # name: (the plugin, what stands there, what stands there by mistake, the line that is flagged)
    "step_returns_a_number": (PARTS, "step(self) -> dict[str, float]", "step(self) -> float", ""),
    "step_returns_text": (
        PARTS,
        "step(self) -> dict[str, float]",
        "step(self) -> dict[str, str]",
        "",
    ),
    "step_takes_more": (PARTS, "def step(self)", "def step(self, batch: int)", ""),
    "no_unit": (PARTS, '    unit: ClassVar[str] = "steps"\n', "", ""),
    "unit_is_a_number": (PARTS, 'unit: ClassVar[str] = "steps"', "unit: ClassVar[int] = 1", ""),
    "no_budget": (PARTS, "    default_steps: ClassVar[int] = 10\n", "", ""),
    "highlights_is_one": (
        PARTS,
        'highlights: ClassVar[tuple[str, ...]] = ("train/loss",)',
        'highlights: ClassVar[str] = "train/loss"',
        "",
    ),
    "save_takes_text": (PARTS, "save(self, directory: Path)", "save(self, directory: str)", ""),
    "save_takes_nothing": (PARTS, "save(self, directory: Path)", "save(self)", ""),
    "load_is_missing": (PARTS, "def load(self", "def reload(self", ""),
    "no_progress": (PARTS, "self.progress = 0", "self.done = 0", ""),
    "evaluates_nothing": (
        PARTS,
        "    ) -> dict[str, float]:\n        return {}\n",
        "    ) -> None: ...\n",
        "measured: type[Evaluates] = Toy",
    ),
    "samples_text": (
        PARTS,
        "seed: int = 0) -> Images:",
        "seed: int = 0) -> str:",
        "samples: type[Samples] = Toy",
    ),
    "task_without_options": (
        PARTS,
        "class Shapes:\n    Config = Options\n",
        "class Shapes:\n",
        "task: type[Task] = Shapes",
    ),
    "options_are_a_dict": (
        PARTS,
        "class Shapes:\n    Config = Options\n",
        "class Shapes:\n    Config = dict\n",
        "task: type[Task] = Shapes",
    ),
    "model_without_options": (
        PARTS,
        "Module):\n    Config = Options\n",
        "Module):\n",
        "model: type[Model] = Net",
    ),
    "data_set_without_classes": (
        PARTS,
        '    classes: tuple[str, ...] = ("round",)\n',
        "",
        "data: Dataset = Shapes(Options())",
    ),
    "data_set_splits_otherwise": (
        PARTS,
        "def split(self, name: SplitName) -> Part:",
        "def split(self, name: SplitName) -> torch.Tensor:",
        "data: Dataset = Shapes(Options())",
    ),
    "environment_without_make": (
        PARTS,
        "def make(self",
        "def create(self",
        "world: Environment = World(Options())",
    ),
    "environment_made_without_a_seed": (
        PARTS,
        "num_envs: int, seed: int, *,",
        "num_envs: int, *,",
        "world: Environment = World(Options())",
    ),
    "component_of_no_kind": (
        INDEX.replace("index: Index = SELF\n", ""),
        'Component("verb", "prove", "toys.prove:main", "prove something")',
        'Component("verv", "prove", "toys.prove:main", "prove something")',
        'Component("verv", "prove", "toys.prove:main", "prove something"),',
    ),
    "component_uses_text": (
        INDEX,
        'Component("verb", "prove", "toys.prove:main", "prove something")',
        'Component("algorithm", "a", "toys:A", "learns", uses="dataset")',
        'Component("algorithm", "a", "toys:A", "learns", uses="dataset"),',
    ),
    "metrics_are_text": (
        MEDIA,
        "media: Mapping[str, Media]",
        "metrics: Mapping[str, str]",
        HOOK,
    ),
    "media_are_numbers": (MEDIA, "media: Mapping[str, Media]", "media: Mapping[str, int]", HOOK),
    "hook_takes_what_there_is_not": (MEDIA, "run: Run,", "run: Run, colour: str,", HOOK),
    "hook_returns_something": (MEDIA, "-> None", "-> int", HOOK),
    "run_is_text": (MEDIA, "run: Run", "run: str", HOOK),
    "hook_misspelt": (
        INDEX,
        "def corelab_run_started",
        "def corelab_run_startd",
        "sink: Sink = SELF",
    ),
    "components_misspelt": (
        INDEX,
        "def corelab_components",
        "def corelab_component",
        "index: Index = SELF",
    ),
    "api_is_text": (INDEX, "corelab_api = (1, 0)", 'corelab_api = "1.0"', "index: Index = SELF"),
}


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, set[str]]:
    """The files, written into tmp_path, each with the lines that should be flagged."""
    sources = {"right_parts": PARTS, "right_index": INDEX, "right_media": MEDIA}
    flagged: dict[str, set[str]] = {name: set() for name in sources}
    for name, (right, old, new, line) in MISTAKES.items():
        assert right.count(old) == 1, name
        sources[name] = right.replace(old, new)
        flagged[name] = {(line or ALGORITHM).replace("SELF", name)}
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source.replace("SELF", name))
    (tmp_path / "corelab_frozen").symlink_to(FROZEN / "corelab_frozen")
    flagged |= {file.stem: set() for file in (FROZEN / "corelab_frozen").glob("*.py")}
    return flagged


def lines(folder: Path, found: set[tuple[str, int]], names: set[str]) -> dict[str, set[str]]:
    """The text of the lines FOUND, as (file, number), by the file's name."""
    flagged: dict[str, set[str]] = {name: set() for name in names}
    for file, number in found:
        text = (folder / file).read_text().splitlines()[number - 1]
        flagged[Path(file).stem].add(text.strip())
    return flagged


def check(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_mypy_finds_each_mistake_and_no_other(
    tmp_path: Path, expected: dict[str, set[str]]
) -> None:
    options = ["--config-file=", "--strict", "--no-error-summary", "--hide-error-context"]
    # with what `make check` has found out about torch before
    options += ["--cache-dir", f"{ROOT}/.mypy_cache"]
    said = check(tmp_path, "mypy", *options, ".")
    found = {
        (match[1], int(match[2])) for match in re.finditer(r"^(\S+?):(\d+): error:", said, re.M)
    }
    assert lines(tmp_path, found, set(expected)) == expected


def test_pyright_finds_each_mistake_and_no_other(
    tmp_path: Path, expected: dict[str, set[str]]
) -> None:
    pytest.importorskip("pyright", reason="needs pyright: pip install 'corelab-ml[dev]'")
    said = check(tmp_path, "pyright", "--pythonpath", sys.executable, "--outputjson", ".")
    found = {
        (d["file"], d["range"]["start"]["line"] + 1)
        for d in json.loads(said)["generalDiagnostics"]
        if d["severity"] == "error"
    }
    assert lines(tmp_path, found, set(expected)) == expected
