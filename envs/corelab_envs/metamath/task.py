"""The task "metamath": proving theorems of a Metamath database, one inference at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from corelab import require
from corelab_envs.metamath.environment import MetamathEnv, Options
from corelab_envs.metamath.theorem_set import Part, Premises
from corelab_envs.vector import Copies, Copy


class MetamathTask:
    """The theorems of a database, proved backwards.

    It is learned from nine tenths of them, and measured on the last. See `TheoremSet` for which
    those are; what `environment.Options` calls them, the options here do, too.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of proving in Metamath."""

        path: str | None = None
        """A Metamath database, a file; none takes the propositional calculus that corelab has."""
        upto: str | None = None
        """The label of the last statement to read; none reads the whole database."""
        premises: Premises = "all"
        """What to prove from: all that stands before a theorem, or what its proof there cites."""
        num_envs: int | None = None
        """How many copies are learned from side by side; none leaves it to the algorithm."""
        max_steps: int = 50
        """Truncate episodes after this many actions."""
        max_actions: int = 48
        """How many inferences can be chosen from; those beyond are not offered."""
        state_features: int = 256
        """How many numbers tell the state."""
        action_features: int = 32
        """How many numbers tell each action."""

    name = "metamath"
    video = False
    fps = 2.0

    def __init__(self, config: Config, measured: bool = False) -> None:
        value = config.num_envs
        require(value is None or value >= 1, "task.num_envs", value, "at least 1")
        self.config = config
        self.num_envs = config.num_envs
        options = asdict(config)
        del options["num_envs"]
        part: Part = "dev" if measured else "train"
        self._options = Options(**options, part=part)
        self._options.theorems()  # so that what is missing is told before anything begins
        if not measured:
            MetamathTask(config, measured=True)
        self.single_observation_space = self._options.observation_space()
        self.single_action_space = self._options.action_space()

    @property
    def measured(self) -> MetamathTask:
        """The same, with the theorems that are not learned from."""
        return MetamathTask(self.config, measured=True)

    def make(self, num_envs: int, seed: int, *, render: bool = False) -> Copies:
        """NUM_ENVS copies whose every random choice follows from SEED."""
        options = asdict(self._options)
        copies = [
            Copy(MetamathEnv(**options), self.name, seed, index, replays=True)
            for index in range(num_envs)
        ]
        return Copies(copies, self.name)
