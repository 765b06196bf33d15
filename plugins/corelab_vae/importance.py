"""A tighter bound on the likelihood: importance weighting (Burda et al. 2016, arXiv:1509.00519)."""

from __future__ import annotations

import math

import torch
from corelab_generative.likelihoods import Likelihood
from torch import Tensor

from corelab_vae.interface import Autoencoder


def iwae(
    net: Autoencoder,
    likelihood: Likelihood,
    x: Tensor,
    y: Tensor | None,
    k: int,
    generator: torch.Generator,
) -> Tensor:
    """The bound L_k in nats, [N], of the images X [N, C, H, W] with the labels Y [N].

        L_k = log 1/k Σ_i w_i,   w_i = p(x, z_i) / q(z_i|x),    z_1, …, z_k ~ q(z|x)     (section 3)

    Its mean is a lower bound on log p(x): for k = 1 the evidence lower bound, and never looser for
    a greater k (theorem 1). One code of each image is decoded at a time, so memory does not grow
    with k.
    """
    mean, log_variance = (part.float() for part in net.encode(x, y))
    total = mean.new_full((len(x),), -math.inf)
    for _ in range(k):
        epsilon = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = mean + torch.exp(0.5 * log_variance) * epsilon
        log_p_x = likelihood.log_prob(x, net.decode(z, y).float()).flatten(1).sum(1)
        # log p(z) - log q(z|x), where the two log 2π cancel
        log_ratio = 0.5 * (epsilon**2 + log_variance - z**2).sum(1)
        total = torch.logaddexp(total, log_p_x + log_ratio)
    return total - math.log(k)
