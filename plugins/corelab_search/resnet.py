"""The model "resnet" of the interface "policy-value": convolutions with residual connections."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from corelab import require


class ResNet(nn.Module):
    """The network of AlphaGo Zero (Silver et al. 2017, Methods, "Neural network architecture") in
    small and without batch normalisation: a convolution, residual blocks of two convolutions,
    and a head each for policy and value.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the residual network."""

        channels: int = 32
        """Features of each cell."""
        blocks: int = 2
        """Residual blocks; each lets a cell see two cells further."""
        hidden: int = 64
        """Units of the layer between the features and the value."""

    def __init__(
        self, config: Config, observation_shape: tuple[int, int, int], actions: int
    ) -> None:
        super().__init__()
        require(config.channels >= 1, "model.channels", config.channels, "at least 1")
        require(config.blocks >= 0, "model.blocks", config.blocks, "at least 0")
        require(config.hidden >= 1, "model.hidden", config.hidden, "at least 1")
        height, width, planes = observation_shape
        C, cells = config.channels, height * width
        self.stem = nn.Sequential(nn.Conv2d(planes, C, 3, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(*(_Block(C) for _ in range(config.blocks)))
        self.policy = nn.Sequential(
            *(nn.Conv2d(C, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * cells, actions))
        )
        self.value = nn.Sequential(
            *(nn.Conv2d(C, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * cells, config.hidden)),
            *(nn.ReLU(), nn.Linear(config.hidden, 1), nn.Tanh()),
        )

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, actions] and values [B]."""
        # in memory the planes stay last, which is what torch calls channels_last
        x = self.blocks(self.stem(observations.permute(0, 3, 1, 2)))
        return self.policy(x), self.value(x).squeeze(-1)


class _Block(nn.Module):
    """x + f(x), with f = 0 at first, so that any number of blocks can be trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return (x + y).relu()
