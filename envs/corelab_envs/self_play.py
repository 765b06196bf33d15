"""Environments of agents who move in turn, seen as an environment for one of them.

A step is the learner's move and whatever the others answer, so that any algorithm can learn. One
that brings `Opponents`, such as its own policy or, in a game of two, a league of its past, learns
by self-play. From one of a copy's episodes to the next the learner takes the next seat.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from numpy.typing import NDArray

from corelab import DataError
from corelab_envs.multi_agent import Replayed, Roster, picture
from corelab_envs.self_play_rivals import Rival
from corelab_envs.vector import FAILURES, Checked, CopyError, first_line, stack_of

_PASSED_OVER = 1_000
"""Episodes in a row that may end before the learner has moved."""
_ANSWERS = 10_000
"""Moves of the others between two of the learner's, after which its turn is taken never to come."""


class Opponents(Protocol):
    """Who moves for the others in a learner's episode. They are known by numbers."""

    def draw(self, n: int) -> NDArray[np.int64]:
        """The opponents [n] of N episodes that begin."""

    def choose(self, observations: Any, opponents: NDArray[np.int64]) -> NDArray[Any]:
        """A move [B, ...] for each of OPPONENTS [B], who see OBSERVATIONS [B, ...] of the task's
        space. If that is a Dict with "action_mask", this says what is allowed.
        """

    def record(self, opponents: NDArray[np.int64], returns: NDArray[np.float64]) -> None:
        """Episodes against OPPONENTS [n] brought the learner RETURNS [n]."""


@runtime_checkable
class SelfPlay(Protocol):
    """Environments in which an algorithm may provide the other side."""

    def face(self, opponents: Opponents) -> None:
        """Play against OPPONENTS from the next `reset` on."""


class Table(Replayed):
    """One copy: several seats, and the learner in one of them."""

    def __init__(self, env: Any, roster: Roster, name: str, root: int, index: int) -> None:
        super().__init__(env, roster, name, root, index)
        self.learner = roster.agents[0]
        self.over = True
        """Whether the learner is out: others may still be in."""
        self.gained = 0.0
        """What the learner was given in this episode."""
        self.row: Any = None
        """What whoever has to move sees, or the learner if it is out."""

    def reset(self) -> None:
        """Begin the next episode, with the learner in the next seat."""
        seed = self._next_seed()
        self.gained = 0.0
        seats = self._roster.agents
        self.learner = seats[(self._episode + self._index) % len(seats)]
        with self._guarded("reset"):
            self.env.reset(seed=seed)
            self._pass_on()
        self._look()

    def move(self, action: Any) -> float:
        """Whose turn it is does ACTION, that of a row; what that gives the learner."""
        if not self._roster.allows(self.row, action):
            raise self._wrong(
                f"was given action {action}, which its mask forbids, in {self._place}"
            )
        mover = self._roster.agents.index(self.env.agent_selection)
        move = self._roster.act(mover, action)
        self._actions.append(move if isinstance(move, int) else np.array(move))
        with self._guarded("step"):
            self.env.step(move)
            reward = float(self.env.rewards[self.learner])
            self._pass_on()
        self.gained += reward
        self._look()
        return reward

    @property
    def waits(self) -> bool:
        """Whether it is another's turn."""
        return not self.over and self.env.agent_selection != self.learner

    @property
    def cut(self) -> bool:
        """Whether it is over for a reason from outside, such as a limit on its length."""
        return self.over and not self.env.terminations.get(self.learner, False)

    def _pass_on(self) -> None:
        """See whether the learner is out, and let others who are leave."""
        env = self.env
        self.over = self._is_out(self.learner)
        for _ in self._roster.agents:
            if self.over or not self._is_out(env.agent_selection):
                return
            env.step(None)
        raise RuntimeError("the turns of agents who are out do not end")

    def _is_out(self, agent: str) -> bool:
        env = self.env
        return bool(env.terminations.get(agent, True) or env.truncations.get(agent, True))

    def _look(self) -> None:
        player = self.learner if self.over else self.env.agent_selection
        with self._guarded("observe"):
            observation, info = self.env.observe(player), self.env.infos.get(player, {})
            self.row, mask = self._roster.see(self._roster.agents.index(player), observation, info)
        if mask is not None and self.over:
            mask[:] = 1  # nothing is chosen here; what acts must not stumble over it
        elif mask is not None and not mask.any():
            raise self._wrong(f"allows {player} no action in {self._place}")

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as a tree that can be saved."""
        return {
            "root": self._root,
            "episode": self._episode,
            "moves": list(self._actions),
            "row": deepcopy(self.row),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was called, or raise `DataError`."""
        self._root, self._episode = state["root"], state["episode"] - 1
        self.reset()
        for move in state["moves"]:
            self.move(move)
        if not data_equivalence(self.row, state["row"], exact=True):
            raise self._wrong(
                "cannot be restored: the same seed and moves led to another observation, so its "
                "dynamics depend on something else"
            )


class _Fixed:
    """Opponents that are all the same rule."""

    def __init__(self, rival: Rival, rng: np.random.Generator) -> None:
        self._rival = rival
        self._rng = rng

    def draw(self, n: int) -> NDArray[np.int64]:
        return np.zeros(n, np.int64)

    def choose(self, observations: Any, opponents: NDArray[np.int64]) -> NDArray[Any]:
        return self._rival(observations["observation"], observations["action_mask"], self._rng)

    def record(self, opponents: NDArray[np.int64], returns: NDArray[np.float64]) -> None:
        pass


class _Random(_Fixed):
    """Opponents that do anything in SPACE, where nothing says what is allowed."""

    def __init__(self, space: spaces.Space[Any], rng: np.random.Generator) -> None:
        self._space = deepcopy(space)
        self._rng = rng

    def choose(self, observations: Any, opponents: NDArray[np.int64]) -> NDArray[Any]:
        self._space.seed(int(self._rng.integers(2**31)))
        return np.array([self._space.sample() for _ in opponents])


class SelfPlayEnvironments(Checked):
    """N copies whose every choice follows from SEED. RIVAL moves for the others, or chance if there
    is none, until other opponents come.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        roster: Roster,
        name: str,
        num_envs: int,
        seed: int,
        rival: Rival | None,
    ) -> None:
        super().__init__(name, num_envs)
        root, own = np.random.SeedSequence(seed).spawn(2)
        self._tables = [
            Table(make(), roster, name, int(root.generate_state(1)[0] >> 1), i)
            for i in range(num_envs)
        ]
        self._stack, self._dtype = stack_of(roster.observation_space), roster.action_space.dtype
        self._rng = np.random.default_rng(own)
        self._opponents: Opponents = (
            _Fixed(rival, self._rng) if rival else _Random(roster.action_space, self._rng)
        )
        self._opponent = np.zeros(num_envs, np.int64)

    def face(self, opponents: Opponents) -> None:
        """Play against OPPONENTS from the next `reset` on."""
        self._opponents = opponents

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N, ...] and further information."""
        self._go_on(list(range(self.num_envs)), np.zeros(self.num_envs))
        return self._observations(), {}

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Move [N, ...] in every copy and let the others answer: observations [N, ...], rewards,
        terminations, truncations [N] and further information. `DataError` if a copy fails or gives
        a number that is not finite.
        """
        self._steps += 1
        actions = np.asarray(actions, self._dtype)
        rewards = np.zeros(self.num_envs)
        begins = [i for i, table in enumerate(self._tables) if table.over]
        for i, table in enumerate(self._tables):
            if not table.over:
                rewards[i] = table.move(actions[i])
        self._go_on(begins, rewards)
        rewards[begins] = 0  # what happened before the learner's first turn is no reward for it
        self._refuse_non_finite("a reward", rewards)
        truncations = np.array([table.cut for table in self._tables])
        over = np.array([table.over for table in self._tables])
        if over.any():
            gained = np.array([table.gained for table in self._tables])
            self._opponents.record(self._opponent[over], gained[over])
        return self._observations(), rewards, over & ~truncations, truncations, {}

    def _go_on(self, begins: list[int], rewards: NDArray[np.float64]) -> None:
        """Begin an episode in the copies BEGINS and let the others move until it is nowhere their
        turn; what is over before the learner's first turn is passed over.
        """
        for _ in range(_PASSED_OVER):
            if begins:
                self._opponent[begins] = self._opponents.draw(len(begins))
            for i in begins:
                self._tables[i].reset()
            self._answer(rewards)
            begins = [i for i in begins if self._tables[i].over]
            if not begins:
                return
        raise CopyError(
            self._name,
            begins[0],
            f"has ended {_PASSED_OVER} episodes in a row before the learner's turn",
        )

    def _answer(self, rewards: NDArray[np.float64]) -> None:
        """Let the others move, all copies together, until it is nowhere their turn."""
        for _ in range(_ANSWERS):
            waiting = [i for i, table in enumerate(self._tables) if table.waits]
            if not waiting:
                return
            seen = self._batch([self._tables[i].row for i in waiting])
            moves = self._opponents.choose(seen, self._opponent[waiting])
            for i, move in zip(waiting, moves, strict=True):
                rewards[i] += self._tables[i].move(move)
        learner = self._tables[waiting[0]].learner
        wrong = f"has not come back to {learner} after {_ANSWERS} moves of the others"
        raise CopyError(self._name, waiting[0], wrong)

    def _observations(self) -> Any:
        observations = self._batch([table.row for table in self._tables])
        self._refuse_non_finite("an observation", observations)
        return observations

    def _batch(self, rows: list[Any]) -> Any:
        try:
            return self._stack(rows)
        except FAILURES as error:
            wrong = f"an observation does not fit at step {self._steps}: {first_line(error)}"
            raise DataError(f"{self._name}: {wrong}") from error

    def render(self) -> NDArray[np.uint8]:
        """A picture of the first copy, [height, width, 3]."""
        return picture(self._tables[0].env, self._name)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens from here on, as a tree that can be saved; not the
        opponents that were brought.
        """
        return {
            "steps": self._steps,
            "rng": self._rng.bit_generator.state,
            "opponent": self._opponent.copy(),
            "tables": [table.state_dict() for table in self._tables],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called. `ValueError` if that was something else."""
        self._steps = state["steps"]
        self._rng.bit_generator.state = state["rng"]
        self._opponent[:] = state["opponent"]
        for table, saved in zip(self._tables, state["tables"], strict=True):
            table.load_state_dict(saved)

    def close(self) -> None:
        """Let go of what they hold."""
        for table in self._tables:
            table.env.close()
