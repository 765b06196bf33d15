"""Algorithms, networks and environments that can be made sick in one way, and tasks of their own: a
plugin that `benchmarks/diagnosis.py` and the tests of the checks announce.

The tasks `shapes`, `gratings` and `clocks` are pictures that are drawn here; `patients/Chase-v0`,
`patients/Dock-v0`, `patients/Forage-v0` and `patients/Track-v0` are games.
Environments that are sick are `patients/FAULT-NAME`, NAME being one of Gymnasium's: `Raw` shows
what is observed times 255, `Rich` pays ten thousand times as much, `Ends` says that it is over
where it is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from corelab_datasets.interface import Dataset, Split, SplitName, minibatch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from corelab import Component, Context, Saved, UpdateConfig, hookimpl

corelab_api = (1, 0)

ENVIRONMENTS = (
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "Pendulum-v1",
    "LunarLander-v3",
    "InvertedPendulum-v5",
    "Reacher-v5",
    "InvertedDoublePendulum-v5",
    "patients/Dock-v0",
    "patients/Forage-v0",
    "patients/Track-v0",
)


@hookimpl
def corelab_components() -> list[Component]:
    """All of them."""
    algorithm = Component(
        "algorithm",
        "classifier",
        "patients:Classifier",
        "tells the classes of images apart",
        uses=("dataset", "classifier"),
    )
    models = (("classifier", "Logits"), ("actor-critic", "Actor"), ("denoiser", "Denoiser"))
    tasks = (
        ("shapes", "Shapes", "outlines"),
        ("gratings", "Gratings", "stripes in colour"),
        ("clocks", "Clocks", "hands of a clock"),
    )
    return [
        algorithm,
        *(
            Component("task", name, f"patients:{path}", what, provides="dataset")
            for name, path, what in tasks
        ),
        *(
            Component("model", "patient", f"patients:{name}", "may be sick", provides=interface)
            for interface, name in models
        ),
    ]


class Drawn(Dataset):
    """Pictures that are drawn when they are first asked for, the same ones every time."""

    @dataclass(frozen=True)
    class Config:
        """No options."""

    PARTS: ClassVar[Mapping[SplitName, int]] = {"train": 3000, "validation": 500, "test": 500}
    shape: tuple[int, int, int]
    classes: tuple[str, ...]

    def __init__(self, _config: Config) -> None:
        self._splits = {name: self._drawn(i, n) for i, (name, n) in enumerate(self.PARTS.items())}

    def split(self, name: SplitName) -> Split:
        """The part NAME."""
        return self._splits[name]

    def _drawn(self, seed: int, n: int) -> Split:
        rng = np.random.default_rng([seed, len(self.classes)])
        labels = rng.integers(len(self.classes), size=n)
        pixels = np.stack([self.draw(int(label), rng) for label in labels])
        pixels = (255 * (pixels + rng.normal(0, 0.05, pixels.shape)).clip(0, 1)).astype(np.uint8)
        return Split(torch.from_numpy(pixels), torch.from_numpy(labels))

    def draw(self, label: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """A picture [C, H, W] of the class LABEL, dark 0 and bright 1."""
        raise NotImplementedError


class Shapes(Drawn):
    """Discs, squares and others, each somewhere, of some size and brightness, on black."""

    shape = (1, 14, 14)
    classes = ("disc", "ring", "square", "frame", "cross", "saltire", "bar", "pole")

    def draw(self, label: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """One of them."""
        centre, r = rng.uniform(5, 9, 2), rng.uniform(2.5, 4.5)
        y, x = np.mgrid[:14, :14] - centre[:, None, None]
        round_, square = np.hypot(x, y), np.maximum(abs(x), abs(y))
        inside = [
            round_ < r,
            abs(round_ - r) < 0.8,
            square < r,
            abs(square - r) < 0.8,
            (np.minimum(abs(x), abs(y)) < 0.8) & (square < r),
            (abs(abs(x) - abs(y)) < 0.9) & (square < r),
            (abs(y) < 0.9) & (abs(x) < r),
            (abs(x) < 0.9) & (abs(y) < r),
        ]
        picture: NDArray[np.float64] = rng.uniform(0.5, 1) * inside[label][None]
        return picture


class Gratings(Drawn):
    """Stripes of six directions in any two colours, of any width and place."""

    shape = (3, 12, 12)
    classes = tuple(f"{angle} degrees" for angle in range(0, 180, 30))

    def draw(self, label: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """One of them."""
        angle = np.pi * (label + rng.uniform(-0.2, 0.2)) / 6
        y, x = np.mgrid[:12, :12]
        wave = np.sin(
            (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.8, 1.6) + rng.uniform(0, 6)
        )
        one, other = rng.uniform(0, 0.3, 3), rng.uniform(0.6, 1, 3)
        share = (1 + wave) / 2
        picture: NDArray[np.float64] = one[:, None, None] * share + other[:, None, None] * (
            1 - share
        )
        return picture


class Clocks(Drawn):
    """The bright hand of a clock on a dark face, at one of eight hours, more or less."""

    shape = (1, 12, 12)
    classes = tuple(f"{hour} of 8" for hour in range(8))

    def draw(self, label: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """One of them."""
        angle = np.pi * (label + rng.uniform(-0.25, 0.25)) / 4
        y, x = np.mgrid[:12, :12] - rng.uniform(5, 6, 2)[:, None, None]
        along = x * np.cos(angle) + y * np.sin(angle)
        beside = abs(y * np.cos(angle) - x * np.sin(angle))
        hand = (along > -0.5) & (along < rng.uniform(3.5, 6)) & (beside < rng.uniform(0.6, 1.2))
        picture: NDArray[np.float64] = rng.uniform(0.6, 1) * hand[None]
        return picture


ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


@dataclass(frozen=True)
class NetConfig:
    """Options of the networks."""

    sizes: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers."""
    activation: Literal["relu", "sigmoid", "tanh"] = "relu"
    """What stands between two layers."""
    gain: float = 1.0
    """Factor of the first weights."""
    bias: float = 0.0
    """What all hidden biases begin with."""
    ending: Literal["none", "softmax", "sigmoid", "relu"] = "none"
    """What the output goes through."""
    sharpness: float = 1.0
    """Factor of what an actor gives."""


class Net(nn.Module):
    """A perceptron."""

    def __init__(self, config: NetConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in config.sizes:
            linear = nn.Linear(inputs, width)
            nn.init.kaiming_normal_(linear.weight, nonlinearity=config.activation)
            with torch.no_grad():
                linear.weight *= config.gain
            nn.init.constant_(linear.bias, config.bias)
            layers += [linear, ACTIVATIONS[config.activation]()]
            inputs = width
        self.body = nn.Sequential(*layers, nn.Linear(inputs, outputs))
        self.ending = config.ending

    def forward(self, x: Tensor) -> Tensor:
        """What it makes of X, [B, inputs]."""
        y: Tensor = self.body(x)
        if self.ending == "softmax":
            return y.softmax(-1)
        return y if self.ending == "none" else getattr(torch, self.ending)(y)


class Logits(Net):
    """Of classes."""

    Config = NetConfig

    def __init__(self, config: NetConfig, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(config, int(torch.Size(shape).numel()), classes)


class Actor(nn.Module):
    """An actor and a critic."""

    Config = NetConfig

    def __init__(self, config: NetConfig, seen: spaces.Box, actions: spaces.Space[Any]) -> None:
        super().__init__()
        discrete = isinstance(actions, spaces.Discrete)
        outputs = int(actions.n) if isinstance(actions, spaces.Discrete) else 2 * actions.shape[0]
        self.policy = Net(config, seen.shape[0], outputs)
        self.value = Net(config, seen.shape[0], 1)
        self.sharpness = config.sharpness
        if discrete:
            with torch.no_grad():
                self.policy.body[-1].weight *= 0.01

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Policy and values."""
        return self.sharpness * self.policy(x), self.value(x).squeeze(-1)


class Denoiser(nn.Module):
    """A perceptron that is told the level of the noise and, if sick, gives up where it is high."""

    @dataclass(frozen=True)
    class Config:
        """Options of the denoiser."""

        width: int = 256
        """Of its hidden layers."""
        sick: bool = False
        """Whether it loses its output from half of the levels on."""

    def __init__(
        self, config: Config, shape: tuple[int, int, int], inputs: int, outputs: int, classes: int
    ) -> None:
        super().__init__()
        _, H, W = shape
        self.sick, self.shape = config.sick, (outputs, H, W)
        self.net = Net(NetConfig((config.width, config.width)), inputs * H * W + 1, outputs * H * W)

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Outputs [N, o, H, W]."""
        y = self.net(torch.cat([x.flatten(1), noise[:, None]], 1)).view(-1, *self.shape)
        return torch.where(noise[:, None, None, None] > 0, 0 * y, y) if self.sick else y


class Classifier(Saved):
    """Tells the classes of images apart, by cross-entropy and Adam."""

    @dataclass(frozen=True)
    class Config:
        """Options of the classifier."""

        batch_size: int = 128
        """Images in a step."""
        lr: float = 1e-3
        """Step size of Adam."""
        raw: bool = False
        """Whether pixels are 0 to 255 rather than around 0."""
        examples: int = 0
        """How many training images are used; 0 for all."""

    unit: ClassVar[str] = "examples"
    default_task: ClassVar[str] = "digits"
    default_model: ClassVar[str] = "patient"
    default_steps: ClassVar[int] = 50_000
    best: ClassVar[str] = "min eval/error"
    highlights: ClassVar[tuple[str, ...]] = ("train/error", "eval/error")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    update: ClassVar[UpdateConfig] = UpdateConfig()
    saved: ClassVar[tuple[str, ...]] = ("net", "updater", "progress")

    def __init__(
        self, config: Config, task: Dataset, model: Callable[..., Any], context: Context
    ) -> None:
        self.config, self.task, self.context = config, task, context
        self.net = model(shape=task.shape, classes=len(task.classes))
        self.updater = context.updater(self.net, torch.optim.Adam(self.net.parameters(), config.lr))
        self.progress = 0
        self._order = context.seed_for("order")

    def step(self) -> dict[str, Tensor]:
        """One minibatch."""
        train, size = self.task.split("train"), self.config.batch_size
        n = self.config.examples or len(train)
        x, y = train.take(minibatch(n, size, self.progress, self._order))
        loss, error = self.updater(self._losses, x, y)
        self.progress += size
        return {"loss": loss, "error": error}

    def _losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = x.float().flatten(1)
        logits = self.updater.module(x if self.config.raw else x / 127.5 - 1)
        return F.cross_entropy(logits, y), (logits.argmax(1) != y).float().mean()

    def evaluate(
        self, split: Literal["validation", "test"] = "test", n: int | None = None, seed: int = 0
    ) -> dict[str, float]:
        """Loss and error rate of the first N images of SPLIT."""
        data = self.task.split(split)
        with self.updater.at_rest():
            loss, error = self._losses(data.images[:n], data.labels[:n])
        return {"loss": loss.item(), "error": error.item()}


class Chase(gym.Env[Any, Any]):
    """Stay near what moves over a plane, for a hundred steps; each pays 1 less the distance."""

    WAYS = 0.15 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-4, 4, (4,))
        self.action_space = spaces.Discrete(5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Both of them somewhere."""
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.other = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.drift = self.np_random.uniform(-0.05, 0.05, 2).astype(np.float32)
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        """Go one way."""
        self.place = (self.place + self.WAYS[action]).clip(-2, 2)
        self.other = self.other + self.drift
        self.drift = np.where(
            abs(self.other) > 1, -np.sign(self.other) * abs(self.drift), self.drift
        )
        reward = 1 - float(np.linalg.norm(self.place - self.other))
        return self._seen(), reward, False, False, {}

    def _seen(self) -> NDArray[np.float32]:
        return np.concatenate([self.place, self.other - self.place]).astype(np.float32)


class Dock(gym.Env[Any, Any]):
    """Come to rest at 0 on a line and stay there, for eighty steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-10, 10, (2,))
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Somewhere, slowly."""
        super().reset(seed=seed)
        self.x, self.v = self.np_random.uniform((-2, -0.1), (2, 0.1))
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        """Accelerate or not."""
        self.v = 0.98 * self.v + 0.03 * (int(action) - 1)
        self.x = min(3.0, max(-3.0, self.x + self.v))
        reward = float(np.exp(-self.x * self.x)) - abs(self.v)
        return self._seen(), reward, False, False, {}

    def _seen(self) -> NDArray[np.float32]:
        return np.array([self.x, 10 * self.v], np.float32)


class Forage(gym.Env[Any, Any]):
    """Go to what is to eat on a field of 7 x 7, for fifty steps; then there is some elsewhere."""

    WAYS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-2, 2, (4,))
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Both somewhere."""
        super().reset(seed=seed)
        self.place, self.food = (row.copy() for row in self.np_random.integers(0, 7, (2, 2)))
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        """Go one way; food pays 1, coming nearer a little."""
        before = abs(self.place - self.food).sum()
        self.place = (self.place + self.WAYS[action]).clip(0, 6)
        after = abs(self.place - self.food).sum()
        if after == 0:
            self.food = self.np_random.integers(0, 7, 2)
        return self._seen(), float(after == 0) + 0.1 * float(before - after), False, False, {}

    def _seen(self) -> NDArray[np.float32]:
        return np.concatenate([self.place / 3 - 1, (self.food - self.place) / 3]).astype(np.float32)


class Track(gym.Env[Any, Any]):
    """Follow what swings along a line, by pushing, for sixty steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-10, 10, (4,))
        self.action_space = spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """At rest, and the other anywhere on its way."""
        super().reset(seed=seed)
        self.x, self.v, self.phase = self.np_random.uniform((-1, 0, 0), (1, 0, 6.28))
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        """Push; what is near is paid."""
        self.phase += 0.1
        self.v = 0.8 * self.v + 0.2 * float(np.clip(action[0], -1, 1))
        self.x = min(3.0, max(-3.0, self.x + self.v))
        return self._seen(), float(np.exp(-abs(self.x - np.sin(self.phase)))), False, False, {}

    def _seen(self) -> NDArray[np.float32]:
        goal, speed = np.sin(self.phase), np.cos(self.phase)
        return np.array([self.x - goal, 3 * self.v, goal, speed], np.float32)


class Raw(gym.ObservationWrapper[Any, Any, Any]):
    """Shows numbers that nobody has normalised."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        shape = env.observation_space.shape
        self.observation_space = spaces.Box(-float("inf"), float("inf"), shape)

    def observation(self, observation: Any) -> Any:
        """OBSERVATION times 255."""
        return 255 * observation


class Rich(gym.RewardWrapper[Any, Any]):
    """Pays ten thousand times as much."""

    def reward(self, reward: Any) -> float:
        """REWARD times 10,000."""
        return 10_000.0 * float(reward)


class Ends(gym.Wrapper[Any, Any, Any, Any]):
    """Says that it is over where it is cut off."""

    def step(self, action: Any) -> Any:
        """One step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or truncated, False, info


def _made(wrapper: Callable[..., gym.Env[Any, Any]], name: str) -> Callable[..., gym.Env[Any, Any]]:
    def make(**options: Any) -> gym.Env[Any, Any]:
        return wrapper(gym.make(name, disable_env_checker=True, **options))

    return make


gym.register("patients/Chase-v0", Chase, max_episode_steps=100, disable_env_checker=True)
gym.register("patients/Dock-v0", Dock, max_episode_steps=80, disable_env_checker=True)
gym.register("patients/Forage-v0", Forage, max_episode_steps=50, disable_env_checker=True)
gym.register("patients/Track-v0", Track, max_episode_steps=60, disable_env_checker=True)
for _wrapper in (Raw, Rich, Ends):
    for _name in ENVIRONMENTS:
        _id = f"patients/{_wrapper.__name__}{_name.removeprefix('patients/')}"
        gym.register(_id, _made(_wrapper, _name), disable_env_checker=True)
