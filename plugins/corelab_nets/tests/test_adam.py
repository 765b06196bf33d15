from __future__ import annotations

import pytest
import torch
from corelab_nets.adam import Adam
from torch import nn


@pytest.mark.parametrize("size", [50, 70_000], ids=["on arrays", "fused"])
@pytest.mark.parametrize("max_norm", [None, 0.1, 1e6])
def test_steps_are_those_of_torch(size, max_norm):
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    ours = [nn.Parameter(drawn(size)), nn.Parameter(drawn(3, 2)), nn.Parameter(drawn(2))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    adam = Adam(ours, betas=(0.8, 0.99), eps=1e-5)
    reference = torch.optim.Adam(theirs, betas=(0.8, 0.99), eps=1e-5)
    for step in range(120):
        for p, q in zip(ours[:2], theirs[:2], strict=True):  # the third has no gradient
            p.grad = drawn(*p.shape)
            q.grad = p.grad.clone()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(theirs[:2], max_norm)
        lr = 1e-2 / (1 + step)
        reference.param_groups[0]["lr"] = lr
        adam.step(lr, max_norm)
        reference.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, atol=1e-10, rtol=0)


def test_a_saved_optimizer_goes_on_as_it_was():
    weights = [nn.Parameter(torch.ones(4)) for _ in range(2)]
    optimizers = [Adam([w]) for w in weights]
    for _ in range(3):
        weights[0].grad = torch.randn(4)
        optimizers[0].step(0.1)
    weights[1].data.copy_(weights[0].data)
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    for w, optimizer in zip(weights, optimizers, strict=True):
        w.grad = torch.ones(4)
        optimizer.step(0.1)
    assert torch.equal(*weights)
    with pytest.raises(ValueError, match=r"a moment is \[4\], not \[5\]"):
        Adam([nn.Parameter(torch.ones(5))]).load_state_dict(optimizers[0].state_dict())


@pytest.mark.parametrize("size", [2, 70_000], ids=["on arrays", "fused"])
def test_moments_without_gradients_do_not_become_denormal(size):
    w = nn.Parameter(torch.ones(size))
    optimizer = Adam([w])
    w.grad = torch.zeros(size)
    w.grad[0] = 1
    optimizer.step(1e-3)
    w.grad = torch.zeros(size)
    for _ in range(1200):
        optimizer.step(1e-3)
    tiny = torch.finfo(torch.float32).tiny
    assert all(((m == 0) | (m.abs() >= tiny)).all() for m in optimizer.state_dict()["m"])
