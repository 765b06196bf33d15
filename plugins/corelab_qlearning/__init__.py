"""Q-learning: the tabular method, and deep Q-networks up to Rainbow."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The algorithms and models of this package."""
    return []
