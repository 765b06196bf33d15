"""The words behind the verbs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from corelab import ConfigError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def __init__(self, verb: str, about: str | None) -> None:
        super().__init__(prog=f"corelab {verb}", description=about, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """ConfigError with MESSAGE."""
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")

    def add_runs(self) -> None:
        """The argument `run`, a list of paths."""
        which = "directories of runs, or folders of seeds"
        self.add_argument("run", type=Path, nargs="+", help=which)


def write(path: Path, text: str) -> None:
    """Write TEXT to PATH. ConfigError if that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{path}: cannot be written ({reason})") from error
