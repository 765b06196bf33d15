"""The command line: one function for each verb.

Exit codes: 0 done; 1 the run failed by an error of its own, or a check did; 2 bad input or a
failure that one sentence explains; 130 interrupted. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from corelab import __version__
from corelab.components import KINDS, Kind
from corelab.errors import ConfigError, CorelabError, PluginError, hint
from corelab.plugins import Offer, Plugins, one_line, warn

if TYPE_CHECKING:
    from corelab.config import Option
    from corelab.runs import Run

USAGE = """\
usage: corelab VERB ...

  train ALGORITHM       train it; the last line printed is the run's directory
  resume RUN            go on with a run that was stopped, to bit-identical weights
  runs                  list runs: status, progress, best evaluation
  eval RUN              measure what a run has learned on the test split
  sample RUN -o FILE    draw samples: a grid of images, or a video
  plugins               list what is installed, and what is broken and why
  show KIND NAME        the options of an algorithm, task or model, and its source
  check MODULE          run the conformance checks on a plugin
  doctor                say what this machine has, and what is wrong with it

  corelab VERB --help tells the options of a verb; corelab --version the version.

exit codes: 0 done, 1 the run failed, 2 bad input (one sentence says what), 130 interrupted
"""

TRAIN_USAGE = """\
usage: corelab train ALGORITHM [--task NAME] [--model NAME] [OPTIONS]

  --task NAME           what to learn from
  --model NAME          the network
  --seed N              the root of every random stream
  --steps N             the budget, in the algorithm's own unit
  --device NAME         auto, cpu, cuda or cuda:N
  --config FILE         options from a TOML file, or from the run.json of a run to repeat
  --dry-run             print the options as they would be used, and where each comes from
  --run.dir FOLDER      the folder below which the run's directory is made

  corelab train ALGORITHM --help tells every option of the algorithm, its task and its model.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, like the rest of corelab."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def _parser(verb: str, text: str) -> _Parser:
    return _Parser(prog=f"corelab {verb}", description=text, allow_abbrev=False)


def _take(words: list[str], flag: str) -> str | None:
    """Remove `FLAG value` or `FLAG=value` from WORDS and return the last value given."""
    value = None
    for i in reversed(range(len(words))):
        if words[i] == flag:
            if i + 1 == len(words) or words[i + 1].startswith("--"):
                raise ConfigError(f"command line: {flag} needs a value")
            taken = words.pop(i + 1)
        elif words[i].startswith(f"{flag}="):
            taken = words[i].partition("=")[2]
        else:
            continue
        del words[i]
        value = taken if value is None else value
    return value


def train(argv: list[str]) -> int:
    """Train an algorithm."""
    if not argv or argv[0] in ("-h", "--help"):
        names = ", ".join(Plugins().names("algorithm"))
        print(f"{TRAIN_USAGE}\nalgorithms: {names}")
        return 0
    algorithm, *words = argv
    if algorithm.startswith("-"):
        raise ConfigError(f"train: name an algorithm before {algorithm}, as in `corelab train ppo`")
    asks_help = any(w in ("-h", "--help") for w in words)
    dry = "--dry-run" in words
    words = [w for w in words if w not in ("-h", "--help", "--dry-run")]
    task, model, file = (_take(words, f"--{name}") for name in ("task", "model", "config"))

    from corelab.experiments import resolve

    experiment = resolve(
        algorithm, task=task, model=model, file=Path(file) if file else None, argv=words
    )
    if asks_help:
        import tyro

        options = experiment.options
        text = (
            f"{type(options).__doc__} Options may also stand in a TOML file given with --config; "
            "--dry-run prints what would be used."
        )
        tyro.cli(
            type(options),
            default=options,
            args=["--help"],
            prog=f"corelab train {algorithm}",
            description=text,
        )
    if dry:
        plan = {"config": experiment.config(), "sources": experiment.sources}
        print(json.dumps(plan, indent=2))
        return 0

    from corelab.local import start

    print(start(experiment).path)
    return 0


def resume(argv: list[str]) -> int:
    """Go on with a run."""
    parser = _parser("resume", "Go on with a run from its newest whole checkpoint.")
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("--steps", help="a new budget, in the algorithm's unit")
    args = parser.parse_args(argv)

    from corelab.runs import Run

    steps = None if args.steps is None else _whole(args.steps, "--steps")
    print(Run(args.run).resume(steps).path)
    return 0


def _whole(text: str, flag: str) -> int:
    try:
        number = float(text)
        if number == int(number) and number >= 0:
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ConfigError(f"command line: {flag} takes a whole number, got {text!r}")


def runs(argv: list[str]) -> int:
    """List runs."""
    parser = _parser("runs", "List the runs in a folder: status, progress and best evaluation.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--json", action="store_true", help="as one JSON list")
    args = parser.parse_args(argv)

    import corelab.runs

    found = corelab.runs.runs(args.folder)
    if args.json:
        keys = ("algorithm", "task", "model", "unit", "steps", "progress", "best", "weights_sha256")
        rows = [
            {"run": str(r.path), "status": r.status, "seed": r.seed}
            | {key: r.record[key] for key in keys}
            for r in found
        ]
        print(json.dumps(rows, indent=2))
        return 0
    table = [("run", "status", "algorithm", "task", "progress", "best")]
    for run in found:
        best = run.best
        table.append(
            (
                str(run.path),
                run.status,
                run.algorithm,
                run.task,
                f"{run.progress:,}/{run.steps:,} {run.unit}",
                f"{best['metric']} {best['value']:.4g} at {best['progress']:,}" if best else "-",
            )
        )
    _print_table(table)
    return 0


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def _of_a_run(verb: str, text: str) -> _Parser:
    parser = _parser(verb, text)
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("-n", help="how many; the algorithm's own choice if not given")
    parser.add_argument("--seed", default="0", help="the seed (default: 0)")
    parser.add_argument(
        "--checkpoint", default="last", help="last, best, or a progress (default: last)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


def _common(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "n": None if args.n is None else _at_least_one(args.n),
        "seed": _whole(args.seed, "--seed"),
        "checkpoint": args.checkpoint,
        "device": args.device,
    }


def _at_least_one(text: str) -> int:
    number = _whole(text, "-n")
    if number < 1:
        raise ConfigError("command line: -n is at least 1")
    return number


def evaluate(argv: list[str]) -> int:
    """Measure what a run has learned."""
    parser = _of_a_run("eval", "Measure what a run has learned.")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    args = parser.parse_args(argv)

    from corelab.runs import Run

    run = Run(args.run)
    results = run.evaluate(split=args.split, **_common(args))
    numbers = {k: float(v) for k, v in results.items() if hasattr(v, "__float__")}
    if args.json:
        place = run.checkpoints.pick(args.checkpoint)
        facts = {"run": str(run.path), "split": args.split, "progress": int(place.name)}
        print(json.dumps(facts | {"metrics": numbers}))
    else:
        _print_table([(name, f"{value:.6g}") for name, value in numbers.items()])
    return 0


def sample(argv: list[str]) -> int:
    """Draw samples from what a run has learned."""
    parser = _of_a_run("sample", "Draw samples from what a run has learned.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    args, words = parser.parse_known_args(argv)

    from corelab import config
    from corelab.runs import Run

    run = Run(args.run)
    options = _sample_options(run.experiment())
    known = [o.name for o in config.options(options)]
    chosen, _ = config.fill(options, config.from_command_line(words, known))
    media = run.sample(**_common(args), **vars(chosen))
    try:
        media.save(args.output)
    except OSError as error:
        raise ConfigError(
            f"{args.output}: cannot be written ({error.strerror or error})"
        ) from error
    print(args.output)
    return 0


def _sample_options(experiment: Any) -> type:
    """The keyword parameters of the algorithm's `sample`, besides n and seed, as a dataclass."""
    import dataclasses
    import inspect
    import typing

    method = getattr(experiment.plugins.load(experiment.algorithm), "sample", None)
    if method is None:
        name = experiment.algorithm.component.name
        raise PluginError(f"{name} has nothing to sample (it has no `sample`)")
    hints = typing.get_type_hints(method)
    return dataclasses.make_dataclass(
        "SampleOptions",
        [
            (p.name, hints[p.name], dataclasses.field(default=p.default))
            for p in inspect.signature(method).parameters.values()
            if p.name not in ("self", "n", "seed")
        ],
        frozen=True,
    )


def plugins(argv: list[str]) -> int:
    """List what is installed."""
    parser = _parser("plugins", "List what is installed, and what is broken and why.")
    parser.add_argument("--json", action="store_true", help="as one JSON list")
    args = parser.parse_args(argv)
    rows = _plugin_rows(Plugins())
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = [("kind", "name", "interface", "owner", "summary")]
    for row in rows:
        owner = f"{row['distribution']} {row['version']}"
        if row["broken"]:
            table.append((row["kind"], row["name"], "BROKEN", owner, row["broken"]))
        else:
            table.append((row["kind"], row["name"], row["interface"], owner, row["summary"]))
    _print_table(table)
    return 0


def _plugin_rows(found: Plugins) -> list[dict[str, Any]]:
    """One row for each component, each sink and each plugin that is broken."""

    def row(kind: str, name: str, plugin: Any, **more: Any) -> dict[str, Any]:
        facts = {"kind": kind, "name": name, "interface": "", "summary": "", "broken": None}
        owner = {"distribution": plugin.distribution, "version": plugin.version}
        return facts | {"plugin": plugin.name} | owner | more

    rows = []
    for offer in sorted(found.offers, key=lambda o: (o.component.kind, o.component.name)):
        c, clash = offer.component, ""
        if others := found.clashes(offer):
            owners = " and ".join(str(o.plugin) for o in others)
            clash = f"also offered by {owners}: name this one {offer.label()}"
        name = f"{c.name} ({', '.join(c.examples)}, …)" if c.pattern else c.name
        interface = c.provides or ", ".join(c.uses)
        more = {"interface": interface, "summary": c.summary, "broken": clash or None}
        rows.append(row(c.kind, name, offer.plugin, **more))
    for name, (plugin, summary) in sorted(found.sinks.items()):
        rows.append(row("sink", name, plugin, summary=summary))
    for plugin, why in found.broken.items():
        rows.append(row("plugin", plugin.name, plugin, broken=why))
    return rows


def show(argv: list[str]) -> int:
    """The options of a component."""
    parser = _parser("show", "The options of an algorithm, task or model, and its source.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("name")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    args = parser.parse_args(argv)

    from corelab import config

    found = Plugins()
    offer = found.find(cast(Kind, args.kind), args.name)
    component, cls = offer.component, found.load(offer)
    options = list(config.options(cls.Config))
    facts = {
        "kind": component.kind,
        "name": component.name,
        "owner": str(offer.plugin),
        "summary": component.summary,
        "source": component.paper,
        "interface": component.provides or ", ".join(component.uses),
    }
    if component.kind == "algorithm":
        facts |= {"unit": cls.unit, "best": cls.best, "presets": ", ".join(cls.presets)}
    if args.json:
        listed = [
            {"name": o.name, "type": config.type_name(o.type), "help": o.help}
            | {"default": config.to_plain(o.default)}
            for o in options
        ]
        print(json.dumps(facts | {"options": listed}, indent=2))
        return 0
    for key, value in facts.items():
        if value and key not in ("kind", "name"):
            print(f"{key + ':':<11}{value}")
    for option in options:
        print(f"\n--{component.kind}.{_flag(option)}  {config.type_name(option.type)}")
        print(textwrap.indent(f"{option.help} (default: {option.default})", "    "))
    return 0


def _flag(option: Option) -> str:
    return option.name.replace("_", "-")


def check(argv: list[str]) -> int:
    """Run the conformance checks."""
    parser = _parser("check", "Run the conformance checks on a plugin's index module.")
    parser.add_argument("module", help="the module that the entry point names")
    args = parser.parse_args(argv)

    from corelab.testing import check_plugin

    sys.path.insert(0, os.getcwd())  # a plugin is checked before it is installed, too
    report = check_plugin(args.module)
    for result in report:
        print(result)
    failed = sum(r.outcome == "failed" for r in report)
    skipped = sum(r.outcome == "skipped" for r in report)
    print(f"{len(report) - skipped} checks ran, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def doctor(argv: list[str]) -> int:
    """Say what this machine has."""
    _parser("doctor", "Say what this machine has, and what is wrong with it.").parse_args(argv)

    from corelab.doctor import examine

    findings = examine()
    for finding in findings:
        print(finding)
    return 0 if all(f.well for f in findings) else 1


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "resume": resume,
    "runs": runs,
    "eval": evaluate,
    "sample": sample,
    "plugins": plugins,
    "show": show,
    "check": check,
    "doctor": doctor,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb in ARGV (default: of this process) and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"corelab {__version__}")
        return 0
    verb, *rest = words
    try:
        if verb not in VERBS:
            raise ConfigError(f"there is no verb {verb!r}; {hint(verb, VERBS, 'verbs')}")
        return VERBS[verb](rest)
    except CorelabError as error:
        warn(str(error))
        return 2
    except KeyboardInterrupt as interrupt:
        warn(str(interrupt) or "interrupted")
        return 130
    except BrokenPipeError:  # the reader of a listing has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a mistake in an algorithm or in corelab, not of the user's
        if os.environ.get("CORELAB_DEBUG"):
            raise
        warn(f"{one_line(error)} (the traceback is in the run's log.txt; CORELAB_DEBUG=1 shows it)")
        return 1
