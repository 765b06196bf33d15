"""Which class a sample is to be of."""

from __future__ import annotations

import difflib

import torch
from corelab_datasets.interface import Dataset
from torch import Tensor

from corelab import ConfigError


def choose(task: Dataset, class_: str, n: int, device: torch.device) -> Tensor:
    """Labels for N samples, int64 [N]: of the class whose name or number is CLASS_.

    If it is empty, all classes take turns. `ConfigError` if the task has no such class.
    """
    if not class_:
        return torch.arange(n, device=device) % len(task.classes)
    return torch.full((n,), number(task, class_), device=device)


def number(task: Dataset, class_: str) -> int:
    """The number of the class whose name or number is CLASS_. `ConfigError` if there is none."""
    if class_ in task.classes:
        return task.classes.index(class_)
    if class_.isdecimal() and int(class_) < len(task.classes):
        return int(class_)
    near = difflib.get_close_matches(class_, task.classes, 1)
    known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(task.classes)}"
    raise ConfigError(f"there is no class {class_!r}: {known}")


def unconditional(class_: str) -> None:
    """`ConfigError` if a CLASS_ is asked of a model that was trained without classes."""
    if class_:
        raise ConfigError(
            f"--class {class_}: this run knows no classes; train it with --algorithm.conditional"
        )
