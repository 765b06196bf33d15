from __future__ import annotations

import itertools

import pytest
import torch
from corelab_nets.autoregressive import Head, HeadByPixel, draw, sample, sample_naively
from corelab_nets.gated import Gated
from corelab_nets.plain import Plain
from corelab_nets.plusplus import PlusPlus

NETS = {
    "plain": (Plain, {"layers": 3, "first": 5}),
    "gated": (Gated, {"layers": 4, "first": 5}),
    "gated, larger kernels": (Gated, {"layers": 3, "kernel": 5}),
    "gated with attention": (Gated, {"layers": 4, "first": 3, "attention": 2}),
    "plusplus": (PlusPlus, {"layers": 4}),
    "plusplus with attention": (PlusPlus, {"layers": 2, "attention": 1}),
}
each_net = pytest.mark.parametrize("name", NETS)


def make(name, shape=(1, 5, 4), outputs=6, levels=6, gain=3.0, **options):
    """A network in float64 with weights drawn so that much depends on much."""
    torch.manual_seed(0)
    kind, size = NETS[name]
    net = kind(shape, outputs, levels=levels, channels=8, **size, **options).double()
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim > 1 and not p.any():  # begins at zero
                p.normal_()
        net.head.out.weight.mul_(gain)
    return net


def influence(net, channels):
    """|d parameters / d input|, [D, D] over sub-pixels in the order in which they are drawn."""
    C, H, W = net.shape
    x = torch.rand(1, net.inputs, H, W, dtype=torch.float64) * 2 - 1
    weight = torch.randn(1, net.head.k, 1, 1, 1, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(lambda x: (net.predict(x) * weight).sum((0, 1)), x)
    J = J[:, :, :, 0].unflatten(3, (C, -1)).abs().sum(4)  # [C, H, W, C, H, W]
    return J.permute(1, 2, 0, 4, 5, 3).reshape(C * H * W, C * H * W)


@each_net
@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 4, 3)])
@pytest.mark.parametrize("embed", [0, 2])
def test_no_sub_pixel_knows_itself_or_a_later_one(name, shape, embed):
    J = influence(make(name, shape, embed=embed), shape[0])
    assert torch.equal(J.triu(), torch.zeros_like(J))


@pytest.mark.parametrize("name", [name for name in NETS if name != "plain"])
@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 4, 3)])
def test_every_sub_pixel_knows_all_earlier_ones(name, shape):
    J = influence(make(name, shape), shape[0])
    assert torch.equal(J > 0, torch.ones_like(J).tril(-1).bool())


def test_plain_has_the_blind_spot_of_its_masks_and_no_other():
    H, W = 6, 9
    net = make("plain", (1, H, W))

    def step(seen, size, strict):
        """The pixels that a masked kernel sees from those SEEN so far."""
        half = size // 2
        offsets = [
            (dy, dx)
            for dy in range(-half, 1)
            for dx in range(-half, half + 1)
            if dy < 0 or dx < 0 or (dx == 0 and not strict)
        ]
        return {(y + dy, x + dx) for (y, x) in seen for dy, dx in offsets}

    expected = torch.zeros(H * W, H * W, dtype=torch.bool)
    for y, x in itertools.product(range(H), range(W)):
        # a residual block keeps what it was given, which mask B does, too
        reached = step(step(step({(y, x)}, 3, False), 3, False), 5, True)
        for v, u in reached:
            if 0 <= v < H and 0 <= u < W:
                expected[y * W + x, v * W + u] = True
    found = influence(net, 1) > 0
    assert torch.equal(found, expected)
    pixel = 4 * W + 2
    assert not found[pixel, 3 * W + 8]  # above it, in reach of three kernels, and yet blind
    assert found[pixel, 1 * W + 6]


@each_net
@pytest.mark.parametrize(("shape", "levels"), [((1, 3, 3), 2), ((2, 2, 2), 3)])
def test_the_probabilities_of_all_images_add_up_to_one(name, shape, levels):
    net = make(name, shape, outputs=levels, levels=levels)
    D = shape[0] * shape[1] * shape[2]
    images = torch.cartesian_prod(*[torch.arange(levels)] * D).reshape(-1, *shape)
    with torch.no_grad():
        log_p = net(images).log_softmax(1).gather(1, images[:, None]).flatten(1).sum(1)
    assert len(images) == levels**D
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert log_p.max() > log_p.min() + 0.5  # it is not the uniform distribution


@each_net
@pytest.mark.parametrize("channels", [1, 3])
def test_the_cached_sampler_draws_what_the_naive_one_does(name, channels, known):
    options, given = known
    shape = (channels, 5, 4)
    net = make(name, shape, **options)
    u = torch.rand(3, *shape, dtype=torch.float64)
    images = sample(net, u, **given)
    assert torch.equal(images, sample_naively(net, u, **given))
    assert len(images.unique()) >= 4
    given = {**given, "prefix": images[:, :, :2], "temperature": 0.6, "top_k": 4}
    completed = sample(net, u, **given)
    assert torch.equal(completed, sample_naively(net, u, **given))
    assert torch.equal(completed[:, :, :2], images[:, :, :2])
    assert not torch.equal(completed, images)


@each_net
@pytest.mark.parametrize("known", ["conditioned"], indirect=True)
def test_what_is_known_beforehand_changes_what_is_drawn(name, known):
    options, given = known
    net = make(name, **options)
    u = torch.rand(3, 1, 5, 4, dtype=torch.float64)
    images = sample(net, u, **given)
    for key, other in (("labels", given["labels"].flip(0)), ("condition", -given["condition"])):
        assert not torch.equal(sample(net, u, **{**given, key: other}), images)


@each_net
def test_in_float32_the_cache_gives_the_logits_of_the_network(name):
    shape = (1, 12, 12)
    net = make(name, shape, outputs=32, levels=32).float()
    given = []

    def record(parameters, before):
        given.append(parameters)
        return parameters

    images = sample(net, torch.rand(4, *shape), levels=record)
    logits = net(images).flatten(2).permute(2, 0, 1)
    assert (torch.stack(given) - logits).abs().max() < 1e-5 * logits.abs().max().clamp(min=1)
    assert logits.std() > 0.1


def test_the_cached_sampler_never_runs_the_network(monkeypatch):
    net = make("gated")
    monkeypatch.setattr(Gated, "forward", None)
    monkeypatch.setattr(Gated, "predict", None)
    sample(net, torch.rand(2, 1, 5, 4, dtype=torch.float64))


def test_images_come_as_often_as_their_probability_says():
    net = make("gated", (2, 1, 2), outputs=2, levels=2, gain=6.0)
    images = torch.cartesian_prod(*[torch.arange(2)] * 4).reshape(-1, 2, 1, 2)
    with torch.no_grad():
        p = net(images).log_softmax(1).gather(1, images[:, None]).flatten(1).sum(1).exp()
    n = 50_000
    drawn = sample(net, torch.rand(n, 2, 1, 2, dtype=torch.float64)).flatten(1)
    counts = torch.bincount((drawn * torch.tensor([8, 4, 2, 1])).sum(1), minlength=16)
    assert p.max() > 3 * p.min()
    assert ((counts / n - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()


@pytest.mark.parametrize("embedded", [1, 2])
def test_the_head_computes_the_same_sub_pixel_by_sub_pixel(embedded):
    torch.manual_seed(0)
    head = Head(5, 7, channels=3, encoded=embedded, k=4).double()
    h, x = torch.randn(2, 5, 3, 3).double(), torch.randn(2, 3 * embedded, 3, 3).double()
    expected, twin = head(h, x), HeadByPixel(head)
    twin.start(h[:, :, 1, 2])
    for c in range(3):
        found = twin.at(c, x[:, : c * embedded, 1, 2])
        assert torch.allclose(found, expected[:, :, c, 1, 2], rtol=1e-12)


def test_a_level_is_drawn_by_the_uniforms_within_its_step():
    p = torch.tensor([[0.25, 0.0, 0.5, 0.25]], dtype=torch.float64)
    u = torch.tensor([0.0, 0.249, 0.25, 0.749, 0.75, 0.999], dtype=torch.float64)
    assert draw(p.log().expand(6, -1), u).tolist() == [0, 0, 2, 2, 3, 3]


def test_impossible_levels_are_never_drawn():
    logits = torch.zeros(1, 300)
    logits[:, 100:] = -torch.inf
    u = 1 - torch.finfo(torch.float32).eps / 2  # the greatest below 1
    net = make("gated", (1, 1, 1), outputs=300, levels=300).float()
    pixel = sample(net, torch.full((1, 1, 1, 1), u), levels=lambda *_: logits)
    assert pixel.item() == 99


def test_temperature_and_top_k_sharpen_the_distribution():
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    n = 20_000
    u = torch.rand(n, generator=torch.Generator().manual_seed(0))

    def frequencies(**options):
        return torch.bincount(draw(logits.expand(n, -1), u, **options), minlength=4) / n

    assert torch.allclose(frequencies(), logits[0].softmax(0), atol=0.02)
    assert torch.allclose(frequencies(temperature=0.5), (2 * logits[0]).softmax(0), atol=0.02)
    two = torch.tensor([-torch.inf, 3.0, 2.0, -torch.inf]).softmax(0)
    assert torch.allclose(frequencies(top_k=2), two, atol=0.02)
    assert torch.equal(frequencies(top_k=9), frequencies())
