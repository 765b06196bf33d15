"""Handwritten digits that come with scikit-learn: small, and there without a download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits

from corelab_datasets.interface import Dataset, Split, SplitName

_PARTS: dict[SplitName, slice] = {
    "train": slice(0, 1437),
    "validation": slice(1437, 1617),
    "test": slice(1617, 1797),
}


class Digits(Dataset):
    """The 1,797 images that are the test set of UCI's Optical Recognition of Handwritten Digits.

    The file keeps the digits of one writer together, so it is cut in its own order, into the first
    1,437, the next 180 and the last 180: to test is to read other people's writing.
    """

    @dataclass(frozen=True)
    class Config:
        """No options."""

    shape = (1, 8, 8)
    classes = tuple("0123456789")

    def __init__(self, _config: Config) -> None:
        digits = load_digits()
        # ink from 0 to 16, as counted in blocks of 4 x 4 pixels, to the bytes 0 to 255
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        self._images = torch.from_numpy(pixels)[:, None]
        self._labels = torch.from_numpy(digits.target.astype(np.int64))

    def split(self, name: SplitName) -> Split:
        """The part NAME, in the order of the file."""
        return Split(self._images[_PARTS[name]], self._labels[_PARTS[name]])
