"""What the two players of the game want: losses of logits, and penalties on gradients.

The discriminator gives an image a logit [N]: D(x) = σ(logit) is its probability that x is real, and
a critic's score is the logit itself. Losses are means over a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


class Game(NamedTuple):
    """The loss of either player, each to be made small."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """Of the logits of real images and of generated ones."""
    generator: Callable[[Tensor], Tensor]
    """Of the logits of generated images."""


def logistic(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) (Goodfellow et al. 2014, arXiv:1406.2661, eq. 1)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def minimax(fake: Tensor) -> Tensor:
    """log(1 - D(G(z))) (eq. 1): flat, with the slope -D(G(z)), where the samples are bad."""
    return -F.softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """-log D(G(z)) (section 3): steep, with the slope -(1 - D(G(z))), where they are bad."""
    return F.softplus(-fake).mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim & Ye 2017, Geometric GAN, arXiv:1705.02894)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def difference(real: Tensor, fake: Tensor) -> Tensor:
    """D(G(z)) - D(x): minus the critic's estimate of the Wasserstein distance (Arjovsky et al.
    2017, Wasserstein GAN, arXiv:1701.07875, eq. 3).
    """
    return fake.mean() - real.mean()


def score(fake: Tensor) -> Tensor:
    """-D(G(z)), what remains of the hinge and of the Wasserstein loss for the generator."""
    return -fake.mean()


GAMES: Mapping[str, Game] = {
    "non-saturating": Game(logistic, non_saturating),
    "minimax": Game(logistic, minimax),
    "hinge": Game(hinge, score),
    "wasserstein": Game(difference, score),
}


def r1(logits: Tensor, x: Tensor) -> Tensor:
    """Half the mean squared norm of ∂D/∂x at real images X, [N, C, H, W] (Mescheder et al. 2018,
    Which Training Methods for GANs do actually Converge?, arXiv:1801.04406, eq. 9 without γ).
    """
    return 0.5 * _slopes(logits, x).square().sum(1).mean()


def one_lipschitz(logits: Tensor, x: Tensor) -> Tensor:
    """Mean of (‖∂D/∂x‖ - 1)² at images X between real and generated ones (Gulrajani et al. 2017,
    Improved Training of Wasserstein GANs, arXiv:1704.00028, eq. 3 without λ).
    """
    norms: Tensor = torch.linalg.vector_norm(_slopes(logits, x), dim=1)
    return (norms - 1).square().mean()


JUDGEMENT = ("win_rate", "real_accuracy", "fake_accuracy", "saturation")
"""The names of the figures of a judgement."""


def judgement(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """How well a discriminator tells real images from generated ones, by the logits of either.

    `win_rate` is the share of pairs whose real image has the larger logit: 1 if nothing fools it,
    0.5 if it knows nothing, whatever the loss. `real_accuracy` and `fake_accuracy` are the shares
    with the right sign. `saturation` is the share of generated images with D(G(z)) < 1/150, where
    the slope of the minimax loss is next to nothing.
    """
    return {
        "win_rate": (real[:, None] > fake).float().mean(),
        "real_accuracy": (real > 0).float().mean(),
        "fake_accuracy": (fake < 0).float().mean(),
        "saturation": (fake < -5).float().mean(),
    }


def _slopes(logits: Tensor, x: Tensor) -> Tensor:
    """∂D/∂x, [N, C · H · W], to be differentiated once more."""
    (slopes,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return slopes.flatten(1)
