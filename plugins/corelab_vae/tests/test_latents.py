from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from corelab_datasets.digits import Digits
from corelab_vae.latents import Latents

import corelab
from corelab import ConfigError, DataError, RunError

SMALL = {
    "algorithm.batch_size": 16,
    "algorithm.entries": 8,
    "algorithm.dim": 4,
    "algorithm.prior_channels": 8,
    "algorithm.prior_layers": 2,
    "model.channels": 4,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return corelab.train("vqvae", steps=160, run_dir=folder, options=SMALL).path


@pytest.fixture(scope="module")
def latents(run):
    return Latents(Latents.Config(run))


def test_latents_have_mean_zero_and_variance_one_in_each_channel(latents):
    z = latents.split("train").images
    assert latents.shape == tuple(z.shape[1:]) == (4, 4, 4)
    assert z.dtype == torch.float32
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(z.std((0, 2, 3)), torch.ones(4), atol=1e-4)


def test_they_stand_for_the_images_of_the_run_in_their_order(latents, run):
    digits = Digits(Digits.Config())
    assert latents.classes == digits.classes
    vqvae = corelab.Run(run).load()
    for name in ("train", "validation", "test"):
        part, images = latents.split(name), digits.split(name).images
        assert torch.equal(latents.source.split(name).images, images)
        assert torch.equal(part.labels, digits.split(name).labels)
        decoded = latents.decode(part.images)
        assert (decoded.dtype, decoded.shape) == (torch.uint8, images.shape)
        expected = vqvae.decode(vqvae.encode(images))
        # normalised and back: a vector in the very middle between two entries may change sides
        same = (decoded == expected).flatten(1).all(1).float().mean()
        assert same > 0.98


def test_they_are_the_same_each_time(latents, run):
    again = Latents(Latents.Config(run))
    for name in ("train", "test"):
        assert torch.equal(again.split(name).images, latents.split(name).images)


def test_two_levels_are_one_map(tmp_path):
    options = {**SMALL, "algorithm.levels": 2, "model.halvings": 2}
    run = corelab.train("vqvae", steps=64, run_dir=tmp_path, options=options).path
    latents = Latents(Latents.Config(run))
    z = latents.split("test").images
    assert latents.shape == (8, 4, 4)
    assert torch.equal(z[:, :4, ::2, ::2], z[:, :4, 1::2, 1::2])  # the coarse level, repeated
    assert latents.decode(z).shape == (180, 1, 8, 8)


def test_the_options_travel_as_a_path(run):
    config = Latents.Config(run)
    assert pickle.loads(pickle.dumps(config)) == config
    assert corelab.Run(run).path == replace(config).run


def test_a_run_that_will_not_do_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"name the run of an autoencoder with --task\.run"):
        Latents(Latents.Config())
    with pytest.raises(RunError, match="is not a run directory"):
        Latents(Latents.Config(tmp_path / "nowhere"))
    vae = corelab.train("vae", steps=128, run_dir=tmp_path)
    with pytest.raises(DataError, match="vae gives images no grid of latents; vqvae does"):
        Latents(Latents.Config(vae.path))
    vae.update(status="interrupted")
    with pytest.raises(RunError, match=r"its status is 'interrupted', and .* `corelab resume"):
        Latents(Latents.Config(vae.path))
