"""Attention, whole and by its definition."""

import math

import pytest
import torch
from corelab_nets.attention import attend


def reference(q, k, v, causal):
    """Equation 1 of the paper, in float64."""
    scores = q.double() @ k.double().mT / math.sqrt(q.shape[-1])
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
    return scores.softmax(-1) @ v.double()


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_what_its_equation_says(causal):
    q, k, v = torch.randn(3, 2, 4, 7, 8, generator=torch.Generator().manual_seed(0))
    expected = reference(q, k, v, causal).float()
    torch.testing.assert_close(attend(q, k, v, causal=causal), expected)


def test_under_autocast_on_a_cpu_attention_is_computed_in_float32():
    q, k, v = torch.randn(3, 2, 4, 7, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        heard = attend(q, k, v)
    assert heard.dtype == torch.float32
    torch.testing.assert_close(heard, reference(q, k, v, False).float())
