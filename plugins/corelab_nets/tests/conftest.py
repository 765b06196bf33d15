"""What the samplers of the autoregressive networks are told, for the tests of all of them."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(params=["alone", "embedded", "labelled", "conditioned"])
def known(request):
    """Options of a network for images of 5 x 4 pixels, and what it is told of three of them."""
    if request.param == "alone":
        return {}, {}
    if request.param == "embedded":
        return {"embed": 3}, {}
    if request.param == "labelled":
        return {"classes": 3}, {"labels": torch.tensor([0, 2, 1])}
    seed = torch.Generator().manual_seed(1)
    condition = torch.randn(3, 2, 5, 4, dtype=torch.float64, generator=seed)
    given = {"labels": torch.tensor([2, 2, 0]), "condition": condition}
    return {"classes": 3, "condition": 2}, given
