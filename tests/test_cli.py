"""The verbs, as people type them: what they print where, and how they end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from corelab.cli import VERBS
from corelab.runs import Run

Command = Callable[..., "subprocess.CompletedProcess[str]"]
TRAIN = ["train", "vae", "--task", "digits", "--steps", "2000", "--run.name", "vae"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, corelab: Command) -> None:
    done = corelab(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: corelab {verb}" in done.stdout


def test_every_verb_is_in_the_overview(corelab: Command) -> None:
    overview = corelab("--help").stdout
    for verb in VERBS:
        assert f"\n  {verb} " in overview


def test_no_verb_at_all_is_bad_input_and_shows_the_overview(corelab: Command) -> None:
    done = corelab()
    assert done.returncode == 2
    assert done.stdout == corelab("--help").stdout


def test_help_of_an_algorithm_has_every_option_with_its_default(corelab: Command) -> None:
    shown = " ".join(corelab("train", "vae", "--task", "digits", "--help").stdout.split())
    for part in ("--algorithm.latent INT", "--run.keep INT", "--seed INT", "(default: digits)"):
        assert part in shown


def test_train_prints_the_run_directory_and_nothing_else_on_standard_output(
    corelab: Command, tmp_path: Path
) -> None:
    done = corelab(*TRAIN, CORELAB_PROGRESS="plain")
    assert (done.returncode, done.stdout) == (0, "runs/vae\n")
    assert "vae digits" in done.stderr
    assert Run(tmp_path / "runs" / "vae").status == "done"


def test_dry_run_prints_options_and_sources_and_makes_nothing(
    corelab: Command, tmp_path: Path
) -> None:
    done = corelab(*TRAIN, "--dry-run")
    plan = json.loads(done.stdout)
    assert plan["config"]["steps"] == 2000
    assert plan["sources"]["steps"] == "command line"
    assert plan["sources"]["run.keep"] == "default"
    assert list(tmp_path.iterdir()) == []


def test_eval_prints_one_object_that_repeats_and_follows_its_options(
    corelab: Command, tmp_path: Path
) -> None:
    corelab(*TRAIN)
    first = json.loads(corelab("eval", "runs/vae", "--json", "-n", 50).stdout)
    again = json.loads(corelab("eval", "runs/vae", "--json", "-n", 50).stdout)
    seed = json.loads(corelab("eval", "runs/vae", "--json", "-n", 50, "--seed", 1).stdout)
    split = json.loads(
        corelab("eval", "runs/vae", "--json", "-n", 50, "--split", "validation").stdout
    )
    assert first == again
    assert first["run"] == "runs/vae"
    assert first["split"] == "test"
    assert first["progress"] == Run(tmp_path / "runs" / "vae").progress
    figures = [one["bits_per_dim"] for one in (first, seed, split)]
    assert len(set(figures)) == 3


def test_sample_writes_the_picture_and_its_name(corelab: Command, tmp_path: Path) -> None:
    corelab(*TRAIN)
    done = corelab("sample", "runs/vae", "-n", 9, "-o", "grid.png", "--seed", 1)
    assert (done.returncode, done.stdout) == (0, "grid.png\n")
    side = 3 * 8 + 2
    scale = 512 // side
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == (side * scale, side * scale)
    for name, fault in (("grid.xyz", "name a picture file"), ("no/grid.png", "cannot be written")):
        refused = corelab("sample", "runs/vae", "-o", name)
        assert refused.returncode == 2
        assert fault in refused.stderr


def test_runs_lists_status_progress_and_best(corelab: Command) -> None:
    corelab(*TRAIN)
    listing = corelab("runs").stdout
    assert "runs/vae" in listing
    assert "done" in listing
    assert "eval/loss" in listing
    (row,) = json.loads(corelab("runs", "--json").stdout)
    assert row["status"] == "done"
    assert len(row["weights_sha256"]) == 64


def test_check_counts_what_ran_and_fails_with_exit_code_1(
    bandit: None, corelab: Command, tmp_path: Path
) -> None:
    done = corelab("check", "corelab_bandit")
    assert done.returncode == 0
    assert "0 failed" in done.stdout.splitlines()[-1]
    (tmp_path / "heavy_plugin.py").write_text("import numpy\ncorelab_api = (1, 0)\n")
    heavy = corelab("check", "heavy_plugin")
    assert heavy.returncode == 1
    assert "imports numpy" in heavy.stdout
    assert heavy.stdout.splitlines()[-1] == "1 checks ran, 1 failed, 1 skipped"


def test_doctor_finds_a_broken_plugin_and_exits_with_1(
    corelab: Command, install: Callable[..., None]
) -> None:
    assert corelab("doctor").returncode == 0
    install("broken-plugin", "import nothing_like_it\n")
    done = corelab("doctor")
    assert done.returncode == 1
    assert "broken-plugin" in done.stdout
    assert "nothing_like_it" in done.stdout
