from __future__ import annotations

import pytest
import torch
from corelab_nets.masked import (
    Attention,
    AttentionByPixel,
    ByPixel,
    ByRow,
    Down,
    Masked,
    Pointwise,
    Right,
)
from torch import nn

N, H, W, I, O = 2, 5, 6, 3, 4  # noqa: E741
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def maps(channels=I):
    return torch.randn(N, channels, H, W, dtype=torch.float64)


def jacobian(layer, inputs=I):
    """|d output / d input| for all pixels, [H W, H W], whatever the channels."""
    x = torch.randn(1, inputs, H, W, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum(0), x)
    return J[:, :, 0].abs().sum(2).reshape(H * W, H * W)


def seen(layer):
    """For each pixel (y, x) the set of offsets at which it sees pixels that are in the image."""
    J = jacobian(layer.double())
    return {
        divmod(i, W): {(j // W - i // W, j % W - i % W) for j in range(H * W) if J[i, j] > 0}
        for i in range(H * W)
    }


def inside(offsets, y, x):
    return {(dy, dx) for dy, dx in offsets if 0 <= y + dy < H and 0 <= x + dx < W}


CASES = [
    (Down(I, O, 2, 3), {(dy, dx) for dy in (-1, 0) for dx in (-1, 0, 1)}),
    (Down(I, O, 2, 3, strict=True), {(dy, dx) for dy in (-2, -1) for dx in (-1, 0, 1)}),
    (Right(I, O, 1, 2), {(0, -1), (0, 0)}),
    (Right(I, O, 1, 3, strict=True), {(0, -3), (0, -2), (0, -1)}),
    (Right(I, O, 2, 2), {(-1, -1), (-1, 0), (0, -1), (0, 0)}),
    (Right(I, O, 2, 1, strict=True), {(-1, -1), (0, -1)}),
    (Masked(I, O, 3), {(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)}),
    (Masked(I, O, 3, strict=True), {(-1, -1), (-1, 0), (-1, 1), (0, -1)}),
]


@pytest.mark.parametrize(("layer", "offsets"), CASES)
def test_a_layer_sees_exactly_the_pixels_that_it_should(layer, offsets):
    for (y, x), found in seen(layer).items():
        assert found == inside(offsets, y, x)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("strict", [False, True])
def test_down_computes_the_same_row_by_row(rows, strict):
    layer, x = Down(I, O, rows, 5, strict).double(), maps()
    twin = ByRow(layer, N, W)
    above = [torch.zeros(N, I, 1, W, dtype=torch.float64), *x.split(1, 2)]
    given = above[:-1] if strict else above[1:]
    assert torch.allclose(torch.cat([twin(row) for row in given], 2), layer(x), **EXACT)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "layer", [(Right, 1, 3), (Right, 2, 1), (Right, 3, 2), (Masked, 3), (Masked, 7)]
)
def test_right_and_masked_compute_the_same_pixel_by_pixel(layer, strict):
    kind, *size = layer
    conv, x, extra = kind(I, O, *size, strict=strict).double(), maps(), maps(O)
    twin = ByPixel(conv, N, W)
    for y in range(H):
        twin.start(extra[:, :, y : y + 1])
        for column in range(W):
            if not strict:
                twin.put(column, x[:, :, y, column])
            expected = (conv(x) + extra)[:, :, y, column]
            assert torch.allclose(twin.at(column), expected, **EXACT)
            if strict:
                twin.put(column, x[:, :, y, column])


def test_a_pointwise_convolution_is_a_product_at_each_pixel():
    conv, x = nn.Conv2d(I, O, 1).double(), maps()
    assert torch.allclose(Pointwise(conv)(x[:, :, 2, 3]), conv(x)[:, :, 2, 3], **EXACT)


def attention():
    layer = Attention(O, I, heads=2).double()
    nn.init.normal_(layer.out.weight)
    return layer


def test_attention_computes_the_same_pixel_by_pixel():
    layer, h, x = attention(), maps(O), maps()
    twin, expected = AttentionByPixel(layer, N, H * W), layer(h, x)
    for i in range(H * W):
        y, column = divmod(i, W)
        assert torch.allclose(twin.at(h[:, :, y, column]), expected[:, :, y, column], **EXACT)
        twin.put(x[:, :, y, column])


def test_attention_looks_at_all_earlier_pixels_and_at_no_other():
    layer, x = attention(), maps()[:1]
    h = maps(O)[:1]
    of_x = jacobian(lambda x: layer(h, x))
    assert torch.equal(of_x > 0, torch.ones(H * W, H * W).tril(-1).bool())
    of_h = jacobian(lambda h: layer(h, x), O)
    assert torch.equal(of_h > 0, torch.ones(H * W, H * W).tril().bool())


def test_attention_begins_as_nothing():
    h, x = torch.randn(N, O, H, W), torch.randn(N, I, H, W)
    layer = Attention(O, I)
    nn.init.zeros_(layer.out.bias)
    assert torch.equal(layer(h, x), h)


def test_the_first_pixel_hears_a_constant():
    layer = attention()
    h = maps(O)
    heard = [(layer(h, maps()) - h)[:, :, 0, 0] for _ in range(2)]
    assert torch.equal(*heard)
