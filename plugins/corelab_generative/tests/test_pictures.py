from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from corelab_generative.pictures import levels, read, scaled, show
from PIL import Image

from corelab import DataError


def test_every_level_comes_back_from_its_float():
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert scaled(images).min() == -1
    assert scaled(images).max() == 1
    assert torch.equal(levels(scaled(images)), images)


def test_what_is_out_of_range_is_shown_as_black_or_white():
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0, 7.0]).reshape(1, 1, 1, 5)
    assert show(x).pixels.flatten().tolist() == [0, 0, 128, 255, 255]


def test_pictures_are_read_as_they_were_written(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    assert torch.equal(
        read(tmp_path / "colour.png", (3, 5, 4)).permute(1, 2, 0), torch.tensor(pixels)
    )
    assert read(tmp_path / "colour.png", (1, 5, 4)).shape == (1, 5, 4)


def test_a_picture_that_cannot_be_read_is_told(tmp_path):
    Image.new("L", (4, 5)).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=re.escape("is 4 x 5 pixels; it must be 8 x 8")):
        read(tmp_path / "small.png", (1, 8, 8))
    with pytest.raises(
        DataError, match=re.escape("text.png: its content is not that of a picture")
    ):
        read(tmp_path / "text.png", (1, 8, 8))
    with pytest.raises(DataError, match=re.escape("none.png: cannot be read (No such file")):
        read(tmp_path / "none.png", (1, 8, 8))
