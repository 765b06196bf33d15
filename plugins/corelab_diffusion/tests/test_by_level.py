"""The error at single levels of noise, of denoisers whose error is known."""

from __future__ import annotations

import pytest
import torch
from corelab_diffusion.by_level import errors

SIGMAS = torch.logspace(-2, 2, 80, dtype=torch.float64)
Y = torch.rand(64, 1, 4, 4) * 2 - 1


def measured(denoise):
    found = errors(lambda x, s, *_: (denoise(x, s), None), Y, None, None, SIGMAS, torch.Generator())
    assert list(found) == [f"error_at_{i}" for i in (1, 2, 3, 4)]
    return list(found.values())


def test_the_best_linear_denoiser_has_the_error_one():
    mean = Y.mean(0)
    v = (Y - mean).square().mean()

    def linear(x, sigma):
        s2 = sigma[:, None, None, None] ** 2
        return mean + v / (v + s2) * (x - mean)

    assert measured(linear) == pytest.approx([1.0] * 4)


def test_one_that_knows_the_images_has_none_and_one_that_does_nothing_is_worst_in_much_noise():
    assert measured(lambda x, s: Y) == [0.0] * 4
    idle = measured(lambda x, s: x)
    assert idle[0] == pytest.approx(1.0, abs=0.1)
    assert idle == sorted(idle)
    assert idle[-1] > 100
