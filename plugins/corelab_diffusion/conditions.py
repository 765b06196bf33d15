"""What a picture is made from, where more is known than its class.

A network that was trained with a reduced picture beside the noisy one learns p(y | reduced): it
draws the details (super-resolution) or the colours that the reduced picture leaves open. Completing
a picture needs no training: any model can be held to the part that is known while it samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from corelab_diffusion.samplers import Denoise, ddpm, noise_like

_FACTOR = 4
"""How many times smaller the picture is that super-resolution starts from."""


def low_resolution(y: Tensor) -> Tensor:
    """Means over blocks of 4 x 4 pixels (where that does not divide the size, of about as many)."""
    size = tuple(math.ceil(side / _FACTOR) for side in y.shape[2:])
    return F.interpolate(y, size, mode="area")


def grey(y: Tensor) -> Tensor:
    """The luma [N, 1, H, W] of Y [N, 3, H, W] (ITU-R BT.601), as Pillow turns colour into grey."""
    return torch.einsum("nchw,c->nhw", y, y.new_tensor([0.299, 0.587, 0.114]))[:, None]


CONDITIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "superresolution": low_resolution,
    "colour": grey,
}


def enlarged(reduced: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """REDUCED pictures at the height and width of SHAPE, each pixel repeated."""
    return F.interpolate(reduced, shape[1:], mode="nearest")


def complete(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    generator: torch.Generator,
    *,
    known: Tensor,
    mask: Tensor,
    repeats: int = 5,
) -> Tensor:
    """Sample, by the steps of `ddpm`, pictures that are KNOWN where MASK is true.

    RePaint (Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1 with jumps of one step): after a
    step down the known part is replaced by itself with noise of that level, and the step is undone
    by adding noise and taken again, REPEATS times in all, so that both parts can agree.
    """
    for sigma, tau in pairwise(sigmas):
        for repeat in range(repeats if tau > 0 else 1):
            if repeat:
                x = x + (sigma**2 - tau**2).sqrt() * noise_like(x, generator)
            x = ddpm(denoise, x, torch.stack([sigma, tau]), generator)
            x = torch.where(mask, known + tau * noise_like(x, generator), x)
    return x
