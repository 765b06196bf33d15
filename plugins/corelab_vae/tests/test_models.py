from __future__ import annotations

import pytest
import torch
from corelab_vae.conv import Conv
from corelab_vae.interface import Autoencoder
from corelab_vae.mlp import MLP

from corelab import ConfigError, PluginError

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 12, 20)]


@pytest.mark.parametrize("model", [MLP, Conv])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outputs", [1, 2])
def test_images_are_coded_and_decoded(model, shape, outputs):
    torch.manual_seed(0)
    net: Autoencoder = model(model.Config(), shape=shape, latent=5, outputs=outputs)
    x = torch.rand(4, *shape) * 2 - 1
    mean, log_variance = net.encode(x)
    assert mean.shape == log_variance.shape == (4, 5)
    parameters = net.decode(mean)
    assert parameters.shape == (4, outputs, *shape)
    # fresh from initialisation the codes are near the prior and the pixels undecided
    assert mean.abs().max() < 1
    assert log_variance.abs().max() < 1
    assert parameters.abs().max() < 1


@pytest.mark.parametrize("model", [MLP, Conv])
def test_every_weight_learns(model):
    torch.manual_seed(0)
    net = model(model.Config(), shape=(3, 8, 12), latent=5, outputs=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    moved = [p.detach().clone() for p in net.parameters()]
    for _ in range(2):  # a residual block begins with zeros, behind which nothing moves at once
        mean, log_variance = net.encode(torch.rand(4, 3, 8, 12))
        loss = (net.decode(mean) ** 2).sum() + (log_variance**2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for (name, now), before in zip(net.named_parameters(), moved, strict=True):
        assert not torch.equal(now, before), name


@pytest.mark.parametrize("model", [MLP, Conv])
def test_an_image_is_coded_the_same_alone_and_in_company(model):
    torch.manual_seed(0)
    net = model(model.Config(), shape=(1, 8, 8), latent=5, outputs=2).double()
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    together = net.decode(net.encode(x)[0])
    alone = torch.cat([net.decode(net.encode(one)[0]) for one in x.split(1)])
    assert torch.allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("model", [MLP, Conv])
def test_either_network_heeds_the_class(model):
    torch.manual_seed(0)
    net = model(model.Config(), shape=(1, 8, 8), latent=5, outputs=2, classes=3)
    x, z, y = torch.rand(3, 1, 8, 8), torch.randn(3, 5), torch.tensor([0, 1, 2])
    for half in (lambda y: net.encode(x, y)[0], lambda y: net.decode(z, y)):
        same, other = half(y), half(torch.tensor([0, 2, 2]))
        assert torch.equal(same[[0, 2]], other[[0, 2]])
        assert not torch.allclose(same[1], other[1])


@pytest.mark.parametrize("model", [MLP, Conv])
def test_no_code_is_wider_than_the_prior_even_of_an_absurd_image(model):
    torch.manual_seed(0)
    net = model(model.Config(), shape=(1, 8, 8), latent=16, outputs=2)
    _, log_variance = net.encode(1e6 * torch.randn(10, 1, 8, 8))
    assert log_variance.isfinite().all()
    assert log_variance.max() <= 0


@pytest.mark.parametrize("shape", [(1, 10, 12), (1, 12, 30), (3, 7, 7)])
def test_conv_says_which_sizes_fit(shape):
    with pytest.raises(PluginError, match=r"multiples of 4, not \d+ x \d+; the model mlp fits any"):
        Conv(Conv.Config(), shape=shape, latent=5, outputs=1)
    MLP(MLP.Config(), shape=shape, latent=5, outputs=1)


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (MLP, {"width": 0}, "model.width is 0; it must be at least 1"),
        (MLP, {"blocks": -1}, "model.blocks is -1; it must be at least 0"),
        (Conv, {"channels": 0}, "model.channels is 0; it must be at least 1"),
        (Conv, {"blocks": -1}, "model.blocks is -1; it must be at least 0"),
        (Conv, {"hidden": 0}, "model.hidden is 0; it must be at least 1"),
    ],
)
def test_a_size_that_makes_no_sense_is_named(model, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        model(model.Config(**options), shape=(1, 8, 8), latent=5, outputs=1)
