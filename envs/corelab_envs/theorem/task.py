"""The tasks "tptp", "theorems" and "premises": proving, one inference at a time or a problem at a
time, and choosing what to prove a theorem from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from corelab import DataError
from corelab_envs.proving import Part, ProvingTask
from corelab_envs.theorem.clausify import Form
from corelab_envs.theorem.environment import Common, ConnectionEnv, Options
from corelab_envs.theorem.library import Library
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.problem_set import ProblemSet


class TPTPTask(ProvingTask):
    """Connection tableaux for the problems of a folder.

    It is learned from nine tenths of them, and measured on the last. See `ProblemSet` for which
    those are.
    """

    @dataclass(frozen=True)
    class Config(Common):
        """Options of theorem proving."""

        dev_path: str | None = None
        """A folder to be measured on; none splits the problems of the first."""
        num_envs: int | None = None
        """How many copies are learned from side by side; none leaves it to the algorithm."""

    name = "tptp"
    _environment = ConnectionEnv

    def _checked_options(self, measured: bool) -> Options:
        options = asdict(self.config)
        del options["num_envs"], options["dev_path"]
        options["path"], options["part"] = _source(self.config, measured)
        checked = Options(**options)
        checked.problems()
        return checked


class TheoremsTask:
    """The problems of a folder, each to be proved as a whole.

    It is learned from nine tenths of them, and measured on the last. See `ProblemSet` for which
    those are.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of theorem proving by search."""

        path: str | None = None
        """A TPTP file, or a folder of files `*.p`; none takes the problems that corelab has."""
        dev_path: str | None = None
        """A folder to be measured on; none splits the problems of the first."""
        form: Form = "none"
        """Where parts of formulas get names: in the conjecture, nowhere (none), or all over."""
        conj: bool = True
        """Begin with clauses of the conjecture, if there is one."""

    def __init__(self, config: Config, measured: bool = False) -> None:
        self.config = config
        self.form, self.conj = config.form, config.conj
        path, part = _source(config, measured)
        folder = Path(path) if path is not None else None
        self._problems = ProblemSet(folder, part, config.form, config.conj)
        self.names = self._problems.names
        if not measured:
            TheoremsTask(config, measured=True)  # so that what is missing is told at once

    @property
    def measured(self) -> TheoremsTask:
        """The same, with the problems that are not learned from."""
        return TheoremsTask(self.config, measured=True)

    def matrix(self, name: str) -> Matrix:
        """The clauses of the problem NAME. `DataError` if it cannot be read."""
        return self._problems.matrix(name)


class PremisesTask:
    """Theorems, each with the formulas that it was proved from among those of all problems.

    It is learned from nine tenths of the theorems, and measured on the last. See `ProblemSet` for
    which those are.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of premise selection."""

        path: str | None = None
        """A folder of files `*.p`; none takes the problems that corelab has."""
        dev_path: str | None = None
        """A folder to be measured on; none splits the problems of the first."""

    def __init__(self, config: Config) -> None:
        folder = Path(config.path) if config.path is not None else None
        if config.dev_path is None:
            parts = ProblemSet(folder, "train"), ProblemSet(folder, "dev")
        else:
            parts = ProblemSet(folder, "all"), ProblemSet(Path(config.dev_path), "all")
        problems = [[part.problem(name) for name in part.names] for part in parts]
        self.library = Library([*problems[0], *problems[1]])
        """The formulas of all problems."""
        measured = {problem.name for problem in problems[1]}
        self.theorems = [t for t in self.library.theorems if t.name not in measured]
        """Those to be learned from."""
        self.measured = [t for t in self.library.theorems if t.name in measured]
        """Those that are not learned from."""
        for theorems, part in ((self.theorems, parts[0]), (self.measured, parts[1])):
            if not theorems:
                raise DataError(f"{part.path}: no problem has a conjecture and formulas beside it")


def _source(
    config: TPTPTask.Config | TheoremsTask.Config, measured: bool
) -> tuple[str | None, Part]:
    """The path of the problems to learn from, or of those to be MEASURED on, and which there."""
    if config.dev_path is None:
        return config.path, "dev" if measured else "train"
    return config.dev_path if measured else config.path, "all"
