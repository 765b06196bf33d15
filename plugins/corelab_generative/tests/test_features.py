from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from corelab_datasets.digits import Digits
from corelab_datasets.interface import Split
from corelab_generative import features as module
from corelab_generative.features import Features, Net, Recipe, cache, digest, features, learn


@pytest.fixture(scope="module")
def digits():
    return Digits(Digits.Config())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "corelab" / "features"


class Stripes:
    """Pictures of a horizontal gradient: their four turns are easily told apart."""

    shape = (3, 16, 16)
    classes = ("gradient",)

    def __init__(self, n=80, seed=0):
        noise = torch.randn(n, *self.shape, generator=torch.Generator().manual_seed(seed))
        images = torch.linspace(0, 255, 16) + 10 * noise
        self.part = Split(images.clamp(0, 255).byte(), torch.zeros(n, dtype=torch.int64))

    def split(self, _name):
        return self.part


SHORT = Recipe(examples=640)


def test_the_default_recipe_reads_digits_from_unseen_writers(digits):
    state = torch.random.get_rng_state()
    net, accuracy = learn(digits)
    assert accuracy > 0.93
    test = digits.split("test")
    with torch.no_grad():
        right = (net.head(net(test.images)).argmax(1) == test.labels).double().mean().item()
    assert right == pytest.approx(accuracy)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_features_of_training_images_have_mean_0_and_variance_1(digits):
    x = features(digits)(digits.split("train").images)
    assert (x.dtype, x.shape) == (torch.float32, (1437, 64))
    assert x.mean(0).abs().max() < 0.2
    assert (x.var(0) - 1).abs().max() < 0.4


def test_two_trainings_give_the_same_bits_whatever_the_global_stream_and_the_threads(digits):
    torch.manual_seed(1)
    first, accuracy = learn(digits, SHORT)
    torch.manual_seed(2)
    torch.set_num_threads(2)
    try:
        second, again = learn(digits, SHORT)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert accuracy == again
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_another_seed_is_another_net(digits):
    first, second = (learn(digits, Recipe(seed=seed, examples=64))[0] for seed in (0, 1))
    assert not torch.equal(first.head.weight, second.head.weight)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 9, 37)])
def test_pictures_of_any_size_and_colour_have_features(shape):
    net = Net(shape, 10).eval()
    images = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    x = Features(net, 1.0)(images)
    assert x.shape == (3, 64)
    assert not torch.equal(x[0], x[1])
    assert not x.requires_grad


def test_images_without_classes_are_learned_from_by_their_rotation(folder):
    found = features(Stripes())
    assert found.accuracy > 0.99
    assert found.net.head.out_features == 4


def test_what_was_learned_is_read_from_the_cache_the_next_time(digits, folder, monkeypatch):
    monkeypatch.setattr(module, "_RECIPE", SHORT)
    calls = []
    monkeypatch.setattr(module, "learn", lambda task: calls.append(task) or learn(task, SHORT))
    first = features(digits)
    state = torch.random.get_rng_state()
    second = features(digits)
    assert len(calls) == 1
    assert torch.equal(torch.random.get_rng_state(), state)
    images = digits.split("test").images
    assert torch.equal(first(images), second(images))
    assert first.accuracy == second.accuracy
    assert [file.parent for file in folder.iterdir()] == [cache()]


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(100)], ids=["empty", "text", "zeros"])
def test_a_damaged_file_is_learned_anew(digits, folder, monkeypatch, content):
    monkeypatch.setattr(module, "learn", lambda task: learn(task, SHORT))
    whole = features(digits)
    (file,) = folder.iterdir()
    good = file.read_bytes()
    file.write_bytes(content)
    assert features(digits).accuracy == whole.accuracy
    assert file.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_said_and_nothing_more(
    digits, tmp_path, monkeypatch, capsys
):
    (tmp_path / "corelab").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "learn", lambda task: learn(task, SHORT))
    assert features(digits).accuracy > 0.3
    assert "they cannot be kept for the next time" in capsys.readouterr().err


def test_the_name_in_the_cache_follows_from_images_labels_and_recipe(monkeypatch):
    names = {digest(Stripes(n, seed)) for n, seed in ((20, 0), (21, 0), (20, 1))}
    changed = Stripes(20)
    changed.part.labels[3] = 1
    names.add(digest(changed))
    assert digest(Stripes(20)) in names
    monkeypatch.setattr(module, "_RECIPE", Recipe(version=2))
    names.add(digest(Stripes(20)))
    assert len(names) == 5


RACE = """
from corelab_datasets.digits import Digits
from corelab_generative import features as module
learn = module.learn
module.learn = lambda task: learn(task, module.Recipe(examples=640))
found = module.features(Digits(Digits.Config()))
print(found.accuracy, found.net.head.weight.double().sum().item())
"""


def test_two_processes_at_once_leave_one_whole_file(folder, tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", RACE], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert first == second != ""
    assert len(list(folder.iterdir())) == 1


def test_a_long_training_says_how_far_it_is(digits, monkeypatch, capsys):
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    learn(digits, Recipe(examples=256))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "features: learning from 1,437 training images: 0%"
    assert said[-1].startswith("features: learned; ")
    assert said[-1].endswith("% of the test images are told right")
