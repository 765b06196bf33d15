"""An experiment: which algorithm learns from which task with which model and options.

It holds names and plain options only, so it can be written to `run.json`, sent to another process
and built there from what is installed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from corelab import config
from corelab.components import PARTS, Kind
from corelab.errors import ConfigError, PluginError
from corelab.loop import RunConfig
from corelab.plugins import Offer, Plugins

if TYPE_CHECKING:
    from corelab.context import Context
    from corelab.contracts import Algorithm
    from corelab.runs import Run


WORKERS = "Processes that learn together, each from its part of every minibatch (on Ray)."
GPUS = "GPUs that the workers share evenly."
ROLLOUT_WORKERS = "Ray actors that step the environments; 0 for none but this process."
ADDRESS = "The Ray cluster to use, `auto` or HOST:PORT; else this machine's own Ray."


@dataclass(frozen=True)
class Empty:
    """No options."""


@dataclass(frozen=True)
class Experiment:
    """What is to be run, resolved: every option has a value and a source."""

    plugins: Plugins
    algorithm: Offer
    task: Offer
    model: Offer | None
    options: Any
    """An instance of `options_class`."""
    sources: Mapping[str, str]

    @property
    def task_name(self) -> str:
        """The task as it was named, which for a pattern is not the component's name."""
        component = self.task.component
        return str(self.options.task.id) if component.pattern else component.name

    def config(self) -> dict[str, Any]:
        """The options as plain nested values: what `run.json` keeps and `--config` reads back."""
        plain: dict[str, Any] = config.to_plain(self.options)
        del plain["task_name"], plain["model_name"]
        for offer in self.offers():
            kind = offer.component.kind
            user = None if kind == "algorithm" else self.algorithm
            name = self.task_name if kind == "task" else offer.component.name
            plain[kind] = {"name": self.plugins.shortest(offer, name, user)} | plain[kind]
        return plain

    def offers(self) -> list[Offer]:
        """Who offers each part."""
        return [offer for offer in (self.algorithm, self.task, self.model) if offer]

    def distributions(self) -> set[str]:
        """Whose installation it needs."""
        return {offer.plugin.distribution for offer in self.offers()}

    def context(self, device: str = "", kind: type[Context] | None = None) -> Context:
        """The machine in this process, on DEVICE or else on the one that the options name."""
        from corelab.context import Context, find_device

        o = self.options
        context = (kind or Context)(
            o.seed,
            find_device(device or o.device),
            o.steps,
            o.run.threads,
            getattr(o, "update", None),
            o.rollout_workers,
        )
        if kind is None:
            context.world = o.workers  # to read the first one's part of a checkpoint
        return context

    def build(self, context: Context) -> Algorithm:
        """The algorithm, ready for its first step on the machine that CONTEXT tells of."""
        load, options = self.plugins.load, self.options
        task = load(self.task)(options.task)
        model = self.model and partial(context.build, load(self.model), options.model)
        return load(self.algorithm)(options.algorithm, task, model, context)  # type: ignore[no-any-return]


def options_class(algorithm: Any, task: Any, model: Any, names: Mapping[Kind, str]) -> type:
    """The dataclass of all options for these classes: what `corelab train NAME --help` shows."""
    from tyro.conf import arg

    def annotated(kind: Any, text: str, name: str | None = None) -> Any:
        return Annotated[kind, arg(name=name, help=text)]

    nested = {
        "run": RunConfig,
        "algorithm": algorithm.Config,
        "task": task.Config,
        "model": model.Config if model else Empty,
    }
    if hasattr(algorithm, "update"):
        nested["update"] = type(algorithm.update)
    budget = f"The budget, in {algorithm.unit}."
    fields: list[tuple[str, Any, Any]] = [
        ("task_name", annotated(str, "What to learn from.", "task"), field(default=names["task"])),
        ("model_name", annotated(str, "The network.", "model"), field(default=names["model"])),
        ("seed", annotated(int, "The root of every random stream."), field(default=0)),
        ("steps", annotated(int, budget), field(default=algorithm.default_steps)),
        ("device", annotated(str, "auto, cpu, cuda or cuda:N."), field(default="auto")),
        ("workers", annotated(int, WORKERS), field(default=1)),
        ("gpus", annotated(int, GPUS), field(default=0)),
        ("rollout_workers", annotated(int, ROLLOUT_WORKERS), field(default=0)),
        ("address", annotated(str, ADDRESS), field(default="")),
        *((name, kind, field(default_factory=kind)) for name, kind in nested.items()),
    ]
    summary = {"__doc__": (algorithm.__doc__ or "").strip().split("\n")[0]}
    return dataclasses.make_dataclass("Options", fields, frozen=True, namespace=summary)


def resolve(
    algorithm: str,
    *,
    task: str | None = None,
    model: str | None = None,
    file: Path | None = None,
    argv: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
    source: str = "python",
    plugins: Plugins | None = None,
) -> Experiment:
    """The experiment described by these names, a FILE, VALUES (dotted or nested) and ARGV.

    What comes later wins. ConfigError or PluginError, each one sentence, for whatever does not
    exist or does not fit.
    """
    plugins = plugins or Plugins()
    offer = plugins.find("algorithm", algorithm)
    cls = plugins.load(offer)
    written = config.from_file(file) if file else {}
    names = {kind: _pop_name(written, kind) for kind in PARTS}
    if names["algorithm"] and plugins.find("algorithm", names["algorithm"]) is not offer:
        raise ConfigError(f"{file}: is for {names['algorithm']!r}, not for {algorithm!r}")
    names["task"] = task or names["task"] or cls.default_task
    bare_task = plugins.split_owner(names["task"])[1]
    preset = dict(cls.presets.get(bare_task, {}))
    preset_model = _pop_name(preset, "model") or cls.default_model
    names["model"] = model or names["model"] or preset_model
    if names["model"] != preset_model:  # its options are not those of another model
        preset = {k: v for k, v in preset.items() if k.partition(".")[0] != "model"}
    if names["model"] and not cls.default_model:
        raise PluginError(f"{algorithm} works without a model, so it cannot use {names['model']!r}")
    if not names["task"]:
        raise ConfigError(f"{algorithm} has no task of its own: name one with --task")
    task_offer = plugins.find("task", names["task"], offer)
    task_cls = plugins.load(task_offer)
    model_offer = plugins.find("model", names["model"], offer) if names["model"] else None
    model_cls = plugins.load(model_offer) if model_offer else None
    options = options_class(cls, task_cls, model_cls, names)
    known = {o.name: o for o in config.options(options) if not o.name.endswith("_name")}

    own = config.to_plain(cls.update) if hasattr(cls, "update") else {}
    layers = [
        *config.from_mapping({"update": own}, known, "default"),
        *config.from_mapping(preset, known, f"preset for {bare_task}"),
        *config.from_mapping(written, known, str(file)),
        *config.from_mapping(values or {}, known, source),
        *config.from_command_line(argv, known),
    ]
    if task_offer.component.pattern:
        layers.append(config.Assignment("task.id", bare_task, "name of the task"))
    filled, sources = config.fill(options, layers)
    if filled.steps < 1:
        raise ConfigError(f"steps is at least 1, got {filled.steps}")
    _check_workers(filled, algorithm, cls)
    return Experiment(plugins, offer, task_offer, model_offer, filled, sources)


def _check_workers(options: Any, name: str, algorithm: Any) -> None:
    """ConfigError if what OPTIONS say of workers is not for the ALGORITHM called NAME."""
    n, rolls_out = options.workers, getattr(algorithm, "rolls_out", False)
    if n < 1 or options.gpus < 0 or options.rollout_workers < 0:
        raise ConfigError("--workers is at least 1, --gpus and --rollout-workers at least 0")
    if options.rollout_workers and not rolls_out:
        raise ConfigError(f"{name} takes no --rollout-workers")
    if n == 1:
        if options.gpus:
            raise ConfigError("--gpus is for several --workers; one process takes --device cuda")
        return
    if not hasattr(algorithm, "sharded"):
        what = "--rollout-workers steps its environments" if rolls_out else "--seeds runs several"
        raise ConfigError(f"{name} learns in one process, so --workers is not for it; {what}")
    for option in algorithm.sharded:
        if (value := getattr(options.algorithm, option)) % n:
            raise ConfigError(f"--workers {n} does not divide algorithm.{option}, which is {value}")


def _pop_name(written: dict[str, Any], kind: Kind) -> str:
    """Take the name of the KIND out of what a file says: `task = "x"` or `[task] name = "x"`."""
    entry = written.get(kind)
    if isinstance(entry, dict):
        written[kind] = {k: v for k, v in entry.items() if k != "name"}
        return str(entry.get("name", ""))
    return str(written.pop(kind, ""))


def train(
    algorithm: str,
    *,
    task: str | None = None,
    model: str | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    config: Path | str | None = None,
    run_dir: Path | str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Run:
    """Train ALGORITHM and return the finished run.

    TASK and MODEL are names as `corelab plugins` lists them. STEPS is the budget in the algorithm's
    own unit. CONFIG is a TOML file; OPTIONS are dotted, `{"algorithm.lr": 3e-4}`, and win over it.
    The run's own directory is made below RUN_DIR. Any `CorelabError` is one sentence; the run's
    directory then holds whatever was computed before it.
    """
    from corelab.local import start

    given = {"steps": steps, "seed": seed, "device": device}
    values: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    if run_dir is not None:
        values["run.dir"] = run_dir
    experiment = resolve(
        algorithm,
        task=task,
        model=model,
        file=Path(config) if config is not None else None,
        values={**values, **(options or {})},
    )
    return start(experiment)
