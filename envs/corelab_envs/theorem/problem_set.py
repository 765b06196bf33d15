"""Where problems come from: a file, a folder, or those that come with the package."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from corelab import DataError
from corelab_envs.proving import Part, is_in
from corelab_envs.theorem.clausify import Form, clausify
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.tptp import Problem, read

SHIPPED = Path(__file__).with_name("problems")
"""Problems of corelab's own encoding, all of which have a proof; a folder below has others."""


class ProblemSet:
    """The problems in a file, or in the files `*.p` of a folder, without its subfolders.

    A problem is for measuring if the SHA-256 of its file's name without the ending, as a number,
    is divisible by 10, and for learning otherwise, so adding problems moves none. A single file is
    both.
    """

    def __init__(
        self, path: Path | None, part: Part, form: Form = "none", conjecture_starts: bool = True
    ) -> None:
        self.path = path or SHIPPED
        self._form: Form = form
        self._conjecture_starts = conjecture_starts
        if self.path.is_dir():
            found = sorted(self.path.glob("*.p"))
            if not found:
                raise DataError(f"{self.path}: there is no problem in it, no file named *.p")
            files = [file for file in found if is_in(file.stem, part)]
            if not files:
                raise DataError(
                    f"{self.path}: none of its {len(found)} problems is of the part {part!r}; "
                    "the option dev_path names a folder to measure on"
                )
        elif self.path.is_file():
            files = [self.path]
        else:
            raise DataError(f"{self.path}: there is no such file or folder of problems")
        self.names = [file.stem for file in files]
        """What the problems are called, in order."""
        self._files = dict(zip(self.names, files, strict=True))

    def problem(self, name: str) -> Problem:
        """The formulas of the problem NAME. `DataError` if it cannot be read."""
        return read(self._files[name])

    def matrix(self, name: str) -> Matrix:
        """The clauses of the problem NAME. `DataError` if it cannot be read."""
        if name not in self._files:
            raise DataError(f"{self.path}: there is no problem {name!r} among {len(self.names)}")
        file = self._files[name]
        changed = file.stat().st_mtime_ns
        return _matrix(file, changed, self._form, self._conjecture_starts)


@lru_cache(maxsize=4096)
def _matrix(file: Path, changed: int, form: Form, conjecture_starts: bool) -> Matrix:
    return Matrix.of(clausify(read(file), form, conjecture_starts))
