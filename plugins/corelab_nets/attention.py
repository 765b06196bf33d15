"""Attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1), in the precision that is fastest."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """softmax(q kᵀ / √d) v, [N, heads, L, d], for Q of that shape and K and V [N, heads, S, d].

    CAUSAL: place i looks at the places up to i. Under autocast on a CPU it is computed in float32:
    the backward pass of torch's kernel takes two to five times as long in bfloat16.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            q, k, v = q.float(), k.float(), v.float()
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
