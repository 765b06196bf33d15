"""Games of two players who move in turn, seen as an environment for one of them.

A step is the learner's move and whatever the opponent answers, so that any algorithm can learn;
one that brings `Opponents`, such as a league of its own past, learns by self-play. In a copy's
even episodes the learner has one seat and in odd ones the other.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import concatenate, create_empty_array
from numpy.typing import NDArray

from corelab import DataError
from corelab_envs.multi_agent import flattened, picture
from corelab_envs.self_play_rivals import Rival
from corelab_envs.vector import first_line


class Opponents(Protocol):
    """Who plays against the learner. They are known by numbers."""

    def draw(self, n: int) -> NDArray[np.int64]:
        """The opponents [n] of N episodes that begin."""

    def choose(self, observations: Any, opponents: NDArray[np.int64]) -> NDArray[Any]:
        """A move [B] for each of OPPONENTS [B], who see OBSERVATIONS, a dict of arrays [B, ...] in
        which "action_mask" says what is allowed.
        """

    def record(self, opponents: NDArray[np.int64], returns: NDArray[np.float64]) -> None:
        """Episodes against OPPONENTS [n] brought the learner RETURNS [n]."""


@runtime_checkable
class SelfPlay(Protocol):
    """Environments in which an algorithm may provide the other side."""

    def face(self, opponents: Opponents) -> None:
        """Play against OPPONENTS from the next `reset` on."""


class Table:
    """One game: two seats, the learner in one of them, and a way back to where it stands.

    What is random in an episode follows from a seed made of ROOT, the copy's INDEX and the number
    of the episode. The moves of both are remembered, so that it is restored by playing it again.
    """

    def __init__(self, env: Any, space: spaces.Dict, name: str, root: int, index: int) -> None:
        self.env = env
        self._space = space
        self._players: list[str] = list(env.possible_agents)
        self._name = name
        self._root = root
        self._index = index
        self._episode = -1
        self._moves: list[int] = []
        self.learner = self._players[0]
        self.over = True
        self.gained = 0.0
        """What the learner was given in this episode."""
        self.row: dict[str, Any] = {}
        """What whoever has to move sees, or the learner if the game is over."""

    def reset(self) -> None:
        """Begin the next episode, with the learner in the other seat."""
        self._episode += 1
        self._moves.clear()
        self.over, self.gained = False, 0.0
        self.learner = self._players[(self._episode + self._index) % 2]
        words = np.random.SeedSequence([self._root, self._index, self._episode]).generate_state(1)
        self._call(self.env.reset, seed=int(words[0] >> 1))
        self._look()

    def move(self, action: int) -> float:
        """Whose turn it is does ACTION; what that gives the learner."""
        if not self.row["action_mask"][action]:
            raise DataError(
                f"{self._name}: copy {self._index} was given action {action} in step "
                f"{len(self._moves)} of episode {self._episode}, which its mask forbids"
            )
        self._moves.append(action)
        self._call(self.env.step, action)
        reward = float(self.env.rewards[self.learner])
        self.over = any(self.env.terminations.values()) or any(self.env.truncations.values())
        self.gained += reward
        self._look()
        return reward

    @property
    def waits(self) -> bool:
        """Whether it is the opponent's turn."""
        return not self.over and self.env.agent_selection != self.learner

    @property
    def cut(self) -> bool:
        """Whether it is over for a reason from outside, such as a limit on its length."""
        return self.over and not any(self.env.terminations.values())

    def _look(self) -> None:
        player = self.learner if self.over else self.env.agent_selection
        observation = self._call(self.env.observe, player)
        row = dict(observation) if isinstance(observation, dict) else {"observation": observation}
        if "action_mask" not in row:
            row["action_mask"] = np.asarray(self.env.infos[player]["action_mask"], np.int8)
        if self.over:  # nothing is chosen here; what acts must not stumble over it
            row["action_mask"] = np.ones_like(row["action_mask"])
        elif not row["action_mask"].any():
            raise DataError(
                f"{self._name}: the action mask of {player} in copy {self._index} allows nothing "
                f"in step {len(self._moves)} of episode {self._episode}"
            )
        for key in row:
            row[key] = np.reshape(row[key], self._space[key].shape or ())
        self.row = row

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception as error:  # whatever it is, it comes from someone else's code
            raise DataError(
                f"{self._name}: copy {self._index} failed in {method.__name__}, "
                f"episode {self._episode}: {first_line(error)}"
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as a tree that can be saved."""
        return {
            "root": self._root,
            "episode": self._episode,
            "moves": list(self._moves),
            "row": deepcopy(self.row),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was called, or raise `DataError`."""
        self._root, self._episode = state["root"], state["episode"] - 1
        self.reset()
        for move in state["moves"]:
            self.move(move)
        if not data_equivalence(self.row, state["row"], exact=True):
            raise DataError(
                f"{self._name}: copy {self._index} cannot be restored: the same seed and "
                "moves led to another observation, so the game depends on something else"
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


class SelfPlayEnvironments:
    """N games whose every choice follows from SEED, against RIVAL until other opponents come."""

    def __init__(
        self,
        make: Callable[[], Any],
        space: spaces.Dict,
        name: str,
        num_envs: int,
        seed: int,
        rival: Rival,
    ) -> None:
        root, own = np.random.SeedSequence(seed).spawn(2)
        self.num_envs = num_envs
        self._name = name
        self._tables = [
            Table(make(), space, name, int(root.generate_state(1)[0] >> 1), i)
            for i in range(num_envs)
        ]
        self._space = space
        self._rng = np.random.default_rng(own)
        self._opponents: Opponents = _Fixed(rival, self._rng)
        self._opponent = np.zeros(num_envs, np.int64)
        self._steps = 0

    def face(self, opponents: Opponents) -> None:
        """Play against OPPONENTS from the next `reset` on."""
        self._opponents = opponents

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N, ...] and further information."""
        self._begin(list(range(self.num_envs)))
        self._answer(np.zeros(self.num_envs))
        return self._observations(), {}

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Move [N] in every copy and let the opponents answer: observations [N, ...], rewards,
        terminations, truncations [N] and further information.
        """
        self._steps += 1
        rewards = np.zeros(self.num_envs)
        begins = [i for i, table in enumerate(self._tables) if table.over]
        for i, table in enumerate(self._tables):
            if not table.over:
                rewards[i] = table.move(int(actions[i]))
        self._begin(begins)
        self._answer(rewards)
        rewards[begins] = 0  # what happened before the learner's first turn is no reward for it
        if not np.isfinite(rewards).all():
            copy = int(np.isfinite(rewards).argmin())
            raise DataError(
                f"{self._name}: copy {copy} gave a reward that is not finite at step {self._steps}"
            )
        truncations = np.array([table.cut for table in self._tables])
        over = np.array([table.over for table in self._tables])
        if over.any():
            gained = np.array([table.gained for table in self._tables])
            self._opponents.record(self._opponent[over], gained[over])
        return self._observations(), rewards, over & ~truncations, truncations, {}

    def _begin(self, begins: list[int]) -> None:
        if begins:
            self._opponent[begins] = self._opponents.draw(len(begins))
        for i in begins:
            self._tables[i].reset()

    def _answer(self, rewards: NDArray[np.float64]) -> None:
        """Let the opponents move, all copies together, until it is nowhere their turn."""
        while waiting := [i for i, table in enumerate(self._tables) if table.waits]:
            seen = self._batch([self._tables[i].row for i in waiting])
            moves = self._opponents.choose(seen, self._opponent[waiting])
            for i, move in zip(waiting, moves.tolist(), strict=True):
                rewards[i] += self._tables[i].move(move)

    def _observations(self) -> Any:
        return self._batch([table.row for table in self._tables])

    def _batch(self, rows: list[Any]) -> Any:
        return concatenate(self._space, rows, create_empty_array(self._space, len(rows)))

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


def game_space(env: Any, flatten: bool) -> spaces.Dict:
    """What a player of ENV sees, as a Dict of "observation" and "action_mask"; boards as vectors
    if asked to FLATTEN them.
    """
    player = env.possible_agents[0]
    space = env.observation_space(player)
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
    mask = spaces.Box(0, 1, (int(env.action_space(player).n),), np.int8)
    parts |= {"action_mask": parts.get("action_mask", mask)}
    return spaces.Dict({k: flattened(part) if flatten else part for k, part in parts.items()})
