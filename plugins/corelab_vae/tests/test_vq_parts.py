from __future__ import annotations

import math

import pytest
import torch
from corelab_nets.kernel import Kernel
from corelab_vae.prior import Prior
from corelab_vae.quantised import LIKELIHOOD, QuantisedAutoencoder
from corelab_vae.quantiser import Codebook, perplexity, straight_through
from corelab_vae.vq_conv import VQConv

from corelab import ConfigError, Context, PluginError

ALONE = Context(0, torch.device("cpu"), 1)


def vectors(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def book(entries=6, dim=3, decay=0.9, revive=0.0):
    torch.manual_seed(1)
    return Codebook(entries, dim, decay, revive)


def autoencoder(levels=1, shape=(1, 8, 8), config=None):
    torch.manual_seed(2)
    config = config or VQConv.Config(halvings=2, channels=4, blocks=1)
    net = VQConv(config, shape, dim=3, levels=levels, outputs=LIKELIHOOD.parameters)
    return QuantisedAutoencoder(net, [Codebook(6, 3, 0.9, 0.0) for _ in range(levels)]).double()


def test_the_gradient_passes_the_rounding_unchanged():
    z = vectors(2, 3, 4, 4).double().requires_grad_()
    codes = book().double()
    e = codes.look_up(codes.nearest(z))
    weight = vectors(2, 3, 4, 4, seed=1).double()

    def loss(e):
        return (weight * e**2 + e.sin()).sum()

    rounded = straight_through(z, e)
    assert torch.allclose(rounded, e, atol=1e-12)
    (through,) = torch.autograd.grad(loss(rounded), z)
    free = e.clone().requires_grad_()
    (at_e,) = torch.autograd.grad(loss(free), free)
    assert torch.allclose(through, at_e, atol=1e-12)
    step = 1e-6
    for i in (0, 17, 95):
        up, down = e.flatten().clone(), e.flatten().clone()
        up[i] += step
        down[i] -= step
        slope = (loss(up.reshape(e.shape)) - loss(down.reshape(e.shape))) / (2 * step)
        assert through.flatten()[i].item() == pytest.approx(slope.item(), rel=1e-6)


@pytest.mark.parametrize("levels", [1, 2])
def test_the_encoder_learns_by_what_the_decoder_wants_of_the_entries(levels):
    # by hand: the gradient of -log p(x|e) at e, carried through the encoder of the finest level
    net = autoencoder(levels)
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64) * 2 - 1
    nll, commitment, coded = net(x)
    weight = net.net.to_finest.weight
    (got,) = torch.autograd.grad(nll.sum(), weight, retain_graph=True)
    e = [e.detach().requires_grad_() for e in coded.e]
    log_p = LIKELIHOOD.log_prob(x, net.net.decode(e).float())
    (at_e,) = torch.autograd.grad(-log_p.sum(), e[-1])
    (expected,) = torch.autograd.grad(coded.z[-1], weight, at_e.to(coded.z[-1]), retain_graph=True)
    assert got.abs().max() > 0
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-7)
    (got,) = torch.autograd.grad(commitment.sum(), weight, retain_graph=True)
    z = coded.z[-1]
    (expected,) = torch.autograd.grad(z, weight, 2 * (z - e[-1]).detach() / z[0].numel())
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-7)


def test_the_nearest_entry_is_found():
    z, codes = vectors(2, 3, 4, 5), book()
    k = codes.nearest(z)
    for n in range(2):
        for i in range(4):
            for j in range(5):
                distance = (codes.e - z[n, :, i, j]).norm(dim=1)
                assert distance[k[n, i, j]] == distance.min()
                assert torch.equal(codes.look_up(k)[n, :, i, j], codes.e[k[n, i, j]])


def test_entries_are_moving_averages_of_the_vectors_nearest_to_them():
    codes = book(entries=2, dim=3)
    generator = torch.Generator().manual_seed(0)
    counts, sums = [0.0, 0.0], [torch.zeros(3), torch.zeros(3)]
    for seed in range(5):
        z = vectors(8, 3, 2, 2, seed=seed)
        k = torch.arange(32).reshape(8, 2, 2) % 3 // 2  # 22 of the first, 10 of the second
        codes.learn(z, k, generator, ALONE)
        flat = z.movedim(1, -1).reshape(-1, 3)
        for i in (0, 1):
            own = flat[k.flatten() == i]
            counts[i] = 0.9 * counts[i] + 0.1 * len(own)
            sums[i] = 0.9 * sums[i] + 0.1 * own.sum(0)
    for i in (0, 1):
        assert torch.allclose(codes.e[i], sums[i] / counts[i], atol=1e-6)


def test_with_one_entry_it_is_the_mean_of_what_was_seen():
    codes = book(entries=1, decay=0.5)
    z = vectors(4, 3, 2, 2)
    for _ in range(3):
        codes.learn(z, codes.nearest(z), torch.Generator().manual_seed(0), ALONE)
    assert torch.allclose(codes.e[0], z.mean((0, 2, 3)), atol=1e-6)


def test_a_dead_entry_comes_to_life_at_a_vector_of_the_batch():
    codes = book(revive=0.05)
    generator = torch.Generator().manual_seed(0)
    codes.e[3] = 1e6  # nothing will be near it
    for seed in range(60):
        z = vectors(4, 3, 4, 4, seed=seed)
        k = codes.nearest(z)
        codes.learn(z, k, generator, ALONE)
    assert (codes.e.norm(dim=1) < 5).all()
    assert len(codes.nearest(vectors(64, 3, 4, 4, seed=99)).unique()) == 6


def test_without_revival_a_dead_entry_stays_dead():
    codes = book(entries=2, revive=0.0)
    z = vectors(2, 3, 2, 2)
    generator = torch.Generator().manual_seed(0)
    k = torch.zeros(2, 2, 2, dtype=torch.int64)
    codes.learn(z, k, generator, ALONE)  # 1 begins somewhere in z
    begun = codes.e[1].clone()
    assert any(torch.equal(begun, v) for v in z.movedim(1, -1).reshape(-1, 3))
    for _ in range(20):
        codes.learn(z, k, generator, ALONE)
    assert torch.allclose(codes.e[1], begun, atol=1e-5)
    assert torch.allclose(codes.e[0], z.mean((0, 2, 3)), atol=1e-5)


def test_the_perplexity_is_the_number_of_equally_frequent_codes():
    assert perplexity(torch.tensor([5.0, 5, 0, 5, 0])).item() == pytest.approx(3)
    assert perplexity(torch.tensor([0.0, 7, 0])).item() == pytest.approx(1)
    p = torch.tensor([0.5, 0.25, 0.25])
    assert perplexity(8 * p).item() == pytest.approx(2**1.5)


@pytest.mark.parametrize(
    ("levels", "shape", "halvings", "grids"),
    [
        (1, (1, 8, 8), 1, ((4, 4),)),
        (1, (1, 28, 28), 2, ((7, 7),)),
        (1, (3, 32, 16), 3, ((4, 2),)),
        (2, (1, 8, 8), 2, ((2, 2), (4, 4))),
        (2, (3, 32, 16), 3, ((4, 2), (8, 4))),
    ],
)
def test_the_grids_are_as_coarse_as_was_asked_for(levels, shape, halvings, grids):
    net = autoencoder(levels, shape, VQConv.Config(halvings=halvings, channels=4, blocks=1))
    x = torch.rand(2, *shape, dtype=torch.float64) * 2 - 1
    nll, commitment, coded = net(x)
    assert net.net.grids == grids
    assert [tuple(k.shape[1:]) for k in coded.k] == list(grids)
    assert [tuple(e.shape) for e in coded.e] == [(2, 3, *grid) for grid in grids]
    assert nll.shape == commitment.shape == (2,)
    assert net.decode(coded.k).shape == (2, 2, *shape)
    (nll + commitment).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in used(net))


def used(net):
    """Its parameters but for those that the second convolutions of residual blocks, zero at
    first, keep from having an effect."""
    return [p for name, p in net.named_parameters() if ".body." not in name]


def test_the_fine_codes_depend_on_the_coarse_ones():
    net = autoencoder(levels=2)
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    before = net.encode(x)
    net.book(0).e.add_(1)
    after = net.encode(x)
    assert torch.equal(before.z[0], after.z[0])
    assert not torch.equal(before.z[1], after.z[1])


@pytest.mark.parametrize("levels", [1, 2])
def test_latents_round_to_the_codes_of_their_image(levels):
    net = autoencoder(levels)
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64) * 2 - 1
    for k, again in zip(net.encode(x).k, net.nearest(net.latents(x)), strict=True):
        assert torch.equal(k, again)


@pytest.mark.parametrize(
    ("config", "shape", "levels", "error", "sentence"),
    [
        (VQConv.Config(), (1, 30, 28), 1, PluginError, "multiples of 4, not 30 x 28"),
        (VQConv.Config(halvings=1), (1, 8, 8), 2, ConfigError, "halvings is 1; .* at least 2, one"),
        (VQConv.Config(channels=0), (1, 8, 8), 1, ConfigError, "channels is 0; .* at least 1"),
        (VQConv.Config(blocks=-1), (1, 8, 8), 1, ConfigError, "blocks is -1; .* zero or positive"),
    ],
)
def test_a_network_that_cannot_be_is_one_sentence(config, shape, levels, error, sentence):
    with pytest.raises(error, match=sentence):
        VQConv(config, shape, dim=2, levels=levels, outputs=2)


@pytest.mark.parametrize("classes", [0, 2])
def test_the_probabilities_of_all_codes_sum_to_one(classes):
    torch.manual_seed(3)
    prior = Prior([(1, 2), (2, 4)], 2, classes, channels=4, layers=2).double()
    # all codes that there are: 2 of the coarse grid and 8 of the fine one, of two entries each
    number = torch.arange(2**10)
    bits = (number[:, None] >> torch.arange(10)) & 1
    codes = [bits[:, :2].reshape(-1, 1, 2), bits[:, 2:].reshape(-1, 2, 4)]
    for y in range(max(1, classes)):
        labels = torch.full((2**10,), y) if classes else None
        assert torch.exp(-prior(codes, labels)).sum().item() == pytest.approx(1, abs=1e-5)
    grey = prior(codes, labels).exp()
    assert grey.max() > 1.05 * grey.min()


def test_draws_have_the_probabilities_of_the_prior():
    torch.manual_seed(4)
    prior = Prior([(1, 2)], 2, 0, channels=4, layers=2)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.mul_(3)  # so that the four codes are not equally probable
        codes = torch.tensor([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]])
        p = torch.exp(-prior([codes], None))
        drawn, cold = (
            prior.sample(n, None, torch.Generator().manual_seed(0), Kernel, temperature)[0]
            for n, temperature in ((4000, 1.0), (1000, 0.01))
        )
    frequencies = torch.bincount(drawn[:, 0, 0] * 2 + drawn[:, 0, 1], minlength=4) / 4000
    assert p.max() > 0.3
    assert torch.allclose(frequencies, p, atol=4 * math.sqrt(0.25 / 4000))
    likeliest = drawn[:, 0, 0].double().mean().round()
    assert (cold[:, 0, 0] == likeliest).all()
