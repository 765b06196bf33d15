"""`corelab/Connection-v0`: proving theorems as a Markov decision process.

The state is a tableau, the actions are the inferences that apply to its goal, and a finished proof
is worth 1 (Kaliszyk, Urban, Michalewski and Olšák 2018, "Reinforcement Learning of Theorem
Proving", arXiv:1805.07563). There is no way back in an episode: a search copies states.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from corelab import DataError, require
from corelab_envs.proving import Observation, Part, Spaces
from corelab_envs.theorem.calculus import ACTION_NUMBERS, Outcome
from corelab_envs.theorem.clausify import Form
from corelab_envs.theorem.graph import Link, Thing
from corelab_envs.theorem.machinery import machinery
from corelab_envs.theorem.problem_set import ProblemSet
from corelab_envs.theorem.proof import current_goal, reward, show_tableau, tableau
from corelab_envs.theorem.walks import STATE_NUMBERS, Role

Seen: TypeAlias = Literal["walks", "graph"]
"""How a state is shown: as hashed walks and numbers, or as a graph."""
_DRAWS = 1000


@dataclass(frozen=True)
class Common:
    """Options that the environment and the task have in common."""

    path: str | None = None
    """A TPTP file, or a folder of files `*.p`; none takes the problems that corelab has."""
    form: Form = "none"
    """Where parts of formulas get names: in the conjecture, nowhere (none), or all over."""
    conj: bool = True
    """Begin with clauses of the conjecture, if there is one."""
    eager: bool = False
    """Make reductions that bind variables without asking, the nearest literal of the path first."""
    max_inferences: int = 100
    """Truncate episodes after this many actions."""
    max_actions: int = 32
    """How many inferences can be chosen from; those beyond, in canonical order, are not offered."""
    state_features: int = 256
    """How many numbers tell the state."""
    action_features: int = 32
    """How many numbers tell each action."""
    observation: Seen = "walks"
    """How a state is shown: as numbers (walks), or as a graph of nodes and edges."""
    max_nodes: int = 512
    """How many nodes a graph has room for; those that are deepest in terms are left out first."""
    max_edges: int = 1024
    """How many edges a graph has room for."""
    name_buckets: int = 0
    """How many different names a graph tells of symbols; 0: names mean nothing."""


@dataclass(frozen=True)
class Options(Common, Spaces):
    """What problems are drawn, and how they are seen."""

    part: Part = "all"
    """Which of a folder's problems: all, those to learn from (train) or to measure on (dev)."""

    def __post_init__(self) -> None:
        for name, least in (
            ("max_inferences", 1),
            ("max_actions", 1),
            ("state_features", STATE_NUMBERS + 1),
            ("action_features", ACTION_NUMBERS + 1),
            ("max_nodes", 1),
            ("max_edges", 1),
            ("name_buckets", 0),
        ):
            require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        known = self.observation in get_args(Seen)
        require(known, "observation", self.observation, "walks or graph")

    def observation_space(self) -> spaces.Dict:
        """What a state shows."""
        if self.observation == "walks":
            return super().observation_space()
        last = self.max_nodes - 1
        highest = int(max(*Thing, *Role, self.name_buckets))
        return spaces.Dict(
            {
                "nodes": spaces.Box(0, highest, (self.max_nodes, 3), np.int32),
                "edges": spaces.Box(0, int(max(last, *Link)), (self.max_edges, 3), np.int32),
                "actions": spaces.Box(-1, last, (self.max_actions,), np.int32),
                "action_mask": spaces.Box(0, 1, (self.max_actions,), np.int8),
            }
        )

    def problems(self) -> ProblemSet:
        """What is drawn from."""
        path = Path(self.path) if self.path is not None else None
        return ProblemSet(path, self.part, self.form, self.conj)


class _Problems:
    """Draws a problem at a time and makes its tableau."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.problems = options.problems()
        self.machine = machinery()

    def draw(self, rng: np.random.Generator) -> tuple[str, Any]:
        """A problem with something to do: its name and a new tableau."""
        names = self.problems.names
        for _ in range(_DRAWS):
            name = names[int(rng.integers(len(names)))]
            found = self.begin(name)
            if found.action_count:
                return name, found
        raise DataError(
            f"{self.problems.path}: no problem was found with a clause to begin a proof from"
        )

    def begin(self, name: str) -> Any:
        """A new tableau for the problem NAME."""
        return self.machine.Tableau(self.problems.matrix(name), self.options.eager)

    def observe(self, tableaux: list[Any]) -> Observation:
        """What TABLEAUX show, [N, ...]."""
        o, n = self.options, len(tableaux)
        if o.observation == "graph":
            nodes = np.empty((n, o.max_nodes, 3), np.int32)
            edges = np.empty((n, o.max_edges, 3), np.int32)
            actions = np.empty((n, o.max_actions), np.int32)
            masks = np.empty((n, o.max_actions), np.int8)
            self.machine.graph_many(tableaux, nodes, edges, actions, masks, o.name_buckets)
            return {"nodes": nodes, "edges": edges, "actions": actions, "action_mask": masks}
        size = o.state_features + o.max_actions * o.action_features
        shown = np.empty((n, size), np.float32)
        masks = np.empty((n, o.max_actions), np.int8)
        self.machine.observe_many(tableaux, o.state_features, shown, masks)
        return {"observation": shown, "action_mask": masks}


class ConnectionEnv(gym.Env[Observation, np.int64]):
    """Extend a connection tableau until it is closed.

    Action i is the i-th inference that applies, as `action_mask` says. One that does not apply ends
    the episode without a reward, as does a goal to which nothing applies. An episode is a problem
    drawn at random, or the one that `reset(options={"problem": NAME})` names.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 2}

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        self.options = Options(**options)
        self.render_mode = render_mode
        self.observation_space = self.options.observation_space()
        self.action_space = self.options.action_space()
        self.problem = ""
        """The name of the problem at hand."""
        self._problems = _Problems(self.options)
        self.tableau: Any = None
        """The tableau, of `engine` or `calculus`: to copy, search and read."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin with a new problem."""
        super().reset(seed=seed)
        if options and "problem" in options:
            self.problem = options["problem"]
            self.tableau = self._problems.begin(self.problem)
            if not self.tableau.action_count:
                raise DataError(f"{self.problem}: no clause begins a proof, so there is none")
        else:
            self.problem, self.tableau = self._problems.draw(self.np_random)
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Make an inference."""
        offered = min(self.tableau.action_count, self.options.max_actions)
        if not 0 <= action < offered:
            return self._observation(), 0.0, True, False, self._info()
        outcome = self.tableau.step(int(action))
        over = outcome is not Outcome.RUNNING
        gained = reward(self.tableau) if over else 0.0
        cut = not over and self.tableau.inferences >= self.options.max_inferences
        return self._observation(), gained, over, cut, self._info()

    def render(self) -> str | None:  # type: ignore[override]
        """The tableau as text, if the render mode is ansi."""
        if self.render_mode is None:
            return None
        root = tableau(self.tableau)
        return show_tableau(root, current_goal(root))

    def _observation(self) -> Observation:
        seen = self._problems.observe([self.tableau])
        return {key: value[0] for key, value in seen.items()}

    def _info(self) -> dict[str, Any]:
        hidden = max(0, self.tableau.action_count - self.options.max_actions)
        return {"problem": self.problem, "hidden_actions": hidden}


class ConnectionVectorEnv(gym.vector.VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """Many tableaux that are extended side by side, in autoreset mode NEXT_STEP."""

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        self.options = Options(**options)
        self.num_envs = num_envs
        self.single_observation_space = self.options.observation_space()
        self.single_action_space = self.options.action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.problems = [""] * num_envs
        """The names of the problems at hand."""
        self._problems = _Problems(self.options)
        self._tableaux: list[Any] = []
        self._over = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin with a new problem in every copy."""
        if isinstance(seed, list):
            raise DataError("the copies share one stream: give one seed, not a list")
        super().reset(seed=seed)
        drawn = [self._problems.draw(self.np_random) for _ in range(self.num_envs)]
        self.problems, self._tableaux = map(list, zip(*drawn, strict=True))
        self._over[:] = False
        return self._problems.observe(self._tableaux), {"problem": np.array(self.problems)}

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Make an inference in every copy whose episode is not over, and begin anew in others."""
        n, o = self.num_envs, self.options
        begun = np.flatnonzero(self._over)
        for i in begun:
            self.problems[i], self._tableaux[i] = self._problems.draw(self.np_random)
        chosen = np.array(actions, np.int32)
        chosen[begun] = -1
        outcomes, inferences = np.empty((2, n), np.int32)
        applied = self._problems.machine.step_many(
            self._tableaux, chosen, o.max_actions, outcomes, inferences
        )
        terminations = (outcomes != Outcome.RUNNING) | ~applied
        terminations[begun] = False
        truncations = ~terminations & (inferences >= o.max_inferences)
        rewards = np.zeros(n)
        for i in np.flatnonzero(terminations & (outcomes == Outcome.PROVED)):
            rewards[i] = reward(self._tableaux[i])
        self._over = terminations | truncations
        seen = self._problems.observe(self._tableaux)
        return seen, rewards, terminations, truncations, {"problem": np.array(self.problems)}
