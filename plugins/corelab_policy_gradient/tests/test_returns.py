from __future__ import annotations

import numpy as np
import pytest
from corelab_policy_gradient.returns import gae
from hypothesis import given, settings
from hypothesis import strategies as st


def by_definition(rewards, values, terminations, truncations, gamma, lam):
    """Eq. 16 of the paper as it stands: Â_t = Σ_l (γλ)^l δ_{t+l}, summed to the episode's end."""
    T, N = rewards.shape
    advantages = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            for k in range(t, T):
                successor = 0.0 if terminations[k, n] else values[k + 1, n]
                delta = rewards[k, n] + gamma * successor - values[k, n]
                advantages[t, n] += (gamma * lam) ** (k - t) * delta
                if terminations[k, n] or truncations[k, n]:
                    break
    return advantages


@st.composite
def experiences(draw):
    T, N = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.floats(0, 1))
    return {
        "rewards": rng.normal(size=(T, N)),
        "values": rng.normal(size=(T + 1, N)),
        "terminations": rng.random((T, N)) < share,
        "truncations": rng.random((T, N)) < share,
        "gamma": draw(st.floats(0, 1)),
        "lam": draw(st.floats(0, 1)),
    }


@settings(deadline=None)
@given(experience=experiences())
def test_advantages_are_those_of_the_definition(experience):
    np.testing.assert_allclose(gae(**experience), by_definition(**experience), atol=1e-9)


def column(*numbers):
    return np.array(numbers, float)[:, None]


def flags(*numbers):
    return np.array(numbers, bool)[:, None]


def test_truncation_bootstraps_from_the_value_of_the_last_observation():
    """Two steps of an episode that is cut, a reset, one step of the next; by hand, γ = λ = ½."""
    advantages = gae(
        rewards=column(1, 2, 0, 3),
        values=column(10, 20, 40, 80, 160),
        terminations=flags(0, 0, 0, 0),
        truncations=flags(0, 1, 0, 0),
        gamma=0.5,
        lam=0.5,
    )
    last = 2 + 0.5 * 40 - 20  # V(s_2) = 40 is that of the observation where it was cut
    first = 1 + 0.5 * 20 - 10 + 0.25 * last
    fresh = 3 + 0.5 * 160 - 80
    assert advantages[[0, 1, 3], 0].tolist() == [first, last, fresh]


def test_termination_does_not_bootstrap():
    advantages = gae(
        rewards=column(1, 2),
        values=column(10, 20, 40),
        terminations=flags(0, 1),
        truncations=flags(0, 0),
        gamma=0.5,
        lam=0.5,
    )
    assert advantages[:, 0].tolist() == [1 + 0.5 * 20 - 10 + 0.25 * (2 - 20), 2 - 20]


def test_an_episode_that_ends_and_is_cut_at_once_has_ended():
    both = gae(column(1), column(0, 9), flags(1), flags(1), 0.9, 0.9)
    assert both[0, 0] == 1


@settings(deadline=None)
@given(experience=experiences(), noise=st.floats(-1e6, 1e6))
def test_nothing_depends_on_a_step_that_resets(experience, noise):
    over = experience["terminations"] | experience["truncations"]
    resets = np.zeros_like(over)
    for t in range(1, len(over)):
        resets[t] = over[t - 1] & ~resets[t - 1]
    experience["terminations"] &= ~resets
    experience["truncations"] &= ~resets
    before = gae(**experience)
    experience["rewards"] = np.where(resets, noise, experience["rewards"])
    assert np.array_equal(gae(**experience)[~resets], before[~resets])


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_the_extremes_of_lambda_are_one_step_and_the_whole_episode(lam):
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(5, 1)), rng.normal(size=(6, 1))
    none = np.zeros((5, 1), bool)
    if lam == 0:
        expected = rewards[0] + 0.9 * values[1] - values[0]
    else:
        expected = sum(0.9**t * rewards[t] for t in range(5)) + 0.9**5 * values[5] - values[0]
    np.testing.assert_allclose(gae(rewards, values, none, none, 0.9, lam)[0], expected)
