"""The task "metamath": proving theorems of a Metamath database, one inference at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from corelab_envs.metamath.environment import Common, MetamathEnv, Options
from corelab_envs.proving import ProvingTask


class MetamathTask(ProvingTask):
    """The theorems of a database, proved backwards.

    It is learned from nine tenths of them, and measured on the last. See `TheoremSet` for which
    those are.
    """

    @dataclass(frozen=True)
    class Config(Common):
        """Options of proving in Metamath."""

        num_envs: int | None = None
        """How many copies are learned from side by side; none leaves it to the algorithm."""

    name = "metamath"
    _environment = MetamathEnv

    def _checked_options(self, measured: bool) -> Options:
        options = asdict(self.config)
        del options["num_envs"]
        checked = Options(**options, part="dev" if measured else "train")
        checked.theorems()
        return checked
