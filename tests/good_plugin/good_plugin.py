"""A plugin that does everything right: `test_conformance.py` spoils one thing at a time."""

from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components():
    return [
        Component("task", "numbers", "good_parts:Numbers", "a line, with noise", "numbers"),
        Component("model", "line", "good_parts:Line", "a line", "line"),
        Component("algorithm", "fit", "good_parts:Fit", "descent", uses=("numbers", "line")),
    ]
