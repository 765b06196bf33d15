"""Reports of runs: compared, drawn, described and repeated."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)

MITCHELL = (
    'Mitchell, M., Wu, S., Zaldivar, A., et al. (2019). "Model Cards for Model Reporting." FAT*.'
)
AGARWAL = (
    "Agarwal, R., Schwarzer, M., Castro, P. S., Courville, A., & Bellemare, M. G. (2021). "
    '"Deep Reinforcement Learning at the Edge of the Statistical Precipice." NeurIPS.'
)


@hookimpl
def corelab_components() -> list[Component]:
    """The verbs."""
    return [
        Component(
            "verb",
            "compare",
            "corelab_report.comparison:compare",
            "hold runs, or folders of seeds, against each other, with intervals",
            paper=AGARWAL,
        ),
        Component(
            "verb",
            "report",
            "corelab_report.page:report",
            "write one page that shows runs: curves, samples, videos, weights, options",
            paper=AGARWAL,
        ),
        Component(
            "verb",
            "card",
            "corelab_report.card:card",
            "write the model card of a run",
            paper=MITCHELL,
        ),
        Component(
            "verb",
            "reproduce",
            "corelab_report.reproduction:reproduce",
            "repeat a run from its run.json, and say whether the same has come of it",
        ),
        Component(
            "verb",
            "tensorboard",
            "corelab_report.board:tensorboard",
            "open TensorBoard on runs",
        ),
    ]
