"""How the networks of this package are told the class of an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def labelled(h: Tensor, y: Tensor | None, classes: int) -> Tensor:
    """H, [N, d], with the one-hot vectors of the labels Y beside it, [N, d + classes].

    H itself where there are no CLASSES.
    """
    if y is None:
        return h
    return torch.cat([h, F.one_hot(y, classes).to(h.dtype)], dim=1)
