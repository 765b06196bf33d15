"""What is demanded of a plugin, each with what to change where it is not so.

A rule looks at what `trial` and `processes` have seen and compares; it imports nothing heavy, since
the names of the rules are wanted when tests are collected.
"""

from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from corelab import config
from corelab.errors import CorelabError
from corelab.plugins import one_line

if TYPE_CHECKING:
    from corelab.testing import Subject

HEAVY = ("torch", "ray", "gymnasium", "numpy", "sklearn", "tensorboard", "matplotlib", "jax")
"""What an index module must not import."""
NAME = re.compile(r"[a-z][a-z0-9_]*(/[a-z0-9_]+)*")
"""A metric's name, without the `train/` or `eval/` that the loop puts before it."""

NEAR = 0.01
"""How far off two processes may end, as a part of the way of one: sums are rounded otherwise, and
Adam makes a whole step of a gradient that is nothing but rounding.
"""

Body = Callable[["Subject"], str | None]


class Failed(Exception):  # noqa: N818 - an outcome
    """The demand is not met, and what was seen."""


class Skipped(Exception):  # noqa: N818 - an outcome
    """There is nothing to look at, and why."""


@dataclass(frozen=True)
class Rule:
    """A demand on all subjects of some kinds."""

    name: str
    kinds: tuple[str, ...]
    mend: str
    """What to change where it is not met."""
    needs: tuple[str, ...]
    """The rules without which this one says nothing."""
    body: Body
    """Returns how far it went, if that is worth a word; `Failed` or `Skipped`."""

    @property
    def about(self) -> str:
        """The demand in a sentence."""
        return " ".join((self.body.__doc__ or "").split())


RULES: list[Rule] = []
"""All of them, each after those that it needs."""


def demand(*kinds: str, mend: str, needs: Sequence[str] = ()) -> Callable[[Body], Body]:
    """Make a rule of a function, which is called with a subject of one of KINDS."""

    def add(body: Body) -> Body:
        RULES.append(Rule(getattr(body, "__name__", ""), kinds, mend, tuple(needs), body))
        return body

    return add


def expect(met: object, seen: str) -> None:
    """`Failed`, with what was SEEN, unless the demand is MET."""
    if not met:
        raise Failed(seen)


# ---- the index --------------------------------------------------------------------------------


@demand(
    "plugin",
    mend="import it in the component's own module, inside the function that needs it, or under "
    "`if TYPE_CHECKING`",
)
def import_is_light(subject: Subject) -> None:
    """The index module imports nothing heavy: it is read at every start of `corelab`."""
    module = subject.suite.module
    path = f"import sys; sys.path[:] = {sys.path!r}; "
    words = [sys.executable, "-c", f"{path}import {module}; print(*sys.modules)"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{module} cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    heavy = sorted(set(HEAVY) & set(done.stdout.split()))
    expect(not heavy, f"{module} imports {', '.join(heavy)}")


@demand(
    "plugin",
    mend="the index module names the API (`corelab_api = (1, 0)`), marks its hooks with @hookimpl, "
    "and returns Components, each under a name of its own",
    needs=["import_is_light"],
)
def index_is_accepted(subject: Subject) -> None:
    """Corelab takes what the index module says: the API's version, the hooks, the components."""
    for plugin, why in subject.suite.plugins.broken.items():
        expect(plugin.name != subject.suite.name, why)


# ---- every component --------------------------------------------------------------------------

PARTS = ("algorithm", "task", "model")


@demand(
    *PARTS,
    "verb",
    mend="the target names a class that has what corelab.Algorithm, corelab.Task or corelab.Model "
    "promises, with a Config that is a frozen dataclass whose fields all have defaults",
)
def loads(subject: Subject) -> None:
    """The class can be imported and has what its protocol promises; its Config is frozen."""
    assert subject.component


@demand(*PARTS, mend='put a """sentence""" under each field of the Config', needs=["loads"])
def options_are_explained(subject: Subject) -> None:
    """A sentence stands under each option: it is the help text."""
    silent = [o.name for o in config.options(subject.component.Config) if not o.help]
    expect(not silent, f"no sentence stands under {', '.join(silent)}")


@demand(
    *PARTS,
    mend="give the field a default of its own type; the types are bool, int, float, str, Path, "
    "Literal, their unions with None, tuples of them, and dataclasses",
    needs=["loads"],
)
def options_survive_a_file(subject: Subject) -> None:
    """The options can be written as TOML and read back, equal."""
    cls = subject.component.Config
    known = {o.name: o for o in config.options(cls)}
    default = config.to_plain(cls())
    written = tomllib.loads("\n".join(_toml(default)))
    try:
        again, _ = config.fill(cls, config.from_mapping(written, known, "the file"))
    except CorelabError as error:
        raise Failed(str(error)) from error
    expect(config.to_plain(again) == default, f"{default} came back as {config.to_plain(again)}")


def _toml(plain: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Lines of TOML. It knows no None, which is what an option is that is not mentioned."""
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _toml(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key} = {_toml_value(value)}"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(
            c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value
        )
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return repr(value)


@demand(
    *PARTS,
    mend="look at the first steps with CORELAB_DEBUG=1 corelab train; step() does one iteration "
    "and adds to self.progress what it did of the unit",
    needs=["loads"],
)
def runs(subject: Subject) -> str:
    """An experiment with it can be built, and each step counts in `progress`."""
    whole = subject.trial.whole
    for before, after in pairwise(whole.progress):
        expect(after > before, f"step() left progress at {before}")
    return str(subject.trial)


# ---- the same again ---------------------------------------------------------------------------

STREAMS = (
    "draw from context.rng(...) and context.generator(...), and from nothing else: no clock, no "
    "order of a set, nothing that an earlier run has left behind"
)


@demand(*PARTS, mend=STREAMS, needs=["runs"])
def same_seed_same_metrics(subject: Subject) -> None:
    """Two runs with one seed report the same, to the last bit."""
    if not subject.trial.exact:
        raise Skipped(f"{subject.trial} says of itself that it is not exact")
    expect_equal(subject.trial.again, subject.trial.whole.rows, "two runs with one seed differ")


@demand(
    "algorithm",
    mend="draw initial weights by `model(...)` and all else that is random from context.rng(...) "
    "or context.generator(...), whose seeds follow from the run's",
    needs=["runs"],
)
def other_seed_other_metrics(subject: Subject) -> None:
    """Two runs with two seeds differ."""
    rows = subject.trial.whole.rows[: subject.suite.iterations]
    expect(subject.trial.long.rows != rows, f"{len(rows)} steps with two seeds report the same")


@demand(
    *PARTS,
    mend="save everything that the next step depends on: with corelab.Saved, name it in `saved`; "
    "in a model, keep it in a parameter or buffer; in a task, in its state_dict()",
    needs=["same_seed_same_metrics"],
)
def resumed_equals_unbroken(subject: Subject) -> None:
    """Save, load into a new one and go on: the metrics and the state of one that never stopped."""
    n, whole = subject.suite.iterations, subject.trial.whole
    rows, state = subject.trial.resumed
    expect_equal(rows, whole.rows[n:], "after load() the metrics differ")
    expect_same_files(state, whole.state, "after load() and as many steps")


def expect_equal(
    rows: Sequence[Mapping[str, float]], others: Sequence[Mapping[str, float]], what: str
) -> None:
    """`Failed`, with the first difference, unless ROWS are as OTHERS, as far as both go."""
    for i, (row, other) in enumerate(zip(rows, others, strict=False)):
        for name in sorted({*row, *other}):
            a, b = row.get(name), other.get(name)
            same = a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))
            expect(same, f"{what}: {name} in step {i + 1} is {a} here and {b} there")


def expect_same_files(files: Mapping[str, bytes], others: Mapping[str, bytes], when: str) -> None:
    """`Failed`, with their names, unless FILES are what OTHERS are, byte for byte."""
    changed = sorted(n for n in {*files, *others} if files.get(n) != others.get(n))
    expect(not changed, f"{when} save() writes another {', '.join(changed)}")


# ---- metrics ----------------------------------------------------------------------------------


@demand("algorithm", mend="leave out a metric that this step has no value for", needs=["runs"])
def metrics_are_finite(subject: Subject) -> None:
    """No step and no evaluation reports NaN or an infinity."""
    trial = subject.trial
    for i, row in enumerate([*trial.whole.rows, trial.evaluation.figures]):
        wrong = [f"{name} is {value}" for name, value in row.items() if not math.isfinite(value)]
        where = f"step {i + 1}" if i < len(trial.whole.rows) else "the evaluation"
        expect(not wrong, f"in {where} {', '.join(wrong)}")


@demand(
    "algorithm",
    mend="use lower case, digits and _ in names; leave train/ and eval/ to the loop, except in "
    '`best`, such as "max eval/return", and in `highlights`, such as ("train/loss",)',
    needs=["runs"],
)
def metrics_are_named(subject: Subject) -> None:
    """Names are lower_case, without `train/` or `eval/`; `best` and `highlights` have these."""
    cls, trial = subject.component, subject.trial
    reported = {name for row in trial.whole.rows for name in row}
    figures = trial.evaluation.figures
    for name in sorted({*reported, *figures}):
        plain = NAME.fullmatch(name) and name.partition("/")[0] not in ("train", "eval")
        expect(plain, f"there is a metric called {name!r}")
    mode, _, best = cls.best.partition(" ")
    expect(mode in ("max", "min") and best.startswith("eval/"), f"best is {cls.best!r}")
    named = [best, *cls.highlights] if trial.evaluates else cls.highlights
    for name in named:
        prefix, _, bare = name.partition("/")
        expect(prefix in ("train", "eval"), f"{name!r} is no metric of training or evaluation")
        if prefix == "eval" and trial.evaluates:
            known = ", ".join(sorted(figures))
            expect(bare in figures, f"{name} is not in an evaluation, which has {known}")


@demand(
    "algorithm",
    mend="evaluate with generators of its own, torch.Generator().manual_seed(seed), and on "
    "environments of its own; put modules back into the mode they were in",
    needs=["same_seed_same_metrics"],
)
def evaluation_leaves_training_alone(subject: Subject) -> None:
    """Evaluate() is repeatable and changes neither the state nor the streams of the run."""
    trial = subject.trial
    if not trial.evaluates:
        raise Skipped("it has no evaluate()")
    seen = trial.evaluation
    expect_equal([seen.again], [seen.figures], "two evaluations with one seed differ")
    expect_same_files(seen.state, trial.whole.state, "after evaluate()")
    expect_same_files(
        seen.streams, trial.whole.streams_after, "evaluate() draws from the run's streams:"
    )


# ---- what learning does with what it is given ------------------------------------------------


@demand(
    "task",
    mend="refuse what is not finite where it comes in, with a DataError that says where it was",
    needs=["runs"],
)
def numbers_are_finite(subject: Subject) -> None:
    """Nothing that the task gives an algorithm is NaN or infinite."""
    given = subject.trial.whole.not_finite
    expect(not given, f"{', '.join(given)} gave numbers that are not finite")


@demand(
    "model",
    mend="compute what the model gives from nn.Parameters, without .detach() or torch.no_grad()",
    needs=["runs"],
)
def weights_learn(subject: Subject) -> str:
    """Steps of an algorithm change its weights, which stay finite."""
    seen = subject.trial.learning
    expect(seen.weights, "it has no parameters")
    expect(seen.changed, f"no weight has changed after {seen.steps} steps")
    expect(seen.finite, f"after {seen.steps} steps a weight is no longer finite")
    return f"{seen.changed} of {seen.weights} tensors changed in {seen.steps} steps"


@demand(
    "algorithm",
    mend="report a metric that every number it learns from enters, such as the loss, or raise "
    "corelab.DataError: the loop refuses a metric that is not finite with one sentence",
    needs=["runs"],
)
def nan_is_refused(subject: Subject) -> str:
    """Of a task that gives NaN it says so in one sentence, rather than learn from it in silence."""
    seen = subject.trial.poisoned
    if not seen.given:
        raise Skipped("its task gives whole numbers alone, and none of them can be NaN")
    expect(seen.error is not None, f"{seen.steps} steps and save() took NaN without a word")
    told = isinstance(seen.error, CorelabError)
    expect(told, f"NaN ended in a traceback: {one_line(seen.error or Exception())}")
    return f"refused in step {seen.steps}"


# ---- a good guest -----------------------------------------------------------------------------


@demand(
    *PARTS,
    mend="let what is computed follow from options and streams alone: not from hash(), the order "
    "of a set, the process or the machine; and keep options to what can be pickled",
    needs=["same_seed_same_metrics"],
)
def travels_to_a_worker(subject: Subject) -> None:
    """Built by its name in another process, it takes the same first steps."""
    options = subject.trial.experiment().options
    for part in (options.algorithm, options.task, options.model):
        expect(pickle.loads(pickle.dumps(part)) == part, f"{part} does not survive pickling")
    rows = subject.trial.apart["rows"]
    expect_equal(rows, subject.trial.whole.rows, "another process computes something else")


@demand(
    "algorithm",
    mend="draw a minibatch from streams that are SHARED and take this process's rows of it by "
    "context.shard; make each loss a mean over rows, and give the gradients to context.average "
    "before each update, which context.updater does",
    needs=["same_seed_same_metrics"],
)
def workers_equal_one(subject: Subject) -> str:
    """Two processes (`--workers 2`) learn the same, and what one does if they draw the same."""
    trial = subject.trial
    if not hasattr(subject.component, "sharded"):
        raise Skipped("it learns in one process: it has no `sharded`")
    try:
        trial.experiment(workers=2)
        seen = trial.together
    except CorelabError as error:
        raise Skipped(str(error)) from error
    expect(not seen["apart"], f"the weights of two processes end {seen['apart']:.2g} apart")
    if not seen["way"]:
        raise Skipped("no weight has changed, in one process or in two")
    if seen["draws"]:
        return "each process draws for itself, so what one learns is something else"
    off = seen["off"] / seen["way"]
    expect(off < NEAR, f"two processes end off the way of one by {off:.1%} of its length")
    return f"off the way of one process by {off:.1e} of its length"


@demand(
    "algorithm",
    mend="save() and load() may use nothing but the directory they are given: no attribute of a "
    "class or module, no other file",
    needs=["resumed_equals_unbroken", "travels_to_a_worker", "metrics_are_finite"],
)
def killed_equals_unbroken(subject: Subject) -> str:
    """A run killed by SIGKILL and resumed ends with the state of one that was never killed."""
    seen = subject.trial.killed
    expect_same_files(seen.resumed, seen.whole, "killed and resumed")
    return f"killed in step {seen.step} of {seen.steps}"


@demand(
    *PARTS,
    "sink",
    mend="hand the setting to the call that needs it, or put it back (a `with` block); draw from "
    "context.rng and context.generator instead of seeding generators that are everyone's",
    needs=["runs", "hooks_do_not_raise"],
)
def globals_are_left_alone(subject: Subject) -> None:
    """The process is left as it was: generators, folder, environment, dtype, threads, warnings."""
    changed = _apart(subject)["globals"]
    expect(not changed, f"it changes {', '.join(changed)}")


@demand(
    *PARTS,
    "sink",
    mend="write only into the directory that save() or the sink's run gives; what has to be cached "
    "belongs where an option says",
    needs=["runs", "hooks_do_not_raise"],
)
def files_stay_in_the_run(subject: Subject) -> None:
    """No file is written outside the run's directory and the folder for temporary files."""
    written = _apart(subject)["written"]
    expect(not written, f"it writes {', '.join(written[:3])}")


@demand(
    *PARTS,
    "sink",
    mend="let people say that they want it: download or send only where an option asks for it",
    needs=["runs", "hooks_do_not_raise"],
)
def network_is_left_alone(subject: Subject) -> None:
    """No connection is opened and no name looked up."""
    reached = _apart(subject)["reached"]
    expect(not reached, f"it asks for {', '.join(reached[:3])}")


def _apart(subject: Subject) -> Mapping[str, Any]:
    return subject.fed if subject.kind == "sink" else subject.trial.apart


@demand(
    "algorithm",
    mend="let go of what a step has made: .detach() or .item() what is kept, close what was "
    "opened, bound what is remembered",
    needs=["runs"],
)
def nothing_leaks(subject: Subject) -> str:
    """As many tensors, files and threads after 100 steps (less if they are slow) as before."""
    seen = subject.trial.long
    expect(not seen.leaks, f"over {seen.steps} steps grew: {', '.join(seen.leaks)}")
    return f"{seen.steps} steps"


@demand(
    "algorithm", mend="make tensors on context.device, and generators by context", needs=["runs"]
)
def runs_on_a_gpu(subject: Subject) -> None:
    """It steps on a GPU, if there is one."""
    if not subject.trial.has_gpu:
        raise Skipped("there is no GPU here")
    subject.trial.try_gpu()


# ---- sinks ------------------------------------------------------------------------------------


@demand(
    "sink",
    mend="a run may have neither metrics nor media, may go on from the middle, may end with an "
    "error or without having begun, and several may be under way: keep what you know of each by "
    "run.path",
)
def hooks_do_not_raise(subject: Subject) -> None:
    """It hears of runs of all sorts without raising."""
    raised = subject.fed["raised"]
    expect(not raised, "; ".join(raised[:2]))


@demand("sink", mend="copy what you mean to change", needs=["hooks_do_not_raise"])
def metrics_are_left_alone(subject: Subject) -> None:
    """It does not change the metrics, which other sinks are told as well."""
    expect(not subject.fed["changed"], "it changes the metrics that it is given")


@demand(
    "sink",
    mend="close it in corelab_run_ended, which comes after errors, too",
    needs=["hooks_do_not_raise"],
)
def files_are_closed(subject: Subject) -> None:
    """Nothing is open once its runs are over."""
    left = subject.fed["open"]
    expect(not left, f"{', '.join(left)} is open after corelab_run_ended")
