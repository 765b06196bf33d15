"""The task "gymnasium": an environment from Gymnasium's registry, named by its id."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from corelab_nets.masks import KEY, choices_of
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from corelab import CorelabError, DataError, require
from corelab_envs.modules import import_named
from corelab_envs.settings import read_settings
from corelab_envs.vector import FAILURES, Copies, Copy, Native, first_line
from corelab_envs.wrappers import Masked, Mission, Remade, Reseeded, has_mission

_PROBE_STEPS = 10
_FEW = 5
"""Up to this many copies are faster one by one than in a vector environment of Gymnasium's."""
_REGISTERED_BY = {
    "ALE/": "ale_py",
    "MinAtar/": "minatar.gym",
    "MiniGrid-": "minigrid",
    "BabyAI-": "minigrid",
    "corelab/": "corelab_envs.registry",
}
"""The modules that register the ids with these beginnings."""
_PIP = {
    "gymnasium.envs.box2d": 'pip install "corelab-ml[box2d]"',
    "gymnasium.envs.mujoco": 'pip install "corelab-ml[mujoco]"',
    "gymnasium.envs.phys2d": 'pip install "gymnasium[jax]"',
    "gymnasium.envs.tabular": 'pip install "gymnasium[jax]"',
    "ale_py": 'pip install "corelab-ml[atari]"',
    "minatar": 'pip install "corelab-ml[minatar]"',
    "minigrid": 'pip install "corelab-ml[minigrid]"',
}
"""What brings the requirements of environments from these modules."""
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
        settings: tuple[str, ...] = ()
        """Settings of the environment's own, such as is_slippery=False map_name=8x8."""
        video: bool = False
        """Film one episode at each evaluation."""
        mask: bool = False
        """Let observations tell which actions are allowed, if the environment says so."""

    def __init__(self, config: Config) -> None:
        for option in ("num_envs", "max_episode_steps"):
            value = getattr(config, option)
            require(value is None or value >= 1, f"task.{option}", value, "at least 1")
        self.config = config
        self.name = config.id
        self.num_envs = config.num_envs
        self.video = config.video
        self._settings = read_settings(config.settings)
        self._spec = find_spec(config.id)
        self._native = (
            bool(self._spec.vector_entry_point)
            and not self._spec.additional_wrappers
            and not config.mask
        )
        self.replays = False
        """Whether copies are restored by acting again as before, rather than by writing a state."""
        self._probe()

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> Native | Copies:
        """NUM_ENVS copies whose every random choice follows from SEED; with RENDER, for film."""
        if render and "rgb_array" not in self._render_modes:
            offers = ", ".join(self._render_modes) or "none"
            raise DataError(
                f"{self.name} cannot be filmed: of the render modes it would need rgb_array, "
                f"and it offers {offers}"
            )
        if self._native and (num_envs > _FEW or self._spec.entry_point is None):
            return self._make_native(num_envs, seed, render)
        return self._make_copies(num_envs, seed, render)

    def _options(self, render: bool) -> dict[str, Any]:
        options = dict(self._settings)
        if render:
            options["render_mode"] = "rgb_array"
        if self.config.max_episode_steps is not None:
            options["max_episode_steps"] = self.config.max_episode_steps
        return options

    def _make_native(self, num_envs: int, seed: int, render: bool = False) -> Native:
        mode = gym.VectorizeMode.VECTOR_ENTRY_POINT
        with self._making():
            vector = gym.make_vec(
                self._spec, num_envs, vectorization_mode=mode, **self._options(render)
            )
        return Native(vector, self.name, seed)

    def _make_copies(self, num_envs: int, seed: int, render: bool = False) -> Copies:
        make = partial(gym.make, self._spec, disable_env_checker=True, **self._options(render))
        copies = []
        with self._making():
            for index in range(num_envs):
                env = Remade(make) if self._spec.entry_point in _REMADE else make()
                if self._spec.entry_point == "minatar.gym:BaseEnv":
                    env = Reseeded(env)
                if has_mission(env):
                    env = Mission(env)
                if self.config.mask:
                    env = Masked(env)
                copies.append(Copy(env, self.name, seed, index, self.replays))
        return Copies(copies, self.name)

    def _probe(self) -> None:
        """Learn from one copy what the spaces are and in which way its state can be saved."""
        metadata: dict[str, Any] = {}
        if self._spec.entry_point is not None:
            copies = self._make_copies(1, seed=0)
            (env,) = copies.copies
            self.single_observation_space = env.observation_space
            self.single_action_space = env.action_space
            metadata = env.metadata
            self.replays = not self._is_readable(copies)
        if self._native:
            native = self._make_native(1, seed=0)
            vector = native.vector
            in_next_step = vector.metadata.get("autoreset_mode") is AutoresetMode.NEXT_STEP
            self._native = in_next_step and self._is_readable(native)
            if self._spec.entry_point is None:
                self.single_observation_space = vector.single_observation_space
                self.single_action_space = vector.single_action_space
                metadata = vector.metadata
        if self._spec.entry_point is None and not self._native:
            raise DataError(
                f"{self.name} exists only as a vector environment, and that cannot be used: "
                "its state must be readable and its autoreset mode NEXT_STEP"
            )
        self._render_modes = metadata.get("render_modes") or []
        self.fps = float(metadata.get("render_fps") or 30)

    def _is_readable(self, envs: Native | Copies) -> bool:
        """Whether the state of ENVS, which are closed, can be read after a few steps."""
        one = self.single_action_space
        space = batch_space(one, 1)
        space.seed(0)
        observations, _ = envs.reset()
        for _ in range(_PROBE_STEPS):
            mask = observations.get(KEY) if isinstance(observations, dict) else None
            actions = space.sample() if mask is None else _allowed(mask, one, space)
            observations, *_ = envs.step(actions)
        try:
            envs.state_dict()
        except DataError:
            return False
        finally:
            envs.close()
        return True

    @contextmanager
    def _making(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on newer versions, which the id has decided
            try:
                yield
            except (ImportError, gym.error.DependencyNotInstalled) as error:
                entry = str(self._spec.entry_point or self._spec.vector_entry_point)
                raise DataError(
                    f"{self.name} needs a package that is missing: "
                    f"{_pip(entry) or first_line(error)}"
                ) from error
            except CorelabError:
                raise
            except FAILURES as error:
                raise DataError(f"{self.name} cannot be made: {first_line(error)}") from error


def _allowed(mask: NDArray[Any], actions: gym.Space[Any], batch: gym.Space[Any]) -> Any:
    """One of the ACTIONS that MASK [1, n] allows, or any of a BATCH if it is no mask over them."""
    choices = isinstance(actions, gym.spaces.Discrete | gym.spaces.MultiDiscrete)
    if not choices or mask.shape != (1, gym.spaces.flatdim(actions)):
        return batch.sample()
    first = [part.argmax(1) for part in np.split(mask, choices_of(actions)[1:], 1)]
    return np.stack(first, 1).reshape(-1, *(actions.shape or ())) + getattr(actions, "start", 0)


def find_spec(name: str) -> EnvSpec:
    """The registered environment called NAME, whose module is imported if it names one."""
    module, _, id_ = name.rpartition(":")
    if not module and id_ not in gym.registry:
        module = next((m for start, m in _REGISTERED_BY.items() if id_.startswith(start)), "")
    if module:
        try:
            imported: Any = import_named(module)
            if module == "minatar.gym" and "MinAtar/Breakout-v1" not in gym.registry:
                imported.register_envs()  # for which it waits to be told
        except ModuleNotFoundError as error:
            what = _pip(module) or f"no module {error.name}"
            raise DataError(f"{name} needs a package that is missing: {what}") from error
        except FAILURES as error:
            raise DataError(
                f"{name}: the module {module} cannot be imported: {first_line(error)}"
            ) from error
    if id_ in gym.registry:
        return gym.registry[id_]
    folded = {known.lower(): known for known in gym.registry}
    near = difflib.get_close_matches(id_.lower(), folded, 1, 0.6)
    more = f"did you mean {folded[near[0]]!r}?" if near else "is its package installed?"
    raise DataError(f"{name}: Gymnasium has no environment of this id; {more}")


def _pip(module: str) -> str:
    """The command that brings what MODULE needs, if it is known."""
    return next((pip for start, pip in _PIP.items() if module.startswith(start)), "")
