"""The task "atari": games of the Arcade Learning Environment, seen and played as papers do.

Machado et al. 2018, "Revisiting the Arcade Learning Environment: Evaluation Protocols and Open
Problems for General Agents"; or else Mnih et al. 2015, "Human-level control through deep
reinforcement learning", Methods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from corelab import DataError, require
from corelab_envs.atari_scores import human_normalised, knows
from corelab_envs.gymnasium_task import find_spec
from corelab_envs.vector import Checked, Stepped

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

_FRAME_SKIP = 4
_HERTZ = 60
_NO_OP = 0
_SEEDED_FOR = 4_000
"""A seed is good for this many actions, and for the rest of the episode then: to give a seed costs
as much time as some 250 actions, and to restore a copy all actions since then are acted again."""


class Standard(NamedTuple):
    """What papers agree on, before an algorithm begins."""

    sticky: float
    """The probability that, in each frame, the last action is acted once more."""
    full: bool
    """Whether there are always 18 actions, or only those that a game reacts to."""
    life_loss: bool
    """Whether the loss of a life ends an episode in training."""
    no_ops: int
    """The most no-ops, in frames, that an episode begins with."""
    limit: int
    """The most agent steps of an episode, which is truncated then."""


STANDARDS = {
    "machado": Standard(sticky=0.25, full=True, life_loss=False, no_ops=0, limit=27_000),
    "mnih": Standard(sticky=0.0, full=False, life_loss=True, no_ops=30, limit=4_500),
}


class AtariTask:
    """An Atari 2600 game; provides the interface "environment".

    Observations are the last four screens in grey, [4, 84, 84] uint8, the newest last.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of an Atari game."""

        id: str = "ALE/Pong-v5"
        """The game, by its id in the Arcade Learning Environment."""
        num_envs: int | None = None
        """How many copies are learned from side by side; none leaves it to the algorithm."""
        standard: Literal["machado", "mnih"] = "machado"
        """Whose settings hold for the options without a value: Machado et al. 2018 (sticky actions,
        whole games) or Mnih et al. 2015 (random no-ops, an episode for each life)."""
        sticky_actions: float | None = None
        """The probability that the last action is repeated in a frame, whatever was chosen."""
        full_actions: bool | None = None
        """Offer all 18 actions rather than only those that the game reacts to."""
        life_loss: bool | None = None
        """End an episode at the loss of a life, in training; never in an evaluation."""
        clip_rewards: bool = True
        """Reduce rewards to their sign, in training; never in an evaluation."""
        max_episode_steps: int | None = None
        """Truncate episodes after this many steps of four frames."""
        threads: int = 1
        """How many threads step the copies; it changes no result."""
        video: bool = False
        """Film one episode at each evaluation."""

    stack = 4
    """Screens in an observation; `observation[-1]` is the only one that a step adds."""
    fps = _HERTZ / _FRAME_SKIP

    def __init__(self, config: Config) -> None:
        for option in ("num_envs", "max_episode_steps", "threads"):
            value = getattr(config, option)
            require(value is None or value >= 1, f"task.{option}", value, "at least 1")
        sticky = config.sticky_actions
        fits = sticky is None or 0 <= sticky < 1
        require(fits, "task.sticky_actions", sticky, "at least 0 and below 1")
        self.config = config
        self.name = config.id
        self.num_envs = config.num_envs
        self.video = config.video
        self._game = str(find_spec(config.id).kwargs["game"])
        standard = STANDARDS[config.standard]
        self.settings = Standard(
            sticky=standard.sticky if sticky is None else sticky,
            full=standard.full if config.full_actions is None else config.full_actions,
            life_loss=standard.life_loss if config.life_loss is None else config.life_loss,
            no_ops=standard.no_ops,
            limit=config.max_episode_steps or standard.limit,
        )
        if knows(self._game):
            self.normalise: Callable[[float], float] = partial(human_normalised, self._game)
        vector = self._vector(1)
        self.single_observation_space = vector.single_observation_space
        self.single_action_space = vector.single_action_space

    @cached_property
    def measured(self) -> AtariTask:
        """The same game as it is measured: by its own score, to the end of the game."""
        return AtariTask(replace(self.config, clip_rewards=False, life_loss=False))

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> AtariEnvironments:
        """NUM_ENVS copies whose every random choice follows from SEED; with RENDER, for film."""
        colour = {"grayscale": False, "stack_num": 1, "img_height": 210, "img_width": 160}
        return AtariEnvironments(
            self._vector(num_envs),
            self.name,
            seed,
            life_loss=self.settings.life_loss,
            clip=self.config.clip_rewards,
            screen=self._vector(1, **colour) if render else None,
        )

    def _vector(self, num_envs: int, **options: Any) -> AtariVectorEnv:
        from ale_py import ALEInterface, LoggerMode
        from ale_py.vector_env import AtariVectorEnv

        ALEInterface.setLoggerMode(LoggerMode.Error)  # no greeting for each copy
        return AtariVectorEnv(
            self._game,
            num_envs,
            num_threads=min(num_envs, self.config.threads),
            max_num_frames_per_episode=_FRAME_SKIP * self.settings.limit,
            repeat_action_probability=self.settings.sticky,
            full_action_space=self.settings.full,
            frameskip=_FRAME_SKIP,
            noop_max=self.settings.no_ops,
            episodic_life=False,  # done here, where the no-op is known to be no transition
            reward_clipping=False,
            use_fire_reset=False,
            **options,
        )


class AtariEnvironments(Checked):
    """The Arcade Learning Environment's vector environment, with a memory of what was acted.

    An emulator in it cannot be read, but the seed of a copy and the actions since then decide where
    it stands. So that these do not become too many, a copy gets another seed now and then, when an
    episode begins.
    """

    def __init__(
        self,
        vector: AtariVectorEnv,
        name: str,
        seed: int,
        *,
        life_loss: bool,
        clip: bool,
        screen: AtariVectorEnv | None = None,
    ) -> None:
        N = vector.num_envs
        super().__init__(name, N)
        self._vector = vector
        self._screen = screen  # steps as the first copy does, and is seen as it is on television
        self._picture: Any = None
        self._root = seed
        self._life_loss = life_loss
        self._clip = clip
        self._n_actions = len(vector.ale.get_action_set())
        self._seedings = [0] * N
        self._acted = [bytearray() for _ in range(N)]
        self._observations: Any = None
        self._lives = np.zeros(N, np.int32)
        self._over = np.zeros(N, np.bool_)
        self._lost = np.zeros(N, np.bool_)

    def reset(self) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every copy: observations [N, 4, 84, 84] and further information."""
        for i in range(self.num_envs):
            self._seedings[i] += 1
            self._acted[i].clear()
        infos = self._seed(np.ones(self.num_envs, np.bool_))
        self._over[:] = self._lost[:] = False
        self._lives = infos["lives"]
        return self._observations, infos

    def step(self, actions: Any) -> Stepped:
        """Act [N] in every copy: observations [N, 4, 84, 84], rewards, terminations, truncations
        [N] and further information. `DataError` if there is no such action.
        """
        self._steps += 1
        chosen = np.array(actions, np.int64)
        if chosen.shape != (self.num_envs,) or chosen.min() < 0 or chosen.max() >= self._n_actions:
            raise DataError(
                f"{self._name}: the actions at step {self._steps} are {chosen.tolist()}; they must "
                f"be {self.num_envs} numbers from 0 to {self._n_actions - 1}"
            )
        chosen[self._over | self._lost] = _NO_OP
        scores, terminations, truncations, infos = self._act(chosen)
        for acted, action in zip(self._acted, chosen.tolist(), strict=True):
            acted.append(action)
        worn = [len(acted) >= _SEEDED_FOR for acted in self._acted]
        again = self._over & worn
        if again.any():
            for i in np.flatnonzero(again):
                self._seedings[i] += 1
                self._acted[i].clear()
            infos = self._seed(again)
        rewards = np.sign(scores, dtype=np.float64) if self._clip else scores.astype(np.float64)
        rewards[self._lost] = 0.0
        self._over = terminations | truncations
        if self._life_loss:
            lives = infos["lives"]
            # some games show no lives for a moment although the last is still played
            self._lost = (lives > 0) & (lives < self._lives) & ~self._over & ~self._lost
            self._lives = lives
            terminations = terminations | self._lost
        return self._observations, rewards, terminations, truncations, infos

    def _act(self, actions: NDArray[np.int64]) -> tuple[Any, Any, Any, dict[str, Any]]:
        self._observations, *rest = self._vector.step(actions)
        if self._screen is not None:
            self._picture = self._screen.step(actions[:1])[0]
        return tuple(rest)  # type: ignore[return-value]

    def _seed(self, which: NDArray[np.bool_]) -> dict[str, Any]:
        """Begin an episode with a seed in the copies WHICH; the others stay where they are."""
        places = [[self._root, i, self._seedings[i]] for i in np.flatnonzero(which).tolist()]
        words = [np.random.SeedSequence(place).generate_state(1)[0] >> 1 for place in places]
        seeds = np.array(words, np.int64)
        some = None if which.all() else {"reset_mask": which}
        self._observations, infos = self._vector.reset(seed=seeds, options=some)
        if self._screen is not None and which[0]:
            self._picture = self._screen.reset(seed=seeds[:1])[0]
        return infos

    def render(self) -> NDArray[np.uint8]:
        """The screen of the first copy as it is on television, [210, 160, 3]."""
        return np.asarray(self._picture[0, 0], np.uint8)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides what happens from here on, as a tree that can be saved."""
        return {
            "steps": self._steps,
            "root": self._root,
            "seedings": list(self._seedings),
            "acted": [np.frombuffer(bytes(acted), np.uint8) for acted in self._acted],
            "lives": self._lives.copy(),
            "over": self._over.copy(),
            "lost": self._lost.copy(),
            "observations": np.array(self._observations),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called, by acting again what was acted.

        The copies act in step, so each begins so late that all end together.
        """
        self._steps, self._root = state["steps"], state["root"]
        self._seedings = list(state["seedings"])
        self._acted = [bytearray(acted.tobytes()) for acted in state["acted"]]
        lengths = np.array([len(acted) for acted in self._acted])
        longest = int(lengths.max())
        begin = longest - lengths
        self._seed(np.ones(self.num_envs, np.bool_))
        for t in range(longest + 1):
            if t and (begin == t).any():
                self._seed(begin == t)
            if t < longest:
                past = [
                    acted[t - b] if t >= b else _NO_OP
                    for acted, b in zip(self._acted, begin, strict=True)
                ]
                self._act(np.array(past, np.int64))
        self._lives, self._over, self._lost = state["lives"], state["over"], state["lost"]
        same = (self._observations == state["observations"]).all((1, 2, 3))
        if not same.all():
            raise DataError(
                f"{self._name}: copy {int(same.argmin())} cannot be restored: the same seed and "
                "actions led to another screen, so this is another version of the emulator"
            )

    def close(self) -> None:
        """Let go of what they hold."""
        self._vector.close()
        if self._screen is not None:
            self._screen.close()
