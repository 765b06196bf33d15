"""Masked convolution without the multiplications by zero."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from corelab import ConfigError

_FLOATS = torch.float64, torch.float32, torch.bfloat16, torch.float16
_WORTH_A_COPY = 48
"""Channels from which on it pays for a kernel of 3 x 3 to leave a row out."""


def masked_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, mask: str) -> Tensor:
    """The convolution [N, O, H, W] of X, [N, I, H, W], at each pixel with the pixels before it.

    WEIGHT is [O, I, k, k], k odd; of it the rows below the middle, the pixels on the right in the
    middle row and, if MASK is "A", the middle itself are taken for zero (van den Oord et al. 2016,
    arXiv:1601.06759, section 3.4); with MASK "B" the middle is seen.

    Rather than multiplied, the rows of zeros are left out, and as many rows put above X: the rest
    is the device's own convolution, fastest where X and WEIGHT are channels-last, in PyTorch's
    precision: bfloat16, with sums in float32, for tensors of it and under `torch.autocast`, and
    for float32 on an NVIDIA GPU TF32 unless `torch.backends.cudnn.conv.fp32_precision` is "ieee".
    """
    _check(x, weight, bias, mask)
    k = weight.shape[-1]
    half = k // 2
    own = half + (mask == "B")
    if k == 3 and x.shape[1] < _WORTH_A_COPY:
        seen = weight.new_ones(k, k)
        seen[half, own:] = seen[half + 1 :] = 0
        return F.conv2d(x, weight * seen, bias, padding=half)
    seen = weight.new_ones(half + 1, k)
    seen[half, own:] = 0
    above = F.pad(x, (0, 0, half, 0))
    return F.conv2d(above, weight[:, :, : half + 1] * seen, bias, padding=(0, half))


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, mask: str) -> None:
    if mask not in ("A", "B"):
        raise ConfigError(f'the mask is {mask!r}; it must be "A" or "B"')
    shape = list(weight.shape)
    if len(shape) != 4 or shape[2] != shape[3] or shape[2] % 2 == 0:
        raise ConfigError(f"the weights are {shape}; they must be [O, I, k, k] with an odd k")
    if x.ndim != 4 or x.shape[1] != shape[1]:
        raise ConfigError(f"x is {list(x.shape)}; it must be [N, {shape[1]}, H, W] as the weights")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ConfigError(f"the bias is {list(bias.shape)}; it must be [{shape[0]}]")
    device = x.device.type  # where autocast is, it casts to one type, whatever theirs are
    cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    for name, tensor in (("x", x), ("the weight", weight), ("the bias", bias)):
        if tensor is None:
            continue
        if tensor.layout != torch.strided or tensor.dtype not in _FLOATS:
            raise ConfigError(
                f"{name} is a {tensor.layout} tensor of {tensor.dtype}; it must be "
                "dense, of float64, float32, bfloat16 or float16"
            )
        if tensor.device != x.device or not (cast or tensor.dtype == x.dtype):
            raise ConfigError(
                f"{name} is {tensor.dtype} on {tensor.device}; it must be as x, {x.dtype} on "
                f"{x.device}"
            )
