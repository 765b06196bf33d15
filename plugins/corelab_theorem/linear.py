"""Linear models of what was seen, fitted by Adam: a policy over actions and a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from corelab_envs.theorem.interface import STATE_NUMBERS, outlook
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, embedding_bag

from corelab_theorem.lessons import Choices, Outlooks


@dataclass(frozen=True)
class Fitting:
    """How long and how carefully to fit."""

    lr: float
    weight_decay: float
    updates: int
    batch_size: int


@dataclass(frozen=True)
class Fitted:
    """What came of it."""

    weights: NDArray[np.float32]
    loss: float
    """The mean over the last minibatches."""


def fit_policy(
    choices: Choices, buckets: int, fitting: Fitting, rng: np.random.Generator
) -> Fitted:
    """A softmax over the actions of each state, with weights [BUCKETS]: the mean of -log p of what
    was chosen is made small.
    """
    weights = torch.zeros(buckets, 1, requires_grad=True)

    def loss_of(states: NDArray[np.intp]) -> Tensor:
        logits, chosen = policy_logits(choices, states, weights)
        counts = torch.tensor([choices.weights[i] for i in states])
        logp = logits.log_softmax(1).gather(1, chosen[:, None])[:, 0]
        return -(logp * counts).sum() / counts.sum()

    loss = _minimise([weights], loss_of, len(choices.chosen), fitting, rng)
    return Fitted(weights.detach().numpy()[:, 0], loss)


def fit_value(
    outlooks: Outlooks, buckets: int, fitting: Fitting, rng: np.random.Generator
) -> Fitted:
    """A logistic regression with weights [STATE_NUMBERS + 1 + BUCKETS], added to the `outlook` of
    each state: the cross entropy with what states are worth is made small.
    """
    plain = torch.zeros(STATE_NUMBERS + 1, requires_grad=True)
    weights = torch.zeros(buckets, 1, requires_grad=True)

    def loss_of(states: NDArray[np.intp]) -> Tensor:
        logits = value_logits(outlooks, states, plain, weights)
        targets = torch.tensor([outlooks.targets[i] for i in states])
        return binary_cross_entropy_with_logits(logits, targets)

    loss = _minimise([plain, weights], loss_of, len(outlooks.targets), fitting, rng)
    return Fitted(torch.cat([plain, weights[:, 0]]).detach().numpy(), loss)


def policy_logits(
    choices: Choices, states: NDArray[np.intp], weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The score of each action in STATES [S], [S, most actions], -inf where there is none; and what
    was chosen [S]. WEIGHTS are [buckets, 1].
    """
    lengths = [choices.lengths[i] for i in states]
    scores = _sums([choices.walks[i] for i in states], np.concatenate(lengths), weights)
    rows = np.repeat(np.arange(len(states)), [len(x) for x in lengths])
    columns = np.concatenate([np.arange(len(x)) for x in lengths])
    logits = torch.full((len(states), int(columns.max()) + 1), -torch.inf)
    logits = logits.index_put((torch.from_numpy(rows), torch.from_numpy(columns)), scores)
    return logits, torch.tensor([choices.chosen[i] for i in states])


def value_logits(
    outlooks: Outlooks, states: NDArray[np.intp], plain: Tensor, weights: Tensor
) -> Tensor:
    """The logits of what STATES [S] are worth, [S], by the weights of their PLAIN numbers and a
    constant, [STATE_NUMBERS + 1], and those of buckets, [buckets, 1].
    """
    walks = [outlooks.walks[i] for i in states]
    numbers = np.stack([outlooks.numbers[i] for i in states])
    before = torch.tensor([outlook(size) for size in numbers[:, 2].tolist()])
    scores = _sums(walks, np.array([len(x) for x in walks]), weights)
    return before + scores + torch.from_numpy(numbers).log1p() @ plain[:-1] + plain[-1]


def _sums(walks: list[NDArray[np.int32]], lengths: NDArray[Any], weights: Tensor) -> Tensor:
    """The sums of the WEIGHTS of WALKS, taken together in groups of these LENGTHS."""
    offsets = torch.from_numpy((lengths.cumsum() - lengths).astype(np.int32))
    together = torch.from_numpy(np.concatenate(walks))
    return embedding_bag(together, weights, offsets, mode="sum")[:, 0]


def _minimise(
    parameters: list[Tensor],
    loss_of: Callable[[NDArray[np.intp]], Tensor],
    n: int,
    fitting: Fitting,
    rng: np.random.Generator,
) -> float:
    """Steps of Adam on the loss of minibatches of N states; its mean over the last tenth."""
    optimizer = torch.optim.AdamW(parameters, fitting.lr, weight_decay=fitting.weight_decay)
    losses: list[float] = []
    while len(losses) < fitting.updates:
        order = rng.permutation(n)
        for start in range(0, n, fitting.batch_size):
            loss = loss_of(order[start : start + fitting.batch_size])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            losses.append(loss.item())
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))
