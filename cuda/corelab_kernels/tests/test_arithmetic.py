from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from corelab_kernels import build
from corelab_kernels.philox import philox, uniforms

SOURCE = Path(__file__).with_name("arithmetic.cpp")
FUNCTIONS = ("exp", "expm1", "log", "tanh", "sigmoid", "gate", "elu")
STRIDE = 4099  # prime, so that all low bits are met
_POINTER = ctypes.c_void_p
pytestmark = pytest.mark.compiled


def builds():
    """How the functions are compiled: without optimising, and with every level known here."""
    at = build.instructions()
    levels = {"x86-64-v4": ["", "x86-64-v3", "x86-64-v4"], "x86-64-v3": ["", "x86-64-v3"]}
    return [("-O0",), *(build.exact(level) for level in levels.get(at, [""]))]


@cache
def library(flags):
    made = ctypes.CDLL(str(build.build(SOURCE, flags=flags)))
    made.apply32.argtypes = made.apply64.argtypes = [
        ctypes.c_int,
        _POINTER,
        _POINTER,
        ctypes.c_long,
    ]
    numbers = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint, _POINTER, ctypes.c_long]
    made.apply_bits.argtypes = numbers
    made.largest_error.argtypes = [*numbers, ctypes.c_double, ctypes.c_double]
    made.largest_error.restype = ctypes.c_double
    made.philox.argtypes = [_POINTER, ctypes.c_ulonglong, _POINTER, ctypes.c_long]
    made.uniform.argtypes = [_POINTER, _POINTER, ctypes.c_long]
    return made


def evaluate(flags, name, x):
    y = np.empty_like(x)
    call = library(flags).apply32 if x.dtype == np.float32 else library(flags).apply64
    assert call(FUNCTIONS.index(name), x.ctypes.data, y.ctypes.data, x.size) == 0
    return y


def of_bits(flags, name, first, stride, n):
    """The bits of the function's values, with one NaN for all."""
    y = np.empty(n, np.uint32)
    index = FUNCTIONS.index(name)
    assert library(flags).apply_bits(index, first, stride, y.ctypes.data, n) == 0
    return y


def largest_error(name, first, stride, y):
    """In units in the last place, of those of the values Y for which a bound is promised."""
    low, high, _ = BOUNDS[name]
    operands = FUNCTIONS.index(name), first, stride, y.ctypes.data, len(y), low, high
    return library(build.exact()).largest_error(*operands)


BOUNDS = {  # from, to, units in the last place
    "exp": (-np.inf, 88.72, 1.1),
    "expm1": (-np.inf, 0, 0.9),
    "log": (0, np.inf, 0.9),
    "tanh": (-np.inf, np.inf, 2.6),
    "sigmoid": (-87, np.inf, 2.5),
    "gate": (-np.inf, 44, 4.7),
    "elu": (-np.inf, np.inf, 0.9),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_builds_agree_bit_for_bit_and_errors_are_below_the_bounds_of_the_header(name):
    n = 2**32 // STRIDE
    first, *others = (of_bits(flags, name, 0, STRIDE, n) for flags in builds())
    assert others
    for other in others:
        assert np.array_equal(first, other)
    assert len(np.unique(first)) > 10_000
    assert 0.5 < largest_error(name, 0, STRIDE, first) <= BOUNDS[name][2]


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_builds_agree_and_errors_are_below_the_bounds_for_all_floats(name, capsys):
    level = build.instructions()
    plain = ("-O0", "-ffp-contract=off", *([f"-march={level}"] if level else []))
    fast = [flags for flags in builds()[1:] if not level or flags != build.exact("")]
    worst, block = 0.0, 2**20
    for begin in range(0, 2**32, block):
        first = of_bits(plain, name, begin, 1, block)
        for flags in fast:
            assert np.array_equal(first, of_bits(flags, name, begin, 1, block)), f"at {begin:#x}"
        worst = max(worst, largest_error(name, begin, 1, first))
    with capsys.disabled():
        print(f"\n{name}: largest error {worst:.4f} ulp", end="")
    assert worst <= BOUNDS[name][2]


def ulps(y, exact):
    """|Y - EXACT| in units in the last place of EXACT, float32 or float64 as Y is."""
    exact = exact.astype(np.longdouble)
    info = np.finfo(y.dtype)
    exponent = np.floor(np.log2(np.maximum(np.abs(exact), info.tiny)))
    return np.abs(y.astype(np.longdouble) - exact) / np.exp2(exponent) / info.eps


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


EXACT = {
    "exp": (np.exp, -200, 88),
    "expm1": (np.expm1, -1e30, 0),
    "log": (np.log, 1e-45, 3e38),
    "tanh": (np.tanh, -1e30, 1e30),
    "sigmoid": (sigmoid, -87, 1e30),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), -1e30, 1e30),
}


@pytest.mark.parametrize("name", EXACT)
def test_errors_in_float64_are_a_few_ulp(name):
    exact, low, high = EXACT[name]
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=100_000) * scale for scale in (0.1, 1, 20)])
    x = np.abs(x) if name == "log" else np.clip(x, low, high)
    errors = ulps(evaluate(build.exact(), name, x), exact(x.astype(np.longdouble)))
    assert errors.max() < 3


def test_the_ends_are_what_they_should_be():
    x = np.array([np.inf, -np.inf, np.nan, 0.0, 1e30, -1e30, 88.8], np.float32)
    expected = {
        "exp": [np.inf, 0, np.nan, 1, np.inf, 0, np.inf],
        "log": [np.inf, np.nan, np.nan, -np.inf, np.log(np.float32(1e30)), np.nan, 4.486387],
        "tanh": [1, -1, np.nan, 0, 1, -1, 1],
        "sigmoid": [1, 0, np.nan, 0.5, 1, 0, 1],
        "elu": [np.inf, -1, np.nan, 0, 1e30, -1, 88.8],
    }
    for name, values in expected.items():
        for kind in (np.float32, np.float64):
            y = evaluate(build.exact(), name, x.astype(kind))
            if name == "exp" and kind == np.float64:
                y, values = y[:-1], values[:-1]  # which is a number there
            np.testing.assert_allclose(y, values, rtol=1e-6)


def test_philox_gives_the_published_words():
    # Random123, tests/kat_vectors: counter, key, result
    known = [
        ([0] * 4, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ]
    for flags in builds():
        for counter, key, expected in known:
            words = np.array(counter, np.uint32)
            made = np.empty(4, np.uint32)
            library(flags).philox(words.ctypes.data, key, made.ctypes.data, 1)
            assert made.tolist() == philox(words, key).tolist() == expected


def test_uniforms_of_an_image_are_its_own():
    many = uniforms(2**63 + 5, 7, 30)
    assert many.shape == (7, 30)
    assert many.dtype == np.float32
    assert np.array_equal(uniforms(2**63 + 5, 3, 30, first=4), many[4:])
    assert len(np.unique(many)) == 210
    assert not np.array_equal(uniforms(2**63 + 6, 7, 30), many)
    counters = np.array([[0, 6, 0, 0], [1, 6, 0, 0]], np.uint32)
    words = np.empty_like(counters)
    library(build.exact()).philox(counters.ctypes.data, 2**63 + 5, words.ctypes.data, 2)
    expected = np.empty(8, np.float32)
    library(build.exact()).uniform(words.ctypes.data, expected.ctypes.data, 8)
    assert np.array_equal(many[6, :8], expected)


def test_uniforms_are_uniform():
    found = np.bincount((uniforms(1, 50, 2000) * 100).astype(int).ravel(), minlength=100)
    chi_square = ((found - 1000.0) ** 2 / 1000).sum()
    assert 45 < chi_square < 170  # of 99 degrees of freedom; 1e-5 of either tail


def test_uniforms_are_never_0_or_1_and_in_even_steps():
    words = np.array([0, 511, 512, 2**31, 2**32 - 1], np.uint32)
    made = np.empty(5, np.float32)
    library(build.exact()).uniform(words.ctypes.data, made.ctypes.data, 5)
    expected = [2**-24, 2**-24, 3 * 2**-24, 0.5 + 2**-24, 1 - 2**-24]
    assert made.tolist() == expected
