"""`sample` by compiled code: what corelab_kernels is told of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_kernels import pixelcnn
from corelab_kernels.pixelcnn import ALIGN, Sizes
from torch import Tensor, nn

from corelab import ConfigError
from corelab_nets import gated, plusplus
from corelab_nets.autoregressive import (
    Autoregressive,
    Head,
    Levels,
    below_one,
    categorical,
    sample,
    sample_naively,
)

if TYPE_CHECKING:  # what it needs besides PyTorch may not be where there is a GPU
    from corelab import Context

Sampler = Literal["auto", "naive", "cached", "kernel"]
"""How symbols are drawn: with a pass of the network for each of them (naive), by computing only
what is new (cached), by compiled code that does the same (kernel), or by that if there is some, and
else cached (auto)."""


def unknown(net: Autoregressive) -> str:
    """Why there is no kernel for NET; "" if there is one."""
    if not isinstance(net, gated.Gated | plusplus.PlusPlus):
        return f"there is no kernel for the network {type(net).__name__}"
    return "there is no kernel for networks with attention" if len(net.attention) else ""


def missing(net: Autoregressive) -> str:
    """Why no kernel draws from NET on its device; "" if one does, which is then built."""
    return unknown(net) or pixelcnn.missing(net.background.device)


class Samplers:
    """Finds what draws from a network, and says once, in CONTEXT, why no kernel draws its WHAT."""

    def __init__(self, context: Context, what: str) -> None:
        self._context, self._what, self._told = context, what, False

    def __call__(
        self,
        sampler: Sampler,
        net: Autoregressive,
        *,
        components: int = 0,
        offset: Tensor | None = None,
        levels: Levels = categorical,
    ) -> Callable[..., Tensor]:
        """What is called as `corelab_nets.autoregressive.sample` is, without NET and LEVELS.

        COMPONENTS and OFFSET tell a `Kernel` what LEVELS tells the others. `ConfigError` if the
        SAMPLER is kernel and there is none.
        """
        if sampler == "naive":
            return partial(sample_naively, net, levels=levels)
        if sampler != "cached":
            reason = missing(net)
            if not reason:
                return Kernel(net, components, offset)
            if sampler == "kernel":
                raise ConfigError(f"--sampler is kernel, but {reason}; cached always works")
            if not unknown(net) and not self._told:
                self._context.say(f"{reason}; {self._what} are drawn by PyTorch, more slowly")
                self._told = True
        return partial(sample, net, levels=levels)


class Kernel:
    """Draws from NET, as it is now, what `corelab_nets.autoregressive.sample` does, but for
    roundings.

    The parameters of a sub-pixel are log-probabilities or, with COMPONENTS, those of a mixture of
    logistics as in PixelCNN++; OFFSET [parameters] is added to them. NET must not be `missing`.
    """

    def __init__(
        self, net: Autoregressive, components: int = 0, offset: Tensor | None = None
    ) -> None:
        self._net = net
        self._sizes, self._weights = pack(net, components, offset)

    @torch.no_grad()
    def __call__(
        self,
        uniforms: Tensor,
        *,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        prefix: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
    ) -> Tensor:
        """Symbols int64 [N, C, H, W] from UNIFORMS, [N, C, H, W] in [0, 1).

        LABELS are int64 [N], CONDITION float [N, condition, H, W]: as the network was made for.
        `ConfigError` if they are not, and what `corelab_kernels.pixelcnn.sample` raises.
        """
        _check(self._net, len(uniforms) if uniforms.ndim else 0, labels, condition)
        with torch.autocast(self._weights.device.type, enabled=False):  # as `sample` does
            context = self._net.context(labels, condition).movedim(1, -1).contiguous()
        u = below_one(uniforms.to(context))
        sizes, weights = self._sizes, self._weights
        return pixelcnn.sample(sizes, weights, context, u, prefix, temperature, top_k)


def _check(net: Autoregressive, n: int, labels: Tensor | None, condition: Tensor | None) -> None:
    device = net.background.device
    if net.place is not None:
        shape = n, net.place.in_channels, *net.shape[1:]
        _check_told("maps of the condition", condition, shape, net.background.dtype, device)
    if net.label is not None:
        _check_told("labels", labels, (n,), torch.int64, device)
        if not n or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
            return
        classes = net.label.num_embeddings
        least, most = (int(label) for label in cast(Tensor, labels).aminmax())
        if least < 0 or most >= classes:
            wrong = least if least < 0 else most
            raise ConfigError(f"there is a label {wrong}; they must be from 0 to {classes - 1}")


def _check_told(
    name: str,
    given: Tensor | None,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    if given is None:
        raise ConfigError(f"this network needs {name}")
    if (given.shape, given.dtype, given.device) != (shape, dtype, device):
        raise ConfigError(
            f"the {name} are {given.dtype} {list(given.shape)} on {given.device}; they must be "
            f"{dtype} {list(shape)} on {device}"
        )


@torch.no_grad()
def pack(net: Autoregressive, components: int, offset: Tensor | None) -> tuple[Sizes, Tensor]:
    """NET as corelab_kernels.pixelcnn takes it: its sizes, and its weights in one piece."""
    assert isinstance(net, gated.Gated | plusplus.PlusPlus)
    C, H, W = net.shape
    layers = net.layers if isinstance(net, gated.Gated) else net.u
    first, kernel = 3, 3
    if isinstance(net, gated.Gated):
        kernels = [cast(gated.Layer, layer).vertical.kernel_size[1] for layer in layers]
        first, kernel = kernels[0], kernels[-1]
    embed = net.inputs // C
    sizes = Sizes(
        kind=int(isinstance(net, plusplus.PlusPlus)),
        height=H,
        width=W,
        channels=C,
        levels=net.levels,
        embed=embed,
        layers=len(layers),
        features=net.head.hidden.in_channels,
        first=first,
        kernel=kernel,
        hidden=net.head.hidden.out_channels // C,
        outputs=net.head.k,
        components=components,
    )
    table = net.encode(torch.arange(net.levels, device=net.background.device)[:, None])
    own = _gated(net) if isinstance(net, gated.Gated) else _plusplus(net)
    parts = chain([table, net.background[0].movedim(0, -1)], own, _head(net.head, offset))
    return sizes, torch.cat([_padded(part.flatten()) for part in parts])


def _gated(net: gated.Gated) -> Iterator[Tensor]:
    layers = cast(list[gated.Layer], list(net.layers))
    for layer in layers:
        yield from _parts(layer.vertical)
        yield _kernel(layer.across)
        yield _bias(layer.across) + _bias(layer.horizontal)
    for layer in layers:
        yield _kernel(layer.horizontal)
        yield from _parts(layer.out)


def _plusplus(net: plusplus.PlusPlus) -> Iterator[Tensor]:
    us, uls = (cast(list[plusplus.Block], list(stream)) for stream in (net.u, net.ul))
    yield from _parts(net.above)
    yield _kernel(net.row_above)
    yield _bias(net.row_above) + _bias(net.left)
    yield _kernel(net.left)[:-1]
    for u, ul in zip(us, uls, strict=True):
        across = cast(nn.Conv2d, ul.across)
        yield from _parts(u.first)
        yield from _parts(u.second)
        yield _kernel(across)
        yield _bias(across) + _bias(ul.first)
        yield _kernel(ul.first)[:-1]
        yield _kernel(ul.second)[:-1]
        yield _bias(ul.second)
    yield _kernel(net.left)[-1:]
    for ul in uls:
        yield _kernel(ul.first)[-1:]
        yield _kernel(ul.second)[-1:]


def _head(head: Head, offset: Tensor | None) -> Iterator[Tensor]:
    yield from _parts(head.hidden)
    for conv in head.before:
        yield _kernel(cast(nn.Conv2d, conv))
    weight, bias = head.out.weight[:, :, 0, 0], _bias(head.out)
    more = -head.k % ALIGN
    for w, b in zip(weight.chunk(head.channels), bias.chunk(head.channels), strict=True):
        yield F.pad(w.t(), (0, more))
        # of levels that there are not, none is drawn
        yield F.pad(b if offset is None else b + offset.to(b), (0, more), value=-torch.inf)


def _parts(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    return _kernel(conv), _bias(conv)


def _kernel(conv: nn.Conv2d) -> Tensor:
    """[rows, columns, inputs, outputs]."""
    return conv.weight.permute(2, 3, 1, 0)


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _padded(part: Tensor) -> Tensor:
    return F.pad(part, (0, -len(part) % ALIGN))
