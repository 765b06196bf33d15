from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from corelab_datasets.digits import Digits
from corelab_datasets.interface import Split
from corelab_vae.vq_conv import VQConv
from corelab_vae.vqvae import VQVAE

from corelab import ConfigError, Context, UpdateConfig

DIGITS = Digits(Digits.Config())
STEPS = 160
"""A budget of 10 steps of 16 images, of which the prior has the last 5 by default here."""


class Colours:
    """A few pictures of coloured noise."""

    shape = (3, 8, 12)
    classes = ("noise", "more")

    def split(self, name):
        generator = torch.Generator().manual_seed(len(name))
        images = torch.randint(0, 256, (20, *self.shape), generator=generator, dtype=torch.uint8)
        return Split(images, torch.arange(20) % 2)


def make(seed=0, steps=STEPS, task=DIGITS, update=None, size=None, **options):
    context = Context(seed, torch.device("cpu"), steps, update=update)
    size = size or VQConv.Config(channels=4, blocks=1)
    small = {"entries": 8, "dim": 4, "prior_channels": 8, "prior_layers": 2, "batch_size": 16}
    small["prior_share"] = 0.5
    network = partial(context.build, VQConv, size)
    return VQVAE(VQVAE.Config(**(small | options)), task, network, context)


def trace(vqvae, iterations):
    return [{k: float(v) for k, v in vqvae.step().items()} for _ in range(iterations)]


def state(vqvae):
    """Weights, codebooks and averages."""
    return torch.cat(
        [
            tensor.detach().flatten().float()
            for module in (vqvae.autoencoder, vqvae.prior, vqvae.prior_updater.averaged)
            for tensor in module.state_dict().values()
        ]
    )


def figures(results):
    return {k: float(v) for k, v in results.items() if hasattr(v, "__float__")}


@pytest.mark.parametrize("at", [1, 4, 5, 6, 9])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"levels": 2, "task": Colours(), "conditional": True},
        {"update": UpdateConfig(ema=0.1, clip=1.0, accumulate=2)},
    ],
    ids=["plain", "two levels", "average"],
)
def test_a_resumed_run_has_the_state_of_the_unbroken_one(options, at, tmp_path):
    whole = make(seed=3, **options)
    expected = trace(whole, 10)
    broken = make(seed=3, **options)
    trace(broken, at)
    broken.save(tmp_path)
    streams = broken.context.state_dict()
    resumed = make(seed=3, **options)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(streams)
    assert trace(resumed, 10 - at) == expected[at:]
    assert torch.equal(state(resumed), state(whole))


def test_a_state_that_is_loaded_brings_its_own_codes(tmp_path):
    one, other = make(seed=1), make(seed=2)
    trace(one, 8)
    one.save(tmp_path)
    trace(other, 8)
    other.load(tmp_path)
    other.context.load_state_dict(one.context.state_dict())
    other._order = one._order
    assert trace(other, 1) == trace(one, 1)


def test_the_autoencoder_learns_first_and_then_the_prior():
    vqvae = make(prior_share=0.3)  # the last 48 of 160 images
    rows, autoencoder, prior = [], [], []
    for _ in range(10):
        rows += trace(vqvae, 1)
        autoencoder.append(state_of(vqvae.autoencoder))
        prior.append(state_of(vqvae.prior))
    assert all(set(row) >= {"loss", "reconstruction_nats", "commitment"} for row in rows[:7])
    assert all(set(row) == {"code_nats"} for row in rows[7:])
    assert vqvae.began == 112
    for i in range(1, 10):
        assert torch.equal(prior[i], prior[i - 1]) == (i < 7)
        assert torch.equal(autoencoder[i], autoencoder[i - 1]) == (i >= 7)


def state_of(module):
    return torch.cat([t.flatten().float() for t in module.state_dict().values()])


def test_a_longer_budget_does_not_undo_the_prior(tmp_path):
    vqvae = make()
    trace(vqvae, 6)
    vqvae.save(tmp_path)
    longer = make(steps=4 * STEPS)
    longer.load(tmp_path)
    assert set(trace(longer, 1)[0]) == {"code_nats"}


def test_each_phase_has_its_own_falling_step_size():
    vqvae = make(lr=1e-2, prior_lr=3e-2)
    rates = []
    for i in range(10):
        vqvae.step()
        updater = vqvae.updater if i < 5 else vqvae.prior_updater
        rates.append(updater.optimizer.param_groups[0]["lr"])
    assert (rates[0], rates[5]) == (1e-2, 3e-2)
    assert rates[:5] == sorted(rates[:5], reverse=True)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    cosine = [(1 + math.cos(math.pi * i / 5)) / 2 for i in range(5)]
    assert rates == pytest.approx([1e-2 * c for c in cosine] + [3e-2 * c for c in cosine])


def test_the_parts_of_the_loss_are_weighed_by_the_commitment():
    for commitment in (0.25, 2.0):
        row = trace(make(commitment=commitment), 1)[0]
        per_dim = row["reconstruction_nats"] / 64
        assert row["loss"] == pytest.approx(per_dim + commitment * row["commitment"], rel=1e-5)


def test_pieces_of_a_minibatch_make_the_same_step():
    whole, pieces = make(), make(update=UpdateConfig(accumulate=3))
    for a, b in zip(trace(whole, 8), trace(pieces, 8), strict=True):
        assert b == pytest.approx(a, rel=1e-3)


@pytest.mark.parametrize("steps", [3, 8])
@pytest.mark.parametrize("levels", [1, 2])
def test_bits_per_dimension_are_those_of_pixels_and_codes(steps, levels):
    vqvae = make(task=Colours(), levels=levels)
    trace(vqvae, steps)
    results = figures(vqvae.evaluate("test"))
    both = results["reconstruction_nats"] + results["code_nats"]
    assert results["elbo_nats"] == pytest.approx(-both)
    assert results["bits_per_dim"] == pytest.approx(both / (3 * 8 * 12 * math.log(2)))
    sites = 6 if levels == 1 else 30
    uniform = sites * math.log(8)
    assert (results["code_nats"] == pytest.approx(uniform, rel=1e-6)) == (steps == 3)
    images = Colours().split("test").images
    with vqvae.updater.at_rest() as net:  # by hand
        nll, _, coded = net(images / 127.5 - 1)
    assert results["reconstruction_nats"] == pytest.approx(nll.mean().item(), rel=1e-5)
    for level, name in enumerate([""] if levels == 1 else ["_top", "_bottom"]):
        p = torch.bincount(coded.k[level].flatten(), minlength=8).double()
        assert results[f"used{name}"] == pytest.approx((p > 0).double().mean().item())
        p = p[p > 0] / p.sum()
        entropy = -(p * p.log()).sum().item()
        assert results[f"perplexity{name}"] == pytest.approx(math.exp(entropy), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"levels": 2, "conditional": True}])
def test_looking_at_it_leaves_no_trace(options):
    plain, watched = make(**options), make(**options)
    expected, seen = trace(plain, 8), []
    for i in range(8):
        watched.evaluate("validation", 10, seed=i)
        watched.sample(3, seed=i)
        watched.sample(3, reconstruct=True)
        watched.decode(watched.encode(DIGITS.split("test").images[:3]))
        seen += trace(watched, 1)
    assert seen == expected
    assert torch.equal(state(watched), state(plain))


def test_an_evaluation_follows_from_its_seed():
    vqvae = make()
    trace(vqvae, 8)
    first, again, other = (vqvae.evaluate("validation", seed=seed) for seed in (1, 1, 2))
    assert figures(first) == figures(again) == figures(other)  # nothing in them is drawn
    assert np.array_equal(first["samples"].pixels, again["samples"].pixels)
    assert not np.array_equal(first["samples"].pixels, other["samples"].pixels)
    assert np.array_equal(first["reconstructions"].pixels, other["reconstructions"].pixels)
    with pytest.raises(ConfigError, match="at least 1 image, got n = 0"):
        vqvae.evaluate("test", 0)


def test_the_pictures_are_pairs_and_a_grid():
    vqvae = make(task=Colours())
    trace(vqvae, 8)
    results = vqvae.evaluate("test")
    pairs = vqvae.sample(8, reconstruct=True)
    images = Colours().split("test").images[:8]
    for shown in (results["reconstructions"], pairs):
        assert np.array_equal(shown.pixels[::2], images.permute(0, 2, 3, 1).numpy())
        decoded = vqvae.decode(vqvae.encode(images)).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(shown.pixels[1::2], decoded)
    assert results["samples"].pixels.shape == (64, 8, 12, 3)
    assert vqvae.sample(5).pixels.shape == (5, 8, 12, 3)


def test_a_cold_prior_draws_the_same_picture_again_and_again():
    vqvae = make(steps=1600)
    trace(vqvae, 100)
    varied = {p.tobytes() for p in vqvae.sample(16).pixels}
    cold = {p.tobytes() for p in vqvae.sample(16, temperature=1e-4).pixels}
    assert len(cold) == 1 < len(varied)
    with pytest.raises(ConfigError, match="temperature is 0; it must be positive"):
        vqvae.sample(1, temperature=0)


def test_where_nothing_is_compiled_pytorch_draws_the_codes_and_says_so_once(monkeypatch):
    said, vqvae = [], make(task=Colours())
    vqvae.context.say = said.append
    monkeypatch.setattr("corelab_kernels.pixelcnn.missing", lambda device: "g++ is not here")
    vqvae.sample(2)
    assert said == []  # in the first phase, codes are drawn from no network
    trace(vqvae, 8)
    cached = vqvae.sample(2, sampler="cached").pixels
    for _ in range(2):
        assert np.array_equal(vqvae.sample(2).pixels, cached)
    assert said == ["g++ is not here; codes are drawn by PyTorch, more slowly"]
    with pytest.raises(ConfigError, match="--sampler is kernel, but g\\+\\+ is not here; cached"):
        vqvae.sample(2, sampler="kernel")


@pytest.mark.parametrize("levels", [1, 2])
def test_in_float64_every_sampler_draws_the_same_codes(levels):
    vqvae = make(levels=levels)
    with pytest.raises(ConfigError, match="for the prior, which this run has not begun to learn"):
        vqvae.sample(2, float64=True)
    trace(vqvae, 8)
    drawn = [
        vqvae.sample(6, sampler=sampler, float64=True).pixels
        for sampler in ("naive", "cached", "kernel", "auto")
    ]
    assert all(np.array_equal(images, drawn[0]) for images in drawn)
    with pytest.raises(ConfigError, match="--reconstruct draws nothing: leave out"):
        vqvae.sample(2, reconstruct=True, sampler="naive")


def test_a_class_is_asked_for_by_name_of_a_conditional_prior_only():
    vqvae = make(task=Colours(), conditional=True)
    trace(vqvae, 8)
    with torch.no_grad():
        for parameter in vqvae.prior.parameters():
            parameter.mul_(4)  # as if it had learned more
    noise, more, both = (vqvae.sample(20, class_=c).pixels for c in ("noise", "1", ""))
    assert not np.array_equal(noise, more)
    assert np.array_equal(both[::2], noise[::2])
    assert np.array_equal(both[1::2], more[1::2])
    assert np.array_equal(vqvae.sample(20, class_="more").pixels, more)
    with pytest.raises(ConfigError, match="there is no class 'x'"):
        vqvae.sample(1, class_="x")
    with pytest.raises(ConfigError, match="knows no classes"):
        make().sample(1, class_="3")
    for option in ({"class_": "noise"}, {"temperature": 0.5}):
        with pytest.raises(ConfigError, match="--reconstruct draws nothing"):
            vqvae.sample(4, reconstruct=True, **option)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_row_leads_from_one_test_image_to_another(levels):
    vqvae = make(levels=levels, size=VQConv.Config(channels=8, halvings=2))
    trace(vqvae, 8)
    ways = vqvae.sample(24, seed=1, interpolate=True)
    rows = ways.pixels.reshape(3, ways.columns, -1)
    assert ways.columns == 8
    pairs = vqvae.sample(2 * len(vqvae.task.split("test")), reconstruct=True).pixels[1::2]
    decoded = {picture.tobytes() for picture in pairs}
    for row in rows:
        assert {row[0].tobytes(), row[-1].tobytes()} <= decoded
        assert not np.array_equal(row[0], row[-1])
    assert not np.array_equal(ways.pixels, vqvae.sample(24, seed=2, interpolate=True).pixels)
    with pytest.raises(ConfigError, match="ask for one at a time"):
        vqvae.sample(4, reconstruct=True, interpolate=True)


def test_samples_are_compared_with_images_if_that_is_asked_for():
    vqvae = make(conditional=True)
    trace(vqvae, 8)
    results = figures(vqvae.evaluate("test", 20, quality=30))
    assert results["fid"] > results["fid_floor"] > 0
    assert "fid" not in vqvae.evaluate("test", 20)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"levels": 3}, "algorithm.levels is 3; it must be 1 or 2"),
        ({"entries": 1}, "algorithm.entries is 1; it must be at least 2"),
        ({"dim": 0}, "algorithm.dim is 0; it must be at least 1"),
        ({"commitment": 0.0}, "algorithm.commitment is 0.0; it must be positive"),
        ({"decay": 1.0}, "algorithm.decay is 1.0; it must be at least 0 and below 1"),
        ({"revive": -0.1}, "algorithm.revive is -0.1; it must be at least 0 and below 1"),
        ({"prior_share": 1.0}, "algorithm.prior_share is 1.0; it must be between 0 and 1"),
        ({"prior_channels": 0}, "algorithm.prior_channels is 0; it must be at least 1"),
        ({"prior_layers": 0}, "algorithm.prior_layers is 0; it must be at least 1"),
        ({"batch_size": 0}, "algorithm.batch_size is 0; it must be at least 1"),
        ({"lr": math.nan}, "algorithm.lr is nan; it must be positive"),
        ({"prior_lr": 0.0}, "algorithm.prior_lr is 0.0; it must be positive"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(**options)


def test_it_learns_digits():
    # one logistic for each pixel, whatever the image, costs 3.98 even when fitted to these images
    preset = {
        key.removeprefix("algorithm."): value
        for key, value in VQVAE.presets["digits"].items()
        if key.startswith("algorithm.")
    }
    steps, size = 32_000, VQConv.Config(halvings=1)
    vqvae = make(steps=steps, size=size, **{"dim": 8, "batch_size": 64, **preset})
    while vqvae.progress < steps:
        vqvae.step()
    results = vqvae.evaluate("test")
    assert results["bits_per_dim"] < 3.96
    assert results["code_nats"] < 0.85 * 16 * math.log(8)  # the prior knows more than nothing
    assert results["perplexity"] > 6
    inputs, outputs = results["reconstructions"].pixels.reshape(8, 2, 64).swapaxes(0, 1) / 255.0
    blank = DIGITS.split("test").images.double().mean(0).flatten().numpy() / 255
    assert ((outputs - inputs) ** 2).mean() < 0.4 * ((blank - inputs) ** 2).mean()
