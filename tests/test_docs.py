"""What the documentation tells people to type does what it says.

In a page, a ```console block holds commands after `$ ` and, below them, what they print (`...`
stands for anything); a block with a title is a file; a ```python block is a program. The blocks of
a page run in their order in one empty folder. ```bash blocks are for commands that take long or
need what a test cannot have, ```py blocks for pieces of programs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "examples" not in page.parts and page.name != "plugin.md"  # test_tutorial.py tests that one
]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """Each command of a console BLOCK with the output written under it."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(p.partition("\n")[0], p.partition("\n")[2].rstrip("\n")) for p in parts]


def matches(expected: str, printed: str) -> bool:
    """Whether PRINTED is as EXPECTED, up to `...` and the ends of lines."""
    pattern = ".*?".join(map(re.escape, expected.split("...")))
    pattern = re.sub(r"(?:\\ )+", r"\\s+", pattern)
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


def runnable(page: Path) -> bool:
    return any(kind in ("console", "python") for kind, _, _ in BLOCK.findall(page.read_text()))


@pytest.mark.parametrize(
    "page", [p for p in PAGES if runnable(p)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_commands_and_programs_of_the_page_run(page: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CORELAB_PROGRESS": "off",
        "OMP_NUM_THREADS": "1",
    }
    for kind, title, text in BLOCK.findall(page.read_text()):
        if title:
            (tmp_path / title).write_text(text)
        elif kind == "python":
            _run([sys.executable, "-c", text], text, tmp_path, environment)
        elif kind == "console":
            for command, expected in commands(text):
                code = 2 if expected.startswith("corelab: ") else 0
                printed = _run(["bash", "-c", command], command, tmp_path, environment, code)
                assert not expected or matches(expected, printed), f"$ {command}\n{printed}"


def _run(
    words: list[str], shown: str, folder: Path, environment: dict[str, str], code: int = 0
) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"$ {shown}\n{done.stdout}"
    return done.stdout.rstrip("\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES[1:]:
        assert str(page.relative_to(ROOT / "docs")) in navigation
