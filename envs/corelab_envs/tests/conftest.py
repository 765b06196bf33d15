"""Environments made for the tests, registered under `made/`."""

from __future__ import annotations

import sys
from collections import deque

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Made(gym.Env):
    """A random walk that ends beyond 5, or when the time limit says so; each says how to move."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.begin(float(self.np_random.normal()))
        return self.observe(), {}

    def step(self, action):
        self.move(2 * int(action) - 1 + float(self.np_random.normal()))
        there = self.observe()
        return there, float(there[0]), bool(abs(there[0]) > 5), False, {}

    def observe(self):
        return np.array([self.where()], np.float32)


class Walker:
    def __init__(self, place):
        self.place = place
        self.trail = deque([place], maxlen=3)


class Objects(Made):
    """Keeps its state in plain objects, one of which it makes anew in each episode."""

    def begin(self, place):
        self.walker = Walker(place)
        self.watched = self.walker

    def move(self, by):
        self.watched.place += by
        self.watched.trail.append(self.watched.place)

    def where(self):
        return sum(self.walker.trail) / len(self.walker.trail)


class Closure(Made):
    """Keeps its state where no attribute leads."""

    def begin(self, place):
        def move(by):
            nonlocal place
            place += by
            return place

        self.move, self.where = move, lambda: place


class Slot:
    __slots__ = ("place",)


class Slots(Made):
    def begin(self, place):
        self.slot = Slot()
        self.slot.place = place

    def move(self, by):
        self.slot.place += by

    def where(self):
        return self.slot.place


class Iterators(Made):
    """Keeps its state in an object of the C library: how far an iterator has come."""

    def begin(self, place):
        self.ticks = iter(range(1_000_000))
        self.place = place

    def move(self, by):
        self.place += by + 0.001 * next(self.ticks)

    def where(self):
        return self.place


class Unrepeatable(Closure):
    """Depends on more than its seed: on how many were played before it in this process."""

    resets = 0

    def begin(self, place):
        Unrepeatable.resets += 1
        super().begin(place + Unrepeatable.resets)


class Traces(Iterators):
    """Carries hidden state from one episode into the next."""

    def __init__(self):
        self.worn = iter(range(1_000_000))

    def begin(self, place):
        super().begin(place)
        self.ticks = self.worn


class Vectors(Closure):
    """Acts in vectors, to see that they are remembered by value."""

    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def step(self, action):
        self.move(float(action[0] * action[1]))
        return self.observe(), 0.0, False, False, {}


class Lengths(gym.Env):
    """Episodes of 1 to 30 steps, each with its length as its return."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 31))
        return np.array([self.left], np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.array([self.left], np.float32), 1.0, self.left == 0, False, {}


class Faulty(gym.Env):
    """Fails in a certain step in the way that its argument says."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fault, when=15):
        self.fault = fault
        self.when = when
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        observation, reward = np.zeros(1, np.float32), 0.0
        if self.steps == self.when:
            if self.fault == "raises":
                raise ZeroDivisionError("the wheel came off\nand rolled away")
            if self.fault == "exits":
                sys.exit("the keys are gone")
            if self.fault == "observation":
                observation[0] = np.nan
            if self.fault == "reward":
                reward = np.inf
        return observation, reward, False, False, {}


class Shapeless(Faulty):
    """Shows something else than its space says."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)


class Nested(Faulty):
    """Shows arrays in tuples in dicts, one of which stops being finite in the 15th step."""

    observation_space = spaces.Dict(
        {
            "place": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32))),
            "count": spaces.Discrete(1000),
        }
    )
    action_space = spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (2,), np.float32)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.see(np.zeros(2, np.float32)), {}

    def step(self, action):
        there = super().step(action)[0]
        return self.see(np.array([there[0], action[1][0]], np.float32)), 0.0, False, False, {}

    def see(self, place):
        return {"place": (self.steps % 3, place), "count": self.steps}


class Masked(Faulty):
    """Allows its two actions in turn, and none in the step that its argument says."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {"action_mask": self.allowed()}

    def step(self, action):
        assert self.allowed()[action]
        return *super().step(action)[:4], {"action_mask": self.allowed()}

    def allowed(self):
        both = np.array([self.steps % 2 == 0, self.steps % 2 == 1], np.int8)
        return both if self.steps != self.when else 0 * both


class SameStep(gym.vector.VectorEnv):
    """A vector environment that resets in the step that ends an episode."""

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}

    def __init__(self, num_envs, max_episode_steps=None):
        self.num_envs = num_envs
        self.single_observation_space = spaces.Box(-1, 1, (1,), np.float32)
        self.single_action_space = spaces.Discrete(2)
        self.action_space = spaces.MultiDiscrete([2] * num_envs)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((self.num_envs, 1), np.float32), {}

    def step(self, actions):
        no = np.zeros(self.num_envs, np.bool_)
        return np.zeros((self.num_envs, 1), np.float32), np.zeros(self.num_envs), no, no, {}


def _needs_missing(**kwargs):
    import a_package_that_nobody_has  # noqa: F401


for _env in (Objects, Closure, Slots, Iterators, Traces, Unrepeatable, Vectors):
    gym.register(f"made/{_env.__name__}-v0", _env, max_episode_steps=20)
for _fault in ("raises", "exits", "observation", "reward"):
    gym.register(f"made/{_fault}-v0", Faulty, kwargs={"fault": _fault})
gym.register("made/late-v0", Faulty, kwargs={"fault": "raises", "when": 600})
gym.register("made/Shapeless-v0", Shapeless, kwargs={"fault": "observation"})
gym.register("made/Nested-v0", Nested, kwargs={"fault": "observation"})
gym.register("made/Masked-v0", Masked, kwargs={"fault": "mask"})
gym.register("made/Lengths-v0", Lengths)
gym.register("made/Missing-v0", _needs_missing)
gym.register("made/SameStep-v0", vector_entry_point=SameStep)
gym.register("made/Fallback-v0", Objects, vector_entry_point=SameStep)
