"""The hooks that a plugin may implement, and the version of the API they belong to.

A plugin is a module that is cheap to import, names the API version it was written for, and marks
its functions with `hookimpl`:

    from corelab import Component, hookimpl

    corelab_api = (1, 0)

    @hookimpl
    def corelab_components():
        return [Component("algorithm", "foo", "foo_plugin.foo:Foo", "one line about foo")]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from corelab.components import Component
    from corelab.contracts import Media
    from corelab.runs import Run

API = (1, 0)
"""(major, minor). A plugin runs when its major is the same and its minor is not larger."""

hookimpl = pluggy.HookimplMarker("corelab")
hookspec = pluggy.HookspecMarker("corelab")


@hookspec
def corelab_components() -> Iterable[Component]:  # type: ignore[empty-body]
    """The index of what this plugin offers. Called at every start, so it must be light."""


@hookspec
def corelab_run_started(run: Run) -> None:
    """RUN begins, or goes on from `run.resumed_at` (progress; None when it is new).

    Whatever was written about progress after `run.resumed_at` is about to happen again.
    """


@hookspec
def corelab_run_logged(
    run: Run, progress: int, metrics: Mapping[str, float], media: Mapping[str, Media]
) -> None:
    """RUN reported METRICS and MEDIA at PROGRESS, counted in `run.unit`."""


@hookspec
def corelab_run_ended(run: Run, error: BaseException | None) -> None:
    """RUN is over; ERROR is what ended it early, if anything did."""
