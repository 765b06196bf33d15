"""Random numbers by counting: Philox4x32-10 (Salmon et al. 2011), as in arithmetic.h.

The words of an image follow from a seed and the number of the image alone, so a batch may be drawn
in parts, in any order and on any machine.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint32]

_LOW, _WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEPS = 0x9E3779B9, 0xBB67AE85


def philox(counters: Words, key: int) -> Words:
    """Four words for each of COUNTERS, [..., 4], and KEY, of 64 bits."""
    a, b, c, d = (counters[..., i].astype(np.uint64) for i in range(4))
    low, high = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = (right >> _WORD) ^ b ^ np.uint64(low), right & _LOW
        c, d = (left >> _WORD) ^ d ^ np.uint64(high), left & _LOW
        low, high = (low + _STEPS[0]) & 0xFFFFFFFF, (high + _STEPS[1]) & 0xFFFFFFFF
    return np.stack([a, b, c, d], -1).astype(np.uint32)


def uniforms(seed: int, n: int, size: int, first: int = 0) -> NDArray[np.float32]:
    """SIZE numbers for each of N images from number FIRST on, [n, size], from 2⁻²⁴ to 1 - 2⁻²⁴."""
    counters = np.zeros((n, -(-size // 4), 4), np.uint32)
    counters[..., 0] = np.arange(counters.shape[1])
    counters[..., 1] = np.arange(first, first + n)[:, None]
    words = philox(counters, seed).reshape(n, -1)[:, :size]
    return ((words >> 9).astype(np.float32) + np.float32(0.5)) * np.float32(2**-23)
