"""The file format of MNIST and the data sets made in its image."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from corelab import DataError


def read_idx(path: Path, dimensions: int) -> torch.Tensor:
    """The bytes in the IDX file PATH, plain or gzipped: uint8 with so many DIMENSIONS.

    An IDX file of bytes begins with 0, 0, 8 and the number of dimensions, a byte each; then come
    the dimensions as big-endian 32-bit integers and the values row by row
    (LeCun, Cortes, Burges, The MNIST database of handwritten digits). `DataError` if the file
    cannot be read, is damaged, or holds anything else.
    """
    content = _content(path)
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise DataError(
            f"{path}: a {dimensions}-dimensional IDX file of bytes begins with {magic.hex(' ')}, "
            f"this file with {content[:4].hex(' ') or 'nothing'}"
        )
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise DataError(
            f"{path}: it is cut off after {len(content)} bytes, its header alone takes {header}"
        )
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    announced = math.prod(shape)
    if len(content) - header != announced or announced == 0:
        raise DataError(
            f"{path}: its header announces {' x '.join(map(str, shape))} values, one byte each, "
            f"but {len(content) - header:,} bytes follow"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: its gzip compression is damaged ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: it cannot be read ({error.strerror})") from error
