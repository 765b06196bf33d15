from __future__ import annotations

import itertools
import math
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from corelab_datasets.digits import Digits
from corelab_datasets.interface import Split
from corelab_diffusion.conditions import enlarged, grey, low_resolution
from corelab_diffusion.denoiser import guided
from corelab_diffusion.diffusion import Diffusion
from corelab_diffusion.dit import DiT
from corelab_diffusion.unet import UNet
from PIL import Image

from corelab import ConfigError, Context, DataError, UpdateConfig

DIGITS = Digits(Digits.Config())
SMALL = {UNet: UNet.Config(channels=8, heads=2, blocks=1), DiT: DiT.Config(width=16, depth=2)}


class Colours:
    """A few pictures of coloured noise."""

    shape = (3, 9, 10)
    classes = ("noise", "more noise")

    def split(self, name):
        generator = torch.Generator().manual_seed(len(name))
        images = torch.randint(0, 256, (20, *self.shape), generator=generator, dtype=torch.uint8)
        return Split(images, torch.arange(20) % 2)


class Codes:
    """Digits, turned and scaled, in the part of latents."""

    shape = (1, 8, 8)
    classes = DIGITS.classes
    source = DIGITS

    def split(self, name):
        split = DIGITS.split(name)
        return Split((split.images / 255 * 2.8 - 0.9).mT.contiguous(), split.labels)

    def decode(self, latents):
        return ((latents.mT + 0.9) / 2.8 * 255).round().clamp(0, 255).to(torch.uint8)


def make(seed=0, steps=2000, task=DIGITS, model=UNet, size=None, update=None, **options):
    update = update or Diffusion.update
    context = Context(seed, torch.device("cpu"), steps, update=update)
    network = partial(context.build, model, size or SMALL[model])
    return Diffusion(Diffusion.Config(**options), task, network, context)


def trace(run, iterations):
    return [{k: float(v) for k, v in run.step().items()} for _ in range(iterations)]


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def figures(results):
    return {k: float(v) for k, v in results.items() if hasattr(v, "__float__")}


def save(path, pixels):
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path)
    return path


VARIANTS = [
    {},
    {"task": Colours(), "condition": "colour", "parametrisation": "v", "schedule": "cosine"},
    {"variance": "learned", "schedule": "linear", "parametrisation": "epsilon"},
    {"conditional": True, "model": DiT},
    {"task": Codes(), "update": UpdateConfig(ema=0.1, accumulate=3)},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_a_resumed_diffusion_run_has_the_weights_of_the_unbroken_one(options, tmp_path):
    options = {"seed": 3, "batch_size": 16, **options}
    whole = make(**options)
    expected = trace(whole, 8)
    at = random.Random(str(sorted(options))).randint(1, 7)
    broken = make(**options)
    trace(broken, at)
    broken.save(tmp_path)
    streams = broken.context.state_dict()
    resumed = make(**options)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(streams)
    assert trace(resumed, 8 - at) == expected[at:]
    for of in ("module", "averaged"):
        assert torch.equal(
            weights(getattr(resumed.updater, of)), weights(getattr(whole.updater, of))
        )
    assert not torch.equal(weights(whole.updater.module), weights(whole.updater.averaged))
    assert np.array_equal(resumed.sample(4, steps=3).pixels, whole.sample(4, steps=3).pixels)


@pytest.mark.parametrize("options", VARIANTS)
def test_looking_at_a_diffusion_model_leaves_no_trace(options):
    plain, watched = (make(batch_size=16, **options) for _ in range(2))
    expected, seen = trace(plain, 3), []
    for i in range(3):
        watched.evaluate("validation", 5, seed=i, steps=2)
        watched.sample(3, seed=i, sampler="ddpm", steps=2)
        seen += trace(watched, 1)
    assert seen == expected
    assert torch.equal(weights(watched.denoiser), weights(plain.denoiser))


def test_an_evaluation_of_a_diffusion_model_follows_from_its_seed():
    run = make(levels=20)
    trace(run, 2)
    first, again, other = (run.evaluate("test", 2, seed=s, ode=True, steps=1) for s in (1, 1, 2))
    assert figures(first) == figures(again)
    assert set(figures(first)) == {"loss", "bits_per_dim", "ode_bits_per_dim"}
    assert all(figures(first)[k] != figures(other)[k] for k in figures(first))
    assert np.array_equal(first["samples"].pixels, again["samples"].pixels)
    assert not np.array_equal(first["samples"].pixels, other["samples"].pixels)
    with pytest.raises(ConfigError, match="at least 1 image, got n = 0"):
        run.evaluate("test", 0)


def test_the_sum_over_all_levels_is_near_its_estimate():
    run = make(levels=20, schedule="linear")
    trace(run, 5)
    quick, full = (run.evaluate("test", 180, full=full, steps=2) for full in (False, True))
    assert quick["bits_per_dim"] == pytest.approx(full["bits_per_dim"], rel=0.1)
    assert quick["bits_per_dim"] != full["bits_per_dim"]


def test_quality_is_measured_with_the_sampler_that_was_named():
    run = make(conditional=True)
    one, two, other = (
        run.evaluate("test", 20, quality=20, sampler="ddim", steps=steps) for steps in (2, 2, 3)
    )
    assert one["fid"] == two["fid"] != other["fid"]
    assert one["samples"].pixels.shape == (64, 8, 8, 1)
    assert math.isfinite(one["fid_floor"])


@pytest.mark.parametrize("steps", [1, 20])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "euler", "heun", "dpm"])
def test_every_sampler_draws_as_many_pictures_as_are_asked_for(sampler, steps):
    run = make(task=Colours(), levels=20)
    assert run.sample(5, sampler=sampler, steps=steps).pixels.shape == (5, 9, 10, 3)
    with pytest.raises(ConfigError, match="--steps is 21; it must be from 1 to 20"):
        run.sample(5, sampler=sampler, steps=21)


class Recorder(torch.nn.Module):
    """A network that remembers what it was told."""

    def __init__(self, shape, inputs, outputs, classes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, x, noise, labels):
        self.seen.append((x, noise, labels))
        return x[:, :1] * self.weight


def recorder(steps=1000, **options):
    context = Context(0, torch.device("cpu"), steps)
    return Diffusion(Diffusion.Config(**options), DIGITS, Recorder, context)


def test_classes_are_kept_back_as_often_as_asked_for():
    run = recorder(conditional=True, label_dropout=0.25, batch_size=1000)
    trace(run, 20)
    told = torch.cat([labels for _, _, labels in run.denoiser.net.seen])
    assert (told == 10).float().mean().item() == pytest.approx(0.25, abs=0.015)
    known = DIGITS.split("train").labels.bincount() / 1437
    shares = told[told < 10].bincount() / (told < 10).sum()
    assert torch.allclose(shares, known, atol=0.02)


@pytest.mark.parametrize(("schedule", "mean", "std"), [("edm", -1.2, 1.2), ("linear", None, None)])
def test_levels_in_training_are_distributed_as_the_schedule_says(schedule, mean, std):
    run = recorder(schedule=schedule, batch_size=1000)
    trace(run, 10)
    log_sigma = 4 * torch.cat([noise for _, noise, _ in run.denoiser.net.seen])
    if schedule == "edm":
        assert log_sigma.mean().item() == pytest.approx(mean, abs=0.05)
        assert log_sigma.std().item() == pytest.approx(std, abs=0.05)
    else:
        assert torch.allclose(
            log_sigma.quantile(torch.tensor([0.1, 0.5, 0.9])),
            run.sigmas[[100, 500, 900]].log().float(),
            atol=0.1,
        )


def test_what_the_network_sees_has_variance_1_under_edm():
    run = recorder(batch_size=500)
    trace(run, 4)
    for x, _, _ in run.denoiser.net.seen:  # digits have a deviation of 0.75, not of 0.5
        assert 0.8 < x.var() < 2.0


def test_the_loss_is_the_squared_error_of_what_the_network_predicts():
    for parametrisation, expected in (("epsilon", 1.0), ("x0", None), ("v", None)):
        run = recorder(schedule="cosine", parametrisation=parametrisation, batch_size=1000)
        images = DIGITS.split("train").images / 127.5 - 1
        square = images.square().mean().item()
        loss = trace(run, 1)[0]["loss"]  # the network says 0
        if parametrisation == "epsilon":
            assert loss == pytest.approx(expected, rel=0.02)
        elif parametrisation == "x0":
            assert loss == pytest.approx(square, rel=0.05)
        else:  # halfway on the whole: cos² and sin² are 1/2 on average
            assert loss == pytest.approx((1 + square) / 2, rel=0.05)


def test_guidance_leads_from_no_class_over_the_class_and_beyond():
    def denoiser(x, sigma, labels, told):
        return labels[:, None, None, None] * torch.ones_like(x), torch.zeros(())

    x, sigma = torch.zeros(2, 1, 3, 3), torch.tensor(2.0)
    labels = torch.tensor([4, 6])
    for guidance, expected in ((0.0, [10, 10]), (1.0, [4, 6]), (2.0, [-2, 2]), (0.5, [7, 8])):
        D, _ = guided(denoiser, labels, 10, guidance)(x, sigma)
        assert D[:, 0, 0, 0].tolist() == expected
    D, _ = guided(denoiser, labels, 10, 2.0, clip=True)(x, sigma)
    assert D[:, 0, 0, 0].tolist() == [-1, 1]


def test_without_guidance_classes_are_drawn_as_without_classes():
    run = make(conditional=True)
    for parameter in run.updater.averaged.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    of_one, of_two = (
        run.sample(6, steps=3, class_=c, guidance=0.0).pixels.astype(int) for c in "17"
    )
    assert np.abs(of_one - of_two).max() <= 1
    assert np.abs(run.sample(6, steps=3, class_="1").pixels.astype(int) - of_one).max() > 1


def test_classes_are_asked_for_by_name_or_in_turn():
    run = recorder(conditional=True)

    def told(**options):
        run.denoiser.net.seen.clear()
        run.sample(12, steps=1, sampler="euler", **options)
        return run.updater.averaged.net.seen[-1][2].tolist()

    assert told() == [*range(10), 0, 1]
    assert told(class_="7") == [7] * 12
    with pytest.raises(ConfigError, match="no class 'seven'"):
        run.sample(2, class_="seven")
    for options in ({"class_": "7"}, {"guidance": 2.0}):
        with pytest.raises(ConfigError, match="this run knows no classes"):
            recorder().sample(2, **options)


def test_rows_lead_from_one_picture_to_another():
    run = make()
    trace(run, 4)
    pixels = run.sample(16, steps=3, interpolate=True, sampler="ddim").pixels.astype(float)
    assert pixels.shape == (16, 8, 8, 1)
    ends = run.sample(2, steps=3, sampler="ddim").pixels.astype(float)
    assert np.abs(pixels[[0, 8]] - ends).max() <= 1
    for row in (pixels[:8], pixels[8:]):
        whole = np.abs(row[-1] - row[0]).mean()
        assert max(np.abs(b - a).mean() for a, b in itertools.pairwise(row)) < 0.5 * whole
    for options in ({"sampler": "ddpm"}, {"sampler": "ddim", "eta": 0.5}, {"churn": 3.0}):
        with pytest.raises(ConfigError, match="--interpolate takes a sampler that adds no noise"):
            run.sample(16, interpolate=True, **options)


def test_a_completed_picture_keeps_its_top_half(tmp_path):
    run = make()
    original = DIGITS.split("test").images[3].permute(1, 2, 0).numpy()
    path = save(tmp_path / "digit.png", original)
    drawn = run.sample(6, steps=10, complete=path).pixels
    assert (drawn[:, :4] == original[:4]).all()
    assert len({picture[4:].tobytes() for picture in drawn}) == 6
    with pytest.raises(DataError, match="is 8 x 8 pixels; it must be 10 x 9"):
        make(task=Colours()).sample(2, complete=path)


def test_a_mask_says_what_of_a_picture_is_kept(tmp_path):
    run = make()
    original = DIGITS.split("test").images[3].permute(1, 2, 0).numpy()
    path = save(tmp_path / "digit.png", original)
    hole = np.zeros((8, 8, 1), np.uint8)
    hole[2:6, 3:7] = 255
    drawn = run.sample(6, steps=10, complete=path, mask=save(tmp_path / "hole.png", hole)).pixels
    assert (drawn[:, hole == 0] == original[hole == 0]).all()
    assert len({picture[hole > 0].tobytes() for picture in drawn}) == 6
    small = save(tmp_path / "small.png", hole[:4])
    with pytest.raises(DataError, match=r"small\.png: is 8 x 4 pixels; it must be 8 x 8"):
        run.sample(6, complete=path, mask=small)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"steps": 0}, "--steps is 0; it must be from 1 to 1000"),
        ({"sampler": "ddim", "eta": 2.0}, "--eta is 2.0; it must be between 0 and 1"),
        ({"sampler": "ddim", "eta": math.nan}, "--eta is nan; it must be between 0 and 1"),
        ({"eta": 0.5}, "--eta is for --sampler ddim, not for heun"),
        ({"churn": -1.0}, "--churn is -1.0; it must be zero or positive"),
        ({"sampler": "dpm", "churn": 5.0}, "--churn is for --sampler euler or heun, not for dpm"),
        ({"conditional": True, "guidance": math.nan}, "--guidance is nan; it must be zero or pos"),
        (
            {"conditional": True, "guidance": -1.0},
            "--guidance is -1.0; it must be zero or positive",
        ),
        ({"complete": Path("a.png"), "interpolate": True}, "ask for one at a time"),
        ({"complete": Path("a.png"), "sampler": "dpm"}, "--complete takes steps of ddpm"),
        ({"complete": Path("a.png"), "churn": 5.0}, "--complete takes steps of ddpm"),
        ({"mask": Path("a.png")}, "--mask is for --complete: name the picture"),
        ({"condition": "superresolution", "interpolate": True}, "this run starts from pictures"),
        ({"condition": "superresolution", "complete": Path("a.png")}, "this run starts from pict"),
    ],
)
def test_a_question_to_diffusion_that_makes_no_sense_is_answered_in_a_sentence(question, sentence):
    options = {
        name: question.pop(name) for name in ("conditional", "condition") if name in question
    }
    with pytest.raises(ConfigError, match=sentence):
        make(**options).sample(4, **question)


def test_reduced_pictures_are_means_and_luma():
    y = torch.rand(2, 3, 8, 12)
    small = low_resolution(y)
    assert torch.allclose(small, y.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)), atol=1e-6)
    back = enlarged(small, (3, 8, 12))
    assert torch.equal(back[:, :, ::4, ::4], small)
    assert torch.equal(back[:, :, 3::4, 3::4], small)
    assert low_resolution(torch.rand(1, 1, 7, 7)).shape == (1, 1, 2, 2)
    picture = (y[0] * 255).round().permute(1, 2, 0).to(torch.uint8)
    expected = np.asarray(Image.fromarray(picture.numpy()).convert("L"))
    ours = grey((picture.permute(2, 0, 1) / 1.0)[None])[0, 0]
    assert np.abs(ours.numpy() - expected).max() <= 1


@pytest.mark.parametrize(
    ("condition", "task", "size", "channels"),
    [
        ("superresolution", DIGITS, (2, 2), 1),
        ("superresolution", Colours(), (3, 3), 3),
        ("colour", Colours(), (9, 10), 1),
    ],
)
def test_pictures_start_from_test_images_or_from_a_file(condition, task, size, channels, tmp_path):
    run = make(task=task, condition=condition)
    trace(run, 2)
    C, H, W = task.shape
    pixels = run.sample(4, steps=2).pixels
    assert pixels.shape == (12, H, W, C)
    originals = task.split("test").images[:4].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(pixels[2::3], originals)
    small = np.full((*size, channels), 77, np.uint8)
    path = save(tmp_path / "small.png", small)
    pixels = run.sample(4, steps=2, from_=path).pixels
    assert pixels.shape == (5, H, W, C)
    assert (pixels[0] == 77).all()
    with pytest.raises(DataError, match="it must be"):
        run.sample(4, from_=save(tmp_path / "large.png", np.zeros((40, 40, C), np.uint8)))
    with pytest.raises(ConfigError, match="starts from noise"):
        make(task=task).sample(4, from_=path)


def test_colours_follow_the_grey_picture():
    run = make(task=Colours(), condition="colour")
    trace(run, 2)
    greys = [
        grey(torch.rand(1, 3, 9, 10, generator=torch.Generator().manual_seed(i))) for i in (0, 1)
    ]
    x, sigma = torch.zeros(1, 3, 9, 10), torch.ones(1)
    one, other = (run.denoiser(x, sigma, None, told)[0] for told in greys)
    assert not torch.allclose(one, other, atol=1e-4)


def test_latents_are_modelled_as_they_are_and_shown_decoded():
    run = make(task=Codes(), conditional=True, steps=20_000)
    y = run._data(Codes().split("train").images)
    assert y.mean().abs() < 0.2
    assert y.std().item() == pytest.approx(0.5, abs=0.1)
    shown = run.space.show(y[:20])
    assert torch.equal(shown, DIGITS.split("train").images[:20])
    trace(run, 2)
    results = run.evaluate("test", 20, steps=2, quality=15)
    assert "bits_per_dim" not in results
    assert math.isfinite(results["fid"])
    assert results["samples"].pixels.shape == (64, 8, 8, 1)
    with pytest.raises(ConfigError, match="this run models latents"):
        run.evaluate("test", 20, ode=True)
    with pytest.raises(
        ConfigError, match="condition is superresolution; it must be none where lat"
    ):
        make(task=Codes(), condition="superresolution")


def test_the_step_size_rises_shortly_and_falls_to_zero():
    run = recorder(steps=10_000, batch_size=50, lr=1e-3)
    rates = []
    while run.progress < 10_000:
        run.step()
        rates.append(run.updater.optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.5e-3)
    assert rates[1] == pytest.approx(1e-3, rel=1e-3)
    assert rates[100] == pytest.approx(0.5e-3)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] < 1e-6


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"levels": 1}, "algorithm.levels is 1; it must be at least 20"),
        ({"label_dropout": 1.0}, "algorithm.label_dropout is 1.0; it must be at least 0 and below"),
        ({"batch_size": 0}, "algorithm.batch_size is 0; it must be at least 1"),
        ({"lr": math.nan}, "algorithm.lr is nan; it must be positive"),
        ({"variance": "learned"}, "small or large with the schedule edm"),
        ({"condition": "colour"}, "condition is colour; it must be none for grey images"),
    ],
)
def test_an_option_of_diffusion_that_makes_no_sense_is_named(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(**options)


@pytest.mark.parametrize(
    "options", [{}, {"schedule": "cosine", "parametrisation": "v", "variance": "learned"}]
)
def test_it_learns_to_draw_digits(options):
    run = make(steps=5000, size=UNet.Config(channels=16, blocks=1), lr=4e-3, **options)
    before = figures(run.evaluate("test", steps=1))
    while run.progress < 5000:
        run.step()
    after = figures(run.evaluate("test", steps=1))
    assert after["bits_per_dim"] < before["bits_per_dim"] - 0.3, (before, after)
    assert after["loss"] < 0.65 * before["loss"]
