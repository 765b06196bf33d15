from __future__ import annotations

import pytest
import torch
from corelab_diffusion.dit import DiT
from corelab_diffusion.unet import UNet

from corelab import ConfigError

SMALL = {
    "unet": (UNet, UNet.Config(channels=8, heads=2)),
    "unet, patch": (UNet, UNet.Config(channels=8, heads=2, patch=2, multiples=(1, 2, 2))),
    "unet, crossing": (UNet, UNet.Config(channels=8, heads=2, cross_attention=True, blocks=1)),
    "unet, no attention": (UNet, UNet.Config(channels=8, attention=0)),
    "dit": (DiT, DiT.Config(width=16, depth=2)),
    "dit, patch 4": (DiT, DiT.Config(width=16, depth=2, patch=4)),
}
SHAPES = [(1, 8, 8), (4, 7, 7), (1, 28, 28), (3, 32, 32), (3, 9, 14)]


def build(name, shape, inputs=None, outputs=None, classes=0):
    torch.manual_seed(0)
    model, config = SMALL[name]
    channels = shape[0]
    net = model(
        config,
        shape=shape,
        inputs=inputs or channels,
        outputs=outputs or channels,
        classes=classes,
    )
    for parameter in net.parameters():  # so that what begins as zero does not hide anything
        torch.nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_size_comes_out_as_it_went_in(name, shape):
    net = build(name, shape, inputs=shape[0] + 1, outputs=2 * shape[0], classes=3)
    x = torch.randn(2, shape[0] + 1, *shape[1:])
    y = net(x, torch.randn(2), torch.tensor([0, 3]))
    assert y.shape == (2, 2 * shape[0], *shape[1:])
    assert y.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_image_level_and_class_all_matter(name):
    net = build(name, (1, 7, 7), classes=3).eval()
    x, noise, labels = torch.randn(2, 1, 7, 7), torch.tensor([-1.0, 0.5]), torch.tensor([0, 1])
    y = net(x, noise, labels)
    assert not torch.allclose(net(x, noise + 0.1, labels), y, atol=1e-4)
    assert not torch.allclose(net(x, noise, labels + 1), y, atol=1e-4)
    for row in range(7):  # whatever pixel changes, every pixel of the answer may
        near = x.clone()
        near[:, :, row, row] += 1
        assert not torch.allclose(net(near, noise, labels), y, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_an_image_is_seen_the_same_alone_and_in_company(name):
    net = build(name, (1, 7, 7), classes=3).double().eval()
    x = torch.randn(3, 1, 7, 7, dtype=torch.float64)
    noise, labels = torch.tensor([-1.0, 0.0, 1.0]).double(), torch.tensor([0, 1, 3])
    alone = [net(x[i : i + 1], noise[i : i + 1], labels[i : i + 1]) for i in range(3)]
    assert torch.allclose(net(x, noise, labels), torch.cat(alone), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_of_a_network_learns(name):
    torch.manual_seed(0)
    model, config = SMALL[name]
    net = model(config, shape=(1, 8, 8), inputs=1, outputs=1, classes=3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = {key: p.detach().clone() for key, p in net.named_parameters()}
    for _ in range(4):  # behind layers that begin as zeros nothing moves at once
        y = net(torch.randn(8, 1, 8, 8), torch.randn(8), torch.arange(8) % 4)
        optimizer.zero_grad()
        ((y - torch.randn(8, 1, 8, 8)) ** 2).sum().backward()
        optimizer.step()
    still = [key for key, p in net.named_parameters() if torch.equal(p, before[key])]
    assert not still


@pytest.mark.parametrize("name", SMALL)
def test_a_new_network_says_nothing(name):
    model, config = SMALL[name]
    net = model(config, shape=(1, 8, 8), inputs=1, outputs=1, classes=3)
    assert not net(torch.randn(2, 1, 8, 8), torch.randn(2), torch.tensor([0, 3])).any()


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (UNet, {"channels": 0}, "model.channels is 0; it must be at least 1"),
        (UNet, {"patch": 0}, "model.patch is 0; it must be at least 1"),
        (UNet, {"multiples": ()}, r"model.multiples is \(\); it must be one or more numbers"),
        (UNet, {"dropout": 1.0}, "model.dropout is 1.0; it must be at least 0 and below 1"),
        (UNet, {"heads": 3}, "model.heads is 3; it must divide the 128 channels"),
        (UNet, {"cross_attention": True}, "model.cross_attention is to classes; add --algorithm.c"),
        (DiT, {"depth": 0}, "model.depth is 0; it must be at least 1"),
        (DiT, {"width": 30}, "model.width is 30; it must be a multiple of 4 and of 4 heads"),
    ],
)
def test_a_network_that_makes_no_sense_is_refused(model, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        model(model.Config(**options), shape=(1, 8, 8), inputs=1, outputs=1, classes=0)
