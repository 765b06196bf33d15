"""`corelab/Metamath-v0`: proving theorems of Metamath databases as a Markov decision process.

The state is a list of open goals, the actions are the assertions that apply to the first of them,
and a finished proof is worth 1. There is no way back in an episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym
import numpy as np

from corelab import DataError, require
from corelab_envs.metamath.derivation import Derivation, Inference
from corelab_envs.metamath.features import ACTION_NUMBERS, STATE_NUMBERS, Sight
from corelab_envs.metamath.theorem_set import Premises, TheoremSet
from corelab_envs.metamath.verification import check
from corelab_envs.proving import Observation, Part, Spaces

_DRAWS = 1000


@dataclass(frozen=True)
class Common:
    """Options that the environment and the task have in common."""

    path: str | None = None
    """A Metamath database, a file; none takes the propositional calculus that corelab has."""
    upto: str | None = None
    """The label of the last statement to read; none reads the whole database."""
    premises: Premises = "all"
    """What to prove from: all that stands before a theorem, or what its proof there cites."""
    max_steps: int = 50
    """Truncate episodes after this many actions."""
    max_actions: int = 48
    """How many inferences can be chosen from; those beyond, in canonical order, are not offered."""
    state_features: int = 256
    """How many numbers tell the state."""
    action_features: int = 32
    """How many numbers tell each action."""


@dataclass(frozen=True)
class Options(Common, Spaces):
    """What theorems are drawn, and how they are seen."""

    part: Part = "all"
    """Which of its theorems: all, those to learn from (train) or to measure on (dev)."""

    def __post_init__(self) -> None:
        for name, least in (
            ("max_steps", 1),
            ("max_actions", 1),
            ("state_features", STATE_NUMBERS + 1),
            ("action_features", ACTION_NUMBERS + 1),
        ):
            require(getattr(self, name) >= least, name, getattr(self, name), f"at least {least}")
        for name, kind in (("part", Part), ("premises", Premises)):
            known = get_args(kind)
            require(getattr(self, name) in known, name, getattr(self, name), " or ".join(known))

    def theorems(self) -> TheoremSet:
        """What is drawn from. `DataError` if the database cannot be read or has none."""
        path = Path(self.path) if self.path is not None else None
        return TheoremSet(path, self.upto, self.part, self.premises)


class MetamathEnv(gym.Env[Observation, np.int64]):
    """Prove a theorem backwards, until no goal is open.

    Action i is the i-th inference that applies, as `action_mask` says. One that does not apply ends
    the episode without a reward, as does a goal to which nothing applies. An episode is a theorem
    drawn at random, or the one that `reset(options={"theorem": LABEL})` names.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 2}

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        self.options = Options(**options)
        self.render_mode = render_mode
        self.observation_space = self.options.observation_space()
        self.action_space = self.options.action_space()
        self.theorems = self.options.theorems()
        """The theorems that are drawn from."""
        self.theorem = ""
        """The label of the theorem at hand."""
        self.proof: list[str] | None = None
        """The labels of its proof, once that is finished and checked."""
        self._sight = Sight(self.options.state_features, self.options.action_features)
        self.derivation: Derivation
        """The proof in the making."""
        self._offered: list[Inference] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin with a new theorem."""
        super().reset(seed=seed)
        if options and "theorem" in options:
            self._begin(options["theorem"])
            if not self._offered:
                raise DataError(f"{self.theorem}: nothing before it applies to it")
        else:
            labels = self.theorems.labels
            for _ in range(_DRAWS):
                self._begin(labels[int(self.np_random.integers(len(labels)))])
                if self._offered:
                    break
            else:
                raise DataError(
                    f"{self.theorems.path}: no theorem was found to which something before it "
                    "applies"
                )
        return self._observation(), self._info()

    @property
    def inferences(self) -> list[Inference]:
        """What can be chosen: action i is the i-th."""
        return self._offered[: self.options.max_actions]

    def _begin(self, label: str) -> None:
        self.derivation = self.theorems.begin(label)
        self.theorem, self.proof = label, None
        self._look()

    def _look(self) -> None:
        """See what applies, and whether that is more than is offered."""
        self._offered = list(islice(self.derivation.inferences(), self.options.max_actions + 1))

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Make an inference."""
        offered = self.inferences
        if not 0 <= action < len(offered):
            return self._observation(), 0.0, True, False, self._info()
        self.derivation.apply(offered[int(action)])
        self._look()
        gained = 0.0
        if not self.derivation.goals:
            gained = self._reward()
        over = not self._offered
        cut = not over and self.derivation.steps >= self.options.max_steps
        return self._observation(), gained, over, cut, self._info()

    def _reward(self) -> float:
        """1 for a proof that passes the check; 0 if the inferences make none.

        `RuntimeError` if the check refuses what they make: that would be a mistake of corelab's.
        """
        proof = self.derivation.proof()
        if proof is None:
            return 0.0
        why = check(self.theorems.database, self.derivation.theorem, proof)
        if why:
            raise RuntimeError(f"{self.theorem}: what was found is no proof: {why}")
        self.proof = proof
        return 1.0

    def render(self) -> str | None:  # type: ignore[override]
        """The open goals as text, if the render mode is ansi; the proof when none is left."""
        if self.render_mode is None:
            return None
        show = self.theorems.show
        goals = [f"|- {show(goal)}" for goal in self.derivation.goals]
        if goals:
            given = [f"given {' '.join(h.symbols)}" for h, _ in self.derivation.premises]
            return "\n".join([*given, f"> {goals[0]}", *(f"  {goal}" for goal in goals[1:])]) + "\n"
        statement = " ".join(self.derivation.theorem.symbols)
        proof = "?" if self.proof is None else " ".join(self.proof)
        return f"{self.theorem} $p {statement} $= {proof} $.\n"

    def _observation(self) -> Observation:
        o, offered = self.options, self.inferences
        state = self._sight.state(self.derivation)
        actions = self._sight.actions(offered, o.max_actions)
        return {
            "observation": np.concatenate([state, actions.ravel()]),
            "action_mask": (np.arange(o.max_actions) < len(offered)).astype(np.int8),
        }

    def _info(self) -> dict[str, Any]:
        hidden = len(self._offered) > self.options.max_actions
        return {"theorem": self.theorem, "more_actions": hidden}
