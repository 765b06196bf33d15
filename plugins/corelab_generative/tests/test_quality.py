from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from corelab_datasets.digits import Digits
from corelab_datasets.interface import Split
from corelab_generative import quality
from corelab_generative.quality import (
    compare,
    coverage,
    density,
    fid,
    kid,
    memorised,
    precision,
    recall,
    two_sample_accuracy,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from corelab import ConfigError

CPU = torch.device("cpu")


def normal(n, d, seed, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_moments(n, mean, root, seed):
    """N points whose sample mean is MEAN and whose sample covariance is ROOT ROOTᵀ, exactly."""
    x = normal(n, len(mean), seed)
    x = x - x.mean(0)
    whitened = torch.linalg.solve_triangular(
        torch.linalg.cholesky(x.T @ x / (n - 1)), x.T, upper=False
    )
    return mean + (root @ whitened).T


def test_fid_of_gaussians_with_known_moments_is_the_closed_form():
    d = 5
    mean = torch.arange(d, dtype=torch.float64)
    a, b = torch.tensor([0.5, 1, 2, 3, 4]).double(), torch.tensor([4, 1, 0.1, 3, 2]).double()
    x = with_moments(300, mean, a.diag(), 0)
    y = with_moments(200, -mean, b.diag(), 1)
    # diagonal covariances commute: the trace is Σ (σ₁ - σ₂)²
    expected = (2 * mean).square().sum() + (a - b).square().sum()
    assert fid(x, y) == pytest.approx(expected.item(), rel=1e-10)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 40), d=st.integers(1, 8))
def test_fid_is_the_formula_with_scipys_matrix_root(seed, n, d):
    x, y = normal(n, d, seed), normal(n + 30, d, seed + 1) @ normal(d, d, seed + 2) + 0.3
    first, second = (np.atleast_2d(np.cov(z.numpy(), rowvar=False)) for z in (x, y))
    root = sqrtm(first @ second + 1e-12 * np.eye(d)).real
    means = (x.mean(0) - y.mean(0)).square().sum().item()
    expected = means + np.trace(first + second - 2 * root)
    assert fid(x, y) == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert fid(y, x) == pytest.approx(fid(x, y), rel=1e-9, abs=1e-9)
    assert fid(x, x) == pytest.approx(0, abs=1e-9)


def test_kid_is_its_sum_over_all_pairs():
    x, y = normal(9, 4, 0), normal(7, 4, 1) + 0.5

    def k(a, b):
        return ((a @ b).item() / 4 + 1) ** 3

    within_x = sum(k(x[i], x[j]) for i in range(9) for j in range(9) if i != j) / (9 * 8)
    within_y = sum(k(y[i], y[j]) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    across = sum(k(a, b) for a in x for b in y) / (9 * 7)
    assert kid(x, y) == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)


def test_kid_is_unbiased_at_any_number_of_points():
    """The mean over many small pairs of sets from one distribution is zero; a biased one's is not.

    With the diagonal left in, the mean would be larger than 0.1.
    """
    figures = torch.tensor(
        [kid(normal(10, 3, 2 * i), normal(10, 3, 2 * i + 1)) for i in range(2000)]
    )
    error = figures.std() / math.sqrt(len(figures))
    assert abs(figures.mean()) < 4 * error
    assert 4 * error < 0.1


def distance(a, b):
    return torch.linalg.vector_norm(a - b).item()


def reach(points, k):
    """For each of POINTS its distance to the k-th nearest other one, pair by pair."""
    return [
        sorted(distance(p, q) for j, q in enumerate(points) if j != i)[k - 1]
        for i, p in enumerate(points)
    ]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(7, 25),
    m=st.integers(7, 25),
    k=st.integers(1, 5),
    shift=st.floats(0, 3),
)
def test_the_neighbour_figures_are_those_of_brute_force(seed, n, m, k, shift):
    x, y = normal(n, 3, seed) + shift, normal(m, 3, seed + 1)
    r, s = reach(y, k), reach(x, k)
    within = [[distance(a, b) <= r[j] for j, b in enumerate(y)] for a in x]
    assert precision(x, y, k) == pytest.approx(np.mean([any(row) for row in within]))
    assert recall(x, y, k) == pytest.approx(
        np.mean([any(distance(a, b) <= s[i] for i, a in enumerate(x)) for b in y])
    )
    assert density(x, y, k) == pytest.approx(sum(map(sum, within)) / (k * n))
    assert coverage(x, y, k) == pytest.approx(np.mean(np.any(within, 0)))

    both, labels = torch.cat([x, y]), [0] * n + [1] * m
    right = 0
    for i, a in enumerate(both):
        others = [(distance(a, b), labels[j]) for j, b in enumerate(both) if j != i]
        right += min(others)[1] == labels[i]
    assert two_sample_accuracy(x, y) == pytest.approx(right / (n + m))


def test_sets_larger_than_a_block_of_rows_give_the_same(monkeypatch):
    x, y = normal(150, 6, 0) + 0.3, normal(170, 6, 1)
    measures = (fid, kid, precision, recall, density, coverage, two_sample_accuracy, memorised)
    whole = [measure(x, y) for measure in measures]
    monkeypatch.setattr(quality, "_ROWS", 40)
    assert [measure(x, y) for measure in measures] == pytest.approx(whole, rel=1e-12)


def test_equal_and_distant_sets_get_the_figures_at_the_ends():
    y = normal(60, 4, 0)
    assert (precision(y, y), recall(y, y), coverage(y, y)) == (1, 1, 1)
    assert two_sample_accuracy(normal(60, 4, 1), normal(60, 4, 2)) == pytest.approx(0.5, abs=0.15)
    far = y + 1000
    assert (precision(far, y), recall(far, y), density(far, y), coverage(far, y)) == (0, 0, 0, 0)
    assert two_sample_accuracy(far, y) == 1


def test_a_sample_counts_as_memorised_by_the_ratio_of_its_two_nearest_distances():
    train = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 100.0], [0.0, 100.0]])
    cases = {(0, 0): 1, (0.9, 0): 1, (1.1, 0): 0, (2, 0): 0, (3.2, 0): 1, (0, 100): 1, (0, 99): 0}
    for point, expected in cases.items():
        assert memorised(torch.tensor([point], dtype=torch.float32), train) == expected, point
    x = torch.tensor(list(cases), dtype=torch.float32)
    assert memorised(x, train) == pytest.approx(sum(cases.values()) / len(cases))


def test_copies_are_caught_in_single_precision_far_from_the_origin():
    train = normal(500, 64, 0, torch.float32) + 100
    assert memorised(train[:100], train) == 1
    assert memorised(train[:100] + 0.01 * normal(100, 64, 1, torch.float32), train) == 1
    assert memorised(normal(100, 64, 2, torch.float32) + 100, train) == 0


@pytest.fixture(scope="module")
def digits():
    return Digits(Digits.Config())


def of_digits(digits, change, n=170, seed=0):
    train = digits.split("train")
    generator = torch.Generator().manual_seed(1)

    def draw(labels):
        chosen = torch.randint(len(train), labels.shape, generator=generator)
        return change(train.images[chosen].float(), generator).round().clamp(0, 255).byte()

    return compare(digits, draw, n, seed, CPU)


def test_damaged_digits_are_worse_than_the_floor_and_more_so_the_more_they_are_damaged(digits):
    def noisy(amount):
        return of_digits(digits, lambda x, g: x + amount * torch.randn(x.shape, generator=g))

    def blurred(x, _):
        return torch.nn.functional.avg_pool2d(x, 3, 1, 1)

    little, much, blur = noisy(40), noisy(120), of_digits(digits, blurred)
    for name in ("fid", "kid"):
        assert much[name] > 1.5 * little[name] > 1.5 * little[f"{name}_floor"]
        assert blur[name] > 1.5 * blur[f"{name}_floor"]
    for name in ("recall", "coverage"):
        assert much[name] < 0.8 * little[name]
        assert max(much[name], blur[name]) < 0.8 * blur[f"{name}_floor"]
    assert blur["two_sample_accuracy"] > blur["two_sample_accuracy_floor"] + 0.05


def test_only_the_check_for_copies_tells_a_memoriser_from_a_perfect_model(digits):
    copies = of_digits(digits, lambda x, _: x)
    assert copies["memorised"] == 1
    assert copies["memorised_floor"] < 0.02
    for name in ("precision", "recall", "coverage", "two_sample_accuracy"):
        assert copies[name] == pytest.approx(copies[f"{name}_floor"], abs=0.12)
    noisy = of_digits(digits, lambda x, g: x + 4 * torch.randn(x.shape, generator=g))
    assert noisy["memorised"] > 0.95


def test_the_same_seed_gives_the_same_figures_and_the_floor_does_not_see_the_samples(digits):
    def blank(labels):
        return torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)

    first, second = (compare(digits, blank, 100, 3, CPU) for _ in range(2))
    assert first == second
    other = of_digits(digits, lambda x, _: x, 100, 3)
    floors = [name for name in first if name.endswith("_floor")]
    assert len(floors) == 8
    assert {k: first[k] for k in floors} == {k: other[k] for k in floors}
    assert first["fid"] > 10 * first["fid_floor"]
    assert first["recall"] == first["coverage"] == 0


def test_samples_are_drawn_with_the_labels_of_training_images_and_as_many_as_there_are(digits):
    asked = []

    def draw(labels):
        asked.append(labels)
        return torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)

    figures = compare(digits, draw, 100_000, 0, CPU)
    labels = torch.cat(asked)
    assert figures["quality_n"] == len(labels) == 180  # all test images
    train = digits.split("train")
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(train), generator=generator)[:180]
    assert labels.tolist() == train.labels[chosen].tolist()


def test_what_draw_must_give_is_said(digits):
    with pytest.raises(ValueError, match=r"draw\(\) gives uint8 \[20, 1, 8, 8\] in all, got"):
        compare(digits, lambda y: torch.zeros(len(y), 1, 8, 8), 20, 0, CPU)


def test_too_few_images_are_an_error_in_one_sentence(digits):
    with pytest.raises(ConfigError, match="at least 10 samples"):
        compare(digits, lambda y: y, 5, 0, CPU)


class Small:
    shape = (3, 33, 20)
    classes = ("one",)

    def __init__(self, n=60):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (n, *self.shape), generator=generator, dtype=torch.uint8)
        self.part = Split(images, torch.zeros(n, dtype=torch.int64))

    def split(self, _name):
        return self.part


def test_colour_images_of_odd_sizes_without_classes_are_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = Small()
    figures = compare(task, lambda y: task.part.images[: len(y)], 40, 0, CPU)
    assert figures["quality_n"] == 40
    assert figures["memorised"] == 1
    assert all(math.isfinite(value) for value in figures.values())
