"""How good samples are: figures that compare them with images that the model has not seen.

The small functions take features float [N, d], samples first and real images second; all but
`memorised` are about any two sets of points. `compare` draws samples, computes all of them on the
features of `corelab_generative.features`, and computes them once more with real training images in
the place of the samples. That is the floor: what a perfect model would get at the same number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from corelab_datasets.interface import Dataset
from torch import Tensor

from corelab import ConfigError, Split
from corelab_generative.features import Features, digest, features

_ROWS = 1000
"""Rows of a matrix of distances that are held at a time."""
_BATCH = 500
"""Samples that are drawn at a time."""
_THUMBNAIL = 14
"""The least height and width of the pictures in which copies are looked for."""


def fid(x: Tensor, y: Tensor) -> float:
    """Fréchet distance between the Gaussians with the moments of X and Y.

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)  (Heusel et al. 2017, arXiv:1706.08500, eq. 6). Features
    that are not Inception's give figures that are not those of other papers.
    """
    x, y = x.double(), y.double()
    mean = (x.mean(0) - y.mean(0)).square().sum()
    # with Σ = AᵀA the trace of (Σ₁ Σ₂)^½ is the sum of the singular values of A₁ A₂ᵀ
    a, b = _root(x), _root(y)
    root: Tensor = torch.linalg.svdvals(a @ b.T).sum()
    return (mean + a.square().sum() + b.square().sum() - 2 * root).item()


def _root(x: Tensor) -> Tensor:
    """A triangular A, [min(N, d), d], with AᵀA the covariance of X."""
    a: Tensor = torch.linalg.qr(x - x.mean(0), mode="r").R
    return a / math.sqrt(len(x) - 1)


def kid(x: Tensor, y: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (x·y / d + 1)³, estimated without bias.

    Bińkowski et al. 2018, arXiv:1801.01401, section 4; of all points at once, not as a mean over
    small subsets. Being unbiased it is negative now and then where the truth is near zero.
    """
    n, m = len(x), len(y)
    within_x = (_kernel(x, x) - _kernel_diagonal(x)) / (n * (n - 1))
    within_y = (_kernel(y, y) - _kernel_diagonal(y)) / (m * (m - 1))
    return within_x + within_y - 2 * _kernel(x, y) / (n * m)


def _kernel(x: Tensor, y: Tensor) -> float:
    """The sum of (x·y / d + 1)³ over all pairs."""
    one = torch.ones((), dtype=x.dtype, device=x.device)
    bases = (torch.addmm(one, part, y.T, alpha=1 / x.shape[1]) for part in torch.split(x, _ROWS))
    return sum(b.pow(3).sum(1).double().sum().item() for b in bases)


def _kernel_diagonal(x: Tensor) -> float:
    return (x.double().square().mean(1) + 1).pow(3).sum().item()


def precision(x: Tensor, y: Tensor, k: int = 3) -> float:
    """Share of X within reach of Y: no further from a point of Y than its k-th neighbour in Y is.

    Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2.
    """
    radii = _radii(y, k)
    return _mean((d <= radii).any(1) for d in _distances(x, y))


def recall(x: Tensor, y: Tensor, k: int = 3) -> float:
    """Share of Y within reach of X: `precision` with the two exchanged."""
    return precision(y, x, k)


def density(x: Tensor, y: Tensor, k: int = 5) -> float:
    """How many points of Y a point of X is within reach of, on average, divided by k.

    Naeem et al. 2020, arXiv:2002.09797, section 3: 1 if both are of one distribution; more where X
    crowds into the dense parts of Y.
    """
    radii = _radii(y, k)
    return _mean((d <= radii).sum(1) for d in _distances(x, y)) / k


def coverage(x: Tensor, y: Tensor, k: int = 5) -> float:
    """Share of Y with at least one point of X no further away than its k-th neighbour in Y.

    Naeem et al. 2020, section 3.
    """
    radii = _radii(y, k)
    return _mean(
        d.amin(1) <= r for d, r in zip(_distances(y, x), torch.split(radii, _ROWS), strict=True)
    )


def two_sample_accuracy(x: Tensor, y: Tensor) -> float:
    """How often the nearest other point tells rightly whether a point is of X or of Y.

    The classifier two-sample test of Lopez-Paz & Oquab 2017, arXiv:1610.06545, with the one nearest
    neighbour as the classifier and all points but one as its training set. 0.5 if nothing tells the
    sets apart, 1 if they lie apart, less than 0.5 if a point of one lies beside one of the other.
    """
    both = torch.cat([x, y])
    of_x = torch.arange(len(both), device=both.device) < len(x)
    nearest = torch.cat([d.argmin(1) for d in _distances(both, both, same=True)])
    return _mean([of_x[nearest] == of_x])


def memorised(x: Tensor, train: Tensor) -> float:
    """Share of X that is less than a third as far from the nearest of TRAIN as from the second.

    The criterion of Yoon et al. 2023 (Diffusion Probabilistic Models Generalize when They Fail to
    Memorize), which asks for no scale. A copy is caught even if it is noisy; one of a training
    image that is there twice is caught only if it is exact.
    """
    near = torch.cat([d.topk(2, largest=False).indices for d in _distances(x, train)])
    # once more and directly: as |x|² + |y|² - 2 x·y small distances have lost their digits
    first, second = (torch.linalg.vector_norm(x - train[near[:, i]], dim=1) for i in (0, 1))
    return _mean([(first == 0) | (3 * torch.minimum(first, second) < torch.maximum(first, second))])


def _distances(x: Tensor, y: Tensor, same: bool = False) -> Iterator[Tensor]:
    """Squared distances between X and Y, some rows at a time; SAME sets those to itself to ∞."""
    squares = y.square().sum(1)
    for i, part in enumerate(torch.split(x, _ROWS)):
        d = torch.addmm(squares, part, y.T, alpha=-2) + part.square().sum(1, keepdim=True)
        if same:
            d.diagonal(i * _ROWS).fill_(torch.inf)
        yield d


def _radii(y: Tensor, k: int) -> Tensor:
    """Squared distance of each of Y to its k-th nearest other point of Y, [N]."""
    if len(y) <= k:
        raise ValueError(f"{len(y)} points have no neighbour number {k}")
    return torch.cat([d.topk(k, largest=False).values[:, -1] for d in _distances(y, y, same=True)])


def _mean(parts: Iterable[Tensor]) -> float:
    return torch.cat(list(parts)).double().mean().item()


Draw = Callable[[Tensor], Tensor]
"""Samples uint8 [k, C, H, W] for labels int64 [k]; a model without classes looks at k alone."""


def compare(
    task: Dataset, draw: Draw, n: int, seed: int, device: torch.device, split: Split = "test"
) -> dict[str, float]:
    """How N samples that DRAW makes compare with N images of SPLIT of TASK.

    Every figure comes with its floor, which has N training images in the place of the samples (that
    of `memorised` has the images of SPLIT), and samples are asked for with the labels of these
    training images. SEED chooses the images. If SPLIT or the training set has fewer than N, so
    many are taken of everything; `quality_n` says how many. Whatever is about real images only is
    kept for the next call. `ConfigError` if there are less than ten of either.
    """
    real = _real(task, n, seed, device, split)
    drawn = torch.cat([draw(labels).to(device) for labels in torch.split(real.labels, _BATCH)])
    if (drawn.dtype, drawn.shape) != (torch.uint8, (len(real.labels), *task.shape)):
        raise ValueError(
            f"draw() gives uint8 {[len(real.labels), *task.shape]} in all, "
            f"got {drawn.dtype} {list(drawn.shape)}"
        )
    return {
        **_figures(real.features(drawn, device), real.held_out),
        "memorised": memorised(_thumbnails(drawn), real.thumbnails),
        **real.floors,
        "quality_n": float(len(drawn)),
        "feature_accuracy": real.features.accuracy,
    }


def _figures(x: Tensor, y: Tensor) -> dict[str, float]:
    """Every figure that is about features."""
    measures = (fid, kid, precision, recall, density, coverage, two_sample_accuracy)
    return {measure.__name__: measure(x, y) for measure in measures}


@dataclass(frozen=True, eq=False)
class _Real:
    """What an evaluation knows of the real images."""

    features: Features
    held_out: Tensor
    """Features of the images that samples are compared with, [n, d]."""
    thumbnails: Tensor
    """Of all training images, [N, pixels]."""
    labels: Tensor
    """Of the training images that the floors were measured with, [n]."""
    floors: dict[str, float]


_kept: dict[tuple[object, ...], _Real] = {}


def _real(task: Dataset, n: int, seed: int, device: torch.device, split: Split) -> _Real:
    """The real side of a comparison, out of memory if it is one of the last two."""
    key = (digest(task), n, seed, device, split)
    if key not in _kept:
        if len(_kept) == 2:
            del _kept[next(iter(_kept))]
        _kept[key] = _look(task, n, seed, device, split)
    return _kept[key]


def _look(task: Dataset, n: int, seed: int, device: torch.device, split: Split) -> _Real:
    train, held_out = task.split("train"), task.split(split)
    n = min(n, len(train), len(held_out))
    if n < 10:
        raise ConfigError(
            f"quality takes at least 10 samples, 10 training and 10 {split} images; got {n}"
        )
    of = features(task)
    generator = torch.Generator().manual_seed(seed)
    images, labels = train.take(torch.randperm(len(train), generator=generator)[:n])
    others, _ = held_out.take(torch.randperm(len(held_out), generator=generator)[:n])
    thumbnails = torch.cat(
        [_thumbnails(part.to(device)) for part in torch.split(train.images, _ROWS)]
    )
    y = of(others, device)
    floors = {
        **_figures(of(images, device), y),
        "memorised": memorised(_thumbnails(others.to(device)), thumbnails),
    }
    floors = {f"{name}_floor": value for name, value in floors.items()}
    return _Real(of, y, thumbnails, labels.to(device), floors)


def _thumbnails(images: Tensor) -> Tensor:
    """IMAGES, uint8 [N, C, H, W], at less than twice `_THUMBNAIL` pixels a side, float [N, D]."""
    factor = max(1, min(images.shape[2:]) // _THUMBNAIL)
    return F.avg_pool2d(images / 127.5 - 1, factor, ceil_mode=True).flatten(1)
