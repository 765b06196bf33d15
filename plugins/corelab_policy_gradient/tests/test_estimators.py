"""The gradients of REINFORCE and A2C, in expectation, against differences of the exact return."""

from __future__ import annotations

import copy
import functools
from itertools import product

import numpy as np
import pytest
import torch
from corelab_policy_gradient.a2c import A2C
from corelab_policy_gradient.mlp import MLP
from corelab_policy_gradient.reinforce import REINFORCE, Experience
from gymnasium import spaces

from corelab import Context

STATES, ACTIONS, T = 3, 2, 3


class Decisions:
    """A Markov decision process that terminates after T steps, and all that can happen in it."""

    name = "Decisions-v0"
    num_envs = 1
    video = False
    fps = 1.0
    single_observation_space = spaces.Discrete(STATES)
    single_action_space = spaces.Discrete(ACTIONS)

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.start = rng.dirichlet(np.ones(STATES))
        self.next = rng.dirichlet(np.ones(STATES), (STATES, ACTIONS))
        self.reward = rng.normal(size=(STATES, ACTIONS))

    def make(self, num_envs, seed, *, render=False):
        return self

    def reset(self):
        return np.zeros(1, np.int64), {}

    def expected_return(self, pi, gamma):
        """E[Σ γ^t r_t] for a policy pi [STATES, ACTIONS]."""
        V = np.zeros(STATES)
        for _ in range(T):
            V = (pi * (self.reward + gamma * self.next @ V)).sum(1)
        return self.start @ V

    def trajectories(self, pi):
        """Each possible episode: its probability, its states s_0 … s_T and its actions."""
        for s in product(range(STATES), repeat=T):
            for a in product(range(ACTIONS), repeat=T):
                p = self.start[s[0]] * np.prod([pi[s[t], a[t]] for t in range(T)])
                p *= np.prod([self.next[s[t], a[t], s[t + 1]] for t in range(T - 1)])
                yield p, [*s, 0], list(a)


def algorithm_on(task, algorithm, config):
    context = Context(seed=0, device=torch.device("cpu"), steps=1000)
    build = functools.partial(context.build, MLP, MLP.Config(sizes=()))
    made = algorithm(config, task, build, context)
    made.net.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        made.net.nets.flat.normal_(generator=generator)
    return made


def policy_of(net):
    p, _ = net(torch.arange(STATES))
    return p.softmax(-1).detach().numpy()


def actor_places(net):
    """Where the actor's numbers stand among the weights."""
    numbered = copy.deepcopy(net.nets)
    numbered.flat.data = torch.arange(len(numbered.flat), dtype=torch.float64)
    return torch.cat([x.flatten() for layer in numbered.layers(0) for x in layer]).long()


def differences(task, net, gamma, h=1e-5):
    """dJ/dθ for each number of the actor, from the return at θ ± h."""
    gradient = []
    for i in actor_places(net).tolist():
        found = []
        for sign in (1, -1):
            net.nets.flat.data[i] += sign * h
            found.append(task.expected_return(policy_of(net), gamma))
            net.nets.flat.data[i] -= sign * h
        gradient.append((found[0] - found[1]) / (2 * h))
    return torch.tensor(gradient, dtype=torch.float64)


def expected_gradient(task, algorithm, differentiate):
    total = 0.0
    for p, s, a in task.trajectories(policy_of(algorithm.net)):
        differentiate(s, a, task.reward[s[:T], a])
        total = total + p * algorithm.net.nets.flat.grad[actor_places(algorithm.net)]
    return total


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize(("gamma", "discount"), [(1.0, False), (0.8, True)])
def test_reinforce_is_an_unbiased_estimate_of_the_gradient(baseline, gamma, discount):
    task = Decisions()
    config = REINFORCE.Config(gamma=gamma, baseline=baseline, discount_steps=discount)
    algorithm = algorithm_on(task, REINFORCE, config)

    def differentiate(s, a, r):
        episode = Experience(
            seen=torch.tensor(s[:T]),
            mask=None,
            action=torch.tensor(a),
            reward=r[:, None],
            valid=np.ones((T, 1), bool),
            last=torch.tensor(s[T:]),
            truncated=np.zeros(1, bool),
        )
        algorithm._differentiate(episode)

    found = expected_gradient(task, algorithm, differentiate)
    wanted = differences(task, algorithm.net, gamma)
    assert wanted.abs().max() > 0.05
    torch.testing.assert_close(-found, wanted, rtol=1e-7, atol=1e-9)


def test_without_the_discount_of_steps_the_estimate_is_another():
    """It then weighs late steps more than the discounted return does; see the documentation."""
    task = Decisions()
    algorithm = algorithm_on(task, REINFORCE, REINFORCE.Config(gamma=0.5))

    def differentiate(s, a, r):
        valid, truncated = np.ones((T, 1), bool), np.zeros(1, bool)
        seen, last = torch.tensor(s[:T]), torch.tensor(s[T:])
        algorithm._differentiate(
            Experience(seen, None, torch.tensor(a), r[:, None], valid, last, truncated)
        )

    found = expected_gradient(task, algorithm, differentiate)
    assert (-found - differences(task, algorithm.net, 0.5)).abs().max() > 0.01


def test_a2c_is_an_unbiased_estimate_of_the_gradient():
    task = Decisions()
    config = A2C.Config(horizon=T, gamma=1.0, lam=1.0, entropy_coef=0.0)
    algorithm = algorithm_on(task, A2C, config)

    def differentiate(s, a, r):
        e = algorithm.rollout
        for t in range(T + 1):
            e.observations[t] = np.array([s[t]])
        e.actions[:, 0] = torch.tensor(a)
        e.rewards[:, 0] = r
        e.terminations[:, 0] = [False, False, True]
        e.valid[:] = True
        algorithm._differentiate()

    found = expected_gradient(task, algorithm, differentiate)
    wanted = differences(task, algorithm.net, 1.0)
    assert wanted.abs().max() > 0.05
    torch.testing.assert_close(-T * found, wanted, rtol=1e-7, atol=1e-9)
