"""From losses to new weights: accumulation, clipping, averages and precision."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from corelab import ConfigError, Context, UpdateConfig, Updater
from corelab.experiments import resolve
from corelab.state import load_tree, save_tree

CPU = torch.device("cpu")


def make(seed: int = 0, averages: bool = True, **options: Any) -> Updater:
    context = Context(seed, CPU, steps=100, update=UpdateConfig(**options))
    net = context.build(partial(nn.Linear, 3, 2))
    return context.updater(net, torch.optim.Adam(net.parameters(), 0.1, fused=True), averages)


def squares(updater: Updater, x: Tensor, y: Tensor | None) -> tuple[Tensor, ...]:
    error = updater.module(x) - (0 if y is None else y)
    return error.square().mean(), error.abs().mean()


def batches(n: int, rows: int = 10) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(rows, 3, generator=generator), torch.randn(rows, 2, generator=generator))
        for _ in range(n)
    ]


def train(updater: Updater, data: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, ...]]:
    return [updater(partial(squares, updater), x, y) for x, y in data]


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_an_update_is_that_of_the_optimizer_alone() -> None:
    updater, bare = make(), make().module
    adam = torch.optim.Adam(bare.parameters(), 0.1, fused=True)
    for x, y in batches(5):
        loss = (bare(x) - y).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert updater(partial(squares, updater), x, y)[0] == loss
    assert torch.equal(weights(updater.module), weights(bare))


def test_an_update_counts_the_smallest_numbers_as_zero_and_nothing_else_does() -> None:
    seen = []

    def losses(x: Tensor) -> tuple[Tensor]:
        seen.append((torch.tensor(1e-30) * 1e-9).item())
        raise RuntimeError("nothing more to see")

    for _ in range(2):
        assert 0 < (torch.tensor(1e-30) * 1e-9).item() < 1e-38
        with pytest.raises(RuntimeError, match="nothing more"):
            make()(losses, torch.zeros(1, 3))
    assert seen == [0, 0]


@pytest.mark.parametrize("pieces", [2, 3, 10, 64])
def test_in_pieces_the_update_is_the_same_but_for_rounding(pieces: int) -> None:
    whole, cut = make(clip=0.3), make(clip=0.3, accumulate=pieces)
    ours, theirs = train(whole, batches(5)), train(cut, batches(5))
    assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), atol=1e-6)
    assert torch.allclose(weights(whole.module), weights(cut.module), atol=1e-5)


def test_pieces_are_disjoint_and_the_absent_stay_absent() -> None:
    updater, seen = make(accumulate=3), []

    def losses(x: Tensor, y: Tensor | None) -> tuple[Tensor]:
        assert y is None
        seen.append(x)
        return (updater.module(x).square().mean(),)

    x = torch.arange(30.0).reshape(10, 3)
    updater(losses, x, None)
    assert [len(piece) for piece in seen] == [3, 4, 3]
    assert torch.equal(torch.cat(seen), x)


def test_a_long_gradient_is_scaled_down_and_its_length_told() -> None:
    x, y = batches(1)[0]
    free, tight = make(), make(clip=1e-3)
    free(partial(squares, free), x, 100 * y)
    tight(partial(squares, tight), x, 100 * y)
    norm = torch.cat([p.grad.flatten() for p in free.module.parameters()]).norm()
    assert free.gradient_norm is None
    assert tight.gradient_norm == pytest.approx(norm.item())
    clipped = torch.cat([p.grad.flatten() for p in tight.module.parameters()]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_the_average_is_a_power_function_as_wide_as_asked(width: float) -> None:
    updater, history = make(ema=width), []
    for row in batches(400):
        train(updater, [row])
        history.append(weights(updater.module))
    # γ by bisection; the profile of t is the mass that x^(γ+1) gains between t - 1 and t
    low, high = 0.0, 1e3
    for _ in range(100):
        gamma = (low + high) / 2
        wide = math.sqrt(gamma + 1) / (gamma + 2) / math.sqrt(gamma + 3)
        low, high = (gamma, high) if wide > width else (low, gamma)
    t = torch.arange(401, dtype=torch.float64) / 400
    profile = (t ** (gamma + 1)).diff()
    expected = (profile[:, None] * torch.stack(history)).sum(0)
    assert torch.allclose(weights(updater.averaged).double(), expected, atol=1e-5)
    centre = (profile * t[1:]).sum()
    spread = (profile * (t[1:] - centre) ** 2).sum().sqrt().item()
    assert spread == pytest.approx(width, rel=0.02)


def test_buffers_are_not_averaged_but_copied() -> None:
    context = Context(0, CPU, 100, update=UpdateConfig(ema=0.1))
    net = nn.BatchNorm1d(3)
    updater = context.updater(net, torch.optim.SGD(net.parameters(), 0.1))
    for x, _ in batches(3):
        updater(lambda x: (updater.module(x).square().sum(),), x)
    assert torch.equal(updater.averaged.running_mean, net.running_mean)  # type: ignore[arg-type]
    assert net.num_batches_tracked == updater.averaged.num_batches_tracked == 3


@pytest.mark.parametrize(("averages", "ema"), [(True, 0.0), (False, 0.1)])
def test_without_an_average_the_module_itself_is_evaluated(averages: bool, ema: float) -> None:
    updater = make(averages=averages, ema=ema)
    assert updater.averaged is updater.module
    with updater.at_rest() as module:
        assert not module.training
        assert not module(torch.zeros(1, 3)).requires_grad
    assert updater.module.training


def test_a_restored_updater_goes_on_to_the_same_bits(tmp_path: Any) -> None:
    options: dict[str, Any] = {"ema": 0.1, "clip": 0.5, "accumulate": 2}
    whole, resumed = make(**options), make(seed=1, **options)
    train(whole, batches(3))
    save_tree(tmp_path / "state", whole.state_dict())
    resumed.module.load_state_dict(whole.module.state_dict())
    resumed.load_state_dict(load_tree(tmp_path / "state"))
    assert train(whole, batches(4)) == train(resumed, batches(4))
    assert torch.equal(weights(whole.averaged), weights(resumed.averaged))
    assert not torch.equal(weights(whole.averaged), weights(whole.module))


def test_bfloat16_computes_coarsely_and_keeps_weights_fine() -> None:
    fine, coarse = make(), make(precision="bfloat16")
    seen = []

    def losses(x: Tensor, y: Tensor) -> tuple[Tensor]:
        out = coarse.module(x)
        seen.append(out.dtype)
        return ((out.float() - y).square().mean(),)

    x, y = batches(1)[0]
    (loss,) = coarse(losses, x, y)
    assert seen == [torch.bfloat16]
    assert next(coarse.module.parameters()).dtype == torch.float32
    assert loss.item() == pytest.approx(train(fine, [(x, y)])[0][0].item(), rel=0.05)
    with coarse.at_rest() as module:
        assert module(x).dtype == torch.bfloat16


def test_channels_lie_last_in_the_weights_if_asked() -> None:
    context = Context(0, CPU, 100, update=UpdateConfig(channels_last=True))
    net = nn.Conv2d(3, 4, 3)
    context.updater(net, torch.optim.SGD(net.parameters(), 0.1))
    assert net.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_restored_updater_goes_on_to_the_same_bits_where_channels_lie_last(tmp_path: Any) -> None:
    def fresh() -> tuple[nn.Module, Updater]:
        context = Context(0, CPU, 100, update=UpdateConfig(channels_last=True, ema=0.1, clip=0.1))
        net = context.build(
            lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 4, 3))
        )
        return net, context.updater(net, torch.optim.Adam(net.parameters(), 0.1, fused=True))

    def go_on(updater: Updater, rows: Tensor) -> list[float]:
        return [updater(lambda x: (updater.module(x).square().mean(),), x)[0].item() for x in rows]

    x = torch.randn(8, 5, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    net, whole = fresh()
    go_on(whole, x[:4])
    save_tree(tmp_path / "state", whole.state_dict())
    copy, resumed = fresh()
    copy.load_state_dict(net.state_dict())
    resumed.load_state_dict(load_tree(tmp_path / "state"))
    moment = next(iter(resumed.optimizer.state.values()))["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)
    assert go_on(whole, x[4:]) == go_on(resumed, x[4:])
    assert torch.equal(weights(whole.averaged), weights(resumed.averaged))


def test_half_precision_asks_for_a_gpu() -> None:
    with pytest.raises(ConfigError, match=r"update\.precision is float16; it must be float32 or"):
        make(precision="float16")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ema": 0.3}, "update.ema is 0.3; it must be between 0 and 0.28"),
        ({"clip": -1.0}, "update.clip is -1.0; it must be zero or positive"),
        ({"accumulate": 0}, "update.accumulate is 0; it must be at least 1"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        UpdateConfig(**options)


def test_algorithms_that_declare_updates_have_their_options_with_their_own_defaults() -> None:
    experiment = resolve("gan", argv=["--update.clip", "2"])
    assert experiment.options.update.clip == 2
    assert experiment.options.update.ema == experiment.plugins.load(experiment.algorithm).update.ema
    assert experiment.sources["update.clip"] == "command line"
    assert experiment.sources["update.ema"] == "default"
    assert experiment.context()._update == experiment.options.update


def test_algorithms_that_do_not_declare_updates_have_no_such_options() -> None:
    with pytest.raises(ConfigError, match=r"there is no option --update\.clip"):
        resolve("qlearning", argv=["--update.clip", "2"])
