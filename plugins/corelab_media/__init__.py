"""What people would rather look at than read: pictures and moving pictures as arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corelab import ConfigError


def _frames(array: Any, what: str) -> NDArray[np.uint8]:
    frames = np.asarray(array)
    fits = (
        frames.dtype == np.uint8 and frames.ndim == 4 and frames.size and frames.shape[3] in (1, 3)
    )
    if not fits:
        raise ValueError(
            f"{what} takes uint8 [N, height, width, 1 or 3], got {frames.dtype} {frames.shape}"
        )
    return frames


@dataclass(frozen=True, eq=False)
class Images:
    """A batch of pictures."""

    pixels: NDArray[np.uint8]
    """uint8 [N, height, width, 1 or 3]."""
    columns: int = 0
    """How many stand side by side in a grid; 0 for about as many as rows."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", _frames(self.pixels, "Images"))

    def grid(self) -> NDArray[np.uint8]:
        """All pictures in one, uint8 [height, width, 3], with a gap of one pixel between them."""
        n, height, width, _ = self.pixels.shape
        columns = self.columns or math.ceil(math.sqrt(n))
        rows = math.ceil(n / columns)
        sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, np.uint8)
        for i, picture in enumerate(self.pixels):
            y, x = i // columns * (height + 1), i % columns * (width + 1)
            sheet[y : y + height, x : x + width] = picture
        return sheet

    def save(self, path: Path) -> None:
        """Write the grid to PATH (PNG, JPEG, …), enlarged if it is small."""
        from PIL import Image

        suffixes = {s for s, form in Image.registered_extensions().items() if form in Image.SAVE}
        if path.suffix.lower() not in suffixes:
            raise ConfigError(f"{path}: name a picture file, such as {path.with_suffix('.png')}")
        grid = self.grid()
        scale = max(1, 512 // max(grid.shape[:2]))
        Image.fromarray(grid.repeat(scale, 0).repeat(scale, 1)).save(path)


@dataclass(frozen=True, eq=False)
class Video:
    """A moving picture."""

    pixels: NDArray[np.uint8]
    """uint8 [frames, height, width, 1 or 3]."""
    fps: float = 30.0
    """Frames per second."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", _frames(self.pixels, "Video"))

    @cached_property
    def gif(self) -> bytes:
        """The video as an animated GIF that repeats."""
        import io

        from PIL import Image

        colour = self.pixels.repeat(3 // self.pixels.shape[3], 3)
        first, *rest = (
            Image.fromarray(frame).quantize(64, Image.Quantize.FASTOCTREE) for frame in colour
        )
        out = io.BytesIO()
        # GIF counts time in hundredths of a second, and browsers slow down frames shorter than two
        duration = max(20, round(1000 / self.fps))
        first.save(out, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)
        return out.getvalue()

    def save(self, path: Path) -> None:
        """Write an animated GIF to PATH."""
        if path.suffix.lower() != ".gif":
            raise ConfigError(
                f"{path}: a video is written as a GIF; name it {path.with_suffix('.gif')}"
            )
        path.write_bytes(self.gif)
