"""Vector quantisation: a codebook that follows what is rounded to it (van den Oord et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from corelab import Context


def straight_through(z: Tensor, e: Tensor) -> Tensor:
    """E, whose gradient goes to Z unchanged, as if it had not been rounded (section 3.2)."""
    return z + (e - z).detach()


def perplexity(counts: Tensor) -> Tensor:
    """exp(-Σ p log p) of the frequencies p that COUNTS [K] show: 1 if all are of one code, K if
    all codes are equally frequent.
    """
    p = counts / counts.sum()
    return torch.exp(-torch.xlogy(p, p).sum())


class Codebook(nn.Module):
    """K vectors of d numbers, each the moving average of the vectors that were nearest to it.

    An entry that hardly anything is nearest to is dead: no gradient or average moves it any more.
    It is brought to life at the place of a vector of the current batch, which also is how all
    entries begin, since nothing is near them at first.
    """

    def __init__(self, entries: int, dim: int, decay: float, revive: float) -> None:
        super().__init__()
        self.decay = decay
        """Weight of the past in the averages, the paper's gamma."""
        self.revive = revive
        """The share of the average count below which an entry is dead."""
        self.e: Tensor
        self.counts: Tensor
        self.sums: Tensor
        self.register_buffer("e", torch.randn(entries, dim))
        self.register_buffer("counts", torch.zeros(entries))
        self.register_buffer("sums", torch.zeros(entries, dim))

    def nearest(self, z: Tensor) -> Tensor:
        """Argmin_j ||z - e_j|| for each of the vectors Z [N, d, h, w]: int64 [N, h, w] (eq. 1)."""
        with torch.autocast(z.device.type, enabled=False):
            vectors = z.detach().movedim(1, -1)
            # ||z - e_j||² - ||z||², by one product; `min` finds the place sooner than `argmin`
            distance = torch.addmm((self.e**2).sum(1), vectors.flatten(0, -2), self.e.t(), alpha=-2)
        return distance.min(1).indices.view(vectors.shape[:-1])

    def look_up(self, k: Tensor) -> Tensor:
        """The entries [N, d, h, w] with the numbers K, [N, h, w] (eq. 2)."""
        return F.embedding(k, self.e).movedim(-1, 1)

    @torch.no_grad()
    def learn(self, z: Tensor, k: Tensor, generator: torch.Generator, context: Context) -> Tensor:
        """Move to the vectors Z [N, d, h, w], of which the entries K [N, h, w] were the nearest,
        and to those that the other processes have.

        Returns how many were nearest to each entry, [K] (appendix A.1; GENERATOR, a shared one,
        draws the places where dead entries are brought to life).
        """
        vectors, numbers = z.movedim(1, -1).flatten(0, -2), k.flatten()
        n = torch.bincount(numbers, minlength=len(self.e)).to(vectors)
        sums = torch.zeros_like(self.sums).index_add_(0, numbers, vectors)
        world, here = context.world, len(vectors)
        shape = len(self.e), 1
        places = torch.randint(world * here, shape, generator=generator, device=z.device)
        places -= context.rank * here
        mine = (places >= 0) & (places < here)
        reborn = vectors[places.clamp(0, here - 1).squeeze(1)] * mine
        context.average((n, sums, reborn))
        n, sums, reborn = n * world, sums * world, reborn * world
        self.counts.lerp_(n, 1 - self.decay)  # N_i
        self.sums.lerp_(sums, 1 - self.decay)  # m_i
        average = self.counts.mean()
        dead = self.counts <= self.revive * average
        self.counts.copy_(torch.where(dead, average, self.counts))
        self.sums.copy_(torch.where(dead[:, None], average * reborn, self.sums))
        self.e.copy_(self.sums / self.counts[:, None])  # m_i / N_i
        return n
