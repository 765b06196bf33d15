from __future__ import annotations

import math

import pytest
import torch
from corelab_datasets.digits import Digits
from corelab_datasets.interface import Split
from corelab_generative.likelihoods import Logistic
from corelab_vae.codes import CodeDistribution, slerp
from corelab_vae.gallery import Gallery
from corelab_vae.mlp import MLP
from corelab_vae.vae import VAE

from corelab import ConfigError, Context


class Corners:
    """Images of 2 x 2 pixels, and a network whose code is the image: all that is shown is known.

    With labels, a decoded image is darker by a tenth of its class.
    """

    shape = (1, 2, 2)
    classes = ("smile", "neutral", "absent")

    def __init__(self, shift=0.0):
        self.shift = shift

    def split(self, name):
        generator = torch.Generator().manual_seed(len(name))
        n = 40 if name == "train" else 12
        images = torch.randint(100, 150, (n, 1, 2, 2), generator=generator, dtype=torch.uint8)
        labels = torch.arange(n) % 2
        images[labels == 0, :, 1, 1] += 50  # a smile is to the right below
        return Split(images, labels)

    def encode(self, x, y=None):
        return x.flatten(1), torch.zeros(len(x), 4)

    def decode(self, z, y=None):
        x = z.reshape(-1, 1, 1, 2, 2)
        x = x if y is None else x - 0.1 * y.reshape(-1, 1, 1, 1, 1)
        return torch.cat([x, torch.full_like(x, -9.0)], 1)


def gallery(conditional=False, seed=0):
    faces = Corners()
    generator = torch.Generator().manual_seed(seed)
    return Gallery(faces, Logistic(), faces, conditional, generator)


def rows(images):
    """float [rows, columns, 4] from -1 to 1."""
    return torch.from_numpy(images.pixels).float().reshape(-1, images.columns, 4) / 127.5 - 1


def known(codes):
    """Which class each of these images of the test split is of."""
    test = Corners().split("test")
    x = test.images.flatten(1) / 127.5 - 1
    found = torch.cdist(codes, x)
    assert found.amin(1).max() < 0.01
    return test.labels[found.argmin(1)]


STANDARD = CodeDistribution.standard(4, torch.device("cpu"))


def test_reconstructions_stand_beside_test_images():
    pairs = rows(gallery().reconstructions(24)).reshape(12, 2, 4)
    known(pairs[:, 0])
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    assert len(pairs[:, 0].unique(dim=0)) == 12
    assert rows(gallery().reconstructions(16, "smile"))[..., 3].min() > 0
    assert known(rows(gallery().reconstructions(8, "1")).reshape(4, 2, 4)[:, 0]).tolist() == [1] * 4


def test_a_conditional_network_decodes_images_as_another_class():
    pairs = rows(gallery(conditional=True).reconstructions(16, "2")).reshape(8, 2, 4)
    assert known(pairs[:, 0]).tolist() == [0, 1] * 4
    assert torch.allclose(pairs[:, 1], pairs[:, 0] - 0.2, atol=0.01)


def test_an_interpolation_goes_over_the_sphere_from_one_image_to_another():
    way = rows(gallery().interpolations(STANDARD, 24))
    assert way.shape == (3, 8, 4)
    known(way[:, 0])
    known(way[:, -1])
    assert (way[:, 0] != way[:, -1]).any(1).all()
    expected = slerp(way[:, 0], way[:, -1], torch.linspace(0, 1, 8))
    assert torch.allclose(way, expected, atol=0.02)


def test_an_interpolation_stays_in_a_class_that_is_asked_for_or_known():
    way = rows(gallery().interpolations(STANDARD, 24, "neutral"))
    assert known(torch.cat([way[:, 0], way[:, -1]])).tolist() == [1] * 6
    way = rows(gallery(conditional=True).interpolations(STANDARD, 32))
    labels = torch.tensor([0, 1, 0, 1])
    for end in (way[:, 0], way[:, -1]):
        assert torch.equal(known(end + 0.1 * labels[:, None]), labels)


def test_a_traversal_changes_one_number_at_a_time_the_most_used_first():
    codes = CodeDistribution(torch.tensor([0.1, 0.0, 0.0, 0.0]), 0.2 * torch.eye(4))
    table = rows(gallery().traversals(codes, 28))
    assert table.shape == (4, 7, 4)
    train = Corners().split("train").images.flatten(1).float()
    order = train.var(0).argsort(descending=True)
    assert order[0] == 3
    for row, j in zip(table, order, strict=True):
        expected = codes.mean[j] + 0.2 * torch.arange(-3, 4)
        assert torch.allclose(row[:, j], expected, atol=0.01)
        others = [i for i in range(4) if i != j]
        assert torch.equal(row[:, others], row[:1, others].expand(7, 3))
    assert rows(gallery().traversals(codes, 7)).shape == (1, 7, 4)


def test_the_difference_of_two_classes_is_added_to_images_of_the_second():
    table = rows(gallery().arithmetic(18, "smile", "neutral"))
    assert table.shape == (3, 6, 4)
    assert known(table[:, 0]).tolist() == [1, 1, 1]
    train = Corners().split("train")
    z = train.images.flatten(1) / 127.5 - 1
    smile, neutral = (z[train.labels == c].mean(0) for c in (0, 1))
    for i, amount in enumerate((0, 0.5, 1, 1.5, 2)):
        expected = (table[:, 0] + amount * (smile - neutral)).clamp(-1, 1)
        assert torch.allclose(table[:, 1 + i], expected, atol=0.01)
    alone = rows(gallery().arithmetic(6, "smile", ""))[0]
    assert torch.allclose(alone[3], (alone[1] + smile - z.mean(0)).clamp(-1, 1), atol=0.01)


@pytest.mark.parametrize(
    ("show", "sentence"),
    [
        (lambda g: g.arithmetic(8, "smil", ""), "no class 'smil': did you mean 'smile'"),
        (lambda g: g.arithmetic(8, "absent", ""), "no training image is of the class 'absent'"),
        (lambda g: g.arithmetic(8, "", "absent"), "no training image is of the class 'absent'"),
        (lambda g: g.reconstructions(8, "absent"), "no test image is of the class 'absent'"),
        (lambda g: g.interpolations(STANDARD, 8, "7"), "no class '7': there are smile, neutral"),
        (lambda g: g.samples(STANDARD, 8, "smile"), "--class smile: .*--algorithm.conditional"),
    ],
)
def test_a_class_that_cannot_be_shown_is_named(show, sentence):
    with pytest.raises(ConfigError, match=sentence):
        show(gallery())


def test_classes_that_a_network_is_told_are_not_in_its_codes():
    with pytest.raises(ConfigError, match=r"--add and --remove: .* --reconstruct --class NAME"):
        gallery(conditional=True).arithmetic(8, "smile", "neutral")


def test_a_seed_chooses_the_images():
    first, again, other = (gallery(seed=seed).reconstructions(12).pixels for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def make(**options):
    context = Context(0, torch.device("cpu"), 1000)
    model = lambda **shapes: context.build(MLP, MLP.Config(width=16, blocks=0), **shapes)  # noqa: E731
    return VAE(VAE.Config(**options), Digits(Digits.Config()), model, context)


MODES = [
    ({"reconstruct": True}, (16, 8)),
    ({"interpolate": True}, (16, 8)),
    ({"traverse": True}, (14, 7)),
    ({"add": "3", "remove": "8"}, (12, 6)),
    ({}, (16, 0)),
]


@pytest.mark.parametrize(("mode", "expected"), MODES)
@pytest.mark.parametrize("options", [{}, {"conditional": True}, {"deterministic": True}])
def test_every_mode_shows_as_many_pictures_as_asked_for_in_whole_rows(mode, expected, options):
    if options.get("conditional") and "add" in mode:
        pytest.skip("its codes leave out the class")
    shown = make(**options).sample(16, **mode)
    assert (len(shown.pixels), shown.columns) == expected
    assert math.prod(shown.pixels.shape[1:]) == 64


def test_one_mode_at_a_time():
    with pytest.raises(ConfigError, match="--interpolate and --traverse: ask for one at a time"):
        make().sample(8, interpolate=True, traverse=True)
    with pytest.raises(ConfigError, match="--class: with --add and --remove"):
        make().sample(8, add="3", class_="7")


@pytest.mark.parametrize("mode", [{"reconstruct": True}, {"traverse": True}])
def test_noise_is_drawn_in_every_mode(mode):
    vae = make()
    assert (vae.sample(8, **mode).pixels != vae.sample(8, noise=True, **mode).pixels).any()
