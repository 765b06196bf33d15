"""What a diffusion model works on: pixels, or the latents that another model gives to images."""

from __future__ import annotations

from typing import Protocol, cast

from corelab_datasets.interface import Dataset, Latents
from corelab_generative.pictures import levels, scaled
from torch import Tensor

from corelab_diffusion.parametrisations import SIGMA_DATA


class Space(Protocol):
    """How images become what is modelled, and samples become pictures."""

    pictures: Dataset
    """The task whose images these are of."""
    of_pixels: bool
    """Whether numbers are levels of pixels, so that there are bits, and bounds of -1 and 1."""

    def data(self, images: Tensor) -> Tensor:
        """What is modelled of IMAGES of the task, float [N, c, h, w]."""

    def show(self, x: Tensor) -> Tensor:
        """The pictures, uint8 [N, C, H, W], that samples X stand for."""


class Pixels:
    """Levels of pixels, from -1 to 1."""

    of_pixels = True

    def __init__(self, task: Dataset) -> None:
        self.pictures = task

    def data(self, images: Tensor) -> Tensor:
        """IMAGES, uint8, as floats."""
        return scaled(images)

    def show(self, x: Tensor) -> Tensor:
        """The nearest levels."""
        return levels(x)


class Codes:
    """Latents (Rombach et al. 2022, arXiv:2112.10752), brought to the deviation of pixels."""

    of_pixels = False

    def __init__(self, task: Latents) -> None:
        self.pictures, self._task = task.source, task

    def data(self, images: Tensor) -> Tensor:
        """Latents, whose deviation is 1, with that which `edm` counts on."""
        return images * SIGMA_DATA

    def show(self, x: Tensor) -> Tensor:
        """What they are decoded to."""
        return self._task.decode(x / SIGMA_DATA)


def space_of(task: Dataset) -> Space:
    """The space of TASK."""
    return Codes(cast(Latents, task)) if hasattr(task, "decode") else Pixels(task)
