"""Fashion-MNIST and MNIST, from files in the publishers' own format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from corelab import DataError
from corelab_datasets.download import download
from corelab_datasets.idx import read_idx
from corelab_datasets.interface import Dataset, Split, SplitName

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class _MnistFormat(Dataset):
    """Four IDX files: training and test images, 28 x 28 bytes each, and their labels 0 to 9.

    The last twelfth of the training images is for validation, so 60,000 give 55,000 and 5,000.
    """

    @dataclass(frozen=True)
    class Config:
        """Where the files are."""

        folder: Path | None = None
        """The folder of the four files, plain or .gz; by default the usual places are searched."""
        download: bool = False
        """Download files that are not found, into `folder` or else the user's cache folder."""

    name: ClassVar[str]
    _package: ClassVar[str] = ""
    """The Debian package that installs the files."""
    _installed: ClassVar[tuple[Path, ...]] = ()
    """Where it installs them."""
    _url: ClassVar[str]
    """The folder to download from."""
    _sha256: ClassVar[tuple[str, str, str, str]]
    """Of the downloads, in the order of `_FILES`."""

    shape = (1, 28, 28)

    def __init__(self, config: Config) -> None:
        folder = self._find(config)
        images, labels = self._read(folder, "train")
        last = len(images) // 12
        if last == 0:
            raise DataError(
                f"{folder}: it takes at least 12 training images to set a twelfth of them aside "
                f"for validation, found {len(images)}"
            )
        self._splits: dict[SplitName, Split] = {
            "train": Split(images[:-last], labels[:-last]),
            "validation": Split(images[-last:], labels[-last:]),
            "test": Split(*self._read(folder, "t10k")),
        }

    def split(self, name: SplitName) -> Split:
        """The part NAME, in the order of the files."""
        return self._splits[name]

    def _find(self, config: Config) -> Path:
        """The first place that has all four files; if none has, the last, once downloaded to."""
        places = [config.folder.expanduser()] if config.folder else self._places()
        looked = []
        for place in places:
            try:
                there = {file.name for file in place.iterdir()}
            except OSError as error:
                looked.append(f"{place} ({error.strerror})")
                continue
            missing = [name for name in _FILES if not there & {name, f"{name}.gz"}]
            if not missing:
                return place
            looked.append(f"{place} (without {', '.join(missing)})")
        if config.download:
            for name, sha256 in zip(_FILES, self._sha256, strict=True):
                if not _file(places[-1], name).exists():
                    archive = f"{name}.gz"
                    download(self._url + archive, places[-1] / archive, sha256)
            return places[-1]
        install = f"run `apt install {self._package}`, " if self._package else ""
        raise DataError(
            f"{self.name}: no folder has its four files: {', '.join(looked)}; {install}name their "
            "folder with --task.folder, or have them downloaded with --task.download"
        )

    def _places(self) -> list[Path]:
        """Where to look when no folder is named, the user's cache last."""
        data = os.environ.get("CORELAB_DATA")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return [
            *([Path(data).expanduser() / self.name] if data else []),
            *self._installed,
            cache / "corelab" / self.name,
        ]

    def _read(self, folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Images uint8 [N, 1, 28, 28] and labels int64 [N] of PART, "train" or "t10k"."""
        pictures = _file(folder, f"{part}-images-idx3-ubyte")
        answers = _file(folder, f"{part}-labels-idx1-ubyte")
        images, labels = read_idx(pictures, 3), read_idx(answers, 1)
        if images.shape[1:] != self.shape[1:]:
            found = " x ".join(map(str, images.shape[1:]))
            raise DataError(f"{pictures}: {self.name} has images of 28 x 28 pixels, found {found}")
        if len(labels) != len(images):
            raise DataError(
                f"{answers}: it has {len(labels):,} labels, but {pictures.name} has "
                f"{len(images):,} images"
            )
        if labels.max() >= len(self.classes):
            raise DataError(f"{answers}: labels go from 0 to 9, found {labels.max()}")
        return images[:, None], labels.long()


def _file(folder: Path, name: str) -> Path:
    archive = folder / f"{name}.gz"
    return archive if archive.exists() else folder / name


class FashionMnist(_MnistFormat):
    """70,000 pictures of clothes (Xiao, Rasul, Vollgraf 2017)."""

    name = "fashion-mnist"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    _package = "dataset-fashion-mnist"
    _installed = (Path("/usr/share/datasets/fashion-mnist"),)
    # the authors' own repository: the host that their page links to speaks no https
    _url = (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
        "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/"
    )
    _sha256 = (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    )


class Mnist(_MnistFormat):
    """70,000 handwritten digits (LeCun, Bottou, Bengio, Haffner 1998)."""

    name = "mnist"
    classes = tuple("0123456789")
    _url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    _sha256 = (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    )
