"""The tasks "tptp", "theorems" and "premises": proving, one inference at a time or a problem at a
time, and choosing what to prove a theorem from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from corelab import DataError, require
from corelab_envs.theorem.clausify import Form
from corelab_envs.theorem.environment import ConnectionEnv, Options, Seen
from corelab_envs.theorem.library import Library
from corelab_envs.theorem.matrix import Matrix
from corelab_envs.theorem.problem_set import Part, ProblemSet
from corelab_envs.vector import Copies, Copy


class TPTPTask:
    """Connection tableaux for the problems of a folder.

    It is learned from nine tenths of them, and measured on the last. See `ProblemSet` for which
    those are; what `environment.Options` calls them, the options here do, too.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of theorem proving."""

        path: str | None = None
        """A TPTP file, or a folder of files `*.p`; none takes the problems that corelab has."""
        dev_path: str | None = None
        """A folder to be measured on; none splits the problems of the first."""
        num_envs: int | None = None
        """How many copies are learned from side by side; none leaves it to the algorithm."""
        form: Form = "none"
        """Where parts of formulas get names: in the conjecture, nowhere (none), or all over."""
        conj: bool = True
        """Begin with clauses of the conjecture, if there is one."""
        eager: bool = False
        """Make reductions that bind variables without asking."""
        max_inferences: int = 100
        """Truncate episodes after this many actions."""
        max_actions: int = 32
        """How many inferences can be chosen from; those beyond are not offered."""
        state_features: int = 256
        """How many numbers tell the state."""
        action_features: int = 32
        """How many numbers tell each action."""
        observation: Seen = "walks"
        """How a state is shown: as numbers (walks), or as a graph of nodes and edges."""
        max_nodes: int = 512
        """How many nodes a graph has room for."""
        max_edges: int = 1024
        """How many edges a graph has room for."""
        name_buckets: int = 0
        """How many different names a graph tells of symbols; 0: names mean nothing."""

    name = "tptp"
    video = False
    fps = 2.0

    def __init__(self, config: Config, measured: bool = False) -> None:
        value = config.num_envs
        require(value is None or value >= 1, "task.num_envs", value, "at least 1")
        self.config = config
        self.num_envs = config.num_envs
        options = asdict(config)
        del options["num_envs"], options["dev_path"]
        part: Part = "dev" if measured else "train"
        if config.dev_path is not None:
            part = "all"
            if measured:
                options["path"] = config.dev_path
        self._options = Options(**options, part=part)
        self._options.problems()  # so that what is missing is told before anything begins
        if not measured:
            TPTPTask(config, measured=True)
        self.single_observation_space = self._options.observation_space()
        self.single_action_space = self._options.action_space()

    @property
    def measured(self) -> TPTPTask:
        """The same, with the problems that are not learned from."""
        return TPTPTask(self.config, measured=True)

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> Copies:
        """NUM_ENVS copies whose every random choice follows from SEED."""
        options = asdict(self._options)
        copies = [
            Copy(ConnectionEnv(**options), self.name, seed, index, replays=True)
            for index in range(num_envs)
        ]
        return Copies(copies, self.name)


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
        path = config.path
        part: Part = "dev" if measured else "train"
        if config.dev_path is not None:
            part = "all"
            if measured:
                path = config.dev_path
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
