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
from typing import TYPE_CHECKING, Protocol, TypeVar

import pluggy

if TYPE_CHECKING:
    from corelab.components import Component
    from corelab.contracts import Media
    from corelab.runs import Run

API = (1, 0)
"""(major, minor). A plugin runs when its major is the same and its minor is not larger."""

hookspec = pluggy.HookspecMarker("corelab")
_mark = pluggy.HookimplMarker("corelab")


class _Components(Protocol):
    def __call__(self) -> Iterable[Component]: ...


class _Run(Protocol):
    def __call__(self, *, run: Run) -> None: ...


class _RunProgress(Protocol):
    def __call__(self, *, run: Run, progress: int) -> None: ...


class _RunMetrics(Protocol):
    def __call__(self, *, run: Run, progress: int, metrics: Mapping[str, float]) -> None: ...


class _RunMedia(Protocol):
    def __call__(self, *, run: Run, progress: int, media: Mapping[str, Media]) -> None: ...


class _RunLogged(Protocol):
    def __call__(
        self,
        *,
        run: Run,
        progress: int,
        metrics: Mapping[str, float],
        media: Mapping[str, Media],
    ) -> None: ...


class _RunEnded(Protocol):
    def __call__(self, *, run: Run, error: BaseException | None) -> None: ...


class Index(Protocol):
    """To a type checker, the index module of a plugin: `index: Index = my_plugin`."""

    @property
    def corelab_api(self) -> tuple[int, int]: ...  # noqa: D102
    def corelab_components(self) -> Iterable[Component]: ...  # noqa: D102


class Sink(Protocol):
    """Likewise a module with all hooks of a run, none of them misspelt."""

    @property
    def corelab_run_started(self) -> _Run: ...  # noqa: D102
    @property
    def corelab_run_logged(self) -> _RunLogged: ...  # noqa: D102
    @property
    def corelab_run_ended(self) -> _RunEnded: ...  # noqa: D102


_Hook = TypeVar(
    "_Hook",
    bound=_Components | _Run | _RunProgress | _RunMetrics | _RunMedia | _RunLogged | _RunEnded,
)


def hookimpl(function: _Hook) -> _Hook:
    """Mark FUNCTION, whose name is that of a hook, as what this plugin does there.

    Its parameters are found by their names and may be left out; a type checker knows those that
    leave out metrics, media or both, and any that end with `**_: object`.
    """
    return _mark(function)


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
