"""An autoregressive prior over one grid of codes, or over a coarse and then a fine one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_nets.autoregressive import Autoregressive
from corelab_nets.gated import Gated
from torch import Tensor, nn

_EMBED = 32
"""How many numbers stand for a code where it is an input."""


class Prior(nn.Module):
    """p(k | y) = p(top | y) p(bottom | top, y), each factor a gated PixelCNN (van den Oord et al.
    2016, arXiv:1606.05328; Razavi et al. 2019, algorithm 2).
    """

    def __init__(
        self,
        grids: Sequence[tuple[int, int]],
        entries: int,
        classes: int,
        channels: int,
        layers: int,
    ) -> None:
        super().__init__()
        self.grids = grids
        self.nets = nn.ModuleList(
            Gated(
                shape=(1, *grid),
                outputs=entries,
                levels=entries,
                embed=_EMBED,
                layers=layers,
                channels=channels,
                classes=classes,
                condition=0 if level == 0 else _EMBED,
            )
            for level, grid in enumerate(grids)
        )
        self.above = nn.ModuleList(nn.Embedding(entries, _EMBED) for _ in pairwise(grids))

    def forward(self, codes: Sequence[Tensor], labels: Tensor | None) -> Tensor:
        """-log p(CODES | LABELS) in nats, [N]: int64 [N, h, w] for each level, and int64 [N]."""
        nats = []
        for level, k in enumerate(codes):
            symbols = k[:, None]
            logits = self.nets[level](symbols, labels, self._condition(codes[:level]))
            each = F.cross_entropy(logits.float(), symbols, reduction="none")
            nats.append(each.flatten(1).sum(1))
        return torch.stack(nats).sum(0)

    def sample(
        self,
        n: int,
        labels: Tensor | None,
        generator: torch.Generator,
        drawn_from: Callable[[Autoregressive], Callable[..., Tensor]],
        temperature: float = 1.0,
    ) -> list[Tensor]:
        """N draws, int64 [N, h, w] for each level, with logits divided by TEMPERATURE.

        DRAWN_FROM a network is what draws from it, see `corelab_nets.kernel.Samplers`.
        """
        codes: list[Tensor] = []
        for level, grid in enumerate(self.grids):
            u = torch.rand((n, 1, *grid), generator=generator, device=generator.device)
            condition = self._condition(codes)
            net = cast(Gated, self.nets[level])
            draw = drawn_from(net)
            u = u.to(net.background)
            k = draw(u, labels=labels, condition=condition, temperature=temperature)
            codes.append(k[:, 0])
        return codes

    def _condition(self, above: Sequence[Tensor]) -> Tensor | None:
        """The codes ABOVE a level, if there are any, as a map of its size [N, d, h, w]."""
        if not above:
            return None
        embedded = self.above[0](above[0]).movedim(-1, 1)
        return F.interpolate(embedded, self.grids[1])
