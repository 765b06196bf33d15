"""Whole images from an autoregressive network, drawn by one call of compiled code.

`pixelcnn_sample` is an operator of PyTorch, `torch.ops.corelab.pixelcnn_sample`, on a CPU and on a
GPU from one source, pixelcnn.h. What it draws follows from the uniforms of each image alone, not
from the batch that the image is in.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import c_double, c_float, c_int32, c_int64, c_void_p
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from corelab import ConfigError, DivergedError, StorageError
from corelab_kernels import build, nvidia

ALIGN = 32
"""Every part of the weights begins at a multiple of so many numbers, see pixelcnn.h: those of each
of eight blocks that share them out then begin where four can be read at once."""
_SHADES = 256
"""Levels of a mixture of logistics."""
_BLOCK = 256
"""Threads of a block on a GPU, `THREADS` in pixelcnn.cu."""
_MOST = 2**31 - _BLOCK
"""Numbers in the memory of a block, all of which it counts through in 32 bits."""
_CLUSTERS = (1, 2, 4, 8)
"""Blocks that may draw an image together."""
_GROUP = 8
"""Images that they draw at once, at most."""
_NEAR = 16 * 1024
"""Bytes of shared memory that a block wants for what changes, besides weights."""
_TOO_LARGE = "there is not enough memory to draw images of this size from this network"


@dataclass(frozen=True)
class Sizes:
    """A network in whole numbers, in the order of `Network` in pixelcnn.h."""

    kind: int
    """0: gated, 1: that of PixelCNN++."""
    height: int
    """Rows of pixels, H."""
    width: int
    """Columns of pixels, W."""
    channels: int
    """Sub-pixels of a pixel, C."""
    levels: int
    """Values that a sub-pixel can have."""
    embed: int
    """Numbers that encode one of them."""
    layers: int
    """Layers."""
    features: int
    """Channels of a layer."""
    first: int
    """Height and width of the first layer's kernel before it is cut; odd."""
    kernel: int
    """The same of the other kernels."""
    hidden: int
    """Units of the head for each sub-pixel."""
    outputs: int
    """Parameters of a sub-pixel."""
    components: int
    """Logistics in the mixture of a sub-pixel; 0: its parameters are log-probabilities."""


class _Network(ctypes.Structure):
    _fields_ = [(name, c_int32) for name in Sizes.__dataclass_fields__]


def _task(number: Any) -> type[ctypes.Structure]:
    class Task(ctypes.Structure):
        _fields_ = [
            ("net", _Network),
            ("weights", c_void_p),
            ("context", c_void_p),
            ("context_image", c_int64),
            ("context_row", c_int64),
            ("context_place", c_int64),
            ("uniforms", c_void_p),
            ("symbols", c_void_p),
            ("images", c_int32),
            ("given", c_int32),
            ("temperature", number),
            ("top_k", c_int32),
            ("record", c_void_p),
            ("failed", c_void_p),
        ]

    return Task


class _Plan(ctypes.Structure):
    _fields_ = [
        ("images", c_int32),
        ("kept", c_int32),
        ("room", c_int32),
        ("from", c_int64),
        ("size", c_int64),
    ]


_TASKS = {torch.float32: _task(c_float), torch.float64: _task(c_double)}


def sample(
    sizes: Sizes,
    weights: Tensor,
    context: Tensor,
    uniforms: Tensor,
    prefix: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
) -> Tensor:
    """Symbols int64 [N, C, H, W] from UNIFORMS, [N, C, H, W] in [0, 1), one for each sub-pixel.

    The network is SIZES and WEIGHTS, as corelab_nets.kernel packs them; CONTEXT is what its layers
    are told, [N or 1, H or 1, W or 1, channels]. The first rows are those of PREFIX, integers
    [N, C, rows, W]. The log-probabilities are divided by TEMPERATURE; of the TOP_K likeliest
    levels, if that is not 0, one is drawn.

    `ConfigError` if a tensor or a number does not fit, `DivergedError` if a sub-pixel has no
    distribution because the network's output is not finite, `NoCompiler` if this cannot be built.
    On a GPU, looking for that waits for the images, so while a CUDA graph is captured such an image
    is -1 everywhere instead.
    """
    others = {"weights": weights, "context": context}
    if prefix is not None:
        others["prefix"] = prefix
    _check_places(uniforms, others)  # before PyTorch's dispatcher
    symbols = torch.zeros(uniforms.shape, dtype=torch.int64, device=uniforms.device)
    given = 0
    if prefix is not None:
        n, C, H, W = symbols.shape
        whole = not (prefix.is_floating_point() or prefix.is_complex())
        _fits("the data type of the prefix", prefix.dtype, whole, "one of integers")
        fit = prefix.ndim == 4 and prefix.shape[2] <= H
        fit = fit and prefix.shape == (n, C, prefix.shape[2], W)
        what = f"({n}, {C}, rows, {W}) with at most {H} rows"
        _fits("the shape of the prefix", tuple(prefix.shape), fit, what)
        given = prefix.shape[2]
        symbols[:, :, :given] = prefix
    operands = (weights, context, uniforms, symbols, given, temperature, top_k)
    drawn: Tensor
    drawn, failed = torch.ops.corelab.pixelcnn_sample(list(astuple(sizes)), *operands)
    if drawn.is_cuda and torch.cuda.is_current_stream_capturing():
        return drawn.masked_fill(failed.ne(0)[:, None, None, None], -1)
    if failed.any():
        image = int(failed.ne(0).nonzero()[0])
        place, c = divmod(int(failed[image]) - 1, sizes.channels)
        y, x = divmod(place, sizes.width)
        raise DivergedError(
            f"image {image} cannot be drawn beyond row {y}, column {x}, channel {c}: there, the "
            "network's output is not finite"
        )
    return drawn


@cache
def missing(device: torch.device) -> str:
    """Why nothing can be drawn on DEVICE; "" if it can."""
    try:
        if device.type == "cpu":
            _twin()
        elif device.type == "cuda":
            _kernels(torch.zeros((), device=device).device)
        else:
            return f"there is no kernel for the device {device}"
    except build.NoCompiler as reason:
        return str(reason)
    return ""


_library = cast(Any, torch.library).Library("corelab", "FRAGMENT")
_library.define(
    "pixelcnn_sample(int[] sizes, Tensor weights, Tensor context, Tensor uniforms, Tensor symbols, "
    "int given, float temperature, int top_k) -> (Tensor, Tensor)"
)


class _Operands(NamedTuple):
    """What the operator is called with, besides the sizes of the network."""

    weights: Tensor
    context: Tensor
    uniforms: Tensor
    symbols: Tensor
    given: int
    temperature: float
    top_k: int


def _on_cpu(
    sizes: Sequence[int], *operands: Any, record: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    o = _Operands(*operands)
    _check(Sizes(*sizes), o)
    drawn, failed = o.symbols.clone(), o.symbols.new_zeros(len(o.uniforms))
    task = _task_of(sizes, o, drawn, failed, record)
    call = _twin()[f"pixelcnn_sample{8 * o.uniforms.itemsize}"]
    if call(ctypes.byref(task), torch.get_num_threads()):
        raise StorageError(_TOO_LARGE)
    return drawn, failed


def _on_gpu(sizes: Sequence[int], *given: Any) -> tuple[Tensor, Tensor]:
    o = _Operands(*given)
    _check(Sizes(*sizes), o)
    n, device, itemsize = len(o.uniforms), o.uniforms.device, o.uniforms.itemsize
    if not n:
        return o.symbols.clone(), o.symbols.new_zeros(0)
    kernels = _kernels(device)
    team = _team(tuple(sizes), itemsize, device, n <= kernels.multiprocessors)
    plan, shared = team.plan(n)
    blocks = -(-n // plan.images) * team.blocks
    try:
        drawn = o.symbols.repeat(team.blocks, 1, 1, 1, 1)  # each block has its own
        failed = o.symbols.new_zeros(team.blocks, n)
        workspace = o.uniforms.new_empty(blocks, plan.size)
    except torch.OutOfMemoryError as error:
        raise StorageError(_TOO_LARGE) from error
    name = f"pixelcnn_sample{8 * itemsize}"
    operands = _task_of(sizes, o, drawn, failed), plan, c_void_p(workspace.data_ptr())
    kernels.launch(name, blocks, _BLOCK, *operands, shared=shared, cluster=team.blocks)
    return drawn[0], failed[0]


def _kernels(device: torch.device) -> nvidia.Kernels:
    return nvidia.load("pixelcnn", device.index)


@dataclass(frozen=True)
class _Team:
    """What draws images of one network together on a GPU."""

    blocks: int
    """In a cluster."""
    kept: int
    """Numbers that each keeps of the weights of pixels: all, or none."""
    start: int
    """Where these weights begin."""
    own: int
    """Bytes of shared memory that a block takes for what it knows."""
    room: int
    """Numbers that it has room for besides."""
    itemsize: int
    """Bytes of a number."""
    at_once: int
    """Teams that the GPU has room for."""
    memory: tuple[int, ...]
    """Numbers that a block needs to draw 1, 2, … images."""

    def plan(self, images: int) -> tuple[_Plan, int]:
        """For so many images: as few at a time as all teams of the GPU can draw at once.

        And the bytes of a block's shared memory: what it leaves is a cache.
        """
        group = min(-(-images // self.at_once), len(self.memory))
        size = self.memory[group - 1]
        room = min(self.room, size)
        shared = self.own + (self.kept + room) * self.itemsize
        return _Plan(group, self.kept, room, self.start, size), shared


@cache
def _team(sizes: tuple[int, ...], itemsize: int, device: torch.device, few: bool) -> _Team:
    """The fewest blocks whose shared memory has room for the weights of pixels, else one.

    Several only for FEW images: they wait for each other, which takes longer than what else they
    would have to do if every multiprocessor draws images of its own.
    """
    kernels, name = _kernels(device), f"pixelcnn_sample{8 * itemsize}"
    own, memory = _needs(sizes, itemsize, device)
    net, most = Sizes(*sizes), (kernels.most_shared - own) // itemsize // ALIGN * ALIGN
    start, shared = _size(_rows(net)), most * itemsize + own
    for blocks in _CLUSTERS if few and kernels.has_clusters else (1,):
        kept = _size([(count(net) - start) // blocks])
        if kept + _NEAR // itemsize > most:
            continue
        at_once = kernels.multiprocessors
        if blocks > 1:
            at_once = kernels.clusters(name, _BLOCK, shared=shared, cluster=blocks)
        if at_once:
            room = most - kept
            return _Team(blocks, kept, start, own, room, itemsize, at_once, memory)
    return _Team(1, 0, 0, own, most, itemsize, kernels.multiprocessors, memory)


@cache
def _needs(
    sizes: tuple[int, ...], itemsize: int, device: torch.device
) -> tuple[int, tuple[int, ...]]:
    """Bytes of a block's object, and numbers of its memory for 1, 2, … images.

    The GPU says so, and is waited for, which cannot be done while a CUDA graph is captured.
    """
    needs = torch.zeros(1 + _GROUP, dtype=torch.int64, device=device)
    operands = _Network(*sizes), c_int32(_GROUP), c_void_p(needs.data_ptr())
    _kernels(device).launch(f"pixelcnn_needs{8 * itemsize}", 1, 1, *operands)
    own, *memory = needs.tolist()
    fit = tuple(numbers for numbers in memory if numbers <= _MOST)
    if not fit:
        raise StorageError(_TOO_LARGE)
    return own, fit


def _fake(sizes: Sequence[int], *operands: Any) -> tuple[Tensor, Tensor]:
    o = _Operands(*operands)
    return torch.empty_like(o.symbols), o.symbols.new_empty(len(o.uniforms))


_library.impl("pixelcnn_sample", _on_cpu, "CPU")
_library.impl("pixelcnn_sample", _on_gpu, "CUDA")
torch.library.register_fake("corelab::pixelcnn_sample", _fake, lib=_library)


@cache
def _twin() -> ctypes.CDLL:
    return build.load("pixelcnn", build.exact())


def _task_of(
    sizes: Sequence[int],
    o: _Operands,
    drawn: Tensor,
    failed: Tensor,
    record: Tensor | None = None,
) -> ctypes.Structure:
    """`Task` of pixelcnn.h."""
    by_size = zip(o.context.shape, o.context.stride(), strict=True)
    strides = [0 if n == 1 else stride for n, stride in by_size]
    return _TASKS[o.uniforms.dtype](
        _Network(*sizes),
        o.weights.data_ptr(),
        o.context.data_ptr(),
        *strides[:3],
        o.uniforms.data_ptr(),
        drawn.data_ptr(),
        len(o.uniforms),
        o.given,
        o.temperature,
        o.top_k,
        None if record is None else record.data_ptr(),
        failed.data_ptr(),
    )


def _check(net: Sizes, operands: _Operands) -> None:
    weights, context, uniforms, symbols, given, temperature, top_k = operands
    for name, size in zip(Sizes.__dataclass_fields__, astuple(net), strict=True):
        least = 0 if name in ("kind", "components") else 1
        _fits(name, size, size >= least, f"at least {least}")
    _fits("kind", net.kind, net.kind in (0, 1), "0 or 1")
    expected = net.components * (2 + net.channels) if net.components else net.levels
    _fits("outputs", net.outputs, net.outputs == expected, expected)
    if net.components:
        _fits("levels", net.levels, net.levels == _SHADES, f"{_SHADES} for a mixture")
    kind = uniforms.dtype
    _fits("the data type of the uniforms", kind, kind in _TASKS, "torch.float32 or torch.float64")
    floats = {"weights": weights, "context": context}
    for name, tensor in floats.items():
        _fits(f"the data type of the {name}", tensor.dtype, tensor.dtype == kind, kind)
    _fits(
        "the data type of the symbols", symbols.dtype, symbols.dtype == torch.int64, "torch.int64"
    )
    _check_places(uniforms, {**floats, "symbols": symbols})
    shape = (net.channels, net.height, net.width)
    n = len(uniforms)
    of_images = f"images of {shape}"
    _fits(
        "the shape of the uniforms", tuple(uniforms.shape), uniforms.shape[1:] == shape, of_images
    )
    same = symbols.shape == uniforms.shape
    _fits("the shape of the symbols", tuple(symbols.shape), same, tuple(uniforms.shape))
    told = 4 * net.features * net.layers
    each = zip(context.shape[:3], (n, net.height, net.width), strict=False)
    fit = context.ndim == 4 and all(a in (1, b) for a, b in each) and context.shape[3] == told
    shapes = f"({n}, {net.height}, {net.width}, {told}), or 1 for one of the first three"
    _fits("the shape of the context", tuple(context.shape), fit, shapes)
    for name, tensor in {"weights": weights, "uniforms": uniforms, "symbols": symbols}.items():
        _fits(f"the layout of the {name}", "not contiguous", tensor.is_contiguous(), "contiguous")
    fit = context.shape[3] == 1 or context.stride(3) == 1
    _fits("the layout of the context", "not contiguous", fit, "contiguous in its channels")
    _fits("the number of weights", weights.numel(), weights.numel() == count(net), count(net))
    _fits("the number of given rows", given, 0 <= given <= net.height, f"0 to {net.height}")
    _fits("the temperature", temperature, 0 < temperature < float("inf"), "positive")
    _fits("top_k", top_k, top_k >= 0, "zero or positive")
    if not n or (symbols.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    low, high = (float(value) for value in uniforms.aminmax())  # NaN, if one is
    drawn = low >= 0 and high < 1
    _fits("a uniform", low if low < 0 else high, drawn, "at least 0 and less than 1")
    if given:
        least, most = (int(value) for value in symbols[:, :, :given].aminmax())
        known = least >= 0 and most < net.levels
        _fits("a given symbol", least if least < 0 else most, known, f"from 0 to {net.levels - 1}")


def _check_places(uniforms: Tensor, others: dict[str, Tensor]) -> None:
    shape = tuple(uniforms.shape)
    _fits("the shape of the uniforms", shape, len(shape) == 4, "that of images, (N, C, H, W)")
    known = uniforms.device.type in ("cpu", "cuda")
    _fits("the device of the uniforms", uniforms.device, known, "a CPU or a CUDA GPU")
    for name, tensor in {"uniforms": uniforms, **others}.items():
        dense = tensor.layout == torch.strided
        _fits(f"the layout of the {name}", tensor.layout, dense, torch.strided)
        same = tensor.device == uniforms.device
        _fits(f"the device of the {name}", tensor.device, same, uniforms.device)


def _fits(what: str, value: object, fit: bool, right: object) -> None:
    if not fit:
        raise ConfigError(f"pixelcnn_sample: {what} is {value}; it must be {right}")


def count(net: Sizes) -> int:
    """How many numbers the weights of NET are, with what lies between its parts."""
    return _size(_rows(net)) + _size(_pixels(net))


def _size(parts: list[int]) -> int:
    return sum(-(-n // ALIGN) * ALIGN for n in parts)


def _layers(net: Sizes) -> Iterator[tuple[int, int, int]]:
    """Of a gated network's kernels: their cut height, their width, and channels that they see."""
    yield net.first // 2, net.first, net.channels * net.embed + 3
    for _ in range(net.layers - 1):
        yield net.kernel // 2 + 1, net.kernel, net.features


def _rows(net: Sizes) -> list[int]:
    """The sizes of the parts that are needed once for a row, and before it."""
    F, seen = net.features, net.channels * net.embed + 3
    square = F * F
    parts = [net.levels * net.embed, net.height * net.width * 3]
    if net.kind == 0:
        for h, w, i in _layers(net):
            parts += [h * w * i * 2 * F, 2 * F, 4 * square, 2 * F]
        return parts
    row = [12 * square, F, 24 * square, 2 * F, 2 * square, F, 4 * square, 8 * square, 2 * F]
    return [*parts, 6 * seen * F, F, 3 * seen * F, F, seen * F, *row * net.layers]


def _pixels(net: Sizes) -> list[int]:
    """The sizes of the parts that are needed for every pixel."""
    F, C, E = net.features, net.channels, net.embed
    square = F * F
    parts = [(C * E + 3) * F, *[4 * square, 8 * square] * net.layers]
    if net.kind == 0:
        parts = [n for h, _, i in _layers(net) for n in (h * i * 2 * F, square, F)]
    units = C * net.hidden
    parts += [F * units, units, *(c * E * net.hidden for c in range(1, C))]
    width = -(-net.outputs // ALIGN) * ALIGN
    return parts + [net.hidden * width, width] * C
