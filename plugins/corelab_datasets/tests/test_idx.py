from __future__ import annotations

import gzip
import math
import struct

import pytest
import torch
from corelab_datasets.idx import read_idx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corelab import DataError

# the file is written anew by every example
rewriting = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def idx_bytes(shape, values):
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


@st.composite
def idx(draw):
    shape = draw(shapes)
    size = math.prod(shape)
    values = draw(st.binary(min_size=size, max_size=size))
    return shape, values, idx_bytes(shape, values)


@rewriting
@given(idx=idx(), packed=st.booleans())
def test_what_was_written_is_read(tmp_path, idx, packed):
    shape, values, content = idx
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if packed else content)
    read = read_idx(path, len(shape))
    assert read.dtype == torch.uint8
    assert list(read.shape) == shape
    assert bytes(read.flatten().tolist()) == values


@rewriting
@given(idx=idx(), packed=st.booleans(), data=st.data())
def test_a_truncated_file_is_refused(tmp_path, idx, packed, data):
    shape, _, content = idx
    path = tmp_path / "file"
    written = gzip.compress(content) if packed else content
    path.write_bytes(written[: data.draw(st.integers(0, len(written) - 1))])
    with pytest.raises(DataError, match=str(path)):
        read_idx(path, len(shape))


@rewriting
@given(idx=idx(), packed=st.booleans(), byte=st.integers(1, 255), data=st.data())
def test_a_changed_byte_of_the_header_is_refused(tmp_path, idx, packed, byte, data):
    shape, _, content = idx
    changed = bytearray(content)
    changed[data.draw(st.integers(0, 4 + 4 * len(shape) - 1))] ^= byte
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(changed) if packed else changed)
    with pytest.raises(DataError, match=str(path)):
        read_idx(path, len(shape))


@rewriting
@given(idx=idx(), byte=st.integers(1, 255), data=st.data())
def test_a_changed_byte_of_a_packed_file_is_refused_or_changes_nothing(tmp_path, idx, byte, data):
    shape, values, content = idx
    changed = bytearray(gzip.compress(content))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= byte
    path = tmp_path / "file"
    path.write_bytes(changed)
    try:
        read = read_idx(path, len(shape))
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017 - either outcome is right
    else:  # gzip keeps a date and the like, which nobody reads
        assert list(read.shape) == shape
        assert bytes(read.flatten().tolist()) == values


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(content, sentence, id=name)
        for name, content, sentence in [
            ("empty", b"", "begins with 00 00 08 03, this file with nothing"),
            ("a page", b"<html>", "begins with 00 00 08 03, this file with 3c 68 74 6d"),
            (
                "too few dimensions",
                idx_bytes([4], bytes(4)),
                "begins with 00 00 08 03, this file with 00 00 08 01",
            ),
            (
                "half a header",
                idx_bytes([1, 1, 1], b"")[:9],
                "cut off after 9 bytes, its header alone takes 16",
            ),
            (
                "too few values",
                idx_bytes([2, 2, 2], bytes(7)),
                "announces 2 x 2 x 2 values, one byte each, but 7 bytes follow",
            ),
            (
                "too many values",
                idx_bytes([2, 2, 2], bytes(9)),
                "announces 2 x 2 x 2 values, one byte each, but 9 bytes follow",
            ),
            ("no images", idx_bytes([0, 28, 28], b""), "announces 0 x 28 x 28 values"),
            (
                "cut off",
                gzip.compress(idx_bytes([1, 1, 1], b"x"))[:-1],
                "gzip compression is damaged",
            ),
        ]
    ],
)
def test_the_sentence_says_what_was_found_and_what_is_right(tmp_path, content, sentence):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_idx(path, 3)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match=r"labels: it cannot be read \(No such file"):
        read_idx(tmp_path / "labels", 1)
    with pytest.raises(DataError, match="it cannot be read"):
        read_idx(tmp_path, 1)
