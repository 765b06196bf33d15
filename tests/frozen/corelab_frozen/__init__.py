"""Points on a line, a linear map, and gradient descent, as of API 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from corelab import Component, hookimpl

if TYPE_CHECKING:
    from corelab import Run

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """What this plugin offers."""
    return [
        Component(
            "algorithm",
            "frozen-descent",
            "corelab_frozen.descent:Descent",
            "gradient descent on the squared error",
            uses=("frozen-points", "frozen-map"),
            paper="Cauchy 1847, Méthode générale pour la résolution des systèmes d'équations",
        ),
        Component(
            "task",
            "frozen-line",
            "corelab_frozen.line:Line",
            "noisy points on a line",
            provides="frozen-points",
        ),
        Component(
            "task",
            "frozen-slope",
            "corelab_frozen.line:Slope",
            "noisy points on a line whose slope its name tells",
            provides="frozen-points",
            pattern=r"slope-\d+",
            examples=("slope-3",),
        ),
        Component(
            "model",
            "frozen-linear",
            "corelab_frozen.linear:Linear",
            "y = a x + b",
            provides="frozen-map",
        ),
        Component("verb", "frozen-say", "corelab_frozen.say:say", "say the words that follow it"),
    ]


@hookimpl
def corelab_run_started(run: Run) -> None:
    """Begin the file of losses, or go on with it."""
    with (run.path / "losses.txt").open("a") as file:
        file.write(f"from {run.resumed_at} on\n")


@hookimpl
def corelab_run_logged(run: Run, progress: int, metrics: Mapping[str, float]) -> None:
    """Add the loss."""
    if "train/loss" in metrics:
        with (run.path / "losses.txt").open("a") as file:
            file.write(f"{progress} {metrics['train/loss']}\n")


@hookimpl
def corelab_run_ended(run: Run, error: BaseException | None) -> None:
    """Close it with a word."""
    with (run.path / "losses.txt").open("a") as file:
        file.write("done\n" if error is None else f"{error}\n")
