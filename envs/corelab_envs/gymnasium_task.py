"""The task "gymnasium": an environment from Gymnasium's registry, named by its id."""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from corelab import ConfigError, DataError
from corelab_envs.vector import Copy, GymnasiumEnvironments, Remade, first_line

_PROBE_STEPS = 10
_PIP = {
    "gymnasium.envs.box2d": 'pip install "box2d>=2.3.10" "corelab-ml[render]"',
    "gymnasium.envs.mujoco": 'pip install "gymnasium[mujoco]"',
    "gymnasium.envs.phys2d": 'pip install "gymnasium[jax]"',
    "gymnasium.envs.tabular": 'pip install "gymnasium[jax]"',
}
"""What brings an environment's requirements. Gymnasium's own extra for Box2D builds from source,
which often fails; the package named here has wheels."""
_REMADE = ("gymnasium.envs.box2d.bipedal_walker:BipedalWalker",)
"""Environments that a reset does not make as new: here, the physics engine warm-starts a first step
from the last of the episode before."""


class GymnasiumTask:
    """Any installed Gymnasium environment; provides the interface "environment"."""

    @dataclass(frozen=True)
    class Config:
        """Options of a Gymnasium environment."""

        id: str = "CartPole-v1"
        """The environment's id; `module:Name-v0` imports the module that registers it first."""
        num_envs: int | None = None
        """How many copies are learned from side by side; none leaves it to the algorithm."""
        max_episode_steps: int | None = None
        """Truncate episodes after this many steps; none keeps the environment's own limit."""
        video: bool = False
        """Film one episode at each evaluation."""

    def __init__(self, config: Config) -> None:
        for option in ("num_envs", "max_episode_steps"):
            value = getattr(config, option)
            if value is not None and value < 1:
                raise ConfigError(f"task.{option} is {value}; it must be at least 1")
        self.config = config
        self.name = config.id
        self.num_envs = config.num_envs
        self.video = config.video
        self._spec = _find(config.id)
        self._native = bool(self._spec.vector_entry_point) and not self._spec.additional_wrappers
        self.replays = False
        """Whether copies are restored by acting again as before, rather than by writing a state."""
        self._probe()

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> GymnasiumEnvironments:
        """NUM_ENVS copies whose every random choice follows from SEED; with RENDER, for film."""
        if render and "rgb_array" not in self._render_modes:
            offers = ", ".join(self._render_modes) or "none"
            raise DataError(
                f"{self.name} cannot be filmed: of the render modes it would need rgb_array, "
                f"and it offers {offers}"
            )
        return GymnasiumEnvironments(self._vector(num_envs, seed, render), self.name, seed)

    def _vector(
        self, num_envs: int, seed: int, render: bool = False
    ) -> gym.vector.VectorEnv[Any, Any, Any]:
        options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
        if self.config.max_episode_steps is not None:
            options["max_episode_steps"] = self.config.max_episode_steps
        with self._making():
            if self._native:
                mode = gym.VectorizeMode.VECTOR_ENTRY_POINT
                return gym.make_vec(self._spec, num_envs, vectorization_mode=mode, **options)
            return gym.vector.SyncVectorEnv(
                [partial(self._copy, seed, index, options) for index in range(num_envs)],
                autoreset_mode=AutoresetMode.NEXT_STEP,
            )

    def _copy(self, root: int, index: int, options: dict[str, Any]) -> Copy:
        make = partial(gym.make, self._spec, disable_env_checker=True, **options)
        env = Remade(make) if self._spec.entry_point in _REMADE else make()
        return Copy(env, self.name, root, index, self.replays)

    def _probe(self) -> None:
        """Learn from one copy what the spaces are and in which way its state can be saved."""
        vector = self._vector(1, seed=0)
        self.single_observation_space = vector.single_observation_space
        self.single_action_space = vector.single_action_space
        self._render_modes = vector.metadata.get("render_modes") or []
        self.fps = float(vector.metadata.get("render_fps") or 30)
        vector.action_space.seed(0)
        envs = GymnasiumEnvironments(vector, self.name, seed=0)
        envs.reset()
        for _ in range(_PROBE_STEPS):
            envs.step(vector.action_space.sample())
        try:
            envs.state_dict()
            readable = True
        except DataError:
            readable = False
        envs.close()
        if not self._native:
            self.replays = not readable
        elif not readable or vector.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
            if self._spec.entry_point is None:
                raise DataError(
                    f"{self.name} exists only as a vector environment, and that cannot be used: "
                    "its state must be readable and its autoreset mode NEXT_STEP"
                )
            self._native = False
            self._probe()

    @contextmanager
    def _making(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on newer versions, which the id has decided
            try:
                yield
            except (ImportError, gym.error.DependencyNotInstalled) as error:
                entry = str(self._spec.entry_point or self._spec.vector_entry_point)
                pip = next((pip for package, pip in _PIP.items() if entry.startswith(package)), "")
                raise DataError(
                    f"{self.name} needs a package that is missing: {pip or first_line(error)}"
                ) from error
            except Exception as error:
                raise DataError(f"{self.name} cannot be made: {first_line(error)}") from error


def _find(name: str) -> EnvSpec:
    """The registered environment called NAME, whose module is imported if it names one."""
    module, _, id_ = name.rpartition(":")
    if id_.startswith("ALE/") and id_ not in gym.registry:
        module = module or "ale_py"
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            what = 'pip install "ale-py"' if module == "ale_py" else f"no module {error.name}"
            raise DataError(f"{name} needs a package that is missing: {what}") from error
        except Exception as error:
            raise DataError(
                f"{name}: the module {module} cannot be imported: {first_line(error)}"
            ) from error
    if id_ in gym.registry:
        return gym.registry[id_]
    folded = {known.lower(): known for known in gym.registry}
    near = difflib.get_close_matches(id_.lower(), folded, 1, 0.6)
    more = f"did you mean {folded[near[0]]!r}?" if near else "is its package installed?"
    raise DataError(f"{name}: Gymnasium has no environment of this id; {more}")
