"""Modules that the user names, with the environments in them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType


def import_named(module: str) -> ModuleType:
    """The MODULE, which is installed or, as for `python -m`, lies in the current folder."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that nothing in it hides what is installed
    return importlib.import_module(module)
