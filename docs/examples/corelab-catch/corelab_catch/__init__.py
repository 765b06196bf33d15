"""The environment catch."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """What this plugin offers."""
    return [
        Component(
            kind="task",
            name="catch",
            target="corelab_catch.catch:Catch",
            summary="a ball falls down a board of pixels: be below it in time",
            provides="environment",
            paper="Mnih et al. 2014, Recurrent Models of Visual Attention, arXiv:1406.6247",
        ),
    ]
