from __future__ import annotations

import math

import pytest
import torch
from corelab_vae.codes import CodeDistribution, slerp
from hypothesis import given, settings
from hypothesis import strategies as st

T = torch.linspace(0, 1, 5, dtype=torch.float64)


def test_the_way_between_two_directions_is_an_arc():
    a, b = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[0.0, 2.0]]).double()
    angles = T * math.pi / 2
    expected = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    assert torch.allclose(slerp(a, b, T)[0], expected, atol=1e-12)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), d=st.integers(2, 20))
def test_direction_and_length_change_evenly(seed, d):
    generator = torch.Generator().manual_seed(seed)
    a, b = 3 * torch.randn(2, 4, d, generator=generator, dtype=torch.float64)
    way = slerp(a, b, T)
    assert torch.allclose(way[:, 0], a)
    assert torch.allclose(way[:, -1], b)
    lengths = way.norm(dim=-1)
    assert torch.allclose(lengths.diff(dim=1), lengths.diff(dim=1)[:, :1], atol=1e-9)
    unit = way / lengths[..., None]
    steps = (unit[:, 1:] * unit[:, :-1]).sum(-1)
    assert torch.allclose(steps, steps[:, :1], atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0])
def test_the_way_is_straight_where_there_is_no_arc(factor):
    a = torch.tensor([[1.0, -2.0, 0.5]]).double()
    straight = torch.lerp(a[:, None], factor * a[:, None], T[:, None])
    assert torch.allclose(slerp(a, factor * a, T), straight)


def test_fitted_codes_are_distributed_like_those_they_were_fitted_to():
    generator = torch.Generator().manual_seed(0)
    factor = torch.tensor([[2.0, 0.0], [1.5, 0.5]])
    z = torch.randn(50_000, 2, generator=generator) @ factor.T + torch.tensor([3.0, -1.0])
    codes = CodeDistribution.fit(z)
    assert torch.allclose(codes.mean, z.mean(0))
    assert torch.allclose(codes.factor @ codes.factor.T, torch.cov(z.T), atol=1e-4)
    assert torch.allclose(codes.scale, z.std(0), rtol=1e-4)
    drawn = codes.draw(50_000, generator)
    assert torch.allclose(drawn.mean(0), z.mean(0), atol=0.05)
    assert torch.allclose(torch.cov(drawn.T), torch.cov(z.T), atol=0.1)


def test_codes_that_never_differ_can_be_fitted():
    codes = CodeDistribution.fit(torch.tensor([[1.0, 7.0], [2.0, 7.0], [4.0, 7.0]]))
    assert codes.mean[1] == 7
    assert codes.scale[1] == pytest.approx(1e-3)
    assert CodeDistribution.fit(torch.tensor([[1.0], [3.0]])).scale.item() == pytest.approx(
        math.sqrt(2), rel=1e-4
    )


def test_the_prior_is_a_standard_normal():
    codes = CodeDistribution.standard(3, torch.device("cpu"))
    expected = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(codes.draw(5, torch.Generator().manual_seed(1)), expected)
    assert torch.equal(codes.scale, torch.ones(3))
