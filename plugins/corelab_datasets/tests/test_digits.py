from __future__ import annotations

import numpy as np
import torch
from corelab_datasets.digits import Digits
from sklearn.datasets import load_digits


def test_the_splits_are_the_whole_file_in_its_order():
    task, original = Digits(Digits.Config()), load_digits()
    splits = [task.split("train"), task.split("validation"), task.split("test")]
    assert [len(split) for split in splits] == [1437, 180, 180]
    assert torch.cat([s.labels for s in splits]).tolist() == original.target.tolist()
    images = torch.cat([s.images for s in splits])
    assert images.shape == (1797, *task.shape)
    assert images.dtype == torch.uint8
    assert [round(v * 255 / 16) for v in original.data.flatten()] == images.flatten().tolist()


def test_every_class_is_in_every_split():
    task = Digits(Digits.Config())
    for name in ("train", "validation", "test"):
        counts = np.bincount(task.split(name).labels, minlength=len(task.classes))
        assert counts.min() >= 0.8 * counts.max()
        assert len(counts) == len(task.classes)
