from __future__ import annotations

import numpy as np
import pytest
from corelab_policy_gradient.returns import gae, vtrace
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


def corrected_by_definition(
    rewards, values, terminations, truncations, log_rho, gamma, lam, rho_bar, c_bar
):
    """Eq. 1 of the paper as it stands, with the λ of remark 2, less V(x_s):
    v_s - V(x_s) = Σ_t γ^(t-s) (Π_{i=s}^{t-1} c_i) δ_t V, summed to the episode's end.
    """
    T, N = rewards.shape
    corrections = np.zeros((T, N))
    rho = np.minimum(rho_bar, np.exp(log_rho))
    c = lam * np.minimum(c_bar, np.exp(log_rho))
    for n in range(N):
        for s in range(T):
            for t in range(s, T):
                successor = 0.0 if terminations[t, n] else values[t + 1, n]
                delta = rho[t, n] * (rewards[t, n] + gamma * successor - values[t, n])
                corrections[s, n] += gamma ** (t - s) * np.prod(c[s:t, n]) * delta
                if terminations[t, n] or truncations[t, n]:
                    break
    return corrections


bars = st.floats(0.1, 3)


@settings(deadline=None)
@given(experience=experiences(), spread=st.floats(0, 3), rho_bar=bars, c_bar=bars)
def test_v_trace_targets_are_those_of_the_definition(experience, spread, rho_bar, c_bar):
    rng = np.random.default_rng(0)
    log_rho = spread * rng.normal(size=experience["rewards"].shape)
    everything = experience | {"log_rho": log_rho, "rho_bar": rho_bar, "c_bar": c_bar}
    np.testing.assert_allclose(
        vtrace(**everything), corrected_by_definition(**everything), atol=1e-9
    )


@settings(deadline=None)
@given(experience=experiences(), rho_bar=st.floats(1, 3), c_bar=st.floats(1, 3))
def test_v_trace_on_policy_is_gae_and_with_lambda_1_the_n_step_target(experience, rho_bar, c_bar):
    log_rho = np.zeros_like(experience["rewards"])
    corrections = vtrace(**experience, log_rho=log_rho, rho_bar=rho_bar, c_bar=c_bar)
    np.testing.assert_allclose(corrections, gae(**experience), atol=1e-9)


def test_v_trace_on_policy_sums_the_rewards_up_to_the_value_of_the_last_state():
    """Three steps without an end, γ = ½, λ = 1: v_0 = 1 + 2/2 + 4/4 + 80/8."""
    none = flags(0, 0, 0)
    values = column(10, 20, 40, 80)
    corrections = vtrace(column(1, 2, 4), values, none, none, column(0, 0, 0), gamma=0.5)
    assert corrections[0, 0] + values[0, 0] == 1 + 1 + 1 + 10


@settings(deadline=None)
@given(experience=experiences(), spread=st.floats(0, 3), bar=bars)
def test_v_trace_corrections_are_the_advantages_of_its_policy_gradient(experience, spread, bar):
    """ρ_s (r_s + γ v_{s+1} - V(x_s)), section 4.2, where λ = 1, ρ̄ = c̄ and the episode goes on."""
    rng = np.random.default_rng(1)
    experience["log_rho"] = spread * rng.normal(size=experience["rewards"].shape)
    experience["terminations"][:] = experience["truncations"][:] = False
    experience["lam"] = 1.0
    corrections = vtrace(**experience, rho_bar=bar, c_bar=bar)
    v = experience["values"].copy()
    v[:-1] += corrections
    rho = np.minimum(bar, np.exp(experience["log_rho"]))
    target = experience["rewards"] + experience["gamma"] * v[1:]
    np.testing.assert_allclose(corrections, rho * (target - experience["values"][:-1]), atol=1e-9)


def test_v_trace_takes_no_harm_from_actions_that_have_become_certain_or_impossible():
    none = flags(0, 0)
    corrections = vtrace(column(1, 1), column(0, 0, 0), none, none, column(1e4, -1e4), gamma=0.9)
    np.testing.assert_array_equal(corrections, column(1, 0))
