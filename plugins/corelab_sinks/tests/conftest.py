from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pluggy
import pytest

from corelab import hooks


@dataclass
class StandIn:
    """What sinks use of a `corelab.Run`."""

    path: Path
    resumed_at: int | None = None
    algorithm: str = "ppo"
    task: str = "CartPole-v1"
    model: str = "mlp"
    unit: str = "env steps"
    steps: int = 60_000
    seed: int = 7
    highlights: tuple[str, ...] = ("train/return", "eval/return")
    config: dict[str, Any] = field(
        default_factory=lambda: {
            "algorithm": {"name": "ppo", "lr": 3e-4, "anneal": True, "clip": None},
            "task": {"name": "CartPole-v1", "id": "CartPole-v1"},
            "model": {"name": "mlp", "hidden": [64, 64]},
            "run": {"sinks": ["all"]},
            "seed": 7,
            "steps": 60_000,
        }
    )


class Sink:
    """A sink as the core drives it: through pluggy, with every argument of the hook."""

    def __init__(self, module: str) -> None:
        self.module = importlib.import_module(module)
        manager = pluggy.PluginManager("corelab")
        manager.add_hookspecs(hooks)
        manager.register(self.module)
        manager.check_pending()
        self._hook = manager.hook

    def start(self, run: StandIn) -> None:
        self._hook.corelab_run_started(run=run)

    def log(self, run: StandIn, progress: int, metrics: Any, media: Any = None) -> None:
        self._hook.corelab_run_logged(
            run=run, progress=progress, metrics=metrics, media=media or {}
        )

    def end(self, run: StandIn, error: BaseException | None = None) -> None:
        self._hook.corelab_run_ended(run=run, error=error)


@pytest.fixture
def sink_of() -> type[Sink]:
    return Sink


@pytest.fixture
def sink(request: pytest.FixtureRequest) -> Iterator[Sink]:
    """The sink that the test's module names in SINK, or the test itself as a parameter."""
    sink = Sink(f"corelab_sinks.{getattr(request, 'param', None) or request.module.SINK}")
    yield sink
    for state in ("_files", "_event_files", "_meters", "_live"):
        assert not getattr(sink.module, state, None), "a run that ended is still remembered"


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., StandIn]:
    def make(name: str = "run", **facts: Any) -> StandIn:
        (tmp_path / name).mkdir(exist_ok=True)
        return StandIn(tmp_path / name, **facts)

    return make


@pytest.fixture
def run(new_run: Callable[..., StandIn]) -> StandIn:
    return new_run()
