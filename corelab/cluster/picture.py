"""What a sweep has found, as a picture: parallel coordinates, and how much each option matters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from corelab.cluster.search import LISTS, Search
from corelab.errors import ConfigError, StorageError
from corelab.runs import Run

if TYPE_CHECKING:
    from corelab.cluster.sweep import Sweep

LEAST = 10
"""How many trials it takes to say what matters."""


def importance(sweep: Sweep) -> dict[str, float]:
    """The share of the variance of scores that each option accounts for, by functional analysis of
    variance over random forests (Hutter et al. 2014, ICML); empty if there is none to be explained.
    """
    scored = [(run, score) for run in sweep.runs() if (score := sweep.score(run)) is not None]
    if len(scored) < LEAST or len({score for _, score in scored}) == 1:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    space = {search.name: _distribution(search) for search in sweep.searches}
    for run, score in scored:
        trial = optuna.trial.create_trial(
            params=_coordinates(sweep, run), distributions=space, value=score
        )
        study.add_trial(trial)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}


def _distribution(search: Search) -> optuna.distributions.BaseDistribution:
    """Where the coordinates of SEARCH lie: those of a logarithmic range are logarithms, so that the
    whole of it counts and not its upper end.
    """
    if search.kind in LISTS:
        return optuna.distributions.CategoricalDistribution(range(len(search.arguments)))
    lower, upper = search.arguments[:2]
    if search.kind == "loguniform":
        lower, upper = math.log(lower), math.log(upper)
    return optuna.distributions.FloatDistribution(lower, upper)


def _coordinates(sweep: Sweep, run: Run) -> dict[str, Any]:
    points = sweep.points(run)
    logs = {search.name for search in sweep.searches if search.kind == "loguniform"}
    return {name: math.log(x) if name in logs else x for name, x in points.items()}


def draw(sweep: Sweep, path: Path) -> None:
    """Draw SWEEP into the picture PATH. ConfigError without matplotlib."""
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f'{path}: a picture needs matplotlib: pip install "corelab-ml[plots]"'
        ) from error
    runs = [(run, score) for run in sweep.runs() if (score := sweep.score(run)) is not None]
    if not runs:
        return
    scores = np.array([score for _, score in runs])
    places = [[*_coordinates(sweep, run).values(), score] for run, score in runs]
    height = np.stack([_unit(column) for column in np.array(places, float).T], axis=1)
    figure = Figure(figsize=(2.0 + 1.8 * height.shape[1], 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(height.shape[1], 1.5))
    good = height[:, -1] if sweep.mode == "max" else 1 - height[:, -1]
    for i in np.argsort(good):  # the best one on top
        left.plot(height[i], color=colormaps["viridis"](good[i]), alpha=0.8)
    names = [search.name.rpartition(".")[2] for search in sweep.searches]
    left.set_xticks(range(height.shape[1]), [*names, sweep.metric])
    left.set_yticks([])
    shown = [[str(value) for value in sweep.values(run).values()] for run, _ in runs]
    for x in range(height.shape[1]):
        left.axvline(x, color="0.7", linewidth=0.8)
        for i in {int(height[:, x].argmin()), int(height[:, x].argmax())}:
            text = f"{scores[i]:.4g}" if x == len(names) else shown[i][x][:8]
            left.annotate(text, (x, height[i, x]), fontsize=8)
    shares = importance(sweep)
    right.barh([name.rpartition(".")[2] for name in shares], list(shares.values()))
    right.set(xlabel="importance (fANOVA)", xlim=(0, 1))
    right.invert_yaxis()
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error})") from error


def _unit(values: Any) -> Any:
    """VALUES between 0 and 1; all equal ones in the middle."""
    span = np.ptp(values)
    return (values - values.min()) / span if span else np.full(len(values), 0.5)
