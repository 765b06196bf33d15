"""The interface "denoiser": a network that sees noisy images and predicts something of them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Network(Protocol):
    """An `nn.Module`, built as `model(shape=(C, H, W), inputs=i, outputs=o, classes=k)`.

    Inputs and outputs are numbers of channels, which differ from C where more is known or asked
    than the image. k is the number of classes, 0 for a network without labels.
    """

    def __call__(self, x: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Outputs [N, o, H, W], of about unit variance, for X [N, i, H, W].

        X has about unit variance, too. NOISE [N] is ln σ / 4. LABELS, int64 [N], are the classes,
        or k for "none in particular"; they are None if and only if k is 0.
        """
