"""Experience replay (Lin 1992; Mnih et al. 2015), uniform or prioritised, with n-step returns.

What N environments show lies in rows, one row a step, each observation once: the next observation
of a row is the observation of the row that follows. That is so at the end of an episode, too, since
the step that resets an environment (Gymnasium's autoreset mode NEXT_STEP) has a row of its own,
which holds the last observation and is never drawn. Of stacked frames only the newest is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from corelab_nets.trees import tensor_dtype
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from corelab import DataError
from corelab_qlearning.sumtree import SumTree

_GOES_ON, _TERMINATED, _TRUNCATED, _RESET = range(4)
"""What can become of a step; the last is no transition."""


class Transitions(NamedTuple):
    """K n-step transitions, one a row."""

    place: NDArray[np.int64]
    """Where they are stored."""
    weight: Tensor
    """Importance weights w, float32; 1 if drawing was uniform."""
    observation: Tensor
    """S_t."""
    action: Tensor
    """A_t, int64, from 0."""
    reward: Tensor
    """Discounted sum of the rewards of the m ≤ n steps that were seen of the episode, float32."""
    next_observation: Tensor
    """S_{t+m}."""
    discount: Tensor
    """What the value of S_{t+m} counts, m-fold discounted, or 0 after a termination; float32."""
    next_mask: Tensor | None
    """Which actions are allowed in S_{t+m}, bool [K, actions], where environments tell."""

    def to(self, device: torch.device) -> Transitions:
        """The same on DEVICE."""
        place, *columns = self
        moved: Iterator[Any] = (c if c is None else c.to(device) for c in columns)
        return Transitions(place, *moved)


class Replay:
    """The latest CAPACITY steps of N environments, of which minibatches are drawn."""

    def __init__(
        self,
        space: spaces.Box | spaces.Discrete[Any],
        actions: int,
        num_envs: int = 1,
        capacity: int = 1_000_000,
        *,
        n_step: int = 1,
        gamma: float = 0.99,
        stack: int = 1,
        masked: bool = False,
    ) -> None:
        """For observations of SPACE, whose first axis is STACK frames if that is more than 1."""
        rows = -(-capacity // num_envs) + 1  # one more, for the newest observation
        self._rows, self._num_envs = rows, num_envs
        self._n_step, self._gamma, self._stack = n_step, gamma, stack
        shape = tuple(space.shape or ())
        frame = shape[1:] if stack > 1 else shape
        # Memory is taken only as these fill.
        self._frames = torch.empty((rows, num_envs, *frame), dtype=tensor_dtype(space))
        self._written = self._frames.numpy()
        self._actions = np.zeros((rows, num_envs), np.min_scalar_type(actions - 1))
        self._rewards = np.zeros((rows, num_envs), np.float32)
        self._fates = np.zeros((rows, num_envs), np.uint8)
        self._ages = np.zeros((rows, num_envs), np.uint8)  # earlier frames of the episode, < stack
        self._masks = torch.empty((rows if masked else 0, num_envs, actions), dtype=torch.bool)
        self._padded = 0  # what stands for frames before the first: 1, it again; 0, blackness
        self._over = np.zeros(num_envs, np.bool_)
        self._head = 0  # the row of the newest observation
        self._size = 0  # whole rows before it
        self._wrapped = False

    @property
    def nbytes(self) -> int:
        """Bytes of memory once it is full."""
        arrays = (self._actions, self._rewards, self._fates, self._ages)
        tensors = (self._frames, self._masks)
        return sum(a.nbytes for a in arrays) + sum(t.nbytes for t in tensors)

    def __len__(self) -> int:
        """Steps that are stored, those that reset an environment counted in."""
        return self._size * self._num_envs

    def begin(self, observation: NDArray[Any], mask: NDArray[Any] | None = None) -> None:
        """Take what a reset of all environments shows, [N, ...]."""
        if self._stack > 1:
            newest = observation[:, -1:]
            self._padded = int(bool((observation[:, :-1] == newest).all()))
        self._ages[self._head] = 0
        self._show(observation, mask)

    def add(
        self,
        action: NDArray[Any],
        reward: NDArray[Any],
        termination: NDArray[np.bool_],
        truncation: NDArray[np.bool_],
        observation: NDArray[Any],
        mask: NDArray[Any] | None = None,
    ) -> None:
        """Take one step of all environments, [N, ...]: what was done and what came of it."""
        head, over = self._head, self._over
        self._actions[head] = action
        self._rewards[head] = reward
        fate = self._fates[head]
        fate[...] = _GOES_ON
        fate[truncation] = _TRUNCATED
        fate[termination] = _TERMINATED
        fate[over] = _RESET
        if self._stack > 1:
            fresh = over & ~self._continues(observation)
            age = np.minimum(self._ages[head] + 1, self._stack - 1)
            self._ages[(head + 1) % self._rows] = np.where(fresh, 0, age)
        self._head = (head + 1) % self._rows
        self._wrapped |= self._head == 0
        self._size = min(self._size + 1, self._rows - 1)
        self._over = termination | truncation
        self._show(observation, mask)

    def _continues(self, observation: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether stacks go on from the newest ones, [N]: an episode that ended with a life is
        followed by another of the same game.
        """
        newest = self._observations(self._head * self._num_envs + np.arange(self._num_envs))
        same = newest[:, 1:].numpy() == observation[:, :-1]
        return np.asarray(same.reshape(self._num_envs, -1).all(1))

    def _show(self, observation: NDArray[Any], mask: NDArray[Any] | None) -> None:
        newest = observation[:, -1] if self._stack > 1 else observation
        self._written[self._head] = newest
        if mask is not None:
            self._masks[self._head].numpy()[...] = mask
        if self._stack > 1:
            flat = self._head * self._num_envs + np.arange(self._num_envs)
            if not np.array_equal(self._observations(flat).numpy(), observation):
                raise DataError(
                    f"an environment is said to show {self._stack} stacked frames, but what it "
                    "shows is not made of the frames it showed before"
                )

    def draw(
        self, batches: int, size: int, rng: np.random.Generator, beta: float = 0.0
    ) -> Transitions:
        """BATCHES x SIZE transitions, each of those stored being as likely as any other.

        BETA is for replays with priorities.
        """
        # A row whose frames are partly overwritten cannot be shown any more.
        oldest = self._stack - 1 if self._wrapped else 0
        first, n = self._head - self._size + oldest, (self._size - oldest) * self._num_envs

        def anywhere(count: int) -> NDArray[np.int64]:
            flat = first * self._num_envs + rng.integers(n, size=count)
            return np.asarray(flat % (self._rows * self._num_envs))

        k = batches * size
        index = anywhere(k)
        while len(bad := np.flatnonzero(self._fates.reshape(-1)[index] == _RESET)):
            index[bad] = anywhere(len(bad))
        return self._transitions(index, np.ones(k))

    def _transitions(self, index: NDArray[np.int64], weight: NDArray[np.float64]) -> Transitions:
        """What begins at INDEX [K], a row times N and an environment."""
        reward, discount, last = self._returns(index)
        masks = self._masks.view(-1, self._masks.shape[-1])
        return Transitions(
            index,
            torch.from_numpy(weight.astype(np.float32)),
            self._observations(index),
            torch.from_numpy(self._actions.reshape(-1)[index].astype(np.int64)),
            torch.from_numpy(reward.astype(np.float32)),
            self._observations(last),
            torch.from_numpy(discount.astype(np.float32)),
            masks[torch.from_numpy(last)] if len(masks) else None,
        )

    def _returns(
        self, index: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """The n-step rewards, the discounts after them, and where the observations after them are.

        They stop short of n at the end of an episode and at the newest observation.
        """
        N, gamma = self._num_envs, self._gamma
        reward, discount = np.zeros(len(index)), np.ones(len(index))
        following = (self._head - index // N) % self._rows  # rows from here to the newest
        going_on = np.ones(len(index), np.bool_)
        last = index.copy()
        for j in range(self._n_step):
            going_on &= following > j
            reward += np.where(going_on, discount * self._rewards.reshape(-1)[last], 0)
            fate = self._fates.reshape(-1)[last]
            discount *= np.where(going_on, np.where(fate == _TERMINATED, 0, gamma), 1)
            last = np.where(going_on, (last + N) % (self._rows * N), last)
            going_on &= fate == _GOES_ON
        return reward, discount, last

    def _observations(self, index: NDArray[np.int64]) -> Tensor:
        """What was shown at INDEX [K], stacks put together again: [K, ...]."""
        frames = self._frames.flatten(0, 1)
        if self._stack == 1:
            return frames.index_select(0, torch.from_numpy(index))
        back = np.arange(self._stack - 1, -1, -1)  # frames ago, the oldest first
        age = self._ages.reshape(-1)[index, None]
        rows = index[:, None] - np.minimum(back, age) * self._num_envs
        flat = torch.from_numpy((rows % len(frames)).ravel())
        stacks = frames.index_select(0, flat).view(*rows.shape, *frames.shape[1:])
        if not self._padded:
            stacks[torch.from_numpy(back > age)] = 0
        return stacks

    def state_dict(self) -> dict[str, Any]:
        """What is stored: only the rows that are filled are saved."""
        filled = self._rows if self._wrapped else self._head + 1
        columns = {name: getattr(self, name)[:filled] for name in self._columns()}
        return columns | {
            "padded": self._padded,
            "over": self._over,
            "head": self._head,
            "size": self._size,
            "wrapped": self._wrapped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what STATE holds."""
        for name in self._columns():
            column, saved = getattr(self, name), state[name]
            column[: len(saved)] = saved
        self._padded = state["padded"]
        self._over = state["over"]
        self._head, self._size = state["head"], state["size"]
        self._wrapped = state["wrapped"]

    def _columns(self) -> tuple[str, ...]:
        return ("_frames", "_actions", "_rewards", "_fates", "_ages", "_masks")


class PrioritisedReplay(Replay):
    """Draws transitions in proportion to priorities (Schaul et al. 2016, arXiv:1511.05952).

    P(i) = p_i^α / Σ p_k^α (eq. 1). A new transition has the highest priority seen so far, so that
    each is soon drawn once.
    """

    def __init__(self, *args: Any, alpha: float = 0.6, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._alpha = alpha
        self._tree = SumTree(self._rows * self._num_envs)
        self._highest = 1.0  # of p^α
        self._fresh = 0  # rows without priorities, the latest

    @property
    def nbytes(self) -> int:
        """Bytes of memory once it is full."""
        return super().nbytes + self._tree.nbytes

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Take one step of all environments, as `Replay.add` does."""
        super().add(*args, **kwargs)
        self._fresh = min(self._fresh + 1, self._size)

    def draw(
        self, batches: int, size: int, rng: np.random.Generator, beta: float = 0.0
    ) -> Transitions:
        """BATCHES x SIZE transitions, each minibatch stratified as in §3.3: one from each of SIZE
        parts of equal mass. Weights w_i = (n P(i))^-β, divided by the largest of their minibatch
        (§3.4), n being the number of stored steps.
        """
        self._welcome()
        u = (np.arange(size) + rng.random((batches, size))) / size
        index = self._tree.find(u.ravel() * self._tree.total)
        p = self._tree.weights[index].reshape(batches, size)
        weight = (p / p.min(1, keepdims=True)) ** -beta
        return self._transitions(index, weight.ravel())

    def prioritise(self, index: NDArray[np.int64], priority: NDArray[Any]) -> None:
        """Let the priorities p of the transitions drawn from INDEX be PRIORITY, both [K].

        They must have been drawn since the last call, with no other draw in between.
        """
        weight = (priority.astype(np.float64) + 1e-6) ** self._alpha  # §3.3: p_i = |δ_i| + ε
        self._highest = max(self._highest, float(weight.max()))
        self._tree.set(index, weight)

    def _welcome(self) -> None:
        """Give the rows that came since the last draw their priorities."""
        N, rows = self._num_envs, self._rows
        new = (self._head - np.arange(self._fresh, 0, -1)) % rows
        # The newest observation has no step yet, and what follows it lacks frames, if anything.
        blank = (self._head + np.arange(self._stack)) % rows
        weight = np.where(self._fates[new] == _RESET, 0.0, self._highest)
        index = np.concatenate([new, blank])[:, None] * N + np.arange(N)
        weight = np.concatenate([weight, np.zeros((len(blank), N))])
        self._tree.set(index.ravel(), weight.ravel())
        self._fresh = 0

    def state_dict(self) -> dict[str, Any]:
        """What is stored, with its priorities."""
        state = super().state_dict()
        filled = len(state["_fates"]) * self._num_envs
        return state | {
            "priorities": self._tree.weights[:filled],
            "highest": self._highest,
            "fresh": self._fresh,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what STATE holds."""
        super().load_state_dict(state)
        self._tree.set(np.arange(len(state["priorities"])), state["priorities"])
        self._highest, self._fresh = state["highest"], state["fresh"]
