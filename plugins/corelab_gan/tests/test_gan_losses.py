from __future__ import annotations

import math

import pytest
import torch
from corelab_gan.losses import GAMES, hinge, judgement, minimax, non_saturating, one_lipschitz, r1
from torch import nn

REAL = [-7.5, -1.0, -0.2, 0.0, 0.3, 1.0, 2.0, 9.0]
FAKE = [6.0, 1.5, -1.0, 0.1, -0.4, -2.0, -9.5, 0.0]


def sigma(logit):
    return 1 / (1 + math.exp(-logit))


def mean(values):
    return sum(values) / len(values)


# for each game the losses of either player by the papers' formulas, in plain Python
DISCRIMINATOR = {
    "minimax": lambda: -mean([math.log(sigma(a)) + math.log(1 - sigma(b)) for a, b in PAIRS]),
    "hinge": lambda: mean([max(0, 1 - a) + max(0, 1 + b) for a, b in PAIRS]),
    "wasserstein": lambda: mean([b - a for a, b in PAIRS]),
}
DISCRIMINATOR["non-saturating"] = DISCRIMINATOR["minimax"]
GENERATOR = {
    "minimax": lambda: mean([math.log(1 - sigma(b)) for b in FAKE]),
    "non-saturating": lambda: -mean([math.log(sigma(b)) for b in FAKE]),
    "hinge": lambda: -mean(FAKE),
    "wasserstein": lambda: -mean(FAKE),
}
PAIRS = list(zip(REAL, FAKE, strict=True))


@pytest.mark.parametrize("name", GAMES)
def test_both_players_pay_what_the_papers_say(name):
    real, fake = (torch.tensor(v, dtype=torch.float64) for v in (REAL, FAKE))
    assert GAMES[name].discriminator(real, fake).item() == pytest.approx(DISCRIMINATOR[name]())
    assert GAMES[name].generator(fake).item() == pytest.approx(GENERATOR[name]())


SLOPES = {
    "minimax": lambda logit: -sigma(logit),
    "non-saturating": lambda logit: -(1 - sigma(logit)),
    "hinge": lambda logit: -1.0,
    "wasserstein": lambda logit: -1.0,
}


@pytest.mark.parametrize("name", GAMES)
def test_the_generator_s_slopes_are_the_closed_forms(name):
    fake = torch.tensor(FAKE, dtype=torch.float64, requires_grad=True)
    GAMES[name].generator(fake).backward()
    assert fake.grad.tolist() == pytest.approx([SLOPES[name](v) / len(FAKE) for v in FAKE])


@pytest.mark.parametrize("name", GAMES)
def test_float32_is_as_good_as_float64_however_sure_the_discriminator_is(name):
    logits = torch.tensor([-200.0, -60.0, -5.0, 5.0, 60.0, 200.0])
    for game in (GAMES[name].generator, lambda v: GAMES[name].discriminator(v, v.flip(0))):
        results = []
        for dtype in (torch.float32, torch.float64):
            v = logits.to(dtype).requires_grad_()
            loss = game(v)
            (slope,) = torch.autograd.grad(loss, v)
            results.append(torch.cat([loss[None], slope]).double())
        assert results[0].isfinite().all()
        assert torch.allclose(*results, rtol=1e-6, atol=1e-30)


def test_where_samples_are_bad_only_the_minimax_loss_is_flat():
    for loss, flat in ((minimax, True), (non_saturating, False)):
        logit = torch.tensor([-8.0], requires_grad=True)
        loss(logit).backward()
        assert (abs(logit.grad.item()) < 1e-3) == flat


def test_the_hinge_is_content_beyond_its_margins():
    real = torch.tensor([1.5, 3.0], requires_grad=True)
    fake = torch.tensor([-1.5, -3.0], requires_grad=True)
    hinge(real, fake).backward()
    assert not real.grad.any()
    assert not fake.grad.any()


def critic():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def by_differences(net, x, step=1e-5):
    """∂D/∂x, one coordinate at a time."""
    slopes = torch.zeros_like(x)
    with torch.no_grad():
        for i in range(len(x)):
            for j in range(x.shape[1]):
                up, down = x.clone(), x.clone()
                up[i, j] += step
                down[i, j] -= step
                slopes[i, j] = (net(up)[i, 0] - net(down)[i, 0]) / (2 * step)
    return slopes


PENALTIES = {
    r1: lambda slopes: 0.5 * (slopes**2).sum(1).mean(),
    one_lipschitz: lambda slopes: ((slopes.norm(dim=1) - 1) ** 2).mean(),
}


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_penalty_and_its_gradient_agree_with_finite_differences(penalty):
    net = critic()
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def of(net):
        at = x.clone().requires_grad_()
        return penalty(net(at).squeeze(1), at)

    value = of(net)
    assert value.item() == pytest.approx(PENALTIES[penalty](by_differences(net, x)).item(), 1e-6)
    weight = net[0].weight
    (gradient,) = torch.autograd.grad(value, weight)
    for i, j in ((0, 0), (2, 1), (4, 2)):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[i, j] += step
            values.append(of(net).item())
            with torch.no_grad():
                weight[i, j] -= step
        assert gradient[i, j].item() == pytest.approx((values[0] - values[1]) / 2e-5, 1e-5)


def test_a_judgement_counts_pairs_signs_and_hopeless_samples():
    said = judgement(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([-6.0, 1.0, -0.5, -7.0]))
    wins = sum(a > b for a in (2.0, -1.0, 0.5) for b in (-6.0, 1.0, -0.5, -7.0))
    assert said["win_rate"].item() == pytest.approx(wins / 12)
    assert said["real_accuracy"].item() == pytest.approx(2 / 3)
    assert said["fake_accuracy"].item() == pytest.approx(3 / 4)
    assert said["saturation"].item() == pytest.approx(2 / 4)
