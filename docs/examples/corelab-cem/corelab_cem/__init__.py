"""The cross-entropy method, for policies that are linear."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """What this plugin offers."""
    return [
        Component(
            kind="algorithm",
            name="cem",
            target="corelab_cem.cem:CEM",
            summary="linear policies, drawn around those that did best before",
            uses=("environment",),
            paper="Szita & Lőrincz 2006, Learning Tetris Using the Noisy Cross-Entropy Method",
        ),
    ]
