"""The denoiser D(x; σ): a network and what it predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from corelab_diffusion.interface import Network
from corelab_diffusion.parametrisations import Coefficients
from corelab_diffusion.samplers import Denoise

Variance = Literal["small", "large", "learned"]


class Denoiser(nn.Module):
    """Estimates images from noisy ones of any level, and how sure a step back is."""

    def __init__(
        self, net: Network, parametrisation: Callable[[Tensor], Coefficients], variance: Variance
    ) -> None:
        super().__init__()
        self.net = net
        self.parametrisation = parametrisation
        self.variance = variance

    def forward(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, told: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """D(x; σ) of X [N, C, H, W] for σ [N], and ν, of a shape that broadcasts to it.

        LABELS [N] and TOLD [N, K, H, W] are what is known of the image. ν says where the
        log-variance of a reverse step lies between its bounds (Nichol & Dhariwal 2021, eq. 15).
        """
        sigma = sigma[:, None, None, None]
        c_skip, c_out, c_in = (c.to(x.dtype) for c in self.parametrisation(sigma))
        noise = (sigma.log() / 4).flatten().to(x.dtype)  # c_noise of EDM, table 1
        known = c_in * x if told is None else torch.cat([c_in * x, told], 1)
        F = self.net(known, noise, labels).to(x.dtype)
        if self.variance == "learned":
            F, nu = F.chunk(2, 1)
            nu = (nu + 1) / 2
        else:
            nu = x.new_tensor(float(self.variance == "large"))
        return c_skip * x + c_out * F, nu


def guided(
    denoiser: Callable[..., tuple[Tensor, Tensor]],
    labels: Tensor | None,
    nobody: int,
    guidance: float = 1.0,
    told: Tensor | None = None,
    clip: bool = False,
) -> Denoise:
    """The DENOISER for images of the classes LABELS [N], with classifier-free GUIDANCE.

    That is Ho & Salimans 2022 (arXiv:2207.12598), eq. 6, with guidance = 1 + w: at 0 classes count
    for nothing, at 1 as in training, beyond that for more. NOBODY is the label of no class. CLIP
    keeps D between -1 and 1.
    """

    def denoise(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        sigma = sigma.to(x.device).flatten().expand(len(x))
        D, nu = denoiser(x, sigma, labels, told)
        if labels is not None and guidance != 1:
            D_free, _ = denoiser(x, sigma, torch.full_like(labels, nobody), told)
            D = D_free + guidance * (D - D_free)
        return D.clamp(-1, 1) if clip else D, nu

    return denoise
