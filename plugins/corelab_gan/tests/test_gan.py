from __future__ import annotations

import math
import random
from functools import partial

import numpy as np
import pytest
import torch
from corelab_datasets.digits import Digits
from corelab_datasets.images import ImageFolder
from corelab_gan.biggan import BigGAN
from corelab_gan.collapse import collapsed, explanation
from corelab_gan.dcgan import DCGAN
from corelab_gan.gan import GAN
from corelab_gan.mlp import MLP
from corelab_gan.progressive import Progressive
from corelab_gan.stylegan import StyleGAN
from PIL import Image

from corelab import ConfigError, Context, PluginError, UpdateConfig

DIGITS = Digits(Digits.Config())
SMALL = {
    MLP: MLP.Config(sizes=(32,)),
    DCGAN: DCGAN.Config(channels=8),
    BigGAN: BigGAN.Config(channels=8),
    Progressive: Progressive.Config(channels=4),
    StyleGAN: StyleGAN.Config(channels=4, style=8),
}
MODELS = pytest.mark.parametrize("model", SMALL)


def make(seed=0, steps=2000, task=DIGITS, model=MLP, size=None, update=GAN.update, **options):
    context = Context(seed, torch.device("cpu"), steps, update=update)
    network = partial(context.build, model, size or SMALL[model])
    return GAN(GAN.Config(**options), task, network, context)


def trace(gan, iterations):
    return [{k: float(v) for k, v in gan.step().items()} for _ in range(iterations)]


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def figures(results):
    return {k: float(v) for k, v in results.items() if hasattr(v, "__float__")}


@MODELS
@pytest.mark.parametrize("conditional", [False, True])
def test_a_resumed_run_has_the_weights_of_the_unbroken_one(model, conditional, tmp_path):
    options = {"model": model, "conditional": conditional, "batch_size": 16, "steps": 192}
    options |= {"penalty_every": 3, "n_critic": 2}  # that is 6 steps, in which networks grow
    whole = make(seed=3, **options)
    expected = trace(whole, 6)
    at = random.Random(f"{model} {conditional}").randint(1, 5)
    broken = make(seed=3, **options)
    trace(broken, at)
    broken.save(tmp_path)
    streams = broken.context.state_dict()
    resumed = make(seed=3, **options)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(streams)
    assert trace(resumed, 6 - at) == expected[at:]
    assert same(state(resumed.net), state(whole.net))
    averages = [state(gan.generator_updater.averaged) for gan in (resumed, whole)]
    assert same(*averages)
    assert not same(averages[0], state(whole.net.generator))


@MODELS
def test_looking_at_it_leaves_no_trace(model):
    plain, watched = (make(model=model, conditional=True, batch_size=16) for _ in range(2))
    expected, seen = trace(plain, 4), []
    for i in range(4):
        watched.sample(3, seed=i)
        if i == 1:
            watched.evaluate("validation", 10, seed=i)
        seen += trace(watched, 1)
    assert seen == expected
    assert same(state(watched.net), state(plain.net))


def test_an_evaluation_follows_from_its_seed():
    gan = make()
    trace(gan, 3)
    first, again, other = (gan.evaluate("validation", seed=seed) for seed in (1, 1, 2))
    assert figures(first) == figures(again)
    assert figures(first) != figures(other)
    assert np.array_equal(first["samples"].pixels, again["samples"].pixels)
    assert not np.array_equal(first["samples"].pixels, other["samples"].pixels)


def test_an_evaluation_is_of_some_samples_but_not_of_too_few():
    gan = make()
    trace(gan, 2)
    few = figures(gan.evaluate("validation", 100))
    assert figures(gan.evaluate("validation", 2)) == few
    assert figures(gan.evaluate("validation", 2, quality=100)) == few
    assert figures(gan.evaluate("validation", 150)) != few
    with pytest.raises(ConfigError, match="at least 1 image, got n = 0"):
        gan.evaluate("test", 0)


@MODELS
@pytest.mark.parametrize("loss", ["non-saturating", "wasserstein"])
def test_either_update_touches_its_own_network_only(model, loss):
    penalty = "gradient" if loss == "wasserstein" else "r1"
    gan = make(model=model, loss=loss, penalty=penalty, batch_size=8)
    gan._grow(gan.net.generator, gan.net.discriminator)
    G, D = gan.net.generator, gan.net.discriminator

    def weights(module):
        return {name: p.detach().clone() for name, p in module.named_parameters()}

    start = weights(G), weights(D)
    _, x, y, fake = gan._update_generator()
    middle = weights(G), weights(D)
    assert not same(start[0], middle[0])
    assert same(start[1], middle[1])
    gan._update_discriminator(x, y, fake)
    assert same(middle[0], weights(G))
    assert not same(middle[1], weights(D))


def test_a_step_of_the_discriminator_is_adam_on_the_sum_of_its_losses():
    options = {"penalty_weight": 3.0, "penalty_every": 2, "batch_size": 16, "betas": (0.0, 0.9)}
    gan, twin = (make(**options) for _ in range(2))
    rows = trace(gan, 1)
    x, _ = twin._real()
    noise = twin.context.generator("noise", shared=True)
    fake = twin.net.generator(twin._normal(16, noise), None).detach()
    x.requires_grad_()
    D = twin.net.discriminator
    real = D(x, None)
    (slopes,) = torch.autograd.grad(real.sum(), x, create_graph=True)
    penalty = 0.5 * slopes.square().sum((1, 2, 3)).mean()
    loss = (
        -torch.log(torch.sigmoid(real)).mean() - torch.log(1 - torch.sigmoid(D(fake, None))).mean()
    )
    optimizer = torch.optim.Adam(D.parameters(), 2e-3, betas=(0.0, 0.9))
    (loss + 3.0 * 2 * penalty).backward()
    optimizer.step()
    assert rows[0]["discriminator_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert rows[0]["penalty"] == pytest.approx(penalty.item(), rel=1e-5)
    for mine, theirs in zip(gan.net.discriminator.parameters(), D.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_the_penalty_comes_every_so_often_and_progress_counts_real_images():
    gan = make(penalty_every=4, n_critic=2, batch_size=10)
    rows = trace(gan, 4)
    assert gan.progress == 80
    # updates 1, 3, 5 and 7 are the last of their steps, and none of them is a multiple of four
    assert ["penalty" in row for row in rows] == [False] * 4
    every = make(penalty_every=2, batch_size=10)
    assert ["penalty" in row for row in trace(every, 4)] == [True, False, True, False]
    assert not any("penalty" in row for row in trace(make(penalty="none"), 2))


def test_networks_grow_with_the_budget():
    gan = make(model=Progressive, steps=160, batch_size=16)
    seen = []
    for _ in range(10):
        trace(gan, 1)
        seen.append((gan.net.generator.level, gan.net.discriminator.level))
    assert seen == [(0, 0)] * 3 + [(1, 1)] * 7
    young, grown = make(model=Progressive).sample(4).pixels, gan.sample(4).pixels
    for pixels, coarse in ((young, True), (grown, False)):
        assert np.array_equal(pixels, pixels[:, ::2, ::2].repeat(2, 1).repeat(2, 2)) == coarse


def test_samples_are_of_the_class_that_is_asked_for():
    gan = make(conditional=True)
    trace(gan, 5)
    three, also, other = (gan.sample(4, class_=c).pixels for c in ("3", "3", "8"))
    assert np.array_equal(three, also)
    assert not np.array_equal(three, other)
    every = gan.sample(20).pixels
    assert np.array_equal(every[3], gan.sample(20, class_="3").pixels[3])
    with pytest.raises(ConfigError, match="there is no class 'three'"):
        gan.sample(4, class_="three")
    with pytest.raises(ConfigError, match=r"train it with --algorithm.conditional"):
        make().sample(4, class_="3")


@pytest.mark.parametrize("model", [DCGAN, StyleGAN])
def test_a_row_leads_from_one_image_to_another(model):
    gan = make(model=model)
    trace(gan, 3)
    images = gan.sample(24, interpolate=True)
    assert images.columns == 8
    rows = images.pixels.astype(float).reshape(3, 8, 64)
    steps = np.abs(np.diff(rows, axis=1)).mean(2)
    whole = np.abs(rows[:, 0] - rows[:, -1]).mean(1)
    assert (whole > 0).all()
    assert (steps.mean(1) < 0.5 * whole).all()


def test_truncation_makes_samples_alike():
    gan = make(model=DCGAN)
    trace(gan, 3)
    spread = [gan.sample(32, truncation=t).pixels.std(0).mean() for t in (1.0, 0.5, 0.0)]
    assert spread[0] > spread[1] > spread[2] == 0
    with pytest.raises(ConfigError, match=r"--truncation is 1.5; it must be between 0 and 1"):
        gan.sample(4, truncation=1.5)


def test_a_table_shows_sources_and_what_mixes_them():
    gan = make(model=StyleGAN, conditional=True)
    trace(gan, 2)
    images = gan.sample(16, mix=True)
    assert images.columns == 4
    table = images.pixels.reshape(4, 4, 8, 8)
    assert (table[0, 0] == 255).all()
    flat = table.reshape(16, -1)[1:]
    assert len(np.unique(flat, axis=0)) == 15
    with pytest.raises(ConfigError, match="the model stylegan has"):
        make(model=DCGAN).sample(16, mix=True)
    for option in ({"interpolate": True}, {"truncation": 0.5}):
        with pytest.raises(ConfigError, match="leave out --interpolate and --truncation"):
            gan.sample(16, mix=True, **option)


@MODELS
def test_folders_of_small_colour_pictures_run_through_every_model(model, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    task = ImageFolder(ImageFolder.Config(folder=tmp_path))
    gan = make(task=task, model=model, conditional=True, batch_size=8, steps=32)
    rows = trace(gan, 4)
    assert all(math.isfinite(v) for row in rows for v in row.values())
    assert gan.sample(4, class_="dogs").pixels.shape == (4, 32, 32, 3)


def test_the_wrong_minibatch_for_a_model_is_one_sentence():
    with pytest.raises(PluginError, match="must be a multiple of 4, not 6"):
        make(model=StyleGAN, batch_size=6).step()


def test_a_growing_network_is_not_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)
    with pytest.raises(ConfigError, match=r"update\.compile: a network that grows"):
        make(model=Progressive, update=UpdateConfig(compile=True))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"latent": 0}, "algorithm.latent is 0; it must be at least 1"),
        ({"batch_size": 0}, "algorithm.batch_size is 0; it must be at least 1"),
        ({"n_critic": 0}, "algorithm.n_critic is 0; it must be at least 1"),
        ({"penalty_every": 0}, "algorithm.penalty_every is 0; it must be at least 1"),
        ({"penalty_weight": -1.0}, "algorithm.penalty_weight is -1.0; it must be zero or positive"),
        ({"lr": math.nan}, "algorithm.lr is nan; it must be positive"),
        ({"discriminator_lr": 0.0}, "algorithm.discriminator_lr is 0.0; it must be positive"),
        ({"betas": (0.5, 1.0)}, "algorithm.betas is"),
        ({"loss": "quadratic"}, "quadratic; it must be one of non-saturating, minimax"),
        ({"penalty": "r2"}, "r2; it must be one of none, r1, gradient"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(**options)


FIGURES = {"recall": 0.6, "recall_floor": 0.9, "win_rate": 0.7, "saturation": 0.0}


@pytest.mark.parametrize(
    ("change", "share", "updates", "verdict"),
    [
        ({}, 1.0, 5000, False),
        ({"recall": 0.44}, 1.0, 5000, True),
        ({"recall": 0.44}, 0.4, 5000, False),
        ({"recall": 0.44}, 1.0, 499, False),
        ({"win_rate": 0.995}, 1.0, 5000, False),
        ({"win_rate": 0.995, "saturation": 0.95}, 0.1, 100, True),
    ],
)
def test_few_kinds_or_a_discriminator_that_has_won_are_a_collapse(change, share, updates, verdict):
    assert collapsed({**FIGURES, **change}, share, updates) == verdict


def test_the_explanation_says_what_was_seen():
    text = explanation({**FIGURES, "recall": 0.12})
    assert "12% of the real images, where other real images reach 90%" in text
    assert "right about 99.8% of all pairs" in explanation({**FIGURES, "win_rate": 0.998})


def settled(gan, examples):
    said = []
    gan.context.say = said.append
    while gan.progress < examples:
        gan.step()
    results = [gan.evaluate("validation", seed=seed) for seed in (0, 1)]
    return results[0], said


SEEDS = [0, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("seed", SEEDS)
def test_digits_are_learned_and_nothing_is_said(seed):
    gan = make(seed=seed, steps=20_000, size=MLP.Config())
    results, said = settled(gan, 20_000)
    assert not said
    assert results["collapsed"] == 0
    assert results["recall"] > 0.5 * results["recall_floor"]
    assert results["fid"] < 15  # the floor is 3.3, and blank images have 90


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bad_game_is_noticed_and_said_once(seed):
    bad = {"loss": "minimax", "penalty": "none", "lr": 1e-2, "discriminator_lr": 1e-2}
    gan = make(seed=seed, steps=20_000, size=MLP.Config(), update=UpdateConfig(), **bad)
    results, said = settled(gan, 20_000)
    assert results["collapsed"] == 1
    assert len(said) == 1
    assert "the generator has collapsed" in said[0]
