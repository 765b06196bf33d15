"""`sample` by compiled code: what corelab_kernels is told of a network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_kernels import pixelcnn
from corelab_kernels.pixelcnn import ALIGN, Sizes
from torch import Tensor, nn

from corelab_nets import gated, plusplus
from corelab_nets.autoregressive import Autoregressive, Head, below_one


def unknown(net: Autoregressive) -> str:
    """Why there is no kernel for NET; "" if there is one."""
    if not isinstance(net, gated.Gated | plusplus.PlusPlus):
        return f"there is no kernel for the network {type(net).__name__}"
    return "there is no kernel for networks with attention" if len(net.attention) else ""


def missing(net: Autoregressive) -> str:
    """Why no kernel draws from NET on its device; "" if one does, which is then built."""
    return unknown(net) or pixelcnn.missing(net.background.device)


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
        """Symbols int64 [N, C, H, W] from UNIFORMS, [N, C, H, W] in [0, 1)."""
        context = self._net.context(labels, condition).movedim(1, -1).contiguous()
        u = below_one(uniforms.to(context))
        sizes, weights = self._sizes, self._weights
        return pixelcnn.sample(sizes, weights, context, u, prefix, temperature, top_k)


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
