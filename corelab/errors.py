"""The errors that corelab names.

Each one is a sentence for a person: what was wrong, where, and what would be right. The command
line prints it on one line and exits with 2; from Python it is raised.

CorelabError
├── ConfigError       an option, a file of options, or a value
├── PluginError       a component that is missing, broken or does not fit
├── DataError         a task's files or an environment
├── RunError          a run directory
│   └── CheckpointError   what is saved in it
├── StorageError      the disk
├── ClusterError      Ray, or a machine of its cluster
└── DivergedError     the numbers stopped being finite
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CorelabError(Exception):
    """Something that can be told, and mended, in one sentence."""


class ConfigError(CorelabError):
    """An option that does not exist, or a value that it does not accept."""


class PluginError(CorelabError):
    """A component that is missing, broken, ambiguous or does not fit its companions."""


class DataError(CorelabError):
    """Data or an environment that a task cannot use."""


class RunError(CorelabError):
    """A run directory that cannot be used as asked."""


class CheckpointError(RunError):
    """A checkpoint that is missing or not whole."""


class StorageError(CorelabError):
    """The disk refused to take what had to be written."""


class ClusterError(CorelabError):
    """Ray, or a machine of its cluster, is not as a run needs it."""


class DivergedError(CorelabError):
    """A metric or a weight is no longer a finite number."""


def require(fits: bool, option: str, value: object, what: str) -> None:
    """ConfigError, saying that OPTION is VALUE and must be WHAT, unless it FITS."""
    if not fits:
        raise ConfigError(f"{option} is {value}; it must be {what}")


def hint(name: str, known: Iterable[str], what: str = "known") -> str:
    """The end of a sentence about an unknown NAME: what was probably meant, or what there is."""
    known = sorted(set(known))
    folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), folded, 1, 0.6)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    tail = name.split(".")[-1]
    same = [k for k in known if k.split(".")[-1] == tail]
    if same:
        return f"did you mean {same[0]!r}?"
    return f"{what}: {', '.join(known) or 'none'}"
