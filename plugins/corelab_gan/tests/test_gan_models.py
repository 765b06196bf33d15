from __future__ import annotations

import pytest
import torch
from corelab_gan.biggan import Attention, BigGAN
from corelab_gan.dcgan import DCGAN
from corelab_gan.interface import Grows, Mixes
from corelab_gan.layers import EqualConv2d, EqualLinear, add_variety, resolutions
from corelab_gan.mlp import MLP
from corelab_gan.progressive import Progressive, schedule
from corelab_gan.stylegan import StyleGAN

from corelab import ConfigError, PluginError

SMALL = {
    MLP: {"sizes": (32,)},
    DCGAN: {"channels": 8},
    BigGAN: {"channels": 8},
    Progressive: {"channels": 4},
    StyleGAN: {"channels": 4, "style": 8},
}
MODELS = pytest.mark.parametrize("model", SMALL)
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 12, 20)]


def build(model, shape=(3, 16, 8), classes=0, **options):
    torch.manual_seed(0)
    net = model(model.Config(**{**SMALL[model], **options}), shape=shape, latent=6, classes=classes)
    for part in (net.generator, net.discriminator):
        if isinstance(part, Grows):
            part.grow(1.0)
    return net


def numbers(net, n=8, seed=0):
    return torch.randn(n, net.generator.numbers, generator=torch.Generator().manual_seed(seed))


@MODELS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("classes", [0, 3])
def test_numbers_become_images_and_images_logits(model, shape, classes):
    net = build(model, shape, classes)
    y = torch.arange(8) % classes if classes else None
    x = net.generator(numbers(net), y)
    assert x.shape == (8, *shape)
    assert net.discriminator(x, y).shape == (8,)


@MODELS
def test_every_weight_of_either_network_learns(model):
    net = build(model, classes=3)
    y = torch.arange(8) % 3
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = [p.detach().clone() for p in net.parameters()]
    for _ in range(2):  # what begins with a zero in front of it does not move at once
        optimizer.zero_grad()
        x = net.generator(numbers(net), y)
        (net.discriminator(x, y) ** 2).sum().backward()
        optimizer.step()
    for (name, now), was in zip(net.named_parameters(), before, strict=True):
        if model is Progressive and ".pixels.0." in name:
            continue  # of the smaller resolution, which has had its time
        assert not torch.equal(now, was), name


@MODELS
def test_the_networks_share_no_weights(model):
    net = build(model)
    both = [{id(p) for p in part.parameters()} for part in (net.generator, net.discriminator)]
    assert not both[0] & both[1]
    assert both[0] | both[1] == {id(p) for p in net.parameters()}


@MODELS
def test_real_and_generated_images_are_judged_alike_together_and_apart(model):
    options = {"spectral": False} if "spectral" in vars(model.Config()) else {}
    net = build(model, classes=3, **options).double()
    real, fake = torch.rand(2, 8, 3, 16, 8, dtype=torch.float64) * 2 - 1
    y = torch.arange(8) % 3
    together = net.discriminator(torch.cat([real, fake]), y.repeat(2))
    apart = torch.cat([net.discriminator(x, y) for x in (real, fake)])
    assert torch.allclose(together, apart, rtol=1e-10)


@MODELS
def test_the_label_matters_to_both_networks(model):
    net = build(model, classes=3).eval()
    z = numbers(net)
    labels = [torch.full((8,), label) for label in (0, 2)]
    one, other = (net.generator(z, y) for y in labels)
    assert (one - other).abs().max() > 1e-4
    one, other = (net.discriminator(torch.ones(8, 3, 16, 8), y) for y in labels)
    assert (one - other).abs().max() > 1e-4


@MODELS
def test_truncated_to_nothing_all_codes_give_one_image(model):
    net = build(model).eval()
    z = numbers(net)
    z[:, 6:] = 0  # the noise of pixels, which is not part of the code
    with torch.no_grad():
        full, half, none = (net.generator(z, None, t) for t in (1.0, 0.5, 0.0))
        assert torch.equal(full, net.generator(z, None))
    spread = [x.std(0).mean() for x in (full, half, none)]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 1e-6


def test_a_style_truncated_to_nothing_is_the_mean_style_of_the_class():
    net = build(StyleGAN, classes=2).eval().generator
    z, y = torch.randn(6, net.numbers), torch.tensor([0, 1, 1, 0, 1, 0])
    seen = []
    net.layers[0].style.register_forward_hook(lambda layer, w, out: seen.append(w[0]))
    with torch.no_grad():
        net(z, y, 0.0)
        code = torch.randn(4000, 6)
        for label in (0, 1):
            of_class = y == label
            mean = net._style(code, torch.full((4000,), label)).mean(0)
            far = net._style(code, torch.full((4000,), label)).std(0).mean()
            assert (seen[0][of_class] - mean).abs().max() < 0.2 * far


def test_spectral_normalisation_leaves_no_direction_longer_than_one():
    for model in (MLP, DCGAN, BigGAN):
        net = build(model, (1, 16, 16), classes=3, spectral=True)
        D = net.discriminator
        for _ in range(60):  # of power iteration
            D(torch.zeros(4, 1, 16, 16), torch.arange(4) % 3)
        matrices = [p.flatten(1) for n, p in D.named_parameters() if n.endswith("original")]
        D.eval()
        used = [m.weight.flatten(1) for m in D.modules() if hasattr(m, "parametrizations")]
        assert len(used) == len(matrices) > 2
        for weight in used:
            assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.02)
        assert not any(hasattr(m, "parametrizations") for m in net.generator.modules())


def test_equalised_layers_keep_the_size_of_what_passes_and_learn_at_one_pace():
    torch.manual_seed(0)
    x = torch.randn(500, 64, 4, 4)
    layer = EqualConv2d(64, 32, 3, gain=1.0)
    assert layer.weight.std().item() == pytest.approx(1, rel=0.05)
    assert layer(x)[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1, rel=0.05)
    plain = torch.nn.functional.conv2d(x, layer.weight / (64 * 9) ** 0.5, padding=1)
    assert torch.allclose(layer(x), plain, atol=1e-5)
    slow, fast = EqualLinear(64, 32, speed=0.1), EqualLinear(64, 32)
    rows = x[:, :, 0, 0]
    assert slow(rows).std().item() == pytest.approx(fast(rows).std().item(), rel=0.1)
    before = [linear(rows).detach() for linear in (slow, fast)]
    for linear in (slow, fast):
        optimizer = torch.optim.Adam(linear.parameters(), 1e-3)
        linear(rows).sum().backward()
        optimizer.step()
    moved = [
        (linear(rows) - was).abs().mean().item()
        for linear, was in zip((slow, fast), before, strict=True)
    ]
    assert moved[0] == pytest.approx(0.1 * moved[1], rel=0.02)


def test_variety_is_the_mean_deviation_within_each_group_of_four():
    x = torch.randn(8, 3, 2, 2, dtype=torch.float64)
    y = add_variety(x, training=True)
    assert torch.equal(y[:, :3], x)
    for group in (slice(0, 4), slice(4, 8)):
        expected = x[group].numpy().std(0).mean()
        assert y[group, 3].flatten().tolist() == pytest.approx([expected] * 16, rel=1e-6)
    with pytest.raises(PluginError, match="must be a multiple of 4, not 6"):
        add_variety(x[:6], training=True)
    assert add_variety(x[:6], training=False).shape == (6, 4, 2, 2)


def test_attention_is_the_softmax_of_products_and_begins_with_nothing():
    torch.manual_seed(0)
    layer = Attention(16).double()
    x = torch.randn(2, 16, 4, 6, dtype=torch.float64)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gamma += 1
    query, key, value, out = (
        m.weight[:, :, 0, 0] for m in (layer.query, layer.key, layer.value, layer.out)
    )
    for image, result in zip(x, layer(x), strict=True):
        keys, values = (
            torch.stack(
                [
                    (w @ image[:, i : i + 2, j : j + 2].flatten(1)).amax(1)
                    for i in (0, 2)
                    for j in (0, 2, 4)
                ]
            )
            for w in (key, value)
        )
        for i, j in ((0, 0), (3, 5), (1, 2)):
            weights = (keys @ (query @ image[:, i, j])).softmax(0)
            assert torch.allclose(result[:, i, j], image[:, i, j] + out @ (weights @ values))


def test_growth_takes_turns_at_holding_and_fading():
    assert [schedule(share, 4) for share in (0.0, 1 / 6)] == [(0, 1.0), (0, 1.0)]
    assert schedule(1 / 4, 4) == (1, pytest.approx(0.5))
    assert schedule(0.4, 4) == (1, 1.0)
    assert schedule(0.999, 4) == (3, pytest.approx(0.994))
    assert schedule(1.0, 4) == schedule(2.0, 4) == (3, 1.0)
    assert resolutions((3, 32, 32), "progressive") == [(4, 4), (8, 8), (16, 16), (32, 32)]
    assert resolutions((1, 28, 28), "progressive") == [(7, 7), (14, 14), (28, 28)]
    assert resolutions((1, 12, 20), "progressive") == [(6, 10), (12, 20)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_what_is_faded_in_by_nothing_is_the_smaller_network_and_by_all_the_larger(shape):
    net = build(Progressive, shape)
    G, D = net.generator.eval(), net.discriminator.eval()
    z, x = numbers(net), torch.rand(8, *shape) * 2 - 1

    def at(level, alpha):
        for part in (G, D):
            part.level, part.alpha = level, alpha
        with torch.no_grad():
            return G(z, None), D(x, None), G.fade(x)

    for level in range(1, len(G.sizes)):
        smaller, larger = at(level - 1, 1.0), at(level, 1.0)
        for now, expected in zip(at(level, 0.0), smaller, strict=True):
            assert torch.allclose(now, expected, atol=1e-5)
        for now, expected in zip(at(level, 1 - 1e-7), larger, strict=True):
            assert torch.allclose(now, expected, atol=1e-5)
        for now, *ends in zip(at(level, 0.5), smaller, larger, strict=True):
            assert all((now - end).abs().max() > 1e-4 for end in ends)
    # the whole image at the end, and nothing but means of blocks at the beginning
    assert torch.equal(larger[2], x)
    block = 2 ** (len(G.sizes) - 1)
    tiny = at(0, 1.0)
    for picture in (tiny[0], tiny[2]):
        corner = picture[:, :, :block, :block]
        assert torch.equal(corner, corner[:, :, :1, :1].expand_as(corner))
    assert torch.allclose(tiny[2][:, :, 0, 0], x[:, :, :block, :block].mean((2, 3)), atol=1e-6)


def test_styles_mix_by_layer():
    net = build(StyleGAN).eval()
    G, (a, b) = net.generator, numbers(net, 2)[:, None]
    with torch.no_grad():
        assert isinstance(G, Mixes)
        assert torch.equal(G.mix(b, b, None, None), G(b, None))
        mixed = G.mix(a, b, None, None)
        assert not torch.allclose(mixed, G(a, None))
        assert not torch.allclose(mixed, G(b, None))


def test_nine_tenths_of_the_training_images_are_of_two_codes():
    net = build(StyleGAN, (1, 16, 16))
    G = net.generator
    styles = []
    for layer in G.layers:
        layer.style.register_forward_hook(lambda layer, w, out: styles.append(w[0]))
    with torch.no_grad():
        z = torch.randn(2000, G.numbers, generator=torch.Generator().manual_seed(5))
        G(z, None)
        own = torch.stack([(w == styles[0]).all(1) for w in styles], 1)
    # the first layer has the first code, and no image goes back to it
    assert own[:, 0].all()
    assert (own.int().diff(dim=1) <= 0).all()
    assert (~own.all(1)).float().mean().item() == pytest.approx(0.9, abs=0.03)
    cuts = own[~own.all(1)].sum(1).bincount()[1:].float()
    assert len(cuts) == len(G.layers) - 1
    assert (cuts / cuts.mean() - 1).abs().max() < 0.2


@pytest.mark.parametrize("model", [DCGAN, BigGAN, Progressive, StyleGAN])
def test_a_size_that_cannot_be_halved_is_refused(model):
    with pytest.raises(PluginError, match="even and at least 8, not 9 x 8; the model mlp fits any"):
        build(model, (1, 9, 8))


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (MLP, {"sizes": ()}, "model.sizes is"),
        (MLP, {"sizes": (0,)}, "model.sizes is"),
        (DCGAN, {"channels": 0}, "model.channels is 0; it must be at least 1"),
        (BigGAN, {"channels": 4}, "model.channels is 4; it must be at least 8"),
        (Progressive, {"channels": 0}, "model.channels is 0; it must be at least 1"),
        (Progressive, {"grown": 0.0}, "model.grown is 0.0; it must be more than 0"),
        (StyleGAN, {"style": 0}, "model.style is 0; it must be at least 1"),
        (StyleGAN, {"mapping": 0}, "model.mapping is 0; it must be at least 1"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(model, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(model, **options)
