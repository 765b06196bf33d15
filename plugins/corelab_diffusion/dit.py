"""The model "dit" of the interface "denoiser": a transformer over patches of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_nets.attention import attend
from torch import Tensor, nn

from corelab import require
from corelab_diffusion.embeddings import Classes, Levels


class DiT(nn.Module):
    """Diffusion transformer with adaLN-Zero (Peebles & Xie 2023, arXiv:2212.09748).

    Sides that the patch does not divide are filled up with copies of the last row and column.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the transformer."""

        width: int = 128
        """Numbers in the vector of a patch."""
        depth: int = 6
        """How many blocks there are."""
        heads: int = 4
        """Heads of attention."""
        patch: int = 2
        """Side of a patch in pixels; twice as much costs a quarter."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], inputs: int, outputs: int, classes: int
    ) -> None:
        super().__init__()
        for option in ("width", "depth", "heads", "patch"):
            value = getattr(config, option)
            require(value >= 1, f"model.{option}", value, "at least 1")
        of_four = config.width % 4 == 0 and config.width % config.heads == 0
        require(
            of_four, "model.width", config.width, f"a multiple of 4 and of {config.heads} heads"
        )
        width, self.patch = config.width, config.patch
        rows, columns = (math.ceil(side / self.patch) for side in shape[1:])
        self.levels = Levels(width)
        self.classes = Classes(classes, width) if classes else None
        self.enter = nn.Linear(inputs * self.patch**2, width)
        self.register_buffer("places", _places(rows, columns, width), persistent=False)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.scale_shift = _zero(nn.Linear(width, 2 * width))
        self.leave = _zero(nn.Linear(width, outputs * self.patch**2))

    places: Tensor

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """See `corelab_diffusion.interface.Network`."""
        height, width = x.shape[2:]
        below, right = -height % self.patch, -width % self.patch
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        squares = F.pixel_unshuffle(x, self.patch)
        embedded = self.levels(noise)
        if self.classes is not None:
            embedded = embedded + self.classes(labels)
        embedded = F.silu(embedded)[:, None]

        h = self.enter(squares.flatten(2).mT) + self.places
        for block in self.blocks:
            h = block(h, embedded)
        scale, shift = self.scale_shift(embedded).chunk(2, 2)
        h = self.leave(torch.addcmul(shift, self.norm(h), 1 + scale))
        full = F.pixel_shuffle(h.mT.unflatten(2, squares.shape[2:]), self.patch)
        return full[:, :, :height, :width]


class Block(nn.Module):
    """Attention and a perceptron, each beside the identity and switched off at first (adaLN-Zero).

    The level of the noise and the class set scale, shift and gate of either (section 3.2).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.modulation = _zero(nn.Linear(width, 6 * width))

    def forward(self, h: Tensor, embedded: Tensor) -> Tensor:
        """[N, patches, width] for H of that shape, given EMBEDDED [N, 1, width]."""
        scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = self.modulation(embedded).chunk(6, 2)
        a = torch.addcmul(shift_1, self.norm_1(h), 1 + scale_1)
        q, k, v = self.query_key_value(a).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        a = attend(q, k, v).transpose(1, 2).flatten(2)
        h = torch.addcmul(h, gate_1, self.out(a))
        a = torch.addcmul(shift_2, self.norm_2(h), 1 + scale_2)
        return torch.addcmul(h, gate_2, self.perceptron(a))


def _places(rows: int, columns: int, width: int) -> Tensor:
    """Where the patches are, [rows · columns, width]: waves of row and column, half of each."""
    frequencies = torch.exp(torch.linspace(0, -math.log(10000.0), width // 4))
    waves = [
        torch.cat([(place[:, None] * frequencies).sin(), (place[:, None] * frequencies).cos()], 1)
        for place in (torch.arange(rows).float(), torch.arange(columns).float())
    ]
    of_row = waves[0][:, None].expand(-1, columns, -1)
    of_column = waves[1][None].expand(rows, -1, -1)
    return torch.cat([of_row, of_column], 2).flatten(0, 1)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
