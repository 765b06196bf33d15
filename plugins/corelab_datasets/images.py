"""A folder of pictures as a data set."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, NoReturn, get_args

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from corelab import ConfigError, DataError
from corelab_datasets.interface import Dataset, Split, SplitName
from corelab_datasets.progress import Progress

_SUFFIXES = {".png", ".jpg", ".jpeg"}


class ImageFolder(Dataset):
    """The PNG and JPEG files below a folder; its subfolders are the classes.

    A picture keeps its proportions: it is scaled until its smaller side has `size` pixels, and of
    its larger side the middle is kept. Transparent parts become white.
    """

    @dataclass(frozen=True)
    class Config:
        """Which pictures, and what becomes of them."""

        folder: Path | None = None
        """The folder of pictures, searched to any depth; its subfolders in sorted order are the
        classes, and without any there is one class."""
        size: int = 32
        """Height and width of the images, in pixels."""
        channels: Literal[1, 3] = 3
        """1 for grey images, 3 for red, green and blue."""

        def __post_init__(self) -> None:
            if self.size < 1:
                raise ConfigError(f"task.size is at least 1, got {self.size}")

    def __init__(self, config: Config) -> None:
        if config.folder is None:
            raise ConfigError("images: name your folder of pictures with --task.folder")
        folder = config.folder.expanduser()
        files = find_pictures(folder)
        tops = {file.parts[0] for file in files if len(file.parts) > 1}
        self.classes = tuple(sorted(tops)) or (folder.resolve().name,)
        self.shape = (config.channels, config.size, config.size)

        images = torch.empty((len(files), *self.shape), dtype=torch.uint8)
        progress = Progress(f"reading pictures in {folder}")
        for i, file in enumerate(files):
            images[i] = read_picture(folder / file, config.size, config.channels)
            progress(f"{i + 1:,} of {len(files):,}")
        number = {name: i for i, name in enumerate(self.classes)}
        labels = torch.tensor([number[f.parts[0]] if tops else 0 for f in files])

        parts = np.array([part(file) for file in files])
        self._splits: dict[SplitName, Split] = {}
        for name in get_args(SplitName):
            chosen = torch.from_numpy(np.flatnonzero(parts == name))
            if len(chosen) == 0:
                raise DataError(
                    f"{folder}: none of its {len(files)} pictures falls by its name into the "
                    f"{name} split, which takes a tenth of many: add pictures, 50 or more in all"
                )
            self._splits[name] = Split(images[chosen], labels[chosen])

    def split(self, name: SplitName) -> Split:
        """The part NAME, sorted by file name."""
        return self._splits[name]


def find_pictures(folder: Path) -> list[PurePath]:
    """The pictures in FOLDER at any depth, relative to it and sorted; hidden ones do not count.

    `DataError` if a folder cannot be read, if there is no picture, or if some lie in subfolders
    and others do not.
    """

    def stop(error: OSError) -> NoReturn:
        raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror})")

    found = sorted(
        PurePath(where, name).relative_to(folder)
        for where, _, names in os.walk(folder, onerror=stop, followlinks=True)
        for name in names
        if PurePath(name).suffix.lower() in _SUFFIXES
    )
    files = [file for file in found if not any(p.startswith(".") for p in file.parts)]
    if not files:
        raise DataError(f"{folder}: there is no PNG or JPEG file in it (.png, .jpg, .jpeg)")
    deep = [file for file in files if len(file.parts) > 1]
    flat = [file for file in files if len(file.parts) == 1]
    if deep and flat:
        raise DataError(
            f"{folder}: {flat[0]} is in no subfolder, so it has no class, while {deep[0]} has "
            "one: move it into a subfolder"
        )
    return files


def part(file: PurePath) -> SplitName:
    """The split that FILE, relative to the folder, belongs to: 80, 10 and 10 per cent.

    It follows from a hash of the name, so a new file moves no other from one split to another.
    """
    digest = hashlib.sha256(os.fsencode(file.as_posix())).digest()
    tenth = int.from_bytes(digest[:8], "big") % 10
    return "test" if tenth == 9 else "validation" if tenth == 8 else "train"


def read_picture(path: Path, size: int, channels: Literal[1, 3]) -> torch.Tensor:
    """The picture in PATH, upright, scaled and cropped: uint8 [channels, size, size].

    `DataError` if it is not a whole PNG or JPEG file.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scale
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if picture.has_transparency_data:
                white = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(white, picture.convert("RGBA"))
            picture = picture.convert("L" if channels == 1 else "RGB")
            pixels = np.array(ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC))
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: its content is not that of a PNG or JPEG file") from error
    except Exception as error:  # Pillow raises errors of many types when a file is damaged
        raise DataError(f"{path}: it is not a whole PNG or JPEG file ({error})") from error
    return torch.from_numpy(pixels.reshape(size, size, channels)).permute(2, 0, 1)
