"""Codes of an autoencoder: how they are distributed, and what lies between two of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_RIDGE = 1e-6
"""Added to the variances of fitted codes, one of which may be the same for all images."""


@dataclass(frozen=True, eq=False)
class CodeDistribution:
    """A Gaussian over codes of d numbers."""

    mean: Tensor
    """[d]."""
    factor: Tensor
    """Lower triangular [d, d]: the covariance is `factor @ factor.T`."""

    @classmethod
    def standard(cls, d: int, device: torch.device) -> CodeDistribution:
        """N(0, I), the prior of a VAE."""
        return cls(torch.zeros(d, device=device), torch.eye(d, device=device))

    @classmethod
    def fit(cls, z: Tensor) -> CodeDistribution:
        """The Gaussian with mean and covariance of the codes Z, [N, d] with N > 1."""
        z = z.double()
        covariance = torch.cov(z.T).reshape(z.shape[1], -1)
        ridge = _RIDGE * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        return cls(z.mean(0).float(), torch.linalg.cholesky(covariance + ridge).float())

    @property
    def scale(self) -> Tensor:
        """Standard deviation of each number, [d]."""
        return self.factor.square().sum(1).sqrt()

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """N codes, [n, d]."""
        shape = (n, len(self.mean))
        epsilon = torch.randn(shape, generator=generator, device=self.mean.device)
        return self.mean + epsilon @ self.factor.T


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Codes on the way from A to B, both [N, d], at the times T [k] from 0 to 1: [N, k, d].

    Direction and length change evenly (Shoemake 1985; for codes White 2016, Sampling Generative
    Networks, arXiv:1609.04468, section 2): a straight line would pass nearer to zero than nearly
    all codes of a Gaussian are. It is taken where the two directions are (nearly) the same or
    opposite, and the arc is not defined.
    """
    a, b, t = a[:, None], b[:, None], t[:, None]
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    cosine = (a * b).sum(-1, keepdim=True) / (length_a * length_b).clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    sine = torch.sin(angle)
    round_ = sine > 1e-3
    sine = torch.where(round_, sine, 1)
    unit_a, unit_b = a / length_a.clamp(min=1e-12), b / length_b.clamp(min=1e-12)
    direction = (torch.sin((1 - t) * angle) * unit_a + torch.sin(t * angle) * unit_b) / sine
    arc = ((1 - t) * length_a + t * length_b) * direction
    return torch.where(round_, arc, torch.lerp(a, b, t))
