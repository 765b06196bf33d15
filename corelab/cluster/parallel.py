"""Data parallel: several processes, each with a part of every minibatch, learn as one would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from corelab.context import Context

LARGE = 2**15
"""Numbers from which on a tensor is reduced by itself."""


class PeerLostError(Exception):
    """Another process has ended, so what needs all of them cannot be done."""


@contextmanager
def _together() -> Iterator[None]:
    """Within stands what all processes do together."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(str(error)) from error


class DataParallel(Context):
    """One of the processes of a run, joined by `torch.distributed`, that has been set up."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each of TENSORS by its mean over all processes.

        Large ones are reduced where they are, since copying them takes as long as their sums; the
        others in a row, since a message takes as long as many of them.
        """
        listed = [tensor.detach() for tensor in tensors]
        large = [x for x in listed if x.numel() >= LARGE and x.is_contiguous()]
        small = [x for x in listed if x.numel() < LARGE or not x.is_contiguous()]
        with _together():
            sums = [dist.all_reduce(x, async_op=True) for x in large]
            if small:
                flat = mean_(torch.cat([x.flatten() for x in small]))
                parts = torch.split(flat, [x.numel() for x in small])
                for x, part in zip(small, parts, strict=True):
                    x.copy_(part.view_as(x))
            for x, reduced in zip(large, sums, strict=True):
                reduced.wait()
                x.div_(self.world)

    def total(self, *numbers: Any) -> tuple[Any, ...]:
        """The sum of each of NUMBERS, scalars or arrays, over all processes, in float64."""
        arrays = [np.asarray(number, np.float64) for number in numbers]
        flat = torch.from_numpy(np.concatenate([array.ravel() for array in arrays]))
        mean_(flat).mul_(self.world)
        ends = np.cumsum([array.size for array in arrays])[:-1]
        parts = np.split(flat.numpy(), ends)
        return tuple(
            part.reshape(array.shape)[()] for part, array in zip(parts, arrays, strict=True)
        )

    def build(self, model: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> Any:
        """As it is built alone, but layers that normalise over a batch do so over all shards."""
        return _synchronise(super().build(model, *args, **kwargs))


def mean_(tensor: Tensor) -> Tensor:
    """Replace TENSOR by its mean over all processes; return it."""
    with _together():
        dist.all_reduce(tensor)
    return tensor.div_(dist.get_world_size())


def broadcast(tensor: Tensor) -> Tensor:
    """Replace TENSOR by what it is in the first process; return it."""
    with _together():
        dist.broadcast(tensor, 0)
    return tensor


def gather(value: Any) -> list[Any]:
    """The VALUE of each process, in all of them."""
    values = [None] * dist.get_world_size()
    with _together():
        dist.all_gather_object(values, value)
    return values


def _synchronise(module: nn.Module) -> nn.Module:
    """MODULE with every batch normalisation in it replaced by one over all processes."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        like = (module.num_features, module.eps, module.momentum, module.affine)
        synced = SyncedBatchNorm(*like, module.track_running_stats)
        synced.load_state_dict(module.state_dict())
        return synced.to(next(iter(module.state_dict().values()), torch.empty(0)).device)
    for name, child in module.named_children():
        setattr(module, name, _synchronise(child))
    return module


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167) with the mean and variance of
    the shards of all processes, on any device.

    torch's `SyncBatchNorm` is for GPUs, and has no second derivative for gradient penalties.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, …] for X, [N, C, …]."""
        if not self.training:
            return super().forward(x)
        dims = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        mean = _mean(x.mean(dims))
        centred = x - mean.view(shape)
        variance = _mean(centred.square().mean(dims))
        if self.track_running_stats and self.running_mean is not None:
            self._follow(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        y: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        return y * self.weight.view(shape) + self.bias.view(shape) if self.affine else y

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """Move the running statistics to those of N numbers in each process."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        pace = self.momentum or 1 / float(self.num_batches_tracked)
        total = n * dist.get_world_size()
        self.running_mean.lerp_(mean, pace)
        self.running_var.lerp_(variance * total / (total - 1), pace)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        """Any number of dimensions will do."""


class _Mean(torch.autograd.Function):
    """The mean of a tensor over all processes; its gradient is that of their mean loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return mean_(x.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _mean(gradients[0])


def _mean(x: Tensor) -> Tensor:
    return _Mean.apply(x)  # type: ignore[no-untyped-call,no-any-return]
