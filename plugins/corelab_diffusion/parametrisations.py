"""What the network predicts, as preconditioning: D(x; σ) = c_skip x + c_out F(c_in x).

D is the denoiser, the mean of the image y given x = y + σ n, and F is the network. Each function
gives (c_skip, c_out, c_in) for levels σ, as Karras et al. 2022 (EDM, arXiv:2206.00364, eq. 7). F
is trained towards (y - c_skip x) / c_out, with the mean squared error for a loss: seen from D that
is the weight λ(σ) = 1 / c_out² (EDM, eq. 8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

SIGMA_DATA = 0.5
"""The standard deviation of pixels in [-1, 1] that `edm` counts on."""

Coefficients = tuple[Tensor, Tensor, Tensor]
"""c_skip, c_out and c_in, each of the shape of the levels."""


def edm(sigma: Tensor) -> Coefficients:
    """Input and target have the variance 1 whatever σ is (EDM, table 1)."""
    total = sigma**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / total, sigma * SIGMA_DATA * total.rsqrt(), total.rsqrt()


def epsilon(sigma: Tensor) -> Coefficients:
    """F predicts the noise n (Ho et al. 2020, arXiv:2006.11239, eq. 14)."""
    return sigma.new_ones(sigma.shape), -sigma, (1 + sigma**2).rsqrt()


def x0(sigma: Tensor) -> Coefficients:
    """F predicts the image y."""
    return sigma.new_zeros(sigma.shape), sigma.new_ones(sigma.shape), (1 + sigma**2).rsqrt()


def v(sigma: Tensor) -> Coefficients:
    """F predicts v = √ᾱ n - √(1 - ᾱ) y (Salimans & Ho 2022, arXiv:2202.00512, section 4)."""
    alpha = (1 + sigma**2).rsqrt()
    return alpha**2, -sigma * alpha, alpha


PARAMETRISATIONS: Mapping[str, Callable[[Tensor], Coefficients]] = {
    "edm": edm,
    "epsilon": epsilon,
    "x0": x0,
    "v": v,
}
