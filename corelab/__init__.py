"""corelab: a lab for reinforcement learning and generative models, made of plugins.

What is listed in `__all__` here is the public interface. Names are imported when they are first
used, because an index of plugins must not cost the import of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from corelab.components import Component
from corelab.deprecation import Deprecated, DeprecatedWarning
from corelab.errors import (
    CheckpointError,
    ClusterError,
    ConfigError,
    CorelabError,
    DataError,
    DivergedError,
    PluginError,
    RunError,
    StorageError,
    require,
)
from corelab.hooks import API, hookimpl

if TYPE_CHECKING:
    from corelab.context import Context, Pool
    from corelab.contracts import Algorithm, Evaluates, Media, Model, Samples, Split, Task
    from corelab.experiments import train
    from corelab.runs import Run, find_runs
    from corelab.state import Saved
    from corelab.updater import UpdateConfig, Updater

__version__ = "0.1.0"

__all__ = [
    "API",
    "Algorithm",
    "CheckpointError",
    "ClusterError",
    "Component",
    "ConfigError",
    "Context",
    "CorelabError",
    "DataError",
    "Deprecated",
    "DeprecatedWarning",
    "DivergedError",
    "Evaluates",
    "Media",
    "Model",
    "PluginError",
    "Pool",
    "Run",
    "RunError",
    "Samples",
    "Saved",
    "Split",
    "StorageError",
    "Task",
    "UpdateConfig",
    "Updater",
    "find_runs",
    "hookimpl",
    "require",
    "train",
]

_LAZY = {
    "context": ("Context", "Pool"),
    "contracts": ("Algorithm", "Evaluates", "Media", "Model", "Samples", "Split", "Task"),
    "experiments": ("train",),
    "runs": ("Run", "find_runs"),
    "state": ("Saved",),
    "updater": ("UpdateConfig", "Updater"),
}


def __getattr__(name: str) -> object:
    for module, names in _LAZY.items():
        if name in names:
            return getattr(importlib.import_module(f"corelab.{module}"), name)
    raise AttributeError(f"module 'corelab' has no attribute {name!r}")
