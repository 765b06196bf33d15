"""Between the files that people look at and the tensors that networks compute with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from corelab_media import Images
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from corelab import DataError


def scaled(images: Tensor) -> Tensor:
    """IMAGES, uint8 of any shape, as floats from -1 to 1."""
    return images / 127.5 - 1


def levels(x: Tensor) -> Tensor:
    """X, floats from -1 to 1, as uint8: the nearest of 256 levels."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def show(x: Tensor, columns: int = 0) -> Images:
    """Pictures of X, uint8 [N, C, H, W] or floats from -1 to 1, COLUMNS of them in a row."""
    pixels = x if x.dtype == torch.uint8 else levels(x)
    return Images(pixels.permute(0, 2, 3, 1).cpu().numpy(), columns)


def read(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """The picture in the file PATH as uint8 [C, H, W] of SHAPE.

    Grey or in colour as SHAPE asks for. `DataError` if it cannot be read or is of another size.
    """
    channels, height, width = shape
    try:
        with Image.open(path) as file:
            picture = file.convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: its content is not that of a picture") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if picture.size != (width, height):
        found = f"{picture.width} x {picture.height}"
        raise DataError(f"{path}: is {found} pixels; it must be {width} x {height}")
    return torch.from_numpy(np.array(picture).reshape(height, width, channels)).permute(2, 0, 1)
