"""What is seen, as one vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from corelab_nets.flatten import Flatten
from gymnasium import spaces

from corelab import PluginError


@pytest.mark.parametrize(
    ("space", "seen", "vector"),
    [
        (spaces.Box(0, 9, (2, 3), np.uint8), [[1, 2, 3], [4, 5, 6]], [1, 2, 3, 4, 5, 6]),
        (spaces.Box(-1, 1, ()), 0.5, [0.5]),
        (spaces.Box(-1, 1, (0,)), [], []),
        (spaces.MultiBinary((2, 2)), [[1, 0], [0, 1]], [1, 0, 0, 1]),
        (spaces.MultiDiscrete([[2], [3]]), [[1], [0]], [0, 1, 1, 0, 0]),
        (spaces.Discrete(3, start=5), 6, [0, 1, 0]),
    ],
)
def test_whatever_is_no_image_is_laid_out_in_a_row(space, seen, vector):
    flatten = Flatten(space, "the test")
    assert flatten.size == len(vector)
    seen = torch.as_tensor(np.array(seen, space.dtype))
    for leading in ((4,), (5, 4)):  # rows, and rows of each step
        laid_out = flatten(seen.expand(*leading, *seen.shape))
        assert torch.equal(laid_out, torch.tensor(vector).float().expand(*leading, len(vector)))


@pytest.mark.parametrize(
    ("shape", "instead"), [((2, 3, 3), "for images"), ((2, 2, 3, 3), "choose another")]
)
def test_images_and_what_has_more_dimensions_are_refused(shape, instead):
    with pytest.raises(PluginError, match=rf"^the test reads vectors, .*; {instead}"):
        Flatten(spaces.Box(0, 1, shape), "the test")
