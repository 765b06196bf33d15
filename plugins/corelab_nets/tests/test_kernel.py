from __future__ import annotations

import subprocess
import sys
from dataclasses import astuple, replace
from functools import partial

import pytest
import torch
from corelab_kernels import pixelcnn
from corelab_nets.autoregressive import below_one, sample, sample_naively
from corelab_nets.gated import Gated
from corelab_nets.kernel import Kernel, missing, pack, unknown
from corelab_nets.plain import Plain
from corelab_nets.plusplus import PlusPlus

from corelab import ConfigError, DivergedError, StorageError

NETS = {
    "gated": partial(Gated, layers=3, first=5),
    "gated, larger kernels": partial(Gated, layers=2, kernel=5),
    "gated, one layer": partial(Gated, layers=1),
    "plusplus": partial(PlusPlus, layers=3),
}
pytestmark = pytest.mark.compiled
each_net = pytest.mark.parametrize("name", NETS)


def make(name, shape=(1, 5, 4), levels=6, channels=8, dtype=torch.float64, **options):
    """A network with weights drawn so that much depends on much."""
    torch.manual_seed(0)
    net = NETS[name](shape, levels, levels=levels, channels=channels, **options).to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim > 1 and not p.any():  # begins at zero
                p.normal_()
        net.head.out.weight.mul_(3)
    return net


@each_net
@pytest.mark.parametrize("channels", [1, 3])
def test_the_kernel_draws_what_the_naive_sampler_does(name, channels, known):
    options, given = known
    shape = (channels, 5, 4)
    net = make(name, shape, **options)
    kernel = Kernel(net)
    u = torch.rand(3, *shape, dtype=torch.float64)
    images = sample_naively(net, u, **given)
    assert torch.equal(kernel(u, **given), images)
    assert len(images.unique()) >= 4
    given = {**given, "prefix": images[:, :, :2], "temperature": 0.6, "top_k": 4}
    completed = sample(net, u, **given)
    assert torch.equal(kernel(u, **given), completed)
    assert torch.equal(completed[:, :, :2], images[:, :, :2])
    assert not torch.equal(completed, images)


@pytest.mark.parametrize("width", [20, 64])
@each_net
def test_wide_networks_are_drawn_from_as_narrow_ones(name, width):
    # widths that are and that are not multiples of a vector, and more than one group of images
    net = make(name, (1, 6, 9), levels=37, channels=width)
    u = torch.rand(19, 1, 6, 9, dtype=torch.float64)
    assert torch.equal(Kernel(net)(u), sample(net, u))


@each_net
def test_any_part_of_a_batch_and_any_number_of_threads_gives_the_same_images(name):
    net = make(name, (1, 6, 9), levels=37, channels=20, dtype=torch.float32)
    kernel, u = Kernel(net), torch.rand(19, 1, 6, 9)
    images = kernel(u)
    for size in (1, 2, 3, 5, 13):
        assert torch.equal(torch.cat([kernel(part) for part in u.split(size)]), images)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(kernel(u), images)
    finally:
        torch.set_num_threads(threads)


@each_net
def test_in_float32_what_is_drawn_from_is_the_output_of_the_network(name):
    net = make(name, (2, 12, 12), levels=32, channels=32, dtype=torch.float32)
    sizes, weights = pack(net, 0, None)
    u = below_one(torch.rand(4, 2, 12, 12))
    context = torch.zeros(1, 1, 1, 4 * 32 * sizes.layers)
    record = torch.empty(4, 12, 12, 2, 32)
    symbols = torch.zeros(4, 2, 12, 12, dtype=torch.int64)
    operands = (weights, context, u, symbols, 0, 1.0, 0)
    images, _ = pixelcnn._on_cpu(astuple(sizes), *operands, record=record)
    with torch.no_grad():
        logits = net(images).permute(0, 3, 4, 2, 1)
    assert logits.std() > 0.3
    assert (record - logits).abs().max() < 1e-5


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_levels_come_as_often_as_their_probabilities_say(temperature):
    # all weights are zero, so that the distribution is that of the bias alone
    net = make("gated", (1, 20, 25), levels=40)
    logits = torch.randn(40, dtype=torch.float64)
    with torch.no_grad():
        net.head.out.weight.zero_()
        net.head.out.bias.copy_(logits)
    u = torch.rand(40, 1, 20, 25, dtype=torch.float64)
    found = Kernel(net)(u, temperature=temperature).flatten().bincount(minlength=40)
    expected = torch.softmax(logits / temperature, 0) * u.numel()
    chi_square = ((found - expected) ** 2 / expected).sum()
    assert 15 < chi_square < 80  # of 39 degrees of freedom; 1e-4 of either tail and less
    three = Kernel(net)(u, top_k=3).unique()
    assert three.tolist() == sorted(logits.topk(3).indices.tolist())


def test_it_is_an_operator_of_pytorch():
    net = make("gated")
    sizes, weights = pack(net, 0, None)
    u = torch.rand(2, 1, 5, 4, dtype=torch.float64)
    symbols = torch.zeros(2, 1, 5, 4, dtype=torch.int64)
    context = torch.zeros(1, 1, 1, 4 * 8 * 3, dtype=torch.float64)
    operands = (list(astuple(sizes)), weights, context, u, symbols, 0, 1.0, 0)
    torch.library.opcheck(torch.ops.corelab.pixelcnn_sample.default, operands)


def test_an_output_that_is_not_finite_is_told():
    for name in ("gated", "plusplus"):
        net = make(name, classes=2)
        with torch.no_grad():
            net.label.weight[1] = torch.nan
        kernel, u = Kernel(net), torch.rand(3, 1, 5, 4, dtype=torch.float64)
        kernel(u, labels=torch.tensor([0, 0, 0]))
        sentence = "image 1 cannot be drawn beyond row 2, column 0, channel 0: there, the network's"
        with pytest.raises(DivergedError, match=sentence):
            kernel(u, labels=torch.tensor([0, 1, 0]), prefix=torch.zeros(3, 1, 2, 4).int())


def test_networks_without_a_kernel_are_named():
    assert unknown(Plain((1, 4, 4), 4, levels=4)) == "there is no kernel for the network Plain"
    attentive = Gated((1, 4, 4), 4, levels=4, channels=8, attention=1)
    assert missing(attentive) == "there is no kernel for networks with attention"
    assert missing(make("gated").to("meta")) == "there is no kernel for the device meta"
    assert missing(make("gated")) == missing(make("plusplus")) == ""


def test_operands_that_do_not_fit_are_named():
    net = make("gated", classes=2)
    sizes, weights = pack(net, 0, None)
    u = torch.rand(3, 1, 5, 4, dtype=torch.float64)
    context = torch.zeros(3, 1, 1, 96, dtype=torch.float64)
    draw = pixelcnn.sample
    assert draw(sizes, weights, context, u).shape == (3, 1, 5, 4)
    prefix = torch.tensor([0, 1, 6]).view(3, 1, 1, 1).expand(3, 1, 2, 4)
    for call, sentence in [
        (lambda: draw(sizes, weights.float(), context, u), "data type of the weights is torch.f"),
        (
            lambda: draw(sizes, weights, context, u + 0.5),
            "a uniform is 1.* at least 0 and less than",
        ),
        (lambda: draw(sizes, weights, context, u * torch.nan), "a uniform is nan; it must be at l"),
        (
            lambda: draw(sizes, weights, context, u[0]),
            r"uniforms is \(1, 5, 4\); it must be that of",
        ),
        (
            lambda: Kernel(make("gated"))(u[0, 0, 0, 0]),
            r"uniforms is \(\); it must be that of images",
        ),
        (lambda: draw(sizes, weights, context, u.to("meta")), "device of the uniforms is meta; it"),
        (
            lambda: draw(sizes, weights, context, u, prefix.to_sparse()),
            "layout of the prefix is torch.sparse_coo; it",
        ),
        (lambda: draw(sizes, weights, context, u.half()), "data type of the uniforms is torch.fl"),
        (lambda: draw(sizes, weights, context.float(), u), "data type of the context is torch.f"),
        (lambda: draw(sizes, weights.to("meta"), context, u), "device of the weights is meta; i"),
        (lambda: draw(sizes, weights, context, u.to_sparse()), "uniforms is torch.sparse_coo; it"),
        (lambda: draw(sizes, weights, context, u.mT.contiguous().mT), "layout of the uniforms is"),
        (lambda: draw(sizes, weights, context[:2], u), r"context is \(2, 1, 1, 96\); it must be"),
        (lambda: draw(sizes, weights, context.repeat(1, 1, 1, 2)[..., ::2], u), "of the context i"),
        (lambda: draw(sizes, weights[1:], context, u), "number of weights is .*; it must be "),
        (
            lambda: draw(sizes, weights, context, u[:, :, 1:]),
            r"uniforms is \(3, 1, 4, 4\); it must",
        ),
        (
            lambda: draw(sizes, weights, context, u, prefix),
            "given symbol is 6; it must be from 0 t",
        ),
        (
            lambda: draw(sizes, weights, context, u, prefix[:2]),
            r"prefix is \(2, 1, 2, 4\); it must",
        ),
        (lambda: draw(sizes, weights, context, u, prefix - 1), "given symbol is -1; it must be"),
        (lambda: draw(sizes, weights, context, u, prefix / 9), "prefix is torch.float32; it must"),
        (lambda: draw(sizes, weights, context, u, temperature=0.0), "temperature is 0.0; it must"),
        (lambda: draw(sizes, weights, context, u, top_k=-1), "top_k is -1; it must be zero or p"),
        (lambda: draw(replace(sizes, layers=4), weights, context, u), "shape of the context is"),
        (lambda: draw(replace(sizes, hidden=0), weights, context, u), "hidden is 0; it must be"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            call()


def test_under_autocast_the_same_images_are_drawn():
    net = make("gated", (1, 12, 12), levels=37, channels=20, dtype=torch.float32, condition=2)
    kernel, u, x = Kernel(net), torch.rand(5, 1, 12, 12), 99 * torch.randn(5, 2, 12, 12)
    images = kernel(u, condition=x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(kernel(u, condition=x), images)


def test_labels_and_conditions_that_do_not_fit_are_named():
    kernel = Kernel(make("gated", classes=3, condition=2))
    u, y, x = (
        torch.rand(2, 1, 5, 4).double(),
        torch.tensor([0, 2]),
        torch.zeros(2, 2, 5, 4).double(),
    )
    assert kernel(u, labels=y, condition=x).shape == u.shape
    for labels, condition, sentence in [
        (None, x, "this network needs labels$"),
        (y, None, "this network needs maps of the condition$"),
        (y[:1], x, r"labels are torch.int64 \[1\] on cpu; they must be torch.int64 \[2\] on cpu"),
        (y.float(), x, r"labels are torch.float32 \[2\] on cpu; they must be torch.int64"),
        (y + 1, x, "there is a label 3; they must be from 0 to 2$"),
        (y - 1, x, "there is a label -1; they must be from 0 to 2$"),
        (
            y,
            x.float(),
            r"maps of the condition are torch.float32 \[2, 2, 5, 4\] on cpu; they must be torch.f",
        ),
        (
            y,
            x.to("meta"),
            r"maps of the condition are torch.float64 \[2, 2, 5, 4\] on meta; they must be",
        ),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            kernel(u, labels=labels, condition=condition)


def test_images_for_which_there_is_not_enough_memory_are_told():
    sizes = pixelcnn.Sizes(0, 1, 10_000, 1, 2, 1, 20_000, 1, 3, 3, 1, 2, 0)
    weights, context = torch.zeros(pixelcnn.count(sizes)), torch.zeros(1, 1, 1, 80_000)
    with pytest.raises(StorageError, match="there is not enough memory to draw images of this"):
        pixelcnn.sample(sizes, weights, context, torch.zeros(8, 1, 1, 10_000))


def test_pytorch_and_numpy_are_enough_to_draw():
    """A machine that is lent for its GPU may have nothing else."""
    missing = "gymnasium", "PIL", "rich", "safetensors", "scipy", "sklearn", "tensorboard"
    code = (
        "import sys, torch\n"
        f"for name in {(*missing, 'jinja2', 'threadpoolctl', 'tyro')}: sys.modules[name] = None\n"
        "from corelab_kernels import pixelcnn, sampling, convolution\n"
        "from corelab_generative.mixture import Categorical\n"
        "from corelab_nets.gated import Gated\n"
        "from corelab_nets.kernel import Kernel\n"
        "print(*Kernel(Gated((1, 2, 2), 5, levels=5))(torch.rand(3, 1, 2, 2)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("3 1 2 2\n", 0), done.stderr
