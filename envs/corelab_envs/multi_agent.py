"""Environments in which several agents act at once, seen as many environments side by side.

N copies of an environment with A agents have N·A rows, `copy * A + agent`: what an algorithm
learns from one row it has learned for all of them, so that any algorithm learns a policy that the
agents share. Rows keep the rule of `Environments`: the step after an end is not a transition. An
agent that is out before its copy's episode is over *waits*: each of its steps ends again, with the
reward 0, until the copy is reset. So a row that was over before a step has no transition in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Literal

import numpy as np
from corelab_nets.masks import KEY, without_mask
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from corelab import CorelabError, DataError
from corelab_envs.vector import FAILURES, CopyError, first_line, floats, stack_of

Policies = Literal["shared", "independent"]
"""One policy for all agents, or one for each of them."""


class Roster:
    """The agents of an environment, and how what they see and do is put into rows of one kind.

    With policies "shared" the spaces of the agents must be equal: `DataError` if they are not. With
    "independent" ones a row also says whose it is, Dict(agent=..., observation=...); shorter
    vectors are filled up with zeros and smaller action spaces with actions that a mask forbids.
    """

    def __init__(
        self, env: Any, name: str, policies: Policies, masked: bool, flatten: bool
    ) -> None:
        self.agents: list[str] = list(env.possible_agents)
        self.masked = masked
        self._own = [without_mask(env.observation_space(agent)) for agent in self.agents]
        shown = [flattened(space) for space in self._own] if flatten else self._own
        seen = dict(zip(self.agents, shown, strict=True))
        done: dict[str, spaces.Space[Any]] = {a: env.action_space(a) for a in self.agents}
        self._acts = [done[agent] for agent in self.agents]
        self._independent = policies == "independent"
        if not self._independent:
            for what, of in (("observations", seen), ("actions", done)):
                first = self.agents[0]
                other = next((a for a in self.agents if of[a] != of[first]), None)
                if other is not None:
                    raise DataError(
                        f"{name}: agents that share a policy must have equal spaces, but the "
                        f"{what} of {first} are {of[first]} and those of {other} are {of[other]}; "
                        "choose --task.policies independent"
                    )
        self._seen = _largest(seen, f"{name}: the observations")
        self.action_space = _largest(done, f"{name}: the actions")
        self._differ = any(space != self.action_space for space in self._acts)
        if isinstance(self.action_space, spaces.Discrete):
            self.masked |= self._differ
        elif masked:
            raise DataError(f"{name}: action masks fit Discrete actions, not {self.action_space}")
        self.observation_space = self._observation_space()

    def _observation_space(self) -> spaces.Space[Any]:
        parts: dict[str, spaces.Space[Any]] = {}
        if self._independent:
            parts["agent"] = spaces.Discrete(len(self.agents))
        if not parts and not self.masked:
            return self._seen
        parts["observation"] = self._seen
        if self.masked:
            parts[KEY] = spaces.Box(0, 1, (int(self.action_space.n),), np.int8)  # type: ignore[attr-defined]
        return spaces.Dict(parts)

    def see(self, i: int, observation: Any, info: Mapping[str, Any]) -> tuple[Any, Any]:
        """What agent I's row shows, and its mask (None where there are none)."""
        mask = info.get(KEY)
        if isinstance(observation, Mapping) and KEY in observation:
            mask = observation[KEY]
            rest = {key: part for key, part in observation.items() if key != KEY}
            observation = rest["observation"] if set(rest) == {"observation"} else rest
        observation = _fitted(observation, self._own[i], self._seen)
        if not (self._independent or self.masked):
            return observation, None
        parts: dict[str, Any] = {"observation": observation}
        if self._independent:
            parts["agent"] = i
        if self.masked:
            own = int(self._acts[i].n)  # type: ignore[attr-defined]
            parts[KEY] = np.zeros(int(self.action_space.n), np.int8)  # type: ignore[attr-defined]
            parts[KEY][:own] = 1 if mask is None else mask
        return parts, parts.get(KEY)

    def blank(self, i: int) -> Any:
        """What agent I's row shows before it is there."""
        one = create_empty_array(self.observation_space, 1)
        row: Any = next(iterate(batch_space(self.observation_space, 1), one))
        if self._independent:
            row["agent"] = i
        if self.masked:
            row[KEY] = np.ones_like(row[KEY])
        return row

    def act(self, i: int, action: Any) -> Any:
        """ACTION of a row as agent I does it."""
        space = self._acts[i]
        if isinstance(space, spaces.Box) and self._differ:
            own = np.asarray(action[: space.shape[0]], space.dtype)
            return own.clip(space.low, space.high)  # the bounds of all agents may be wider
        return int(action) if isinstance(space, spaces.Discrete) else action

    def allows(self, row: Any, action: Any) -> bool:
        """Whether the mask in a ROW, if it has one, allows the ACTION of a row."""
        space = self.action_space
        if not self.masked or not isinstance(space, spaces.Discrete):
            return True
        return bool(row[KEY][int(action) - int(space.start)])


class Replayed:
    """One copy of an environment of several agents, restored by playing its episode again.

    The seed of an episode follows from ROOT, the copy's INDEX and the number of the episode. What
    the agents did in it is remembered.
    """

    def __init__(self, env: Any, roster: Roster, name: str, root: int, index: int) -> None:
        self.env = env
        self._roster = roster
        self._name = name
        self._root = root
        self._index = index
        self._episode = -1
        self._actions: list[Any] = []

    def _next_seed(self) -> int:
        """Count an episode that begins; its seed."""
        self._episode += 1
        self._actions.clear()
        words = np.random.SeedSequence([self._root, self._index, self._episode]).generate_state(1)
        return int(words[0] >> 1)

    @property
    def _place(self) -> str:
        return f"step {len(self._actions)} of episode {self._episode}"

    def _wrong(self, what: str) -> CopyError:
        return CopyError(self._name, self._index, what)

    @contextmanager
    def _guarded(self, doing: str) -> Iterator[None]:
        """Within, what someone else's code ends with is told with its place."""
        try:
            yield
        except CorelabError:
            raise
        except FAILURES as error:
            raise self._wrong(f"failed to {doing}, {self._place}: {first_line(error)}") from error


class Troupe(Replayed):
    """One copy: A agents, and what each of them saw last.

    An environment in which a reset leaves traces of the last episode is made ANEW for each.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        roster: Roster,
        name: str,
        root: int,
        index: int,
        anew: bool = False,
    ) -> None:
        super().__init__(make(), roster, name, root, index)
        self._make_anew = make if anew else None
        A = len(roster.agents)
        self.rows: list[Any] = [None] * A
        self.waits = np.ones(A, np.bool_)
        """Which agents are not, or no longer, there."""

    def reset(self) -> None:
        """Begin the next episode."""
        seed = self._next_seed()
        if self._make_anew is not None:
            self.env.close()
            self.env = self._make_anew()
        with self._guarded("reset"):
            observations, infos = self.env.reset(seed=seed)
            for i, agent in enumerate(self._roster.agents):
                self.waits[i] = not self._in(agent)
                if self.waits[i]:
                    self.rows[i] = self._roster.blank(i)
                else:
                    self._show(i, observations[agent], infos.get(agent, {}))

    def step(self, actions: list[Any], rewards: Any, terminations: Any, truncations: Any) -> None:
        """Let the agents that are there do ACTIONS [A]; what comes of it is written into [A]s.

        The step that follows the end of the last agent begins the next episode instead.
        """
        if self.waits.all():
            self.reset()
            terminations[:] = self.waits
            return
        self._actions.append(actions)
        roster = self._roster
        acting = {a: roster.act(i, actions[i]) for i, a in enumerate(roster.agents) if self._in(a)}
        with self._guarded("step"):
            observations, gains, ended, cut, infos = self.env.step(acting)
            for i, agent in enumerate(roster.agents):
                if agent in acting:
                    rewards[i] = gains.get(agent, 0)
                    terminations[i], truncations[i] = ended[agent], cut[agent]
                    self.waits[i] = terminations[i] or truncations[i]
                elif self._in(agent):
                    self.waits[i] = False  # it joins, and sees something for the first time
                else:
                    terminations[i] = True
                if agent in observations:
                    self._show(i, observations[agent], infos.get(agent, {}))

    def _in(self, agent: str) -> bool:
        return agent in self.env.agents

    def _show(self, i: int, observation: Any, info: Mapping[str, Any]) -> None:
        self.rows[i], mask = self._roster.see(i, observation, info)
        if mask is not None and self.waits[i]:
            mask[:] = 1  # nothing is chosen here; what acts must not stumble over it
        elif mask is not None and not mask.any():
            agent = self._roster.agents[i]
            raise self._wrong(f"allows {agent} no action in {self._place}: its mask is all zeros")

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as a tree that can be saved."""
        space, played = self._roster.action_space, [a for row in self._actions for a in row]
        n = len(played)
        return {
            "root": self._root,
            "episode": self._episode,
            "steps": len(self._actions),
            "actions": concatenate(space, played, create_empty_array(space, n)) if n else None,
            "rows": deepcopy(self.rows),
            "waits": self.waits.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was called, or raise `DataError`."""
        A, steps = len(self._roster.agents), state["steps"]
        self._root, self._episode = state["root"], state["episode"] - 1
        self.reset()
        if steps:
            space = batch_space(self._roster.action_space, steps * A)
            played = list(iterate(space, state["actions"]))
            for t in range(steps):
                ignored = np.zeros(A), np.zeros(A, np.bool_), np.zeros(A, np.bool_)
                self.step(played[t * A : (t + 1) * A], *ignored)
        same = data_equivalence(self.rows, state["rows"], exact=True)
        if not same or not np.array_equal(self.waits, state["waits"]):
            raise self._wrong(
                "cannot be restored: the same seed and actions led to another observation, "
                "so its dynamics depend on something else"
            )


class MultiAgentEnvironments:
    """N copies of an environment with A agents: N·A rows that keep the rule of `Environments`."""

    def __init__(
        self,
        make: Callable[[], Any],
        roster: Roster,
        name: str,
        copies: int,
        seed: int,
        anew: bool = False,
    ) -> None:
        root = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
        self._copies = [Troupe(make, roster, name, root, i, anew) for i in range(copies)]
        self._name = name
        self._roster = roster
        self._A = len(roster.agents)
        self.num_envs = copies * self._A
        self._stack = stack_of(roster.observation_space)
        self._batch = batch_space(roster.action_space, self.num_envs)
        self._dtype = getattr(roster.action_space, "dtype", None)
        self._steps = 0

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N·A, ...], and in "waits" which of the
        rows wait for an agent that is not there yet.
        """
        for copy in self._copies:
            copy.reset()
        return self._observations(), {"waits": np.concatenate([c.waits for c in self._copies])}

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Act in every row: observations [N·A, ...], rewards, terminations, truncations [N·A] and
        further information. `DataError` if a copy fails or gives a number that is not finite.
        """
        if self._dtype is not None:
            actions = np.asarray(actions, self._dtype)
        acts = list(iterate(self._batch, actions))
        rewards = np.zeros(self.num_envs)
        terminations = np.zeros(self.num_envs, np.bool_)
        truncations = np.zeros(self.num_envs, np.bool_)
        self._steps += 1
        for i, copy in enumerate(self._copies):
            of = slice(i * self._A, (i + 1) * self._A)
            copy.step(acts[of], rewards[of], terminations[of], truncations[of])
        self._refuse_non_finite("a reward", rewards)
        return self._observations(), rewards, terminations, truncations, {}

    def _observations(self) -> Any:
        rows = [row for copy in self._copies for row in copy.rows]
        try:
            observations = self._stack(rows)
        except FAILURES as error:
            wrong = f"an observation does not fit at step {self._steps}: {first_line(error)}"
            raise DataError(f"{self._name}: {wrong}") from error
        self._refuse_non_finite("an observation", observations)
        return observations

    def _refuse_non_finite(self, what: str, values: Any) -> None:
        for array in floats(values):
            if not np.isfinite(array).all():
                row = int(np.isfinite(array.reshape(self.num_envs, -1)).all(1).argmin())
                raise CopyError(
                    self._name,
                    row // self._A,
                    f"gave {self._roster.agents[row % self._A]} {what} that is not finite at step "
                    f"{self._steps}",
                )

    def render(self) -> NDArray[np.uint8]:
        """A picture of the first copy, [height, width, 3]."""
        return picture(self._copies[0].env, self._name)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens from here on, as a tree that can be saved."""
        return {"steps": self._steps, "copies": [copy.state_dict() for copy in self._copies]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called. `ValueError` if that was something else."""
        self._steps = state["steps"]
        for copy, saved in zip(self._copies, state["copies"], strict=True):
            copy.load_state_dict(saved)

    def close(self) -> None:
        """Let go of what they hold."""
        for copy in self._copies:
            copy.env.close()


def picture(env: Any, name: str) -> NDArray[np.uint8]:
    """A frame of ENV, [height, width, 3], or `DataError` if it cannot be drawn."""
    for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        os.environ.setdefault(driver, "dummy")  # pygame draws in memory: no window, no sound
    try:
        return np.asarray(env.render(), np.uint8)
    except FAILURES as error:
        raise DataError(f"{name} cannot be drawn: {first_line(error)}") from error


def has_mask(observation: Any, info: Mapping[str, Any]) -> bool:
    """Whether what an agent sees, or is told beside it, holds an action mask."""
    return "action_mask" in info or (
        isinstance(observation, Mapping) and "action_mask" in observation
    )


def flattened(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """SPACE with vectors in the place of arrays that are no images: of other numbers than bytes."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: flattened(part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Box) and len(space.shape) > 1 and space.dtype != np.uint8:
        return spaces.Box(space.low.ravel(), space.high.ravel(), dtype=space.dtype)  # type: ignore[arg-type]
    return space


def _largest(of: Mapping[str, spaces.Space[Any]], what: str) -> spaces.Space[Any]:
    """The space that holds all of the spaces OF agents: vectors by the longest, actions by the
    most. `DataError` if they are of different kinds.
    """
    each = list(of.values())
    if all(space == each[0] for space in each):
        return each[0]
    if all(isinstance(space, spaces.Discrete) and space.start == 0 for space in each):
        return max(each, key=lambda space: space.n)  # type: ignore[attr-defined]
    if all(isinstance(space, spaces.Box) and len(space.shape) == 1 for space in each):
        longest = max(space.shape[0] for space in each)  # type: ignore[index]
        low, high = np.full((2, longest), [[np.inf], [-np.inf]])
        for space in each:
            k = space.shape[0]  # type: ignore[index]
            low[:k] = np.minimum(low[:k], space.low)  # type: ignore[attr-defined]
            high[:k] = np.maximum(high[:k], space.high)  # type: ignore[attr-defined]
        low, high = np.minimum(low, 0), np.maximum(high, 0)  # what shorter ones are filled with
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
    listed = ", ".join(f"{agent}: {space}" for agent, space in of.items())
    raise DataError(
        f"{what} are of different kinds, which no single network can read or give ({listed})"
    )


def _fitted(observation: Any, own: spaces.Space[Any], space: spaces.Space[Any]) -> Any:
    """OBSERVATION of its OWN space as SPACE has it: flattened, and filled up with zeros.
    `ValueError` if it is of another shape than its own.
    """
    if isinstance(own, spaces.Dict) and isinstance(space, spaces.Dict):
        return {key: _fitted(observation[key], part, space[key]) for key, part in own.items()}
    if not isinstance(own, spaces.Box):
        return observation
    if np.shape(observation) != own.shape:
        raise ValueError(f"an observation has the shape {np.shape(observation)}, not {own.shape}")
    if own.shape == space.shape:
        return observation
    filled = np.zeros(space.shape or (), space.dtype)
    filled[: np.size(observation)] = np.ravel(observation)
    return filled
