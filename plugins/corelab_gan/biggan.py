"""The model "biggan" of the interface "gan": residual blocks that know the class.

Brock, Donahue & Simonyan 2019, Large Scale GAN Training for High Fidelity Natural Image Synthesis,
arXiv:1809.11096, with the self-attention of Zhang et al. 2019, Self-Attention Generative
Adversarial Networks, arXiv:1805.08318.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corelab import require
from corelab_gan.layers import Labelled, Projection, resolutions, spectral, widths


class BigGAN(nn.Module):
    """Residual networks with self-attention, told of code and class in every block."""

    @dataclass(frozen=True)
    class Config:
        """Options of the residual networks."""

        channels: int = 32
        """Channels at the full resolution; there are twice as many at each smaller one, up to four
        times."""
        attention: bool = True
        """Whether the second smallest resolution has a layer of self-attention."""
        spectral: bool = True
        """Whether the discriminator's matrices are divided by their largest singular values."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__()
        require(config.channels >= 8, "model.channels", config.channels, "at least 8")
        self.generator = Generator(config, shape, latent, classes)
        self.discriminator = Discriminator(config, shape, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(layer.weight)  # section 3
        if config.spectral:
            spectral(self.discriminator)


class Generator(nn.Module):
    """Codes to images; code and class shift and scale all layers, as in BigGAN-deep (figure 16)."""

    def __init__(
        self, config: BigGAN.Config, shape: tuple[int, int, int], latent: int, classes: int
    ) -> None:
        super().__init__()
        self.numbers = latent
        self.code = Labelled(latent, classes)
        sizes = resolutions(shape, "biggan")
        wide = widths(config.channels, len(sizes))
        condition, self._features = self.code.features, (wide[0], *sizes[0])
        self.first = nn.Linear(condition, wide[0] * sizes[0][0] * sizes[0][1])
        self.blocks = nn.ModuleList(
            UpBlock(inputs, outputs, condition) for inputs, outputs in pairwise(wide)
        )
        self.attention = Attention(wide[1]) if config.attention else nn.Identity()
        self.norm = nn.BatchNorm2d(wide[-1])
        self.last = nn.Conv2d(wide[-1], shape[0], 3, padding=1)

    def forward(self, z: Tensor, y: Tensor | None, truncation: float = 1.0) -> Tensor:
        """Images [N, C, H, W] for Z, [N, latent], and Y, [N]."""
        c = self.code(truncation * z, y)
        h = self.first(c).view(-1, *self._features)
        for i, block in enumerate(self.blocks):
            h = block(h, c)
            if i == 0:
                h = self.attention(h)
        x: Tensor = self.last(F.relu(self.norm(h)))
        return x.tanh()


class Discriminator(nn.Module):
    """Images to logits, by the inner product with a vector of the class."""

    def __init__(self, config: BigGAN.Config, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        wide = widths(config.channels, len(resolutions(shape, "biggan")))[::-1]
        self.first = nn.Conv2d(shape[0], wide[0], 3, padding=1)
        blocks: list[nn.Module] = [DownBlock(a, b) for a, b in pairwise(wide)]
        if config.attention:
            blocks.insert(-1, Attention(wide[-2]))
        self.blocks = nn.Sequential(*blocks)
        self.head = Projection(wide[-1], classes)

    def forward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Logits [N] of X, [N, C, H, W], with labels Y, [N]."""
        h = F.relu(self.blocks(self.first(x))).mean((2, 3))
        logits: Tensor = self.head(h, y)
        return logits


class ConditionalNorm(nn.Module):
    """Batch normalisation whose scale and shift are linear in the condition."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.affine = nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """X, [N, C, H, W], given C, [N, condition]."""
        scale, shift = self.affine(c)[:, :, None, None].chunk(2, 1)
        normed: Tensor = (1 + scale) * self.norm(x) + shift
        return normed


class UpBlock(nn.Module):
    """A residual block that doubles the resolution."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm1 = ConditionalNorm(inputs, condition)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = ConditionalNorm(outputs, condition)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """[N, outputs, 2H, 2W] for X, [N, inputs, H, W], given C, [N, condition]."""
        h: Tensor = self.conv1(F.interpolate(F.relu(self.norm1(x, c)), scale_factor=2))
        h = self.conv2(F.relu(self.norm2(h, c)))
        return h + F.interpolate(self.skip(x), scale_factor=2)


class DownBlock(nn.Module):
    """A residual block that halves the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, outputs, H/2, W/2] for X, [N, inputs, H, W]."""
        h: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        skipped: Tensor = self.skip(F.avg_pool2d(x, 2))
        return F.avg_pool2d(h, 2) + skipped


class Attention(nn.Module):
    """Adds to every pixel a weighted mean over all pixels: nothing, to begin with (SAGAN, eq. 3).

    As in the authors' programs, keys and values are of pixels pooled by four.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.out = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] for X of the same shape."""
        query = self.query(x).flatten(2)
        key, value = (F.max_pool2d(layer(x), 2).flatten(2) for layer in (self.key, self.value))
        weights = torch.einsum("ncq,nck->nqk", query, key).softmax(2)
        attended = torch.einsum("nqk,nck->ncq", weights, value)
        attended = attended.view(*attended.shape[:2], *x.shape[2:])
        mixed: Tensor = x + self.gamma * self.out(attended)
        return mixed
