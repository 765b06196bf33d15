"""What sampling.h defines, in PyTorch alone: for machines without a compiler, and for the tests.

The random words and what is made of them are the same, but PyTorch's exp and log are not: once in
a while, where a draw falls between two outcomes, its last bit decides otherwise.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from corelab_kernels.philox import philox

_LANES, _LEAST = 256, 32
_CATEGORICAL, _MIXTURE = 1, 2
_WORD = 2**32 - 1


def sample_categorical(logits: Tensor, scale: float, seed: int, first: int) -> Tensor:
    """Classes [N], drawn from the rows of SCALE times LOGITS [N, V]; -1 where they make no sense.

    At each level of a tree of at most 256 groups, until a group is a single class.
    """
    u = _uniforms(len(logits), first, _CATEGORICAL, seed, logits)
    left = logits * scale
    drawn = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    valid = torch.ones_like(drawn, dtype=torch.bool)
    stride, level = 1, 0
    while True:
        lanes = min(_LANES, max(_LEAST, 1 << (left.shape[1] - 1).bit_length()))
        padding = (0, -left.shape[1] % lanes)
        groups = F.pad(left, padding, value=-torch.inf).view(len(left), -1, lanes)
        sums = torch.exp(groups - groups.amax((1, 2), keepdim=True)).sum(1)
        total = sums.sum(1)
        valid &= (total > 0) & (total < torch.inf)
        lane = _find_leaf(sums.nan_to_num(), u[:, level])
        drawn += lane * stride
        if left.shape[1] <= _LANES:
            return torch.where(valid, drawn, -1)
        left = groups.gather(2, lane[:, None, None].expand(-1, groups.shape[1], 1))[:, :, 0]
        stride, level = stride * lanes, level + 1


def categorical_log_prob(logits: Tensor, symbols: Tensor) -> tuple[Tensor, Tensor]:
    """The log-probabilities [N] of SYMBOLS [N], and the logarithms of the sums of e^LOGITS."""
    log_sums = logits.logsumexp(1)
    known = (symbols >= 0) & (symbols < logits.shape[1])
    chosen = logits.gather(1, torch.where(known, symbols, 0)[:, None])[:, 0]
    return torch.where(known, chosen - log_sums, torch.nan), log_sums


def categorical_slopes(grads: Tensor, logits: Tensor, symbols: Tensor, log_sums: Tensor) -> Tensor:
    """GRADS [N] times the derivatives of the log-probabilities by LOGITS, [N, V]."""
    slopes = torch.exp(logits - log_sums[:, None]).mul_(-grads[:, None])
    return slopes.scatter_add_(1, symbols.clamp(0, logits.shape[1] - 1)[:, None], grads[:, None])


def sample_logistic_mixture(parameters: Tensor, seed: int, first: int) -> Tensor:
    """Levels [N], drawn from the mixtures with PARAMETERS [N, 3, K]; -1 as above."""
    which, where = _uniforms(len(parameters), first, _MIXTURE, seed, parameters)[:, :2].unbind(1)
    logits, locations, log_scales = parameters.unbind(1)
    until = torch.exp(logits - logits.amax(1, keepdim=True)).cumsum(1)
    total = until[:, -1]
    k = (until <= (which * total)[:, None]).sum(1, keepdim=True).clamp(max=logits.shape[1] - 1)
    location, log_scale = locations.gather(1, k)[:, 0], log_scales.gather(1, k)[:, 0]
    x = location + log_scale.clamp(-7, 7).exp() * (where.log() - (1 - where).log())
    valid = (total > 0) & (total < torch.inf) & ~x.isnan()
    return torch.where(valid, (x.nan_to_num().clamp(-1, 1) * 127.5 + 128).long(), -1)


def logistic_mixture_log_prob(parameters: Tensor, symbols: Tensor) -> Tensor:
    """The log-probabilities [N] of SYMBOLS [N] under the mixtures with PARAMETERS [N, 3, K]."""
    logits, locations, log_scales = parameters.unbind(1)
    log_mass = _Bin(locations, log_scales, symbols).log_mass
    log_prob = (logits + log_mass).logsumexp(1) - logits.logsumexp(1)
    return torch.where((symbols >= 0) & (symbols < 256), log_prob, torch.nan)


def logistic_mixture_slopes(grads: Tensor, parameters: Tensor, symbols: Tensor) -> Tensor:
    """GRADS [N] times the derivatives of the log-probabilities by PARAMETERS, [N, 3, K]."""
    logits, locations, log_scales = parameters.unbind(1)
    bins = _Bin(locations, log_scales, symbols)
    posterior = (logits + bins.log_mass).softmax(1)
    slopes = [
        posterior - logits.softmax(1),
        posterior * bins.by_location,
        posterior * bins.by_log_scale,
    ]
    return torch.stack(slopes, 1) * grads[:, None, None]


class _Bin:
    """The logarithms of the masses that logistic distributions have in the bins of SYMBOLS [N],
    and their derivatives, all [N, K]; see sampling.h.
    """

    def __init__(self, locations: Tensor, log_scales: Tensor, symbols: Tensor) -> None:
        inverse = torch.exp(-log_scales.clamp(-7, 7))
        x = ((2 * symbols - 255) / 255).to(locations)[:, None]
        lowest, highest = (symbols == 0)[:, None], (symbols == 255)[:, None]
        u, l = (x + 1 / 255 - locations) * inverse, (x - 1 / 255 - locations) * inverse  # noqa: E741
        delta = 2 / 255 * inverse
        inside = ~(lowest | highest)
        self.log_mass = (
            F.logsigmoid(u).masked_fill(highest, 0)
            + F.logsigmoid(-l).masked_fill(lowest, 0)
            + torch.log(-torch.expm1(-delta)) * inside
        )
        by_u = torch.sigmoid(-u).masked_fill(highest, 0)
        by_l = -torch.sigmoid(l).masked_fill(lowest, 0)
        by_delta = inside / torch.expm1(delta)
        self.by_location = -inverse * (by_u + by_l)
        self.by_log_scale = -(u * by_u + l * by_l + delta * by_delta) * (log_scales.abs() <= 7)


def _uniforms(rows: int, first: int, use: int, seed: int, like: Tensor) -> Tensor:
    """Four numbers between 0 and 1 for each of ROWS rows, of which FIRST is the first, [N, 4]."""
    row = np.arange(first, first + rows, dtype=np.uint64)
    counters = np.zeros((rows, 4), np.uint32)
    counters[:, 0], counters[:, 1] = row & np.uint64(_WORD), row >> np.uint64(32)
    counters[:, 3] = use
    words = torch.from_numpy(philox(counters, seed).astype(np.int64)).to(like.device)
    return ((words >> 9).to(like.dtype) + 0.5) * 2**-23


def _find_leaf(sums: Tensor, u: Tensor) -> Tensor:
    """Of each row of SUMS [N, lanes] the place at which the sum so far passes U times the whole.

    So far: in the order of the leaves of the tree whose nodes add i and i + h.
    """
    tree = [sums]
    while tree[-1].shape[1] > 1:
        low, high = tree[-1].chunk(2, 1)
        tree.append(low + high)
    t = u * tree[-1][:, 0]
    leaf = torch.zeros_like(t, dtype=torch.int64)
    for nodes in tree[-2::-1]:
        h = nodes.shape[1] // 2
        left, right = (nodes.gather(1, (leaf + i)[:, None])[:, 0] for i in (0, h))
        goes = (t >= left) & (right > 0)
        t, leaf = torch.where(goes, t - left, t), leaf + h * goes
    return leaf
