"""Compiled code of corelab's, and how it is compiled on the machine that uses it."""

from __future__ import annotations

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components() -> list[Component]:
    """The verb `corelab kernels`."""
    return [
        Component(
            "verb",
            "kernels",
            "corelab_kernels.verb:kernels",
            "compile what is compiled ahead of its first use, or say what is in use",
        )
    ]
