"""Draws from distributions and log-probabilities, in one pass over their parameters.

Where a draw falls depends on the seed and the number of its row alone. So a batch may be drawn in
parts, on several GPUs, say, each of which is told by FIRST which row of all its first one is; and a
CPU and a GPU draw the same, bit for bit. To draw anew, go on with the rows (FIRST + N) or take
another seed.

The functions are operators of PyTorch (torch.ops.corelab), known to autograd, where it makes sense,
and to torch.compile. On a CPU they run sampling.cpp, on NVIDIA's GPUs sampling.cu; where those
cannot be compiled, `reference`, and a warning says so once.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from corelab import ConfigError, DivergedError
from corelab_kernels import build, nvidia, reference
from corelab_kernels.build import NoCompiler

_LEVELS = 256
_LANES, _LEAST = 256, 32
"""Of a row of logits, at most and at least: as in sampling.h."""
_THREADS = 256
"""Of a block on a GPU."""


def sample_categorical(
    logits: Tensor, seed: int, *, first: int = 0, temperature: float = 1.0
) -> Tensor:
    """Classes int64 [...], drawn from the softmax of LOGITS [..., V] / TEMPERATURE, float32.

    -infinity is a probability of zero. `DivergedError` if the logits of a row are NaN, infinite or
    all of them -infinity; on a GPU, looking for that waits for the draws, so while a CUDA graph is
    captured they are -1 instead.
    """
    _check(logits, "logits", "[..., V]", logits.ndim >= 1 and logits.shape[-1] >= 1)
    _check_counter(seed, first)
    if not 0 < temperature < float("inf"):
        raise ConfigError(f"the temperature is {temperature}; it must be positive")
    drawn: Tensor = torch.ops.corelab.sample_categorical(logits, 1 / temperature, seed, first)
    return drawn


def categorical_log_prob(logits: Tensor, symbols: Tensor) -> Tensor:
    """The log-probabilities [...] of SYMBOLS, int64 [...] from 0 to V - 1, under the softmax of
    LOGITS, float32 [..., V]. On a GPU, those of other symbols are NaN.
    """
    _check(logits, "logits", "[..., V]", logits.ndim >= 1 and logits.shape[-1] >= 1)
    _check_symbols(symbols, logits, logits.shape[:-1], logits.shape[-1])
    log_prob: Tensor = torch.ops.corelab.categorical_log_prob(logits, symbols)[0]
    return log_prob


def sample_logistic_mixture(parameters: Tensor, seed: int, *, first: int = 0) -> Tensor:
    """Levels int64 [...] from 0 to 255, drawn from the mixtures with PARAMETERS [..., 3, K].

    Those are, float32, the logits of the weights of K components, their locations and log-scales;
    see `logistic_mixture_log_prob`. Otherwise as `sample_categorical`.
    """
    _check_mixture(parameters)
    _check_counter(seed, first)
    drawn: Tensor = torch.ops.corelab.sample_logistic_mixture(parameters, seed, first)
    return drawn


def logistic_mixture_log_prob(parameters: Tensor, symbols: Tensor) -> Tensor:
    """The log-probabilities [...] of SYMBOLS, int64 [...] from 0 to 255, under mixtures of
    logistic distributions that are cut into 256 bins (Salimans et al. 2017, PixelCNN++,
    arXiv:1701.05517, eq. 2).

    PARAMETERS [..., 3, K] are, float32, the logits of the weights, the locations on the scale from
    -1 (level 0) to 1 (level 255), and log-scales, which are clamped to [-7, 7]. On a GPU, the
    log-probabilities of other symbols are NaN.
    """
    _check_mixture(parameters)
    _check_symbols(symbols, parameters, parameters.shape[:-2], _LEVELS)
    log_prob: Tensor = torch.ops.corelab.logistic_mixture_log_prob(parameters, symbols)
    return log_prob


def missing() -> str:
    """Why sampling.cpp is not in use on this machine's CPU; "" if it is."""
    try:
        _library()
    except NoCompiler as reason:
        return str(reason)
    return ""


# ---- what makes no sense -------------------------------------------------------------------------


def _check(tensor: Tensor, name: str, shape: str, fits: bool) -> None:
    if not fits:
        raise ConfigError(f"the {name} are {list(tensor.shape)}; they must be {shape}")
    if tensor.layout != torch.strided:
        raise ConfigError(f"the {name} are a tensor of layout {tensor.layout}; it must be dense")
    if tensor.dtype != torch.float32:
        raise ConfigError(f"the {name} are {tensor.dtype}; they must be torch.float32")
    if tensor.device.type not in ("cpu", "cuda"):
        raise ConfigError(f"the {name} are on {tensor.device}; they must be on a CPU or CUDA GPU")
    if not tensor.is_contiguous():
        raise ConfigError(f"the {name} are not contiguous; say .contiguous() to copy them")


def _check_mixture(parameters: Tensor) -> None:
    fits = parameters.ndim >= 2 and parameters.shape[-2] == 3 and parameters.shape[-1] >= 1
    _check(parameters, "parameters", "[..., 3, K]", fits)


def _check_symbols(symbols: Tensor, of: Tensor, shape: torch.Size, levels: int) -> None:
    if symbols.dtype != torch.int64 or symbols.shape != shape or symbols.device != of.device:
        raise ConfigError(
            f"the symbols are {symbols.dtype} {list(symbols.shape)} on {symbols.device}; they "
            f"must be torch.int64 {list(shape)} on {of.device}"
        )
    if not symbols.is_contiguous():
        raise ConfigError("the symbols are not contiguous; say .contiguous() to copy them")


def _check_counter(seed: int, first: int) -> None:
    for name, value in (("seed", seed), ("first row", first)):
        if not 0 <= value < 2**63:
            raise ConfigError(f"the {name} is {value}; it must be from 0 to 2^63 - 1")


def _refuse_unknown(symbols: Tensor, levels: int) -> None:
    if not symbols.numel():
        return
    least, greatest = (int(bound) for bound in symbols.aminmax())
    if least < 0 or greatest >= levels:
        wrong = least if least < 0 else greatest
        raise ConfigError(f"there is a symbol {wrong}; they must be from 0 to {levels - 1}")


def _refuse_undrawn(drawn: Tensor, what: str) -> None:
    if drawn.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    if drawn.numel() and (drawn < 0).any():
        raise DivergedError(f"{what} of a row are NaN or infinite: nothing can be drawn from them")


# ---- the operators -------------------------------------------------------------------------------

_OPERATORS: Any = torch.library.Library("corelab", "FRAGMENT")  # type: ignore[no-untyped-call]


@cache
def _library() -> Any:
    return build.load("sampling", build.exact())


@cache
def _compiled(device: torch.device) -> Callable[..., None] | None:
    """What runs a compiled function by its name; None if there is none, which is said."""
    try:
        if device.type == "cpu":
            library = _library()
            return lambda name, blocks, *given: getattr(library, name)(
                *given, ctypes.c_int64(torch.get_num_threads())
            )
        kernels = nvidia.load("sampling", device.index)
        return lambda name, blocks, *given: kernels.launch(name, blocks, _THREADS, *given)
    except NoCompiler as reason:
        warnings.warn(
            f"{reason}; PyTorch draws the same distributions instead, more slowly", stacklevel=3
        )
        return None


def _run(name: str, blocks: int, tensors: tuple[Tensor, ...], *numbers: int | float) -> bool:
    """Run the function NAME on contiguous TENSORS and NUMBERS; whether there is one."""
    run = _compiled(tensors[0].device)
    if run is not None and tensors[0].numel():
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
        run(
            name,
            blocks,
            *pointers,
            *(ctypes.c_float(n) if isinstance(n, float) else ctypes.c_int64(n) for n in numbers),
        )
    return run is not None


def _blocks(rows: int, lanes: int) -> int:
    """How many blocks of a GPU have ROWS rows of so many LANES."""
    return -(-rows * lanes // _THREADS)


def _lanes(classes: int) -> int:
    return min(_LANES, max(_LEAST, 1 << (classes - 1).bit_length()))


def _sample_categorical(logits: Tensor, scale: float, seed: int, first: int) -> Tensor:
    logits = logits.contiguous()
    V = logits.shape[-1]
    out = logits.new_empty(logits.shape[:-1], dtype=torch.int64)
    rows = out.numel()
    blocks = _blocks(rows, _lanes(V))
    if not _run("sample_categorical", blocks, (logits, out), rows, V, scale, seed, first):
        drawn = reference.sample_categorical(logits.view(rows, V), scale, seed, first)
        out = drawn.view(out.shape)
    _refuse_undrawn(out, "the logits")
    return out


def _categorical_log_prob(logits: Tensor, symbols: Tensor) -> tuple[Tensor, Tensor]:
    logits, symbols = logits.contiguous(), symbols.contiguous()
    V, rows = logits.shape[-1], symbols.numel()
    if not symbols.is_cuda:
        _refuse_unknown(symbols, V)
    out, log_sums = logits.new_empty(symbols.shape), logits.new_empty(symbols.shape)
    tensors = logits, symbols, out, log_sums
    if not _run("categorical_log_prob", _blocks(rows, _lanes(V)), tensors, rows, V):
        both = reference.categorical_log_prob(logits.view(rows, V), symbols.flatten())
        out, log_sums = (each.view(symbols.shape) for each in both)
    return out, log_sums


def _categorical_slopes(grads: Tensor, logits: Tensor, symbols: Tensor, log_sums: Tensor) -> Tensor:
    given = tuple(each.contiguous() for each in (grads, logits, symbols, log_sums))
    V, rows, out = logits.shape[-1], symbols.numel(), torch.empty_like(given[1])
    if not _run("categorical_slopes", _blocks(rows, _lanes(V)), (*given, out), rows, V):
        grads, logits, symbols, log_sums = given
        out = reference.categorical_slopes(
            grads.flatten(), logits.view(rows, V), symbols.flatten(), log_sums.flatten()
        ).view(logits.shape)
    return out


def _sample_logistic_mixture(parameters: Tensor, seed: int, first: int) -> Tensor:
    parameters = parameters.contiguous()
    K = parameters.shape[-1]
    out = parameters.new_empty(parameters.shape[:-2], dtype=torch.int64)
    rows = out.numel()
    tensors = parameters, out
    if not _run("sample_logistic_mixture", _blocks(rows, 1), tensors, rows, K, seed, first):
        drawn = reference.sample_logistic_mixture(parameters.view(rows, 3, K), seed, first)
        out = drawn.view(out.shape)
    _refuse_undrawn(out, "the parameters")
    return out


def _logistic_mixture_log_prob(parameters: Tensor, symbols: Tensor) -> Tensor:
    parameters, symbols = parameters.contiguous(), symbols.contiguous()
    K, rows = parameters.shape[-1], symbols.numel()
    if not symbols.is_cuda:
        _refuse_unknown(symbols, _LEVELS)
    out = parameters.new_empty(symbols.shape)
    tensors = parameters, symbols, out
    if not _run("logistic_mixture_log_prob", _blocks(rows, 1), tensors, rows, K):
        rowwise = parameters.view(rows, 3, K), symbols.flatten()
        out = reference.logistic_mixture_log_prob(*rowwise).view(symbols.shape)
    return out


def _logistic_mixture_slopes(grads: Tensor, parameters: Tensor, symbols: Tensor) -> Tensor:
    given = tuple(each.contiguous() for each in (grads, parameters, symbols))
    K, rows, out = parameters.shape[-1], symbols.numel(), torch.empty_like(given[1])
    if not _run("logistic_mixture_slopes", _blocks(rows, 1), (*given, out), rows, K):
        grads, parameters, symbols = given
        rowwise = grads.flatten(), parameters.view(rows, 3, K), symbols.flatten()
        out = reference.logistic_mixture_slopes(*rowwise).view(parameters.shape)
    return out


def _define(
    schema: str, run: Callable[..., Any], like: Callable[..., Any], *derivative: Callable[..., Any]
) -> None:
    """An operator with SCHEMA that does RUN; LIKE makes outputs of the right shape and type.

    DERIVATIVE is what saves for the way back, and what goes it.
    """
    name = schema.split("(")[0]
    _OPERATORS.define(schema)
    for device in ("CPU", "CUDA"):
        _OPERATORS.impl(name, run, device)
    torch.library.register_fake(f"corelab::{name}", like, lib=_OPERATORS)
    if derivative:
        save, back = derivative
        torch.library.register_autograd(
            f"corelab::{name}", back, setup_context=save, lib=_OPERATORS
        )


def _save_categorical(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _categorical_back(ctx: Any, grads: Tensor, _: Tensor) -> tuple[Tensor, None]:
    return torch.ops.corelab.categorical_slopes(grads, *ctx.saved_tensors), None


def _save_mixture(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _mixture_back(ctx: Any, grads: Tensor) -> tuple[Tensor, None]:
    return torch.ops.corelab.logistic_mixture_slopes(grads, *ctx.saved_tensors), None


def _save_nothing(ctx: Any, inputs: Any, output: Any) -> None:
    pass


def _no_further_back(ctx: Any, grads: Tensor) -> None:
    raise ConfigError("the log-probabilities of corelab_kernels have no second derivatives")


_define(
    "sample_categorical(Tensor logits, float scale, int seed, int first) -> Tensor",
    _sample_categorical,
    lambda logits, *_: logits.new_empty(logits.shape[:-1], dtype=torch.int64),
)
_define(
    "categorical_log_prob(Tensor logits, Tensor symbols) -> (Tensor, Tensor)",
    _categorical_log_prob,
    lambda logits, symbols: (logits.new_empty(symbols.shape), logits.new_empty(symbols.shape)),
    _save_categorical,
    _categorical_back,
)
_define(
    "categorical_slopes(Tensor grads, Tensor logits, Tensor symbols, Tensor log_sums) -> Tensor",
    _categorical_slopes,
    lambda grads, logits, symbols, log_sums: logits.new_empty(logits.shape),
    _save_nothing,
    _no_further_back,
)
_define(
    "sample_logistic_mixture(Tensor parameters, int seed, int first) -> Tensor",
    _sample_logistic_mixture,
    lambda parameters, *_: parameters.new_empty(parameters.shape[:-2], dtype=torch.int64),
)
_define(
    "logistic_mixture_log_prob(Tensor parameters, Tensor symbols) -> Tensor",
    _logistic_mixture_log_prob,
    lambda parameters, symbols: parameters.new_empty(symbols.shape),
    _save_mixture,
    _mixture_back,
)
_define(
    "logistic_mixture_slopes(Tensor grads, Tensor parameters, Tensor symbols) -> Tensor",
    _logistic_mixture_slopes,
    lambda grads, parameters, symbols: parameters.new_empty(parameters.shape),
    _save_nothing,
    _no_further_back,
)
