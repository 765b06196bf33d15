from __future__ import annotations

import pytest
import torch
from corelab_nets.adam import Adam
from torch import nn

kinds = pytest.mark.parametrize(
    ("size", "fused"),
    [(50, False), (50, True), (70_000, False)],
    ids=["on arrays", "few, fused", "many, fused"],
)


@kinds
@pytest.mark.parametrize("max_norm", [None, 0.1, 1e6])
def test_steps_are_those_of_torch(size, fused, max_norm):
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    ours = [nn.Parameter(drawn(size)), nn.Parameter(drawn(3, 2)), nn.Parameter(drawn(2))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    adam = Adam(ours, betas=(0.8, 0.99), eps=1e-5, fused=fused)
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


@pytest.mark.parametrize("fused", [False, True])
def test_a_saved_optimizer_goes_on_as_it_was(fused):
    weights = [nn.Parameter(torch.ones(4)) for _ in range(2)]
    optimizers = [Adam([w], fused=fused) for w in weights]
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


@kinds
def test_moments_without_gradients_do_not_become_denormal(size, fused):
    w = nn.Parameter(torch.ones(size))
    optimizer = Adam([w], fused=fused)
    w.grad = torch.zeros(size)
    w.grad[0] = 1
    optimizer.step(1e-3)
    w.grad = torch.zeros(size)
    (m,) = optimizer.state_dict()["m"]
    tiny = torch.finfo(torch.float32).tiny
    for _ in range(1200):
        optimizer.step(1e-3)
        assert not 0 < m[0].abs() < tiny
    assert m[0] == 0


def test_torch_s_kernel_rounds_as_its_optimizer_does():
    drawn = torch.randn(2, 300, generator=torch.Generator().manual_seed(0))
    ours, theirs = drawn[0].clone(), nn.Parameter(drawn[0].clone())
    adam, reference = Adam([ours], fused=True), torch.optim.Adam([theirs], 1e-2, fused=True)
    ours.grad = theirs.grad = drawn[1]
    for _ in range(50):
        adam.step(1e-2)
        reference.step()
    assert torch.equal(ours, theirs)
