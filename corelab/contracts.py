"""What a plugin's classes promise. They need not inherit from anything here: shape is enough.

A *task* is what is learned from (a data set, an environment), a *model* is an `nn.Module` with
options, an *algorithm* learns. Which of them fit together is said by the names of interfaces in
their `Component` entries; what an interface asks for is the business of the package that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, SupportsFloat, runtime_checkable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from corelab.context import Context

Split = Literal["validation", "test"]
"""What an evaluation looks at: "validation" while training goes on, "test" when it is asked for."""


@runtime_checkable
class Media(Protocol):
    """What people would rather look at than read, such as images or a video."""

    def save(self, path: Path) -> None:
        """Write it to PATH. ConfigError if that is not the name of such a file."""


class Task(Protocol):
    """What is learned from."""

    @property
    def Config(self) -> type[DataclassInstance]:  # noqa: N802 - a class, as an attribute of a class
        """Frozen dataclass: the options, with a sentence under each field."""

    def __init__(self, config: Any) -> None:
        """Open it, or raise `DataError` with one sentence."""


class Model(Protocol):
    """Builds a network for given shapes: called as `model(...)` by the algorithm."""

    @property
    def Config(self) -> type[DataclassInstance]:  # noqa: N802 - a class, as an attribute of a class
        """Frozen dataclass: the options, with a sentence under each field."""

    def __init__(self, config: Any, *shapes: Any, **named_shapes: Any) -> None:
        """Build it, or raise `PluginError` with one sentence if the shapes do not fit."""


class Algorithm(Protocol):
    """Learns, one step at a time. The core owns the loop, the logs, the files and the machine.

    If it also has `update: ClassVar[UpdateConfig]`, its users get the options `update.*` with these
    defaults, and `context.updater` does what they say. With `rolls_out: ClassVar[bool] = True` it
    steps its environments in `context.pool`, and `--rollout-workers` is for it. With
    `sharded: ClassVar[tuple[str, ...]] = ("batch_size",)`, its options that N processes divide
    among themselves, it can learn in several of them (`--workers`): it takes its part by
    `context.shard`, and `context.average` makes one gradient of theirs. `adjustable:
    ClassVar[tuple[str, ...]] = ("lr",)` are its options that may change between two steps: after
    `load` those of its Config count, whatever the state was made with (population-based training).
    `exact: ClassVar[bool] = False` admits that a seed does not repeat its runs, nor a resume
    continue them, to the last bit.
    """

    @property
    def Config(self) -> type[DataclassInstance]:  # noqa: N802 - a class, as an attribute of a class
        """Frozen dataclass: the options, with a sentence under each field."""

    unit: ClassVar[str]
    """What `progress` counts, in the plural: "env steps", "examples"."""
    default_task: ClassVar[str]
    """The task that is used when none is named."""
    default_model: ClassVar[str]
    """The model that is used when none is named; "" for an algorithm without one."""
    default_steps: ClassVar[int]
    """The budget, in units, when none is given."""
    best: ClassVar[str]
    """Which evaluation is the best one: "max eval/return" or "min eval/loss"."""
    highlights: ClassVar[tuple[str, ...]]
    """The metrics to watch while it trains, in full: ("train/return", "eval/return")."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Better defaults for a task: `{"CartPole-v1": {"algorithm.lr": 1e-3, "model": "mlp"}}`.

    Options of the model count only if the user names no other one.
    """

    progress: int
    """Units done so far. Part of what is saved."""

    def __init__(self, config: Any, task: Any, model: Any, context: Context) -> None:
        """Set up for the first step. MODEL is called with shapes and gives a network on the right
        device with its weights drawn from the run's seed; it is None where no model is used.
        """

    def step(self) -> Mapping[str, SupportsFloat]:
        """Do ONE iteration, count it in `progress` and return its metrics.

        It never loops over the budget, saves, logs or launches. A metric that this iteration has
        no value for is left out.
        """

    def save(self, directory: Path) -> None:
        """Write everything that matters for going on into DIRECTORY (exists, empty)."""

    def load(self, directory: Path) -> None:
        """Become exactly what was saved in DIRECTORY."""


@runtime_checkable
class Evaluates(Protocol):
    """An algorithm that can be measured."""

    def evaluate(
        self, split: Split = "test", n: int | None = None, seed: int = 0
    ) -> Mapping[str, SupportsFloat | Media]:
        """Measure on N episodes or examples of SPLIT (None: as many as make a good figure).

        The same SEED gives the same figures, and training goes on as if it had not been called.
        More keyword parameters become options of `corelab eval`.
        """


@runtime_checkable
class Samples(Protocol):
    """An algorithm that can show what it has learned: generated images, a video of an episode."""

    def sample(self, n: int = 64, seed: int = 0) -> Media:
        """N samples. More keyword parameters become options of `corelab sample`."""
