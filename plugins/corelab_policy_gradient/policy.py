"""A network that acts: with what stands between an environment's observations and its actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, SupportsFloat, cast

import numpy as np
import torch
from corelab_envs.interface import Environment, Environments, SelfPlay, film, measure, play
from corelab_media import Video
from corelab_nets.arrays import Array
from corelab_nets.masks import (
    check_mask,
    choices_of,
    has_mask,
    masked,
    refuse_empty,
    split_mask,
    without_mask,
)
from corelab_nets.trees import Tree, map_tree, to_tensors
from numpy.typing import NDArray
from torch import Tensor, nn

from corelab import Context, PluginError, Split
from corelab_policy_gradient.distributions import distribution_over
from corelab_policy_gradient.interface import FastActorCritic
from corelab_policy_gradient.normalisation import ObservationNormaliser

_NOTHING = torch.empty(0)
Choose = Callable[[NDArray[Any]], NDArray[Any]]
"""From what a policy gives, [B, k], to actions [B, ...]."""


class Policy:
    """The policy that a network of MODEL has on TASK: masks, normalisation and memory included."""

    def __init__(
        self, task: Environment, model: Callable[..., Any], context: Context, *, normalise: bool
    ) -> None:
        space, actions = task.single_observation_space, task.single_action_space
        self.name, self.device = task.name, context.device
        check_mask(space, actions, task.name, several=True)
        self._choices = choices_of(actions)
        self.distribution = distribution_over(actions, task.name)
        self.space = without_mask(space)
        """What the network sees."""
        self.has_mask = has_mask(space)
        self.net: nn.Module = model(self.space, actions)
        self.memory = int(getattr(self.net, "memory", 0))
        """How many numbers it remembers; 0 if it is not recurrent."""
        self.on_arrays = context.device.type == "cpu" and isinstance(self.net, FastActorCritic)
        """Whether `outputs` gives arrays rather than tensors."""
        self.normaliser = ObservationNormaliser(self.space, context.device) if normalise else None

    def see(
        self, observation: Any, over: NDArray[np.bool_], step: int = 0, first: int = 0
    ) -> tuple[Tree, NDArray[np.bool_] | None]:
        """What the network sees of OBSERVATION, of the copies from FIRST on, and the mask;
        `DataError` if that allows nothing to a copy that is not OVER.
        """
        if not self.has_mask:
            return observation, None
        seen, mask = split_mask(observation)
        refuse_empty(mask, over, self.name, step, first, self._choices)
        return seen, mask

    def prepare(self, seen: Tree) -> Tree:
        """SEEN (tensors) as the network gets it."""
        if self.device.type != "cpu":
            seen = map_tree(lambda x: x.to(self.device), seen)
        return seen if self.normaliser is None else self.normaliser(seen)

    def act(
        self,
        seen: Tree,
        mask: NDArray[np.bool_] | None = None,
        memory: Tensor = _NOTHING,
        starts: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[Any], Tensor]:
        """The policy's outputs [N, k] for what it has SEEN (tensors), without those that MASK
        forbids, and its MEMORY [N, S] afterwards, which is zero before where an episode STARTS.
        """
        x = self.prepare(seen)
        net: Any = self.net
        if self.on_arrays:
            p = net.act(x)
            return masked(p, mask), memory
        with torch.no_grad():
            if self.memory:
                begins = torch.as_tensor(starts, device=self.device).unsqueeze(0)
                q, _, memory = net(map_tree(lambda v: v.unsqueeze(0), x), memory, begins)
                q = q[0]
            else:
                q, _ = net(x)
        allowed = None if mask is None else torch.from_numpy(mask).to(self.device)
        return masked(q, allowed).cpu().numpy(), memory

    def outputs(
        self, inputs: tuple[Any, ...], rows: Tensor | None = None, mask: Array | None = None
    ) -> tuple[Array, Array, Callable[[Array, Array], None]]:
        """What the network gives for INPUTS (what it is called with), of that these ROWS: the
        policy [B, k], without what MASK forbids, and the values [B]; and what takes a loss's
        gradients with respect to both and sets those of the parameters.
        """
        net: Any = self.net
        if self.on_arrays:
            p, v, back = net.trace(*inputs)
            return masked(p, mask), v, back
        p, v, *_ = net(*inputs)
        if rows is not None:
            p, v = p.flatten(0, 1)[rows], v.flatten()[rows]

        def pull(d_p: Tensor, d_v: Tensor) -> None:
            net.zero_grad()
            torch.autograd.backward((p, v), (d_p, d_v))

        return masked(p.detach(), mask), v.detach(), pull

    @torch.no_grad()
    def look(self, x: Tree, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Policy [B, k], without what MASK forbids, and values [B] for X, of a network without
        memory; without a graph.
        """
        if not self.on_arrays:
            return self.outputs((x,), None, mask)[:2]
        p, v, _ = self.outputs((x,), None, None if mask is None else mask.numpy())
        return torch.tensor(p), torch.tensor(v)  # copies: the next call writes over p and v

    def count(self, observations: Tree, context: Context) -> None:
        """Let OBSERVATIONS [T, N, ...] (tensors) count in what observations are normalised by."""
        if self.normaliser is not None:
            self.normaliser.update(map_tree(lambda x: x.flatten(0, 1), observations), context)

    def weights(self) -> dict[str, Any]:
        """By what it acts, copied to arrays: the network's parameters and buffers, and the moments
        of observations.
        """
        state = self.net.state_dict()
        return {
            "net": {name: tensor.cpu().numpy().copy() for name, tensor in state.items()},
            "normaliser": None if self.normaliser is None else self.normaliser.state_dict(),
        }

    def follow(self, weights: dict[str, Any]) -> None:
        """Act by the WEIGHTS of another policy, on the CPU, from here on."""
        for name, tensor in self.net.state_dict().items():
            tensor.numpy()[...] = weights["net"][name]
        if self.normaliser is not None:
            self.normaliser.load_state_dict(weights["normaliser"])

    def drawing(self, rng: np.random.Generator) -> Choose:
        """What draws actions with RNG."""
        return partial(self.distribution.sample, rng=rng)

    def accompany(self, envs: Environments, task: Environment, choose: Choose) -> None:
        """If agents move in turn in ENVS of TASK, let this policy move, by CHOOSE, for those who
        are not the learner, too.
        """
        if in_turn(task) and isinstance(envs, SelfPlay):
            envs.face(_Company(self, choose))

    @contextmanager
    def playing(
        self, task: Environment, seed: int = 0, stochastic: bool = False, alone: bool = False
    ) -> Iterator[tuple[Environment, Callable[[Any], NDArray[Any]]]]:
        """TASK as it is to be played, and what plays it: by the likeliest actions or by STOCHASTIC
        ones, which follow from SEED. Nothing is changed by it. Where agents move in turn it plays
        all of them, or ALONE the one that a row is.
        """
        choose: Choose = self.distribution.mode
        if stochastic:
            choose = self.drawing(np.random.default_rng(seed))

        def prepare(envs: Environments) -> None:
            if not alone:
                self.accompany(envs, task, choose)

        watched = _Watched(task, prepare)
        memory = _NOTHING

        def act(observation: Any) -> NDArray[Any]:
            nonlocal memory
            envs = watched.envs
            if self.memory and envs.steps == 0:
                memory = torch.zeros(envs.num_envs, self.memory, device=self.device)
            seen, mask = self.see(observation, envs.over, envs.steps)
            p, memory = self.act(to_tensors(self.space, seen), mask, memory, envs.starts)
            return self.distribution.to_env(choose(p))

        training = self.net.training
        self.net.eval()
        try:
            yield cast(Environment, watched), act
        finally:
            self.net.train(training)


class Played:
    """What algorithms with a `Policy` on a task have in common: how it is measured and shown."""

    policy: Policy
    task: Environment

    def evaluate(
        self,
        split: Split = "test",
        n: int | None = None,
        seed: int = 0,
        *,
        stochastic: bool = False,
    ) -> dict[str, SupportsFloat | Video]:
        """Play N episodes (validation: 20, test: 100) with the likeliest actions, or STOCHASTIC:
        with actions drawn as in training. Where agents move in turn, the policy plays all of them;
        what it has when the others act at random is measured besides.
        """
        with self.policy.playing(self.task, seed, stochastic) as (task, act):
            metrics = measure(task, act, n, split, seed)
        if in_turn(self.task):
            with self.policy.playing(self.task, seed, stochastic, alone=True) as (task, act):
                returns = play(task, act, n, split, seed).returns
            metrics["return_among_random"] = float(returns.mean())
        return metrics

    def sample(self, n: int = 1, seed: int = 0, *, stochastic: bool = False) -> Video:
        """Film N episodes, with the likeliest actions or with STOCHASTIC ones."""
        with self.policy.playing(self.task, seed, stochastic) as (task, act):
            return film(task, act, n, "test", seed)


def in_turn(task: Environment) -> bool:
    """Whether agents move in turn in TASK, and it is no game of two, which has `rivals`."""
    return getattr(task, "seats", 1) > 1 and not getattr(task, "rivals", ())


class _Company:
    """`Opponents` who move by POLICY and CHOOSE, as the learner does."""

    def __init__(self, policy: Policy, choose: Choose) -> None:
        if policy.memory:
            raise PluginError(
                f"the agents of {policy.name} move in turn, which needs a model without memory; "
                "choose another --model"
            )
        self._policy, self._choose = policy, choose

    def draw(self, n: int) -> NDArray[np.int64]:
        return np.zeros(n, np.int64)

    def choose(self, observations: Any, opponents: NDArray[np.int64]) -> NDArray[Any]:
        policy = self._policy
        seen, mask = policy.see(observations, np.zeros(len(opponents), np.bool_))
        p, _ = policy.act(to_tensors(policy.space, seen), mask)
        return policy.distribution.to_env(self._choose(p))

    def record(self, opponents: NDArray[np.int64], returns: NDArray[np.float64]) -> None:
        pass


class _Watched:
    """A task whose environments, which PREPARE has seen, tell where episodes end and begin."""

    def __init__(self, task: Environment, prepare: Callable[[Environments], None]) -> None:
        self._task = getattr(task, "measured", task)
        self._prepare = prepare
        self.measured = self  # `play` asks for it once more
        self.envs: _WatchedEnvironments

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> _WatchedEnvironments:
        envs = self._task.make(num_envs, seed, render=render)
        self._prepare(envs)
        self.envs = _WatchedEnvironments(envs, num_envs)
        return self.envs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


class _WatchedEnvironments:
    """Environments that remember which episodes are over, and which begin."""

    def __init__(self, envs: Environments, num_envs: int) -> None:
        self._envs = envs
        self.num_envs = num_envs
        self.over = np.zeros(num_envs, np.bool_)
        self.starts = np.ones(num_envs, np.bool_)
        self.steps = 0

    def step(self, actions: Any) -> Any:
        result = self._envs.step(actions)
        self.steps += 1
        self.starts, self.over = self.over, result[2] | result[3]
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._envs, name)
