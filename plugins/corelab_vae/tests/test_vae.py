from __future__ import annotations

import math
import random
from functools import partial

import numpy as np
import pytest
import torch
from corelab_datasets.digits import Digits
from corelab_datasets.interface import Split
from corelab_vae.conv import Conv
from corelab_vae.mlp import MLP
from corelab_vae.vae import VAE

from corelab import ConfigError, Context, UpdateConfig

DIGITS = Digits(Digits.Config())
SMALL = {MLP: MLP.Config(width=32, blocks=1), Conv: Conv.Config(channels=4, hidden=16)}


class Colours:
    """A few pictures of coloured noise."""

    shape = (3, 12, 8)
    classes = ("noise",)

    def split(self, name):
        generator = torch.Generator().manual_seed(len(name))
        images = torch.randint(0, 256, (20, *self.shape), generator=generator, dtype=torch.uint8)
        return Split(images, torch.zeros(20, dtype=torch.int64))


def make(seed=0, steps=2000, task=DIGITS, model=MLP, size=None, update=None, **options):
    context = Context(seed, torch.device("cpu"), steps, update=update)
    network = partial(context.build, model, size or SMALL[model])
    return VAE(VAE.Config(**options), task, network, context)


def trace(vae, iterations):
    return [{k: float(v) for k, v in vae.step().items()} for _ in range(iterations)]


def weights(vae):
    return torch.cat([p.detach().flatten() for p in vae.net.parameters()])


def figures(results):
    return {k: float(v) for k, v in results.items() if hasattr(v, "__float__")}


def pixels(images):
    """Pictures as double [N, C, H, W]."""
    return torch.from_numpy(images.pixels).permute(0, 3, 1, 2).double()


@pytest.mark.parametrize("model", [MLP, Conv])
@pytest.mark.parametrize("likelihood", ["bernoulli", "mixture"])
@pytest.mark.parametrize("task", [DIGITS, Colours()], ids=["digits", "colours"])
def test_a_resumed_run_has_the_weights_of_the_unbroken_one(model, likelihood, task, tmp_path):
    options = {"task": task, "model": model, "likelihood": likelihood, "batch_size": 16}
    whole = make(seed=3, **options)
    expected = trace(whole, 12)
    at = random.Random(f"{model} {likelihood}").randint(1, 11)
    broken = make(seed=3, **options)
    trace(broken, at)
    broken.save(tmp_path)
    streams = broken.context.state_dict()
    resumed = make(seed=3, **options)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(streams)
    assert trace(resumed, 12 - at) == expected[at:]
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("options", [{"conditional": True}, {"deterministic": True}])
def test_a_resumed_run_has_the_average_of_the_unbroken_one(options, tmp_path):
    options = {"seed": 3, "update": UpdateConfig(ema=0.1, accumulate=2), **options}
    whole, broken, resumed = (make(**options) for _ in range(3))
    expected = trace(whole, 9)
    trace(broken, 4)
    broken.save(tmp_path)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(broken.context.state_dict())
    assert trace(resumed, 5) == expected[4:]
    assert figures(resumed.evaluate()) == figures(whole.evaluate())
    averaged = torch.cat([p.flatten() for p in resumed.updater.averaged.parameters()])
    assert torch.equal(
        averaged, torch.cat([p.flatten() for p in whole.updater.averaged.parameters()])
    )
    assert not torch.allclose(averaged, weights(resumed), atol=1e-4)


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_looking_at_it_leaves_no_trace(likelihood):
    plain, watched = (make(likelihood=likelihood) for _ in range(2))
    expected, seen = trace(plain, 6), []
    for i in range(6):
        watched.evaluate("validation", 10, seed=i)
        watched.sample(3, seed=i, noise=True)
        seen += trace(watched, 1)
    assert seen == expected
    assert torch.equal(weights(watched), weights(plain))
    assert watched.net.training


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_an_evaluation_follows_from_its_seed(likelihood):
    vae = make(likelihood=likelihood)
    trace(vae, 3)
    first, again, other = (vae.evaluate("validation", seed=seed) for seed in (1, 1, 2))
    assert figures(first) == figures(again)
    assert figures(first) != figures(other)
    for name in ("reconstructions", "samples"):
        assert np.array_equal(first[name].pixels, again[name].pixels)
    assert not np.array_equal(first["samples"].pixels, other["samples"].pixels)


def test_an_evaluation_is_of_all_images_or_of_the_first():
    vae = make(task=Colours())
    trace(vae, 2)
    every = figures(vae.evaluate("test"))
    assert figures(vae.evaluate("test", 20)) == every
    assert figures(vae.evaluate("test", 7)) != every
    with pytest.raises(ConfigError, match="at least 1 image, got n = 0"):
        vae.evaluate("test", 0)


def test_bits_per_dimension_are_the_bound_per_sub_pixel():
    vae = make(task=Colours())
    for results in (trace(vae, 1)[0], figures(vae.evaluate("test"))):
        assert results["elbo_nats"] == pytest.approx(
            -(results["reconstruction_nats"] + results["kl_nats"]), rel=1e-6
        )
        assert results["bits_per_dim"] == pytest.approx(
            -results["elbo_nats"] / (3 * 12 * 8 * math.log(2)), rel=1e-6
        )


def test_beta_weighs_the_divergence_in_the_loss_only():
    one, four = trace(make(), 1)[0], trace(make(beta=4.0), 1)[0]
    assert four["elbo_nats"] == one["elbo_nats"]
    assert one["loss"] == pytest.approx(-one["elbo_nats"], rel=1e-6)
    assert four["loss"] - one["loss"] == pytest.approx(3 * one["kl_nats"], rel=1e-3)
    plain, simple = make(steps=10_000), make(steps=10_000, beta=4.0)
    assert trace(simple, 80)[-1]["kl_nats"] < 0.75 * trace(plain, 80)[-1]["kl_nats"]


def test_the_pictures_are_pairs_and_a_grid():
    vae = make(task=Colours())
    results = vae.evaluate("test")
    assert results["reconstructions"].pixels.shape == (16, 12, 8, 3)
    inputs = results["reconstructions"].pixels[::2]
    assert np.array_equal(inputs, Colours().split("test").images[:8].permute(0, 2, 3, 1).numpy())
    assert results["samples"].pixels.shape == (64, 12, 8, 3)
    assert results["samples"].grid().shape == (8 * 13 - 1, 8 * 9 - 1, 3)
    assert vae.sample(5).pixels.shape == (5, 12, 8, 3)


def test_the_divergence_of_each_number_is_told_and_those_that_are_used_are_counted():
    vae = make(latent=3)
    trace(vae, 30)
    with torch.no_grad():  # of the second number q is the prior
        last = vae.net.encoder[-1]
        last.weight[[1, 4]] = 0
        last.bias[[1, 4]] = torch.tensor([0.0, 100.0])
    results = figures(vae.evaluate("test"))
    each = [results[f"kl_nats_{i}"] for i in (1, 2, 3)]
    assert sum(each) == pytest.approx(results["kl_nats"])
    assert each[0] >= each[1] > 0.01 > each[2] == pytest.approx(0, abs=1e-6)
    assert results["active_units"] == 2


def test_more_codes_tighten_the_bound_and_change_nothing_else():
    vae = make(batch_size=32)
    trace(vae, 60)
    plain, tight = figures(vae.evaluate()), figures(vae.evaluate(iwae=20))
    assert {k: v for k, v in tight.items() if "iwae" not in k} == plain
    assert tight["elbo_nats"] < tight["iwae_nats"]
    assert tight["iwae_bits_per_dim"] == pytest.approx(-tight["iwae_nats"] / (64 * math.log(2)))
    once = figures(vae.evaluate(iwae=1))
    assert once["iwae_nats"] == pytest.approx(once["elbo_nats"], abs=0.5)
    with pytest.raises(ConfigError, match="iwae is -1; it must be zero or positive"):
        vae.evaluate(iwae=-1)


def test_a_conditional_one_draws_the_class_that_is_asked_for():
    vae = make(conditional=True, steps=30_000, size=MLP.Config(width=64, blocks=1), lr=4e-3)
    while vae.progress < 30_000:
        vae.step()
    train = DIGITS.split("train")
    means = torch.stack([train.images[train.labels == c].double().mean(0) for c in range(10)])
    nearest = torch.cdist(pixels(vae.sample(200)).flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == torch.arange(200) % 10).double().mean() > 0.8
    nearest = torch.cdist(pixels(vae.sample(50, class_="7")).flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == 7).double().mean() > 0.8
    with pytest.raises(ConfigError, match="no class '11'"):
        vae.sample(2, class_="11")


def test_without_classes_none_can_be_asked_for():
    with pytest.raises(ConfigError, match=r"--class 7: .*--algorithm\.conditional"):
        make().sample(2, class_="7")


def test_an_autoencoder_has_neither_noise_nor_price():
    vae = make(deterministic=True)
    (first,) = trace(vae, 1)
    assert set(first) == {"loss", "reconstruction_nats"}
    assert first["loss"] == first["reconstruction_nats"]
    results, other = vae.evaluate(seed=1), vae.evaluate(seed=2)
    assert set(figures(results)) == {"loss", "reconstruction_nats"}
    assert figures(results) == figures(other)
    assert not np.array_equal(results["samples"].pixels, other["samples"].pixels)
    with pytest.raises(ConfigError, match=r"--iwae: .* no bound"):
        vae.evaluate(iwae=5)


def test_the_codes_of_an_autoencoder_are_drawn_like_those_of_training_images():
    plain = make(steps=20_000, deterministic=True, latent=4, size=MLP.Config(width=64, blocks=1))
    while plain.progress < 20_000:
        plain.step()
    train = DIGITS.split("train").images.double()
    samples = pixels(plain.sample(1000))
    assert (samples.mean(0) - train.mean(0)).abs().mean() < 15
    assert (samples.std(0) - train.std(0)).abs().mean() < 25


def test_compared_with_images_each_sample_is_of_the_class_it_is_asked_for(monkeypatch):
    seen = {}

    def compare(task, draw, n, seed, device, split):
        drawn = draw(torch.arange(n))
        seen[seed] = (drawn.dtype, drawn.shape, split)
        return {"fid": 1.5}

    monkeypatch.setattr("corelab_vae.vae.compare", compare)
    for options in ({}, {"conditional": True}, {"deterministic": True}):
        assert make(**options).evaluate("validation", seed=9, quality=6)["fid"] == 1.5
        assert seen.pop(9) == (torch.uint8, (6, 1, 8, 8), "validation")


def test_noise_draws_black_and_white_pixels_where_these_are_what_is_modelled():
    vae = make(likelihood="bernoulli")
    assert set(np.unique(vae.sample(20, noise=True).pixels)) == {0, 255}
    assert len(np.unique(vae.sample(20).pixels)) > 2


def test_the_step_size_falls_to_zero_over_the_run():
    vae = make(steps=1000, batch_size=100, lr=1e-3)
    rates = []
    for _ in range(12):  # two more steps than the budget has
        vae.step()
        rates.append(vae.updater.optimizer.param_groups[0]["lr"])
    assert rates[0] == 1e-3
    assert rates[5] == pytest.approx(0.5e-3)
    assert rates == sorted(rates, reverse=True)
    assert rates[10:] == [0, 0]
    assert vae.progress == 1200


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"latent": 0}, "algorithm.latent is 0; it must be at least 1"),
        ({"beta": -1.0}, "algorithm.beta is -1.0; it must be zero or positive"),
        ({"beta": 4.0, "deterministic": True}, "algorithm.beta weighs a divergence, which determ"),
        ({"likelihood": "gaussian"}, "gaussian; it must be one of bernoulli, logistic, mixture"),
        ({"batch_size": 0}, "algorithm.batch_size is 0; it must be at least 1"),
        ({"lr": math.nan}, "algorithm.lr is nan; it must be positive"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(**options)


def test_it_learns_digits():
    # one logistic for each pixel, whatever the image, costs 3.98 even when fitted to these images
    test = DIGITS.split("test").images
    vae = make(steps=30_000, size=MLP.Config(width=128))
    while vae.progress < 30_000:
        vae.step()
    results = vae.evaluate("test")
    assert results["bits_per_dim"] < 3.85
    assert results["kl_nats"] > 5
    inputs, outputs = results["reconstructions"].pixels.reshape(8, 2, 64).swapaxes(0, 1) / 255.0
    blank = test.double().mean(0).flatten().numpy() / 255
    assert ((outputs - inputs) ** 2).mean() < 0.5 * ((blank - inputs) ** 2).mean()
