"""The task "pettingzoo": environments of several agents, named as `family/environment_v0`."""

from __future__ import annotations

import dataclasses
import difflib
import pkgutil
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym

from corelab import CorelabError, DataError, require
from corelab_envs.modules import import_named
from corelab_envs.multi_agent import MultiAgentEnvironments, Policies, Roster, has_mask
from corelab_envs.self_play import SelfPlayEnvironments
from corelab_envs.self_play_rivals import RIVALS, Rival, random_player
from corelab_envs.settings import read_settings
from corelab_envs.vector import FAILURES, first_line

_COPIES = 8
"""How many copies with several agents are learned from if the user does not say."""
_FAMILIES = ("atari", "butterfly", "classic", "sisl")
"""The packages in `pettingzoo` that can be named without it."""
_PIP = {
    "mpe2": 'pip install "corelab-ml[mpe]"',
    "pettingzoo.sisl": 'pip install "corelab-ml[sisl]"',
    "pettingzoo.butterfly": 'pip install "pettingzoo[butterfly]"',
    "pettingzoo.atari": 'pip install "pettingzoo[atari]"',
    "pettingzoo": 'pip install "corelab-ml[games]"',
}
_REMADE = ("pettingzoo.butterfly.knights_archers_zombies_v11",)
"""Environments that a reset does not make as new."""


class PettingZooTask:
    """Any environment of PettingZoo's kind; provides the interface "environment".

    Where the agents act at once, each is a row (see `MultiAgentEnvironments`). Where they move in
    turn, a row is one of them, the learner, and others move for the rest (`SelfPlayEnvironments`).
    """

    @dataclass(frozen=True)
    class Config:
        """Options of an environment of several agents."""

        id: str = "mpe2/simple_spread_v3"
        """The package, which for PettingZoo's own can be shortened, and the environment."""
        num_envs: int | None = None
        """How many copies are learned from side by side; none leaves it to the algorithm, or is 8
        where each has several agents.
        """
        policies: Policies = "shared"
        """One policy that all agents share, or independent ones (with the model `independent`)."""
        opponent: str = "random"
        """Who moves for the others where agents move in turn, if the algorithm does not."""
        settings: tuple[str, ...] = ()
        """Settings of the environment's own, such as N=5 max_cycles=50."""
        flatten: bool = True
        """Show boards and other arrays that are no images as vectors."""
        video: bool = False
        """Film one episode at each evaluation."""

    def __init__(self, config: Config) -> None:
        require(
            config.num_envs is None or config.num_envs >= 1,
            "task.num_envs",
            config.num_envs,
            "at least 1",
        )
        self.config = config
        self.name = config.id
        self.video = config.video
        self._settings = read_settings(config.settings)
        self._path = _path(config.id)
        self._module = _find(config.id, self._path)
        self.agents = 1
        """How many rows each copy has."""
        self.seats = 1
        """How many agents move in turn, of whom a row is one; 1 where they act at once."""
        self.rivals: tuple[str, ...] = ()
        """The fixed players that a game of two can be played against; none if it is none."""
        turn_based = self._is_turn_based()
        self._make = self._turn_based if turn_based else self._parallel
        env = self._make()
        if not getattr(env, "possible_agents", None):
            raise DataError(f"{self.name} does not tell beforehand which agents there may be")
        self.fps = float(env.metadata.get("render_fps") or 30)
        self._render_modes = env.metadata.get("render_modes") or []
        with self._guarded():
            masked = _shows_masks(env, turn_based)
            self._roster = Roster(env, self.name, config.policies, masked, config.flatten)
            env.close()
        self.single_observation_space = self._roster.observation_space
        self.single_action_space = self._roster.action_space
        self._players: dict[str, Rival | None] = {}
        if turn_based:
            self._seat()
        else:
            self.agents = len(self._roster.agents)
            alone = config.opponent == type(config).opponent
            what = f"left out: in {self.name} all agents act at once and learn"
            require(alone, "task.opponent", config.opponent, what)
        self.num_envs = config.num_envs
        if self.agents > 1:  # an algorithm that chooses for itself knows nothing of agents
            self.num_envs = (config.num_envs or _COPIES) * self.agents

    def __reduce__(self) -> tuple[Any, ...]:
        """On another process it is made anew, since the module cannot be sent there."""
        return type(self), (self.config,)

    def make(
        self, num_envs: int, seed: int, *, render: bool = False
    ) -> MultiAgentEnvironments | SelfPlayEnvironments:
        """NUM_ENVS rows, whole copies of `agents` each, whose every random choice follows from
        SEED; with RENDER, for film.
        """
        if render and "rgb_array" not in self._render_modes:
            offers = ", ".join(self._render_modes) or "none"
            raise DataError(
                f"{self.name} cannot be filmed: of the render modes it would need rgb_array, "
                f"and it offers {offers}"
            )

        def make() -> Any:
            return self._make(**({"render_mode": "rgb_array"} if render else {}))

        if self._players:
            rival = self._players[self.config.opponent]
            return SelfPlayEnvironments(make, self._roster, self.name, num_envs, seed, rival)
        if num_envs % self.agents:
            raise DataError(
                f"{self.name}: its {self.agents} agents are learned side by side, in multiples of "
                f"{self.agents} rows; {num_envs} cannot be made"
            )
        copies, anew = num_envs // self.agents, self._path in _REMADE
        return MultiAgentEnvironments(make, self._roster, self.name, copies, seed, anew)

    def against(self, opponent: str) -> PettingZooTask:
        """The same game against another of its `rivals`."""
        return PettingZooTask(dataclasses.replace(self.config, opponent=opponent))

    def _seat(self) -> None:
        """Learn who can move for the others where agents move in turn."""
        roster, opponent = self._roster, self.config.opponent
        self.seats = len(roster.agents)
        self._players["random"] = random_player if roster.masked else None
        if self.seats == 2 and roster.masked and self.config.policies == "shared":
            self._players |= RIVALS.get(self._path, {})
            self.rivals = tuple(self._players)
        known = f"one of: {', '.join(self._players)}"
        require(opponent in self._players, "task.opponent", opponent, f"{known}, in {self.name}")

    def _is_turn_based(self) -> bool:
        if hasattr(self._module, "parallel_env"):
            return False
        if not hasattr(self._module, "env"):
            raise DataError(f"{self.name}: the module {self._path} has no environment in it")
        return not self._turn_based().metadata.get("is_parallelizable", False)

    def _turn_based(self, **options: Any) -> Any:
        # without the wrappers that check what an algorithm does: our rows are right already
        make = getattr(self._module, "raw_env", None) or self._module.env
        with self._guarded():
            return make(**self._settings, **options)

    def _parallel(self, **options: Any) -> Any:
        from pettingzoo import AECEnv
        from pettingzoo.utils.conversions import aec_to_parallel

        raw = getattr(self._module, "raw_env", None)
        native = hasattr(self._module, "parallel_env")
        if native and not (isinstance(raw, type) and issubclass(raw, AECEnv)):
            with self._guarded():
                return self._module.parallel_env(**self._settings, **options)
        env = self._turn_based(**options)
        env.last = partial(env.last, observe=False)  # the conversion has no use for what it sees
        return aec_to_parallel(env)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with _missing_package(self.name, self._path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on its settings, which the user has decided
            try:
                yield
            except (CorelabError, ImportError, gym.error.DependencyNotInstalled):
                raise
            except FAILURES as error:
                raise DataError(f"{self.name} cannot be made: {first_line(error)}") from error


def _shows_masks(env: Any, turn_based: bool) -> bool:
    """Whether ENV, which begins an episode, gives its agents action masks."""
    if turn_based:
        env.reset(seed=0)
        return any(has_mask(env.observe(a), env.infos.get(a, {})) for a in env.agents)
    observations, infos = env.reset(seed=0)
    return any(has_mask(observations[a], infos.get(a, {})) for a in env.agents)


def _path(name: str) -> str:
    """The module of the environment called NAME."""
    family, _, environment = name.partition("/")
    return f"{'pettingzoo.' * (family in _FAMILIES)}{family}.{environment}"


def _find(name: str, path: str) -> Any:
    """The module at PATH. `DataError` with what to install, or what was probably meant."""
    family, _, environment = path.rpartition(".")
    with _importing(name, path):
        try:
            package = import_named(family)
        except ModuleNotFoundError as error:
            if _pip(path) or error.name is None or not family.startswith(error.name):
                raise
            known = ", ".join((*_FAMILIES, "mpe2"))
            raise DataError(
                f"{name}: there is no package {family}; families of environments are: {known}"
            ) from error
        try:
            return import_named(path)
        except ModuleNotFoundError as error:
            if error.name != path:
                raise
            modules = [
                module.name for module in pkgutil.iter_modules(getattr(package, "__path__", ()))
            ]
            there = [module for module in modules if re.search(r"_v\d+$", module)]
            near = difflib.get_close_matches(environment, there, 1, 0.6)
            more = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(there)}"
            raise DataError(
                f"{name}: {name.partition('/')[0]} has no environment of this name; {more}"
            ) from error


@contextmanager
def _importing(name: str, path: str) -> Iterator[None]:
    """Within, what goes wrong when a module is imported is told in a sentence."""
    try:
        with _missing_package(name, path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CorelabError:
        raise
    except FAILURES as error:
        raise DataError(
            f"{name}: the module {path} cannot be imported: {first_line(error)}"
        ) from error


@contextmanager
def _missing_package(name: str, path: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        raise DataError(
            f"{name} needs a package that is missing: {_pip(path) or first_line(error)}"
        ) from error


def _pip(path: str) -> str:
    return next((pip for package, pip in _PIP.items() if path.startswith(f"{package}.")), "")
