"""Plugins are code: what corelab says about where it is from, and what it never runs."""

from __future__ import annotations

import base64
import hashlib
import json
import resource
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import corelab as core
from corelab import CorelabError, PluginError
from corelab.cli import main
from corelab.plugins import Plugins

Install = Callable[..., None]
COMMAND = Path(sysconfig.get_path("scripts")) / "corelab"

INDEX = """
from corelab import Component, hookimpl
corelab_api = (1, 0)

@hookimpl
def corelab_components():
    return [Component("task", "NAME", "NAME_parts:Task", "", provides="nothing")]
"""


# -- where it is from --------------------------------------------------------------------------


@pytest.fixture
def wooden(install: Install, site: Path) -> Path:
    """The metadata of a distribution with two modules, installed with their hashes."""
    install("wooden", INDEX, modules={"wooden_parts": "class Task: ...\n"})
    info = site / "wooden-1.0.dist-info"
    files = [site / "wooden.py", site / "wooden_parts.py", info / "METADATA"]
    rows = [f"{file.relative_to(site)},{digest(file)},{file.stat().st_size}" for file in files]
    unhashed = ["wooden-1.0.dist-info/RECORD,,", "__pycache__/wooden.cpython-311.pyc,,"]
    (info / "RECORD").write_text("\n".join([*rows, *unhashed]) + "\n")
    return info


def digest(file: Path) -> str:
    """The hash of FILE as a RECORD holds it."""
    raw = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest())
    return "sha256=" + raw.rstrip(b"=").decode()


def verdict(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    """What `corelab plugins --verify --json`, which ends with CODE, says of `wooden`."""
    assert main(["plugins", "--verify", "--json"]) == code
    (row,) = (r for r in json.loads(capsys.readouterr().out) if r["distribution"] == "wooden")
    return dict(row)


def test_files_as_they_were_installed_are_counted(
    wooden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(capsys) == {
        "distribution": "wooden",
        "version": "1.0",
        "origin": "index",
        "plugins": ["wooden"],
        "verified": 3,
        "altered": [],
        "verdict": "3 files are as they were installed",
    }
    assert "wooden" not in sys.modules


@pytest.mark.parametrize("change", ["rewritten", "deleted"])
def test_an_altered_file_is_named_and_the_exit_code_is_1(
    change: str, wooden: Path, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = site / "wooden_parts.py"
    parts.write_text("class Tusk: ...\n") if change == "rewritten" else parts.unlink()
    row = verdict(capsys, code=1)
    assert (row["verified"], row["altered"]) == (2, ["wooden_parts.py"])
    assert main(["plugins", "--verify"]) == 1
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("wooden 1.0"))
    assert "ALTERED: wooden_parts.py" in line


@pytest.mark.parametrize(
    ("facts", "origin"),
    [
        ({"url": "file:///a/b", "dir_info": {}}, "file:///a/b"),
        ({"url": "file:///a/b", "dir_info": {"editable": True}}, "editable file:///a/b"),
        (
            {"url": "https://x.org/w.whl", "archive_info": {"hash": "sha256=0"}},
            "https://x.org/w.whl",
        ),
        (
            {"url": "https://x.org/w", "vcs_info": {"vcs": "git", "commit_id": "4f2a"}},
            "git+https://x.org/w@4f2a",
        ),
        ({"dir_info": {}}, "unknown"),
        ([], "unknown"),
    ],
    ids=["folder", "editable", "archive", "repository", "no URL", "no object"],
)
def test_the_origin_is_told(
    facts: object, origin: str, wooden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (wooden / "direct_url.json").write_text(json.dumps(facts))
    row = verdict(capsys)
    assert row["origin"] == origin
    assert ("nothing can be verified" in row["verdict"]) == origin.startswith("editable")


def test_without_a_record_nothing_is_claimed(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("wooden", INDEX)
    row = verdict(capsys)
    assert (row["origin"], row["verified"]) == ("unknown", 0)
    assert row["verdict"] == "has no hashes in a RECORD, so nothing can be verified"


def test_the_listing_says_that_plugins_are_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    assert "Plugins are code that runs with all your rights" in capsys.readouterr().out


# -- what is allowed ---------------------------------------------------------------------------


def test_what_is_not_allowed_is_listed_and_not_imported(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install("wooden", INDEX.replace("NAME", "horse"))
    install("evil", "raise SystemExit('imported')")
    monkeypatch.setenv("CORELAB_PLUGINS", "wooden")
    assert main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    (evil,) = (row for row in rows if row["distribution"] == "evil")
    assert (evil["interface"], evil["broken"]) == ("not allowed", None)
    assert {row["distribution"] for row in rows if row["interface"] != "not allowed"} == {"wooden"}
    assert "evil" not in sys.modules


def test_a_run_of_a_plugin_that_is_not_allowed_says_so(
    bandit: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = core.train("epsilon-greedy", steps=10, run_dir=tmp_path)
    monkeypatch.setenv("CORELAB_PLUGINS", "vae")
    with pytest.raises(
        PluginError, match=r"corelab-bandit 0\.1\.0, which CORELAB_PLUGINS does not"
    ):
        run.load()


# -- what a run records ------------------------------------------------------------------------


def test_a_run_records_who_made_each_part_where_it_is_from_and_its_code(
    stepping: Callable[[str, str], None], site: Path, tmp_path: Path
) -> None:
    stepping("counter", "self.progress += 1\nreturn {}")
    options = {"run.sinks": ["jsonl"]}
    run = core.train("counter", run_dir=tmp_path, options=options)
    plugin = run.record["plugins"]["algorithm"]
    assert plugin.pop("sha256") == run.record["plugins"]["task"]["sha256"]
    assert plugin == {
        "name": "counter_plugin",
        "distribution": "counter-plugin",
        "version": "1.0",
        "module": "counter_plugin",
        "origin": "unknown",
    }
    (sink,) = run.record["sinks"]
    assert (sink["name"], sink["distribution"]) == ("jsonl", "corelab-ml")
    assert len(sink["sha256"]) == 64


def test_going_on_with_other_code_of_the_same_version_is_told(
    stepping: Callable[[str, str], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stepping("counter", "self.progress += 1\nreturn {}")
    run = core.train("counter", run_dir=tmp_path, options={"run.sinks": ["jsonl"]})
    run.resume(20)
    assert "was another one" not in capsys.readouterr().err
    stepping("counter", "self.progress += 2\nreturn {}")
    run.resume(30)
    said = capsys.readouterr().err
    assert "the code of the algorithm, in counter-plugin 1.0, was another one" in said


# -- a run from a stranger ---------------------------------------------------------------------

CANARY = "open({place!r}, 'a').write(__name__)\n"


@pytest.fixture
def run(bandit: None, tmp_path: Path) -> Path:
    options = {"run.sinks": ["jsonl"], "run.name": "given"}
    return core.train("epsilon-greedy", steps=20, run_dir=tmp_path, options=options).path


def corelab(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The installed command, run in FOLDER, as a person would."""
    return subprocess.run(
        [str(COMMAND), *words], cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_run_directory_full_of_traps_springs_none(run: Path, tmp_path: Path) -> None:
    """Modules that shadow those in use, a plugin, pickles, settings of Python and pytest."""
    sprung = tmp_path / "sprung"
    trap = CANARY.format(place=str(sprung))
    pickled = f"cbuiltins\nexec\n(S{trap!r}\ntR.".encode()
    checkpoint = next((run / "checkpoints").iterdir())
    for folder in (run, checkpoint, checkpoint / "algorithm"):
        for module in ("corelab_bandit", "corelab", "torch", "numpy", "pluggy", "json", "evil"):
            (folder / f"{module}.py").write_text(trap)
        for module in ("sitecustomize", "usercustomize", "conftest", "__init__", "__main__"):
            (folder / f"{module}.py").write_text(trap)
        (folder / "evil.pth").write_text(f"import sys; exec({trap!r})\n")
        for name in ("weights.pt", "state.pkl", "state.pickle", "algorithm.pkl", "arrays.npy"):
            (folder / name).write_bytes(pickled)
        info = folder / "evil-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[corelab]\nevil = evil\n")
    for words in (["eval", "."], ["resume", ".", "--steps", "40"], ["runs", ".."]):
        done = corelab(run, *words)
        assert done.returncode == 0, done.stderr
    assert "evil" not in corelab(run, "plugins").stdout
    assert not sprung.exists()
    assert core.Run(run).progress == 40


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (("config", "algorithm", "name"), "os:system"),
        (("config", "algorithm", "name"), "evil.module:Class"),
        (("config", "algorithm", "name"), "corelab-bandit:os:system"),
        (("config", "task", "name"), "../evil"),
        (("config", "model"), {"name": "builtins:exec"}),
        (("config", "algorithm", "target"), "evil:Class"),
        (("config", "run", "sinks"), ["evil"]),
        (("config", "algorithm", "__class__"), "evil"),
        (("config", "algorithm", "epsilon"), "__import__('evil')"),
        (("plugins", "algorithm", "distribution"), "evil"),
        (("plugins", "evil"), {"distribution": "evil", "version": "os:system"}),
    ],
)
def test_a_record_that_names_code_is_refused_in_one_sentence(
    where: tuple[str, ...], what: object, run: Path, site: Path
) -> None:
    """Even where `evil` could be imported, it is not: it is no installed plugin."""
    sprung = site / "sprung"
    (site / "evil.py").write_text(CANARY.format(place=str(sprung)))
    record = json.loads((run / "run.json").read_text())
    *path, last = where
    inner = record
    for key in path:
        inner = inner[key]
    inner[last] = what
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(CorelabError) as caught:
        core.Run(run).resume(40)
    assert "\n" not in str(caught.value)
    assert "evil" not in sys.modules
    assert not sprung.exists()


def test_weights_that_are_a_pickle_are_refused_and_not_opened(run: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    pickled = f"cbuiltins\nexec\n(S{CANARY.format(place=str(sprung))!r}\ntR.".encode()
    (checkpoint,) = (p for p in (run / "checkpoints").iterdir() if p.name.endswith("20"))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for name in manifest["sha256"]:
        (checkpoint / name).write_bytes(pickled)
        manifest["sha256"][name] = hashlib.sha256(pickled).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CorelabError):
        core.Run(run).load()
    assert not sprung.exists()


# -- a hundred plugins -------------------------------------------------------------------------

GOOD = "corelab_api = (1, 0)\n"
HOOK = "from corelab import hookimpl\ncorelab_api = (1, 0)\n\n@hookimpl\n"
FAULTS = {
    "raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exits": ("raise SystemExit('no licence')", "SystemExit: no licence"),
    "lacks": ("import no_such_module", "No module named 'no_such_module'"),
    "absent": (None, "No module named 'broken_absent'"),
    "syntax": ("def broken(:", "SyntaxError"),
    "silent": ("", "does not say which API it was written for"),
    "newer": ("corelab_api = (2, 0)", "was written for corelab API 2.0"),
    "misspelt": (
        f"{HOOK}def corelab_run_loged(run): ...",
        "there is no hook corelab_run_loged; did you mean 'corelab_run_logged'?",
    ),
    "argument": (
        f"{HOOK}def corelab_run_ended(run, colour): ...",
        "corelab_run_ended has no parameter 'colour': it has run, error",
    ),
    "component": (
        f"{HOOK}def corelab_components(): return ['ppo']",
        "'ppo', which is not a Component",
    ),
}


@pytest.fixture
def crowd(install: Install) -> None:
    """A hundred plugins, ten of them broken in ten ways."""
    for i in range(100 - len(FAULTS)):
        install(f"good-{i:02}", INDEX.replace("NAME", f"good{i:02}"))
    for name, (source, _) in FAULTS.items():
        install(f"broken-{name}", source)


def test_a_hundred_plugins_are_listed_and_ten_faults_told_in_a_second(
    crowd: None, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "corelab", "plugins", "--json"]
    subprocess.run(words, check=True, capture_output=True)  # compiles
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= 1.0
    rows = {row["distribution"]: row for row in json.loads(done.stdout)}
    assert sum(name.startswith("good-") and not r["broken"] for name, r in rows.items()) == 90
    for name, (_, says) in FAULTS.items():
        assert says in rows[f"broken-{name}"]["broken"]


def test_training_with_good_ones_among_a_hundred_is_unaffected(
    bandit: None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    alone = core.train("epsilon-greedy", steps=30, run_dir=tmp_path / "alone")
    request.getfixturevalue("crowd")
    assert len(Plugins().broken) == len(FAULTS)
    among = core.train("epsilon-greedy", steps=30, run_dir=tmp_path / "among")
    assert among.record["weights_sha256"] == alone.record["weights_sha256"]
    assert len(alone.metrics()) >= 30
    assert [row | {"time": 0} for row in among.metrics()] == [
        row | {"time": 0} for row in alone.metrics()
    ]
