from __future__ import annotations

import itertools
import math
import random
from functools import partial

import numpy as np
import pytest
import torch
from corelab_datasets.digits import Digits
from corelab_datasets.interface import Split
from corelab_pixelcnn.models import Gated, Plain, PlusPlus
from corelab_pixelcnn.pixelcnn import PixelCNN
from PIL import Image

from corelab import ConfigError, Context, DataError, UpdateConfig

DIGITS = Digits(Digits.Config())
SMALL = {
    Gated: Gated.Config(layers=3, channels=8, first=5),
    Plain: Plain.Config(layers=3, channels=8, first=5),
    PlusPlus: PlusPlus.Config(layers=2, channels=8),
}
LIKELIHOODS = ("mixture", "categorical", "bernoulli")
each_model = pytest.mark.parametrize("model", SMALL)
each_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS)


class Pictures:
    """Pictures of noise, dark ones of the class "night" and bright ones of the class "day"."""

    classes = ("night", "day")

    def __init__(self, shape=(3, 4, 6)):
        self.shape = shape

    def split(self, name):
        generator = torch.Generator().manual_seed(len(name))
        images = torch.randint(0, 128, (20, *self.shape), generator=generator)
        labels = torch.arange(20) % 2
        return Split((images + 128 * labels[:, None, None, None]).to(torch.uint8), labels)


def make(seed=0, steps=2000, task=DIGITS, model=Gated, size=None, update=None, **options):
    update = update or PixelCNN.update
    context = Context(seed, torch.device("cpu"), steps, update=update)
    network = partial(context.build, model, size or SMALL[model])
    return PixelCNN(PixelCNN.Config(**options), task, network, context)


def trace(pixelcnn, iterations):
    return [{k: float(v) for k, v in pixelcnn.step().items()} for _ in range(iterations)]


def weights(pixelcnn):
    modules = (pixelcnn.net, pixelcnn.updater.averaged)
    return torch.cat([p.detach().flatten() for m in modules for p in m.parameters()])


def figures(results):
    return {k: float(v) for k, v in results.items() if hasattr(v, "__float__")}


def picture(folder, image):
    """A file with IMAGE, uint8 [C, H, W]."""
    array = image.permute(1, 2, 0).numpy()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(folder / "p.png")
    return folder / "p.png"


@each_model
@pytest.mark.parametrize(
    ("task", "options"),
    [
        (DIGITS, {"likelihood": "bernoulli"}),
        (DIGITS, {"likelihood": "mixture", "patch": 2, "conditional": True}),
        (Pictures(), {"likelihood": "categorical"}),
    ],
    ids=["bernoulli", "mixture", "categorical"],
)
def test_a_resumed_run_has_the_weights_of_the_unbroken_one(model, task, options, tmp_path):
    options = {**options, "task": task, "model": model, "batch_size": 4}
    whole = make(seed=3, **options)
    expected = trace(whole, 8)
    at = random.Random(f"{model} {options}").randint(1, 7)
    broken = make(seed=3, **options)
    trace(broken, at)
    broken.save(tmp_path)
    streams = broken.context.state_dict()
    resumed = make(seed=3, **options)
    resumed.load(tmp_path)
    resumed.context.load_state_dict(streams)
    assert trace(resumed, 8 - at) == expected[at:]
    assert torch.equal(weights(resumed), weights(whole))
    assert not torch.equal(*weights(whole).chunk(2))  # the average is not the last one


@each_likelihood
def test_looking_at_it_leaves_no_trace(likelihood):
    plain, watched = (make(likelihood=likelihood, batch_size=4) for _ in range(2))
    expected, seen = trace(plain, 4), []
    for i in range(4):
        watched.evaluate("validation", 5, seed=i)
        watched.sample(3, seed=i)
        seen += trace(watched, 1)
    assert seen == expected
    assert torch.equal(weights(watched), weights(plain))
    assert watched.net.training


@each_likelihood
def test_an_evaluation_follows_from_its_seed(likelihood):
    pixelcnn = make(likelihood=likelihood)
    trace(pixelcnn, 3)
    first, again, other = (pixelcnn.evaluate("validation", 20, seed) for seed in (1, 1, 2))
    assert figures(first) == figures(again)
    # the likelihood is exact: only the images can be random
    assert (figures(first) == figures(other)) == (likelihood != "bernoulli")
    for name in ("completions", "samples"):
        assert np.array_equal(first[name].pixels, again[name].pixels)
        assert not np.array_equal(first[name].pixels, other[name].pixels)


def test_an_evaluation_is_of_all_images_or_of_the_first():
    pixelcnn = make(task=Pictures())
    trace(pixelcnn, 2)
    every = figures(pixelcnn.evaluate("test"))
    assert figures(pixelcnn.evaluate("test", 20)) == every
    assert figures(pixelcnn.evaluate("test", 7)) != every
    with pytest.raises(ConfigError, match="at least 1 image, got n = 0"):
        pixelcnn.evaluate("test", 0)


def test_bits_per_dimension_are_nats_per_sub_pixel():
    pixelcnn = make(task=Pictures())
    for results in (trace(pixelcnn, 1)[0], figures(pixelcnn.evaluate("test"))):
        expected = results["nll_nats"] / (3 * 4 * 6 * math.log(2))
        assert results["bits_per_dim"] == pytest.approx(expected, rel=1e-6)


class Every(Pictures):
    """All black and white images of 2 x 4 pixels."""

    def __init__(self):
        super().__init__((1, 2, 4))

    def split(self, name):
        bits = torch.tensor(list(itertools.product((0, 255), repeat=8)), dtype=torch.uint8)
        return Split(bits.reshape(256, 1, 2, 4), torch.arange(256) % 2)


@each_model
@pytest.mark.parametrize("patch", [1, 2])
def test_the_probabilities_of_all_binary_images_add_up_to_one(model, patch):
    pixelcnn = make(task=Every(), model=model, likelihood="bernoulli", patch=patch)
    trace(pixelcnn, 5)
    module = pixelcnn.updater.averaged.double()
    generator = torch.Generator()
    symbols, _ = pixelcnn._observe(Every().split("test"), torch.arange(256), generator)
    log_p = module.likelihood.log_prob(symbols, module.net(symbols))
    assert log_p.flatten(1).sum(1).exp().sum().item() == pytest.approx(1, abs=1e-12)


@each_likelihood
@pytest.mark.parametrize("patch", [1, 2])
def test_the_given_rows_of_a_picture_are_kept_and_the_rest_is_drawn(likelihood, patch, tmp_path):
    task = Pictures()
    pixelcnn = make(task=task, likelihood=likelihood, patch=patch)
    image = task.split("test").images[0]
    if likelihood == "bernoulli":
        image = 255 * (image > 60).to(torch.uint8)
    file = picture(tmp_path, image)
    for rows in (0, 4, 2):
        given = rows or 2
        drawn = pixelcnn.sample(5, complete=file, rows=rows).pixels.transpose(0, 3, 1, 2)
        assert (drawn[:, :, :given] == image.numpy()[:, :given]).all()
        assert given == 4 or len(np.unique(drawn[:, :, given:], axis=0)) == 5


def test_completed_images_of_an_evaluation_stand_beneath_the_whole_ones():
    pixelcnn = make(task=Pictures())
    shown = pixelcnn.evaluate("test")["completions"]
    assert shown.columns == 8
    whole, completed = shown.pixels.reshape(2, 8, 4, 6, 3)
    images = Pictures().split("test").images[:8].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(whole, images)
    assert np.array_equal(completed[:, :2], images[:, :2])
    assert not np.array_equal(completed[:, 2:], images[:, 2:])


def test_samples_are_draws_from_the_uniforms_of_the_seed():
    pixelcnn = make()
    three, again, other = (pixelcnn.sample(3, seed).pixels for seed in (1, 1, 2))
    assert three.shape == (3, 8, 8, 1)
    assert np.array_equal(three, again)
    assert not np.array_equal(three, other)
    alike = pixelcnn.sample(3, 1, top_k=1).pixels
    assert (alike == alike[0]).all()
    cold = pixelcnn.sample(3, 1, temperature=0.01).pixels
    assert cold.std(0).mean() < 0.5 * three.std(0).mean()


@pytest.mark.parametrize("model", [Gated, PlusPlus])
@each_likelihood
def test_in_float64_every_sampler_draws_the_same_images(model, likelihood):
    options = {"model": model, "likelihood": likelihood, "conditional": True}
    pixelcnn = make(task=Pictures((3, 3, 4)), **options)
    trace(pixelcnn, 3)
    for question in ({}, {"temperature": 0.7, "top_k": 20}):
        drawn = [
            pixelcnn.sample(4, sampler=sampler, float64=True, **question).pixels
            for sampler in ("naive", "cached", "kernel", "auto")
        ]
        assert all(np.array_equal(images, drawn[0]) for images in drawn)
        assert len(np.unique(drawn[0], axis=0)) == 4


def test_an_image_is_the_same_however_many_are_drawn_with_it():
    pixelcnn = make(likelihood="categorical")
    many = pixelcnn.sample(9).pixels
    assert np.array_equal(pixelcnn.sample(4).pixels, many[:4])
    assert len(np.unique(many, axis=0)) == 9


def test_where_nothing_is_compiled_pytorch_draws_and_says_so_once(monkeypatch):
    pixelcnn, said = make(likelihood="categorical"), []
    pixelcnn.context.say = said.append
    expected = pixelcnn.sample(3, sampler="cached").pixels
    monkeypatch.setattr("corelab_kernels.pixelcnn.missing", lambda device: "g++ is not here")
    for _ in range(2):
        assert np.array_equal(pixelcnn.sample(3).pixels, expected)
    assert said == ["g++ is not here; images are drawn by PyTorch, more slowly"]
    with pytest.raises(ConfigError, match="--sampler is kernel, but g\\+\\+ is not here; cached"):
        pixelcnn.sample(3, sampler="kernel")


def test_a_network_that_has_no_kernel_is_drawn_from_by_pytorch():
    pixelcnn = make(model=Plain)
    cached, auto = (pixelcnn.sample(2, sampler=sampler).pixels for sampler in ("cached", "auto"))
    assert np.array_equal(cached, auto)
    with pytest.raises(ConfigError, match="kernel, but there is no kernel for the network Plain"):
        pixelcnn.sample(2, sampler="kernel")


def test_binary_images_are_black_and_white():
    assert set(np.unique(make(likelihood="bernoulli").sample(10).pixels)) == {0, 255}


def test_half_precision_is_for_learning_and_not_for_drawing():
    pixelcnn = make(update=UpdateConfig(precision="bfloat16"))
    trace(pixelcnn, 2)
    other = make()
    other.net.load_state_dict(pixelcnn.net.state_dict())
    other.updater.averaged.net.load_state_dict(pixelcnn.updater.averaged.net.state_dict())
    assert np.array_equal(pixelcnn.sample(4).pixels, other.sample(4).pixels)


def test_a_class_is_drawn_by_name_and_by_number():
    pixelcnn = make(task=Pictures((1, 4, 4)), conditional=True, lr=1e-2, batch_size=20)
    while pixelcnn.progress < 2000:
        pixelcnn.step()
    night, day = (pixelcnn.sample(20, class_=name).pixels for name in ("night", "1"))
    assert night.mean() < 90 < 165 < day.mean()
    turns = pixelcnn.sample(20).pixels
    assert turns[::2].mean() < 90 < 165 < turns[1::2].mean()
    with pytest.raises(ConfigError, match="no class 'nigth': did you mean 'night'"):
        pixelcnn.sample(1, class_="nigth")
    with pytest.raises(ConfigError, match="knows no classes"):
        make().sample(1, class_="1")


def test_the_step_size_rises_and_falls_over_the_run():
    pixelcnn = make(steps=1600, batch_size=1, lr=1e-3)
    rates = {}
    for progress in (0, 8, 16, 800, 1600, 1700):
        pixelcnn.progress = progress
        pixelcnn.step()
        rates[progress] = pixelcnn.updater.optimizer.param_groups[0]["lr"]
    assert 0 < rates[0] < rates[8] < rates[16]
    assert rates[16] == pytest.approx(1e-3, rel=1e-3)
    assert rates[800] == pytest.approx(0.5e-3)
    assert rates[1600] == rates[1700] == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"likelihood": "gaussian"}, "gaussian; it must be one of mixture, categorical, bernoulli"),
        ({"components": 0}, "algorithm.components is 0; it must be at least 1"),
        ({"patch": 3}, "algorithm.patch is 3; it must be a divisor of .* images, 8 x 8"),
        ({"patch": 0}, "algorithm.patch is 0; it must be a divisor"),
        ({"batch_size": 0}, "algorithm.batch_size is 0; it must be at least 1"),
        ({"lr": math.nan}, "algorithm.lr is nan; it must be positive"),
        ({"size": Gated.Config(kernel=4)}, "model.kernel is 4; it must be odd and at least 3"),
        ({"size": Gated.Config(first=1)}, "model.first is 1; it must be odd and at least 3"),
        ({"size": Gated.Config(layers=0)}, "model.layers is 0; it must be at least 1"),
        ({"size": Gated.Config(layers=2, attention=3)}, "model.attention is 3; it must be between"),
        (
            {"model": PlusPlus, "size": PlusPlus.Config(channels=0)},
            "model.channels is 0; it must be at least 1",
        ),
        (
            {"model": Plain, "size": Plain.Config(kernel=2)},
            "model.kernel is 2; it must be odd",
        ),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(**options)


def test_a_question_that_makes_no_sense_is_answered_in_a_sentence(tmp_path):
    pixelcnn = make(patch=2)
    file = picture(tmp_path, DIGITS.split("test").images[0])
    for question, sentence in [
        ({"temperature": 0.0}, "--temperature is 0.0; it must be positive"),
        ({"top_k": -1}, "--top-k is -1; it must be zero or positive"),
        ({"rows": 2}, "--rows is for --complete"),
        ({"complete": file, "rows": 3}, "--rows is 3; it must be a multiple of 2 from 2 to 8"),
        ({"complete": file, "rows": 10}, "--rows is 10; it must be a multiple of 2 from 2 to 8"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            pixelcnn.sample(2, **question)
    small = picture(tmp_path, Pictures().split("test").images[0])
    with pytest.raises(DataError, match="is 6 x 4 pixels; it must be 8 x 8"):
        pixelcnn.sample(2, complete=small)


def test_it_learns_digits():
    # the frequencies of the 17 levels alone cost 2.93
    test = DIGITS.split("test").images
    p = torch.bincount(test.flatten(), minlength=256) / test.numel()
    assert -(p * p.clamp(min=1e-9).log2()).sum() > 2.9
    pixelcnn = make(steps=3000, likelihood="categorical", lr=8e-3)
    while pixelcnn.progress < 3000:
        pixelcnn.step()
    assert pixelcnn.evaluate("test")["bits_per_dim"] < 2.5


def test_quality_compares_samples_with_images():
    results = figures(make(likelihood="categorical").evaluate("test", 20, quality=50))
    assert results["fid"] > results["fid_floor"] > 0
    assert "fid" not in figures(make().evaluate("test", 20))
