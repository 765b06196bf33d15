from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from corelab_kernels.convolution import masked_conv2d

from corelab import ConfigError


def dense(x, weight, bias, mask):
    """By the definition: taps at and behind the middle, in raster order, are zero."""
    k = weight.shape[-1]
    taps = torch.arange(k * k, device=x.device).view(k, k)
    seen = taps < k * k // 2 + (mask == "B")
    return F.conv2d(x, weight * seen, bias, padding=k // 2)


def given(k, inputs, layout=torch.contiguous_format, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(k)
    shapes = (2, inputs, 7, 6), (5, inputs, k, k), (5,)
    x, weight, bias = (torch.randn(s, generator=generator, dtype=dtype) for s in shapes)
    x, weight = (each.to(device, memory_format=layout) for each in (x, weight))
    return [each.requires_grad_() for each in (x, weight, bias.to(device))]


@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("k", "inputs"), [(1, 3), (3, 3), (3, 64), (5, 3), (7, 2), (9, 1)])
def test_it_is_the_convolution_with_zeros_and_so_are_its_slopes(k, inputs, layout, mask):
    ours, theirs = given(k, inputs, layout), given(k, inputs, layout)
    found, expected = masked_conv2d(*ours, mask=mask), dense(*theirs, mask)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn(expected.shape, dtype=torch.float64)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-12, atol=1e-12)


def test_channels_last_stays_so():
    x, weight, _ = given(5, 8, torch.channels_last)
    assert masked_conv2d(x, weight, mask="A").is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("k", "inputs"), [(3, 3), (3, 64), (5, 3)])
def test_bfloat16_is_rounded_once_on_the_way_and_back(k, inputs):
    rough = given(k, inputs, torch.channels_last, torch.bfloat16)
    exact = [each.detach().double().requires_grad_() for each in rough]
    found, expected = masked_conv2d(*rough, mask="B"), dense(*exact, "B")
    assert found.dtype == torch.bfloat16
    weights = torch.randn(expected.shape).bfloat16()
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(found.double(), expected, rtol=2**-8, atol=2**-10)
    for a, b in zip(rough, exact, strict=True):
        assert a.grad.dtype == torch.bfloat16
        assert torch.allclose(a.grad.double(), b.grad, rtol=2**-7, atol=2**-7 * b.grad.std())


def test_autocast_casts_what_it_is_given():
    x, weight, bias = (each.detach() for each in given(5, 8, dtype=torch.float32))
    low = [each.bfloat16() for each in (x, weight, bias)]
    with torch.autocast("cpu", torch.bfloat16):
        for before in (x, low[0]):  # as the first layer of a network is given it, and the others
            found = masked_conv2d(before, weight, bias, mask="A")
            assert torch.equal(found, masked_conv2d(*low, mask="A"))


def test_it_is_usable_in_one_compiled_graph():
    x, weight, bias = given(5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of its compiler
        compiled = torch.compile(masked_conv2d, backend="aot_eager", fullgraph=True)
        found = compiled(x, weight, bias, mask="A")
    assert torch.equal(found, masked_conv2d(x, weight, bias, mask="A"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mask": "C"}, """the mask is 'C'; it must be "A" or "B"$"""),
        ({"weight": torch.zeros(5, 3, 4, 4)}, r"weights are \[5, 3, 4, 4\]; .* with an odd k$"),
        ({"weight": torch.zeros(5, 3, 3, 5)}, r"weights are \[5, 3, 3, 5\]; they must be \[O, I"),
        ({"weight": torch.zeros(5, 3)}, r"weights are \[5, 3\]; they must be"),
        ({"x": torch.zeros(3, 8, 8)}, r"x is \[3, 8, 8\]; it must be \[N, 3, H, W\]"),
        ({"x": torch.zeros(2, 4, 8, 8)}, r"x is \[2, 4, 8, 8\]; it must be \[N, 3, H, W\]"),
        ({"bias": torch.zeros(4)}, r"bias is \[4\]; it must be \[5\]"),
        (
            {"x": torch.zeros(2, 3, 8, 8).half()},
            "the weight is torch.float32 on cpu; .* torch.float16",
        ),
        ({"weight": torch.zeros(5, 3, 3, 3, device="meta")}, "the weight is .* on meta; .* on cpu"),
        (
            {"x": torch.zeros(2, 3, 8, 8).long(), "weight": torch.zeros(5, 3, 3, 3).long()},
            "x is a torch.strided tensor of torch.int64; it must be dense, of float64",
        ),
        ({"x": torch.zeros(2, 3, 8, 8).to_sparse()}, "x is a torch.sparse_coo tensor"),
        ({"weight": torch.zeros(5, 3, 3, 3).to_sparse()}, "weight is a torch.sparse_coo tensor"),
        (
            {"bias": torch.zeros(5).to_sparse()},
            "bias is a torch.sparse_coo tensor of torch.float32",
        ),
        (
            {"x": torch.zeros(2, 3, 8, 8).to(torch.float8_e4m3fn)},
            "x is a .* torch.float8_e4m3fn; it",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_named(change, sentence):
    arguments = {"x": torch.zeros(2, 3, 8, 8), "weight": torch.zeros(5, 3, 3, 3), "mask": "A"}
    with pytest.raises(ConfigError, match=sentence):
        masked_conv2d(**arguments | change)


@pytest.mark.gpu
@pytest.mark.parametrize("k", [3, 5, 7])
def test_a_gpu_agrees(k):
    found = masked_conv2d(*given(k, 64, torch.channels_last, device="cuda"), mask="B")
    expected = masked_conv2d(*given(k, 64, torch.channels_last), mask="B")
    assert torch.allclose(found.cpu(), expected, rtol=1e-9, atol=1e-9)
