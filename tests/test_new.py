"""`corelab new`: what it writes is complete, clean and works; what it cannot write it refuses."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from corelab import ConfigError, cli, new

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
NAMES = {"algorithm": "acrobat", "task": "corridor", "model": "ladder", "sink": "csv-table"}
LONGEST = "a-name-of-many-letters-x"
BAD_NAMES = ("", "Foo", "1foo", "foo!", "foo-", "foo--bar", "../foo", "føø", "f" * 25)


def package(kind: str) -> str:
    return f"corelab_{NAMES[kind].replace('-', '_')}"


def run(folder: Path, environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a distribution of each kind, in folders called as the kinds."""
    folder = tmp_path_factory.mktemp("written")
    for kind, name in NAMES.items():
        new.write(kind, name, folder / kind)
    return folder


def test_a_distribution_is_complete(written: Path) -> None:
    for kind, name in NAMES.items():
        files = {str(p.relative_to(written / kind)) for p in (written / kind).rglob("*.*")}
        module = name.replace("-", "_")
        assert files >= {
            *("pyproject.toml", "README.md", ".gitignore", ".github/workflows/test.yml"),
            *(f"{package(kind)}/{file}" for file in ("__init__.py", f"{module}.py", "py.typed")),
            f"tests/test_{module}.py",
        }
        project = tomllib.loads((written / kind / "pyproject.toml").read_text())["project"]
        assert project["name"] == f"corelab-{name}"
        assert project["entry-points"]["corelab"] == {name: package(kind)}
        assert f"of corelab-{name}\n" in (written / kind / "LICENSE").read_text()


def test_nothing_of_the_templates_language_is_left(written: Path) -> None:
    for file in chain.from_iterable((written / kind).rglob("*") for kind in NAMES):
        if file.is_file():
            text = file.read_text().replace("${{ matrix.python }}", "")
            assert not re.search(r"\{\{|\}\}|\{%|%\}", f"{file}{text}"), file


@pytest.mark.parametrize("longest", [False, True], ids=["a usual name", "the longest name"])
def test_ruff_finds_nothing_to_change(written: Path, tmp_path: Path, longest: bool) -> None:
    assert len(LONGEST) == new.LONGEST
    for kind in NAMES:
        folder = new.write(kind, LONGEST, tmp_path / kind) if longest else written / kind
        ruff = (sys.executable, "-m", "ruff")
        run(folder, dict(os.environ), *ruff, "format", "--no-cache", "--check", ".")
        run(folder, dict(os.environ), *ruff, "check", "--no-cache", ".")


def test_mypy_finds_nothing_in_its_strict_mode(written: Path) -> None:
    """Nor in the examples, which were made of it; at once, since torch takes it long."""
    folders = {written / kind: package(kind) for kind in NAMES}
    folders |= {EXAMPLES / f"corelab-{name}": f"corelab_{name}" for name in ("cem", "catch")}
    code = [str(folder / part) for folder in folders for part in (folders[folder], "tests")]
    own = {"MYPYPATH": os.pathsep.join(map(str, folders))}
    # with what `make check` has found out about torch before
    settings = ("--config-file", "algorithm/pyproject.toml", "--cache-dir", f"{ROOT}/.mypy_cache")
    run(written, os.environ | own, sys.executable, "-m", "mypy", *settings, *code)


@pytest.fixture(scope="module")
def installed(written: Path, venv: dict[str, str]) -> dict[str, str]:
    """A virtual environment in which pip has installed all four."""
    run(written, venv, "pip", "install", "--quiet", *(f"./{kind}" for kind in NAMES))
    return venv


def test_each_is_listed_with_its_own_distribution(
    installed: dict[str, str], tmp_path: Path
) -> None:
    rows = json.loads(run(tmp_path, installed, "corelab", "plugins", "--json"))
    listed = {(row["kind"], row["name"]): row for row in rows}
    for kind, name in NAMES.items():
        assert listed[kind, name]["distribution"] == f"corelab-{name}"
        assert listed[kind, name]["summary"].lower() == new.SUMMARIES[kind]
        assert listed[kind, name]["broken"] is None


def test_all_of_them_take_part_in_one_run(installed: dict[str, str], tmp_path: Path) -> None:
    parts = (NAMES["algorithm"], "--task", NAMES["task"], "--model", NAMES["model"])
    out = run(tmp_path, installed, "corelab", "train", *parts, "--steps", "2000")
    directory = tmp_path / out.splitlines()[-1]
    record = json.loads((directory / "run.json").read_text())
    assert record["status"] == "done"
    assert [record[kind] for kind in ("algorithm", "task", "model")] == [parts[0], *parts[2::2]]
    table = (directory / "metrics.csv").read_text().splitlines()
    assert table[0] == "progress,metric,value"
    assert any(line.split(",")[1] == "eval/return" for line in table)


def test_their_own_tests_and_the_conformance_checks_pass(
    written: Path, installed: dict[str, str]
) -> None:
    settings = ("-c", "algorithm/pyproject.toml", "-p", "no:cacheprovider", "-v")
    tests = [f"{kind}/tests" for kind in NAMES]  # in one process, which starts but once
    said = run(written, installed, "pytest", *settings, *tests)
    for kind, name in NAMES.items():
        assert len(re.findall(rf"test_conformance\[{kind}-{name}-\w+\] PASSED", said)) >= 4
    assert set(re.findall(r"(\w+)\] SKIPPED", said)) <= {"runs_on_a_gpu", "workers_equal_one"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_from_nothing_to_a_passing_check_takes_less_than_a_minute_of_the_processor(
    venv: dict[str, str], tmp_path: Path, kind: str
) -> None:
    name = f"hurried-{kind}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    run(tmp_path, venv, "corelab", "new", kind, name)
    run(tmp_path, venv, "pip", "install", "--quiet", f"./corelab-{name}")
    run(tmp_path, venv, "corelab", "check", f"corelab_hurried_{kind}")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 60


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("algoritm", "foo", "there is no kind 'algoritm'; did you mean 'algorithm'?"),
        ("verb", "foo", "there is no kind 'verb'; kinds: algorithm, model, sink, task"),
        *(("task", name, "it takes at most 24 small letters") for name in BAD_NAMES),
        ("model", "class", "it has a meaning in the code already"),
        ("algorithm", "saved", "it has a meaning in the code already"),
        ("sink", "exception", "it has a meaning in the code already"),
        ("algorithm", "ppo", "corelab-ml 0.1.0 has the algorithm 'ppo' already"),
        ("model", "mlp", "corelab-ml 0.1.0 has the model 'mlp' already"),
        ("sink", "jsonl", "corelab-ml 0.1.0 has the sink 'jsonl' already"),
        ("sink", "nets", "a package corelab_nets is installed already"),
        ("task", "ml", "a package corelab_ml is installed already"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(
    kind: str, name: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        new.write(kind, name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already; name another folder with -o"):
        new.write("task", "foo", tmp_path)
    with pytest.raises(ConfigError, match="is there already"):
        new.write("task", "foo", tmp_path / "notes.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be written \(Not a directory\)"):
        new.write("task", "foo", tmp_path / "file" / "below")


def test_an_empty_folder_is_filled_and_the_verb_prints_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["new", "sink", "foo", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"
    assert (tmp_path / "corelab_foo" / "foo.py").is_file()


def test_the_templates_are_in_the_wheel() -> None:
    shipped = {f.distribution_path for f in WheelBuilder(str(ROOT)).recurse_included_files()}
    templates = [str(p.relative_to(ROOT)) for p in new.TEMPLATES.rglob("*") if p.is_file()]
    assert len(templates) > 15
    assert shipped.issuperset(templates)
