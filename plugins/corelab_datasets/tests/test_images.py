from __future__ import annotations

import collections
import types
from pathlib import Path, PurePath

import corelab_datasets.progress
import numpy as np
import pytest
import torch
from corelab_datasets.images import ImageFolder, find_pictures, part, read_picture
from PIL import Image

from corelab import ConfigError, DataError


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)


def grey(value):
    return np.full((4, 4), value)


def open_folder(folder, **options):
    return ImageFolder(ImageFolder.Config(folder=folder, **{"size": 4, "channels": 1, **options}))


@pytest.fixture
def folder(tmp_path):
    """Sixty pictures in two classes; each is as bright as its number."""
    for i in range(60):
        save(tmp_path / "pictures" / ("cat" if i % 2 else "dog/old") / f"{i:02}.png", grey(i))
    return tmp_path / "pictures"


def everything(task):
    splits = [task.split(name) for name in ("train", "validation", "test")]
    return torch.cat([s.images for s in splits]), torch.cat([s.labels for s in splits])


def brightness(split):
    return split.images[:, 0, 0, 0].tolist()


def test_first_level_subfolders_are_the_classes_in_sorted_order(folder):
    task = open_folder(folder)
    assert task.classes == ("cat", "dog")
    images, labels = everything(task)
    assert images.shape == (60, *task.shape) == (60, 1, 4, 4)
    assert sorted(images[:, 0, 0, 0].tolist()) == list(range(60))
    assert torch.equal(labels, 1 - images[:, 0, 0, 0].long() % 2)  # odd pictures are cats


def test_a_folder_without_subfolders_is_one_class(tmp_path):
    for i in range(60):
        save(tmp_path / "flowers" / f"{i}.png", grey(i))
    task = open_folder(tmp_path / "flowers")
    assert task.classes == ("flowers",)
    assert everything(task)[1].unique().tolist() == [0]


def test_a_split_is_sorted_by_name_and_holds_what_the_names_hash_to(folder):
    task = open_folder(folder)
    for name in ("train", "validation", "test"):
        expected = [int(file.stem) for file in find_pictures(folder) if part(file) == name]
        assert brightness(task.split(name)) == expected


def test_new_files_move_no_other_to_another_split(folder):
    before = open_folder(folder)
    for i in range(60, 120):
        save(folder / "cat" / f"{i}.png", grey(i))
    after = open_folder(folder)
    for name in ("train", "validation", "test"):
        old = [v for v in brightness(after.split(name)) if v < 60]
        assert old == brightness(before.split(name))


def test_names_hash_to_80_10_and_10_per_cent():
    parts = collections.Counter(part(PurePath(f"a/{i}.png")) for i in range(20_000))
    assert parts["train"] == pytest.approx(16_000, abs=250)
    assert parts["validation"] == pytest.approx(2_000, abs=200)
    assert parts["test"] == pytest.approx(2_000, abs=200)


def test_the_split_of_a_name_is_the_same_on_every_machine_and_for_ever():
    parts = [part(PurePath(f"cat/{i}.png")) for i in range(60)]
    assert [i for i in range(60) if parts[i] == "validation"] == [30, 33, 34]
    assert [i for i in range(60) if parts[i] == "test"] == [10, 25, 43, 56, 59]


def test_hidden_files_and_other_files_do_not_count(folder):
    (folder / "notes.txt").write_text("no picture")
    (folder / "cat/._1.png").write_bytes(b"what macOS leaves behind")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails/1.png").write_bytes(b"")
    (folder / "empty").mkdir()
    assert len(find_pictures(folder)) == 60
    assert open_folder(folder).classes == ("cat", "dog")


def test_linked_folders_are_classes_too(tmp_path, folder):
    (tmp_path / "links").mkdir()
    (tmp_path / "links/one").symlink_to(folder / "cat")
    assert len(find_pictures(tmp_path / "links")) == 30


def test_suffixes_may_be_upper_case(tmp_path):
    save(tmp_path / "A.PNG", grey(1), format="PNG")
    save(tmp_path / "B.JPEG", grey(1), format="JPEG")
    save(tmp_path / "c.Jpg", grey(1), format="JPEG")
    assert [str(f) for f in find_pictures(tmp_path)] == ["A.PNG", "B.JPEG", "c.Jpg"]


def test_pixels_of_the_right_size_are_kept(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    save(tmp_path / "a.png", array)
    assert torch.equal(read_picture(tmp_path / "a.png", 8, 3), torch.tensor(array).permute(2, 0, 1))


def test_the_smaller_side_is_scaled_and_the_middle_of_the_larger_kept(tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (20, 60), np.uint8)
    scaled = np.asarray(Image.fromarray(wide).resize((30, 10), Image.Resampling.BICUBIC))
    middle = torch.tensor(scaled[:, 10:20])
    save(tmp_path / "wide.png", wide)
    save(tmp_path / "high.png", wide.T)
    assert torch.equal(read_picture(tmp_path / "wide.png", 10, 1)[0], middle)
    assert torch.equal(read_picture(tmp_path / "high.png", 10, 1)[0], middle.T)


def test_small_pictures_are_enlarged(tmp_path):
    save(tmp_path / "a.png", grey(9))
    assert torch.equal(read_picture(tmp_path / "a.png", 8, 1), torch.full((1, 8, 8), 9).byte())


def test_colours_become_grey_and_grey_becomes_colours(tmp_path):
    save(tmp_path / "red.png", np.full((4, 4, 3), (255, 0, 0)))
    save(tmp_path / "grey.png", grey(7))
    assert read_picture(tmp_path / "red.png", 4, 1).unique().tolist() == [76]  # luma .299 R
    assert read_picture(tmp_path / "grey.png", 4, 3).unique(dim=0).flatten().unique().tolist() == [
        7
    ]


def test_transparent_pixels_become_white(tmp_path):
    array = np.zeros((4, 4, 4))
    array[:2, :, 3] = 255
    save(tmp_path / "a.png", array)
    rows = read_picture(tmp_path / "a.png", 4, 1)[0, :, 0]
    assert rows.tolist() == [0, 0, 255, 255]


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    array = np.array([[0, 255], [256, 65535]], np.uint16)
    Image.fromarray(array).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", 2, 1)[0].tolist() == [[0, 0], [1, 255]]


def test_photographs_are_turned_upright(tmp_path):
    array = np.zeros((4, 4))
    array[0] = 255  # bright on top, which the camera, lying on its side, calls the right
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    save(tmp_path / "a.jpg", array, exif=exif, quality=100)
    picture = read_picture(tmp_path / "a.jpg", 4, 1)[0]
    assert picture[:, 3].min() > 200
    assert picture[:, 0].max() < 50


@pytest.mark.parametrize("name", ["cat/01.png", "cat/new.jpg"])
def test_a_damaged_picture_is_named(folder, name):
    rng = np.random.default_rng(0)
    save(folder / name, rng.integers(0, 256, (64, 64, 3)))
    whole = (folder / name).read_bytes()
    for content in (whole[:-100], whole[: len(whole) // 2], whole[:40], b"", b"<html></html>"):
        (folder / name).write_bytes(content)
        with pytest.raises(DataError) as error:
            open_folder(folder)
        assert str(error.value).startswith(f"{folder / name}: ")
        assert "PNG or JPEG file" in str(error.value)


def test_any_changed_byte_of_a_png_gives_a_data_error_or_the_same_picture(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    path = tmp_path / "a.png"
    save(path, array)
    whole, outcomes = path.read_bytes(), collections.Counter()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])
        try:
            read = read_picture(path, 16, 3)
        except DataError:
            outcomes["refused"] += 1
        else:
            outcomes["same"] += torch.equal(read, torch.tensor(array).permute(2, 0, 1))
    assert outcomes.total() == len(whole)
    assert outcomes["refused"] > 0.95 * len(whole)


def test_another_format_under_the_name_of_a_png_is_refused(tmp_path):
    save(tmp_path / "a.png", grey(1), format="GIF")
    with pytest.raises(DataError, match=r"a.png: its content is not that of a PNG or JPEG file"):
        read_picture(tmp_path / "a.png", 4, 1)


def test_a_link_to_nowhere_is_named(folder):
    (folder / "cat/gone.png").symlink_to(folder / "nothing.png")
    with pytest.raises(DataError, match=r"cat/gone.png: .*No such file"):
        open_folder(folder)


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: the folder cannot be read \(No such file"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"there is no PNG or JPEG file in it"):
        open_folder(tmp_path)


def test_pictures_beside_class_folders_are_refused(folder):
    save(folder / "stray.png", grey(1))
    with pytest.raises(DataError, match=r"stray.png is in no subfolder"):
        open_folder(folder)


def test_a_split_that_would_be_empty_is_refused(tmp_path):
    for i in range(3):
        save(tmp_path / f"{i}.png", grey(i))
    with pytest.raises(DataError, match="none of its 3 pictures falls by its name into the"):
        open_folder(tmp_path)


def test_a_folder_must_be_named_and_a_size_positive():
    with pytest.raises(ConfigError, match=r"--task\.folder"):
        ImageFolder(ImageFolder.Config())
    with pytest.raises(ConfigError, match=r"task\.size is at least 1, got 0"):
        ImageFolder.Config(size=0)


def test_a_home_folder_may_be_written_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(everything(open_folder(Path("~/pictures")))[0]) == 60


def test_progress_is_told_when_reading_takes_more_than_two_seconds(folder, monkeypatch, capsys):
    open_folder(folder)
    assert capsys.readouterr().err == ""
    clock = iter(np.arange(0, 100, 0.5).tolist())  # each look at the clock takes half a second
    time = types.SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(corelab_datasets.progress, "time", time)
    open_folder(folder)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 15
    assert lines[0] == f"reading pictures in {folder}: 4 of 60"
