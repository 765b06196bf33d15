"""Pictures and moving pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from corelab_media import Images, Video
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from corelab import ConfigError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


@pytest.mark.parametrize("kind", [Images, Video])
@pytest.mark.parametrize(
    "array",
    [
        noise(4, 5, 6),
        noise(4, 5, 6, 2),
        noise(4, 5, 6, 4),
        noise(1, 4, 5, 6, 3),
        noise(4, 5, 6, 3).astype(np.float32),
        noise(4, 5, 6, 3).astype(np.int64),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_of_another_shape_or_type_is_refused(kind: type, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__} takes uint8 \[N, height") as caught:
        kind(array)
    assert str(caught.value).endswith(f"got {array.dtype} {array.shape}")


@given(
    n=st.integers(1, 12),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.sampled_from([1, 3]),
    columns=st.integers(0, 5),
)
def test_a_grid_holds_every_picture_in_reading_order_with_white_between(
    n: int, size: Sequence[int], channels: int, columns: int
) -> None:
    height, width = size
    pixels = noise(n, height, width, channels)
    grid = Images(pixels, columns).grid()
    across = columns or next(c for c in range(1, n + 1) if c * c >= n)
    down = -(-n // across)
    assert grid.shape == (down * (height + 1) - 1, across * (width + 1) - 1, 3)
    blank = np.ones(grid.shape[:2], bool)
    for i in range(n):
        row, column = divmod(i, across)
        place = np.s_[
            row * (height + 1) : row * (height + 1) + height,
            column * (width + 1) : column * (width + 1) + width,
        ]
        assert (grid[place] == pixels[i]).all()
        blank[place] = False
    assert (grid[blank] == 255).all()


def test_a_saved_picture_holds_the_grid_enlarged_by_whole_pixels(tmp_path: Path) -> None:
    images = Images(noise(4, 9, 7, 3))
    images.save(tmp_path / "grid.png")
    saved = np.asarray(Image.open(tmp_path / "grid.png"))
    scale = saved.shape[0] // images.grid().shape[0]
    assert scale > 1
    assert (saved == images.grid().repeat(scale, 0).repeat(scale, 1)).all()


def test_a_large_picture_is_saved_as_it_is(tmp_path: Path) -> None:
    images = Images(noise(1, 600, 400, 1))
    images.save(tmp_path / "large.PNG")
    assert (np.asarray(Image.open(tmp_path / "large.PNG")) == images.grid()).all()


@pytest.mark.parametrize("name", ["grid", "grid.txt", "grid.mp4"])
def test_a_name_that_is_no_pictures_is_answered_with_one_that_is(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Images(noise(1, 2, 2, 1)).save(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert str(tmp_path / "grid.png") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["walk", "walk.mp4", "walk.png"])
def test_a_name_that_is_no_videos_is_answered_with_one_that_is(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Video(noise(2, 2, 2, 1)).save(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert str(tmp_path / "walk.gif") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def moving(frames: int) -> np.ndarray:
    """A bright square that goes down a diagonal, on black."""
    pixels = np.zeros((frames, 8, 8, 3), np.uint8)
    for t in range(frames):
        pixels[t, t % 8, t % 8] = (250, 40, 20)
    return pixels


def played(video: Video, folder: Path) -> tuple[list[np.ndarray], list[int], int]:
    """The frames of VIDEO once it is a file, the milliseconds of each, and the repetitions."""
    video.save(folder / "walk.gif")
    with Image.open(folder / "walk.gif") as image:
        frames, times = [], []
        for t in range(getattr(image, "n_frames", 1)):
            image.seek(t)
            times.append(image.info["duration"])
            frames.append(np.asarray(image.convert("RGB")))
        return frames, times, image.info["loop"]


def test_a_gif_shows_every_frame_at_its_time_and_repeats(tmp_path: Path) -> None:
    pixels = moving(6)
    frames, times, loop = played(Video(pixels, fps=10), tmp_path)
    assert times == [100] * 6
    assert loop == 0
    for shown, frame in zip(frames, pixels, strict=True):
        assert np.abs(shown.astype(int) - frame).max() <= 8


def test_a_gif_of_one_channel_is_grey(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    ((frame,), _, _) = played(Video(pixels), tmp_path)
    assert (frame == frame[:, :, :1]).all()
    assert np.abs(frame.astype(int) - pixels[0]).max() <= 8


def test_a_gif_that_stands_still_lasts_as_long_as_its_frames(tmp_path: Path) -> None:
    still = moving(1).repeat(5, 0)
    _, times, _ = played(Video(np.concatenate([still, moving(3)[1:]]), fps=10), tmp_path)
    assert sum(times) == 700


def test_a_gif_is_never_faster_than_browsers_play(tmp_path: Path) -> None:
    _, times, _ = played(Video(moving(3), fps=1000), tmp_path)
    assert times == [20, 20, 20]
