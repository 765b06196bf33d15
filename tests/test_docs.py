"""What the documentation tells people to type does what it says.

In a page, a ```console block holds commands after `$ ` and, below them, what they print (`...`
stands for anything); if it has a title, which says so, other numbers will do. Any other block with
a title is a file; a ```python block is a program. The blocks of a page run in their order in one
empty folder, `pip install` installs for that page alone.

```bash blocks are for commands that take long or need what a test cannot have: in them every
command must still exist, with the options, of the types, that it is given, and a training of the
generative families for a GPU, or on pictures, must begin. ```py blocks are pieces of programs.

Sybil could find the blocks, but not run them as this does: a program in a process of its own, a
command in a shell, what it prints held against a pattern. That is what most of this file is about.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import itertools
import math
import os
import re
import runpy
import shlex
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import numpy as np
import pytest

import corelab
from corelab import Run, cli
from corelab.experiments import resolve
from corelab.plugins import Plugins

ROOT = Path(__file__).parent.parent
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "examples" not in page.parts
]
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.MULTILINE | re.DOTALL)
BETWEEN = ";&|<>\n"
"""What stands between two commands, or a command and a file."""
LIGHT = ["train", "resume", "runs", "eval", "sample", "plugins", "show", "new"]
"""The verbs that take no time once nothing is trained."""
if importlib.util.find_spec("ray"):
    LIGHT += ["sweep"]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def blocks(page: Path, *kinds: str) -> list[tuple[str, str, str]]:
    """Kind, title and text of every block of PAGE of these KINDS."""
    return [block for block in BLOCK.findall(page.read_text()) if block[0] in kinds or block[1]]


def commands(block: str) -> list[tuple[str, str]]:
    """Each command of a console BLOCK with the output written under it."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    found = [re.fullmatch(r"((?:.*\\\n)*.*)\n?([\s\S]*)", part) for part in parts]
    return [(m[1], m[2].rstrip("\n")) for m in found if m]


def matches(expected: str, printed: str, any_numbers: bool = False) -> bool:
    """Whether PRINTED is as EXPECTED, up to `...` and the widths of columns."""
    pattern = ".*?".join(map(re.escape, expected.split("...")))
    if any_numbers:
        pattern = re.sub(r"(?<![\w-])\d[\d,]*(?:\\\.\d+)?(?![\w-])", r"[-\\d,.e+]+", pattern)
    pattern = re.sub(r"(?:\\ )+", r"\\s+", pattern)
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if blocks(p, "console", "python")],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_commands_and_programs_of_the_page_run(
    page: Path, warm: dict[str, str], tmp_path: Path
) -> None:
    if any("corelab sweep" in text for _, _, text in blocks(page, "console")):
        pytest.importorskip("ray", reason="needs Ray: pip install 'corelab-ml[ray]'")
    folder, site = tmp_path / "folder", tmp_path / "site"
    folder.mkdir()
    site.mkdir()
    # Python reads .pth files, by which pip installs for development, only in sites.
    (site / "sitecustomize.py").write_text(f"import site\nsite.addsitedir({str(site)!r})\n")
    environment = {
        **os.environ,
        **warm,
        "PYTHONPATH": os.pathsep.join((str(site), os.environ.get("PYTHONPATH", ""))),
        "PIP_TARGET": str(site),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the value of --build-isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "COLUMNS": "100",
    }
    for kind, title, text in blocks(page, "console", "python"):
        if title and kind != "console":
            (folder / title).parent.mkdir(parents=True, exist_ok=True)
            (folder / title).write_text(text)
        elif kind == "python":
            _run(["program", text], text, folder, environment)
        else:
            for command, expected in commands(text):
                code = 2 if expected.startswith("corelab: ") else 0
                printed = _run(["bash", "-c", command], command, folder, environment, code)
                as_told = not expected or matches(expected, printed, any_numbers=bool(title))
                assert as_told, f"$ {command}\n{printed}"


def _run(
    words: list[str], shown: str, folder: Path, environment: dict[str, str], code: int = 0
) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"$ {shown}\n{done.stdout}"
    return done.stdout.rstrip("\n")


def simple_commands(script: str) -> list[list[str]]:
    """The words of each command in a bash SCRIPT; what would be filled in is 1."""
    script = re.sub(r"\\\n|(^|\s)#.*", " ", re.sub(r"\$\w+", "1", script))
    words = shlex.shlex(script, posix=True, punctuation_chars=BETWEEN)
    words.whitespace, words.whitespace_split, words.commenters = " \t", True, ""
    found: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set(BETWEEN):
            found.append([])
        elif found[-1] or word not in ("do", "then"):
            found[-1].append(word)
    return [command for command in found if command]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p, "bash", "")], ids=lambda p: str(p.relative_to(ROOT))
)
def test_commands_that_take_long_exist_with_their_options(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything happens as it would, except for training; so there is nothing to evaluate."""
    monkeypatch.setattr("corelab.local.start", Run.create)
    monkeypatch.setattr("corelab.local.resume", lambda run, steps: run)
    monkeypatch.setattr("corelab.seeds.execute", lambda *_: 0)
    monkeypatch.setattr("corelab.cli._sweep", lambda *_: 0)
    monkeypatch.setattr("corelab.runs.installed", dict)
    algorithm = page.stem
    for n, (_, _, text) in enumerate(b for b in blocks(page, "bash", "") if not b[1]):
        (tmp_path / str(n)).mkdir()
        monkeypatch.chdir(tmp_path / str(n))
        if text.startswith("$ "):  # with what they print
            text = "\n".join(command for command, _ in commands(text))
        for words in simple_commands(text):
            shown = f"{page.relative_to(ROOT)}: {' '.join(words)}"
            if words[:2] == ["corelab", "train"]:
                algorithm = words[2]
            if words[:2] in (["corelab", v] for v in ("eval", "sample", "resume")):
                _make_runs(words[2:], algorithm)
            if words[0] == "corelab" and words[1] in LIGHT:
                code, said = cli.main(words[1:]), capsys.readouterr().err
                assert code == 0 or "there is no checkpoint yet" in said, f"{shown}\n{said}"
            elif words[0] == "corelab":
                assert words[1] in (*cli.VERBS, *Plugins().names("verb")), shown
            elif words[0] == "python" and words[1] != "-m":
                _read_options(words[1:], monkeypatch)
            elif words[0] == "make":
                assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(), shown


def _make_runs(words: list[str], algorithm: str) -> None:
    """Have a run of ALGORITHM for every name of one with which WORDS begin, RUN and runs/… too."""
    for name in itertools.takewhile(lambda word: not word.startswith("-"), words):
        path = Path(name)
        if not path.exists():
            place = ["--run.dir", str(path.parent), "--run.name", path.name]
            Run.create(resolve(algorithm, argv=place))


def _read_options(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the script that WORDS begin with to where it has read the rest of them."""
    read = argparse.ArgumentParser.parse_args

    def stop(*given: Any) -> NoReturn:
        read(*given)
        raise EOFError

    script = ROOT / words[0]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.syspath_prepend(str(script.parent))
    if "parse_args" in script.read_text():
        with pytest.raises(EOFError):
            runpy.run_path(str(script), run_name="__main__")
    else:
        assert words[1:] == []


RECIPES = [
    ROOT / "docs" / "algorithms" / f"{name}.md"
    for name in ("vae", "vqvae", "gan", "pixelcnn", "diffusion")
]
TINY = {
    "--algorithm.batch-size": "4",
    "--model.channels": "8",
    "--model.layers": "2",
    "--model.blocks": "1",
    "--device": "cpu",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the recipes name: `cifar10`, `pictures`, and files like MNIST's."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    archive = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        records = rng.integers(0, 256, (6, 20, 3073), dtype=np.uint8)
        records[:, :, 0] = np.arange(20) % 3
        files = {f"data_batch_{i}.bin": batch.tobytes() for i, batch in enumerate(records)}
        for name, content in {**files, "batches.meta.txt": b"cat\ndog\nship\n\n"}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    unpack = runpy.run_path(str(ROOT / "benchmarks" / "cifar10.py"))["unpack"]
    assert unpack(archive, folder / "cifar10") == 120
    assert sorted(place.name for place in (folder / "cifar10").iterdir()) == ["cat", "dog", "ship"]
    (folder / "pictures").symlink_to("cifar10")
    for name in ("mnist", "fashion-mnist"):
        (folder / name).mkdir()
        for part in ("train", "t10k"):
            images = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8)
            labels = np.arange(60, dtype=np.uint8) % 10
            for what, array in (("images-idx3", images), ("labels-idx1", labels)):
                header = struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape)
                (folder / name / f"{part}-{what}-ubyte").write_bytes(header + array.tobytes())
    return folder


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.stem)
def test_recipes_for_a_gpu_and_for_pictures_begin_to_learn(
    page: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    monkeypatch.setenv("CORELAB_DATA", str(data))
    scripts = [simple_commands(text) for _, _, text in blocks(page, "bash")]
    recipes = [words for script in scripts for words in script if {"cuda", "images"} & {*words}]
    assert recipes
    for words in recipes:
        _begin(words)


def _begin(words: list[str]) -> None:
    """Take two updates of what WORDS would train, in a smaller size."""
    assert words[:2] == ["corelab", "train"], words
    names = argparse.ArgumentParser()
    names.add_argument("--task")
    names.add_argument("--model")
    named, rest = names.parse_known_args(words[3:])
    argv = [
        TINY.get(before.replace("_", "-"), word)
        for before, word in zip(["", *rest], rest, strict=False)
    ]
    if "--algorithm.batch-size" not in [word.replace("_", "-") for word in rest]:
        argv += ["--algorithm.batch-size", "4"]
    experiment = resolve(words[2], task=named.task, model=named.model, argv=argv)
    context = experiment.context()
    run = experiment.build(context)
    with context.owning_globals():
        for _ in range(2):
            figures = {name: float(value) for name, value in run.step().items()}
            assert all(math.isfinite(value) for value in figures.values()), words
    assert run.progress > 0


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", _prose(page)):
        address = urlsplit(target)
        if address.scheme:
            assert address.scheme in ("http", "https"), f"{page}: {target}"
            assert "." in address.netloc, f"{page}: {target}"
            continue
        goal = (page.parent / address.path).resolve() if address.path else page
        assert goal.exists(), f"{page}: {target}"
        assert not address.fragment or address.fragment in _anchors(goal), f"{page}: {target}"


def _prose(page: Path) -> str:
    return re.sub(r"`[^`\n]+`", "", BLOCK.sub("", page.read_text()))


def _anchors(page: Path) -> set[str]:
    """What can be linked to in PAGE: its headings, as mkdocs and GitHub name them, and its API."""
    text = BLOCK.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    names = {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}
    return names | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def test_output_is_held_against_the_page() -> None:
    row = "runs/a  return  319.1  n-step 1,000"
    assert matches(row, row)
    assert matches("runs/a return ...", row)
    assert not matches(row, row.replace("319", "320"))
    assert matches(row, row.replace("319.1", "-2e-05"), any_numbers=True)
    assert not matches(row, row.replace("319.1", "nan"), any_numbers=True)
    assert not matches("seed-0", "seed-1", any_numbers=True)


def test_scripts_are_cut_into_commands() -> None:
    script = 'for seed in 1 2; do\n  a --x "b >= c" \\\n    -y $seed && d > file  # not this\ndone'
    loop, first, second, *_ = simple_commands(script)
    assert loop == ["for", "seed", "in", "1", "2"]
    assert first == ["a", "--x", "b >= c", "-y", "1"]
    assert second == ["d"]


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES[1:]:
        assert f" {page.relative_to(ROOT / 'docs')}\n" in navigation


def test_every_verb_is_explained() -> None:
    page = ROOT / "docs" / "cli.md"
    assert set(cli.VERBS) <= _anchors(page)
    asked = {command for _, _, text in blocks(page, "console") for command, _ in commands(text)}
    assert {f"corelab {verb} --help" for verb in cli.VERBS} <= asked


def test_the_api_reference_has_every_public_name() -> None:
    explained = _anchors(ROOT / "docs" / "api.md")
    errors = {name for name in corelab.__all__ if name.endswith("Error")}  # in corelab.errors
    missing = {f"corelab.{name}" for name in set(corelab.__all__) - errors} - explained
    assert not missing


def test_pictures_are_small() -> None:
    for picture in (ROOT / "docs").rglob("*.*"):
        if picture.suffix in (".png", ".gif", ".svg"):
            assert picture.stat().st_size <= 100_000, picture
