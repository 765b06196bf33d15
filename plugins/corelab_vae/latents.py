"""Images as the latents of a trained autoencoder: what latent diffusion learns from.

Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models, arXiv:2112.10752:
the autoencoder is trained first and then rests, and the latents are those before they are rounded
to the codebook, so that rounding is left to the decoder (section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from corelab_datasets.interface import Dataset, Split, SplitName
from torch import Tensor

from corelab import ConfigError, DataError, Run, RunError


class Latents:
    """The data set of a finished run of an autoencoder, as that run encodes it."""

    @dataclass(frozen=True)
    class Config:
        """Whose latents."""

        run: Path | None = None
        """The directory of a finished run of an autoencoder with spatial latents, such as
        `vqvae`."""

    def __init__(self, config: Config) -> None:
        if config.run is None:
            raise ConfigError("latents: name the run of an autoencoder with --task.run")
        run = Run(config.run.expanduser())
        if run.status != "done":
            raise RunError(
                f"{run.path}: its status is {run.status!r}, and latents are taken of a run that is "
                f"done; go on with it by `corelab resume {run.path}`"
            )
        self._autoencoder = run.load()
        self.source = cast(Dataset, self._autoencoder.task)
        self.classes = self.source.classes
        images = self.source.split("train").images
        able = all(hasattr(self._autoencoder, method) for method in ("encode", "decode"))
        if not able or self._autoencoder.encode(images[:1]).ndim != 4:
            raise DataError(
                f"{run.path}: {run.algorithm} gives images no grid of latents; vqvae does"
            )
        self._splits: dict[SplitName, Split] = {}
        z = self._encode(images)
        # over images and places: [c, 1, 1]
        self._mean = z.mean((0, 2, 3), dtype=torch.float64)[:, None, None].float()
        self._scale = z.std((0, 2, 3))[:, None, None].clamp_min(1e-6)
        self._splits["train"] = self._split("train", z)
        self.shape = tuple(z.shape[1:])

    def split(self, name: SplitName) -> Split:
        """The part NAME, in the order of the images; latents float32 [N, c, h, w]."""
        if name not in self._splits:
            self._splits[name] = self._split(name, self._encode(self.source.split(name).images))
        return self._splits[name]

    def decode(self, latents: Tensor) -> Tensor:
        """Images, uint8 [N, C, H, W], for LATENTS, float32 [N, c, h, w]."""
        z = latents.float() * self._scale.to(latents) + self._mean.to(latents)
        images: Tensor = self._autoencoder.decode(z)
        return images.to(latents.device)

    def _encode(self, images: Tensor) -> Tensor:
        """The latents of IMAGES as they are, on the CPU."""
        z: Tensor = self._autoencoder.encode(images)
        return z.float().cpu()

    def _split(self, name: SplitName, z: Tensor) -> Split:
        return Split((z - self._mean) / self._scale, self.source.split(name).labels)
