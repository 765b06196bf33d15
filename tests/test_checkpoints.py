"""Checkpoints: whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelab import CheckpointError, StorageError
from corelab.checkpoints import Checkpoints, write_atomically
from corelab.state import save_tree

FILES = ("algorithm/state.json", "algorithm/weights.bin", "loop.json")


def fill(directory: Path) -> None:
    for i, name in enumerate(FILES):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(bytes(range(i, 40 + i)))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below FOLDER, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names(checkpoints: Checkpoints) -> list[int]:
    return [int(place.name) for place in checkpoints.all()]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", keep=3)


@pytest.fixture
def three(checkpoints: Checkpoints) -> Checkpoints:
    for progress in (10, 20, 30):
        checkpoints.write(progress, fill)
    return checkpoints


# -- what was written --------------------------------------------------------------------------


def test_a_checkpoint_holds_what_was_filled_in_and_is_whole(checkpoints: Checkpoints) -> None:
    place = checkpoints.write(1_000, fill)
    assert place == checkpoints.directory / "000000001000"
    written = contents(place)
    assert written.pop("manifest.json")
    assert written == {name: bytes(range(i, 40 + i)) for i, name in enumerate(FILES)}
    assert checkpoints.fault(place) == ""


def test_checkpoints_are_listed_in_the_order_of_progress(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=9)
    for progress in (900, 1_000, 5, 20_000):
        checkpoints.write(progress, fill)
    assert names(checkpoints) == [5, 900, 1_000, 20_000]


def test_a_folder_that_is_not_there_holds_none(checkpoints: Checkpoints) -> None:
    assert (checkpoints.all(), checkpoints.best) == ([], None)
    with pytest.raises(CheckpointError, match="there is no checkpoint yet"):
        checkpoints.pick()


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "changed", "deleted"])
def test_damage_to_any_file_is_found_and_the_file_is_named(
    file: str, damage: str, three: Checkpoints
) -> None:
    place = three.all()[-1]
    path = place / file
    data = bytearray(path.read_bytes())
    if damage == "changed":
        data[len(data) // 2] ^= 0x80
    path.write_bytes(data[: len(data) // 2] if damage == "truncated" else data)
    if damage == "emptied":
        path.write_bytes(b"")
    if damage == "deleted":
        path.unlink()
    fault = three.fault(place)
    assert fault.startswith(file)
    assert ("missing" in fault or "cannot be read" in fault) == (damage == "deleted")
    assert three.newest_whole()[0] == three.all()[1]


@settings(max_examples=60)
@given(name=st.sampled_from(FILES), position=st.integers(0, 39), change=st.integers(1, 255))
def test_a_change_of_any_byte_is_found(
    name: str, position: int, change: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    checkpoints = Checkpoints(tmp_path_factory.mktemp("checkpoints"))
    place = checkpoints.write(1, fill)
    data = bytearray((place / name).read_bytes())
    data[position] ^= change
    (place / name).write_bytes(data)
    assert checkpoints.fault(place) == f"{name} is not what was written"


# -- choosing one ------------------------------------------------------------------------------


def test_one_is_chosen_by_last_best_or_progress(checkpoints: Checkpoints) -> None:
    for progress in (10, 20, 30):
        checkpoints.write(progress, fill, best=progress == 20)
    asked = ("last", "best", "10", "000000000010")
    assert [int(checkpoints.pick(which).name) for which in asked] == [30, 20, 10, 10]
    assert checkpoints.pick() == checkpoints.pick("last")


def test_without_an_evaluation_the_best_is_the_last(three: Checkpoints) -> None:
    assert three.pick("best") == three.pick("last")


@pytest.mark.parametrize("which", ["15", "bset", "../10", "-10"])
def test_one_that_is_not_there_is_answered_with_those_that_are(
    which: str, three: Checkpoints
) -> None:
    with pytest.raises(CheckpointError) as caught:
        three.pick(which)
    assert f"there is no {which!r}; there is: 10, 20, 30" in str(caught.value)


def test_a_damaged_one_is_refused_and_whole_ones_are_named(three: Checkpoints) -> None:
    (three.all()[2] / FILES[0]).unlink()
    with pytest.raises(CheckpointError) as caught:
        three.pick("30")
    said = str(caught.value)
    assert f"{three.all()[2]}: the checkpoint is damaged ({FILES[0]} is missing)" in said
    assert said.endswith("use one of 10, 20")
    for place in three.all():
        (place / "manifest.json").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="no other one is whole either"):
        three.pick()


def test_the_newest_whole_one_is_found_and_each_one_passed_over_is_told(
    three: Checkpoints,
) -> None:
    first, second, third = three.all()
    assert three.newest_whole() == (third, [])
    (third / FILES[1]).write_bytes(b"")
    (second / "manifest.json").unlink()
    place, passed = three.newest_whole()
    assert place == first
    assert [str(third) in passed[0], str(second) in passed[1]] == [True, True]
    assert FILES[1] in passed[0]
    assert "manifest.json" in passed[1]


# -- keeping few -------------------------------------------------------------------------------


def test_the_newest_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    kept = []
    for progress in range(1, 8):
        checkpoints.write(progress, fill, best=progress in (2, 5))
        kept.append(names(checkpoints))
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [4, 5], [5, 6], [5, 6, 7]]
    assert checkpoints.best == tmp_path / "000000000005"


def test_a_best_one_that_was_deleted_is_no_best_one(three: Checkpoints) -> None:
    shutil.rmtree(three.write(40, fill, best=True))
    assert three.best is None
    assert three.pick("best") == three.pick("last")


# -- writing again -----------------------------------------------------------------------------


def test_a_whole_one_of_the_same_progress_stays_and_may_become_the_best(
    three: Checkpoints,
) -> None:
    before = contents(three.directory)

    def refuse(directory: Path) -> None:
        raise AssertionError("it is there already")

    assert three.write(30, refuse) == three.all()[-1]
    assert contents(three.directory) == before
    place = three.write(30, refuse, best=True)
    assert three.best == place == three.all()[-1]
    assert three.fault(place) == ""
    changed = {name for name, data in contents(three.directory).items() if data != before[name]}
    assert changed == {f"{place.name}/manifest.json"}


def test_a_damaged_one_of_the_same_progress_is_replaced(three: Checkpoints) -> None:
    place = three.all()[-1]
    (place / FILES[0]).unlink()
    (place / "stray").touch()
    assert three.write(30, fill) == place
    assert set(contents(place)) == {*FILES, "manifest.json"}
    assert three.fault(place) == ""


# -- when it goes wrong ------------------------------------------------------------------------


def test_a_full_disk_leaves_what_was_there_and_is_named(three: Checkpoints) -> None:
    before = contents(three.directory)

    def overflow(directory: Path) -> None:
        fill(directory)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError) as caught:
        three.write(40, overflow)
    said = str(caught.value)
    assert f"{three.directory / '000000000040'}: " in said
    assert "No space left on device" in said
    assert f"the newest one that is whole is {three.directory / '000000000030'}" in said
    assert contents(three.directory) == before


def test_a_full_disk_with_no_checkpoint_yet_says_so(checkpoints: Checkpoints) -> None:
    def overflow(directory: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match="there is none yet"):
        checkpoints.write(10, overflow)
    assert contents(checkpoints.directory) == {}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to write longer files, as it does when the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_arrays_that_the_disk_refuses_are_told_of_likewise(three: Checkpoints) -> None:
    before = contents(three.directory)

    def write_array(directory: Path) -> None:
        save_tree(directory / "state", {"array": np.zeros(100_000)})

    with pytest.raises(StorageError, match="File too large"), files_of_at_most(65_536):
        three.write(40, write_array)
    assert contents(three.directory) == before


def test_any_other_error_while_filling_leaves_what_was_there(three: Checkpoints) -> None:
    before = contents(three.directory)

    def interrupt(directory: Path) -> None:
        fill(directory)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        three.write(40, interrupt)
    assert contents(three.directory) == before


CRASH = """
import os, sys
from pathlib import Path
from corelab.checkpoints import Checkpoints

folder, instant = sys.argv[1:]
renames = {"filling": 9, "renaming": 0, "pruning": 1}[instant]
rename = Path.rename


def fill(directory):
    (directory / "a").write_text("new")
    if instant == "filling":
        os._exit(9)


def rename_for_the_last_time(self, target):
    global renames
    renames -= 1
    return rename(self, target) if renames >= 0 else os._exit(9)


Path.rename = rename_for_the_last_time
Checkpoints(Path(folder)).write(40, fill, best=True)
"""


@pytest.mark.parametrize("instant", ["filling", "renaming", "pruning"])
def test_a_crash_at_any_instant_leaves_the_old_state_or_the_new_one(
    instant: str, three: Checkpoints
) -> None:
    three.write(30, fill, best=True)
    before = contents(three.directory)
    words = [sys.executable, "-c", CRASH, str(three.directory), instant]
    assert subprocess.run(words, check=False).returncode == 9
    there = [10, 20, 30, 40] if instant == "pruning" else [10, 20, 30]
    assert names(three) == there
    assert three.best == three.all()[-1]
    assert [three.fault(place) for place in three.all()] == [""] * len(there)
    after = contents(three.directory)
    assert {name: after[name] for name in before} == before
    three.write(50, fill)
    assert [p.name for p in three.directory.iterdir() if p.name.startswith(".")] == []


# -- single files ------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_atomically(file, "old")
    write_atomically(file, "new")
    assert contents(tmp_path) == {"run.json": b"new"}
    with (
        pytest.raises(StorageError, match=r"run\.json: cannot be written \(File too large\)"),
        files_of_at_most(65_536),
    ):
        write_atomically(file, "x" * 100_000)
    assert contents(tmp_path) == {"run.json": b"new"}


def test_a_file_in_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        write_atomically(tmp_path / "nowhere" / "run.json", "new")
