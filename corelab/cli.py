"""usage: corelab VERB ...

  train ALGORITHM       train it; the last line printed is the run's directory
  sweep ALGORITHM       many runs that differ in options: --search "algorithm.lr=loguniform(…)"
  resume RUN            go on with a run that was stopped, to bit-identical weights
  runs [FOLDER]         list runs: status, progress, best evaluation
  eval RUN...           measure what has been learned on the test split, with intervals over seeds
  sample RUN -o FILE    draw samples: a grid of images, or a video
  plugins               list what is installed, and what is broken and why
  show KIND NAME        the options of an algorithm, task or model, and its source
  new KIND NAME         write a plugin of your own: a distribution to install, train and change
  check MODULE          run the conformance checks on a plugin
  doctor                say what this machine has, and what is wrong with it

  corelab VERB --help tells the options of a verb; corelab --version the version.

exit codes: 0 done, 1 the run failed, 2 bad input (one sentence says what), 130 interrupted
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from corelab import __version__
from corelab.components import PARTS
from corelab.deprecation import one_line_each
from corelab.errors import ConfigError, CorelabError
from corelab.plugins import ALLOW, Offer, Plugin, Plugins, one_line, warn

if TYPE_CHECKING:
    from corelab.runs import Run


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, like the rest of corelab."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def _parser(verb: str) -> _Parser:
    about = VERBS[verb].__doc__
    return _Parser(prog=f"corelab {verb}", description=about, allow_abbrev=False)


def _whole(text: str) -> int:
    """TEXT as a whole number, 1e6 included."""
    number = float(text)
    if not number.is_integer() or number < 0:
        raise ValueError
    return int(number)


_whole.__name__ = "whole number"  # argparse names the type by it


def train(argv: list[str]) -> int:
    """usage: corelab train ALGORITHM [--task NAME] [--model NAME] [OPTIONS]

    --task NAME           what to learn from
    --model NAME          the network
    --seed N              the root of every random stream
    --seeds N             N runs in a folder, of this seed and those that follow it
    --jobs N              how many of them at a time (default: 1)
    --steps N             the budget, in the algorithm's own unit
    --device NAME         auto, cpu, cuda or cuda:N
    --workers N           processes that learn together, on --gpus N
    --rollout-workers N   processes that step the environments
    --address HOST:PORT   the Ray cluster these are on
    --config FILE         options from a TOML file, or from the run.json of a run to repeat
    --dry-run             print the options as they would be used, and where each comes from
    --run.dir FOLDER      the folder below which the run's directory is made

    corelab train ALGORITHM --help tells every option of the algorithm, its task and its model.
    """  # noqa: D400, D415 - this docstring is the help text
    if not argv or argv[0] in ("-h", "--help"):
        first, _, rest = (train.__doc__ or "").partition("\n")
        print(f"{first}\n{textwrap.indent(textwrap.dedent(rest), '  ')}")
        print(f"algorithms: {', '.join(Plugins().names('algorithm'))}")
        return 0
    algorithm, *options = argv
    if algorithm.startswith("-"):
        raise ConfigError(f"train: name an algorithm before {algorithm}: `corelab train ppo …`")
    parser = _Parser(prog="corelab train", add_help=False, allow_abbrev=False)
    for flag in ("--task", "--model"):
        parser.add_argument(flag)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--seeds", type=_whole)
    parser.add_argument("--jobs", type=_whole)
    parser.add_argument("-h", "--help", action="store_true")
    args, options = parser.parse_known_args(options)

    if args.seeds == 0 or args.jobs == 0:
        raise ConfigError("train: --seeds and --jobs are at least 1")
    if args.jobs and not args.seeds:
        raise ConfigError("train: --jobs is how many of --seeds run at a time; say how many seeds")

    from corelab.experiments import resolve

    experiment = resolve(
        algorithm, task=args.task, model=args.model, file=args.config, argv=options
    )
    if args.help:
        import tyro

        cls, prog = type(experiment.options), f"corelab train {algorithm}"
        text = f"{cls.__doc__} Options may stand in a TOML file, too: --config FILE."
        tyro.cli(cls, default=experiment.options, args=["--help"], prog=prog, description=text)
    if args.dry_run:
        plan = {"config": experiment.config(), "sources": experiment.sources}
        print(json.dumps(plan, indent=2))
    elif args.seeds:
        from corelab import seeds

        folder = seeds.create(experiment, args.seeds)
        code = seeds.execute(folder, args.jobs or 1)
        print(folder)
        return code
    else:
        from corelab.local import start

        print(start(experiment).path)
    return 0


def sweep(argv: list[str]) -> int:
    """Search the options of an algorithm: many runs, on Ray Tune. All else is as for train."""
    parser = _parser("sweep")
    parser.add_argument("algorithm")
    what = "an option and its values, such as algorithm.lr=loguniform(1e-5,1e-2); also uniform, "
    what += "quniform, randint, choice and grid"
    parser.add_argument("--search", action="append", default=[], metavar="EXPRESSION", help=what)
    parser.add_argument("--trials", type=_whole, help="how many runs (default: 20)")
    which = "how values are chosen (default: random, or grid if one is searched)"
    parser.add_argument("--method", choices=("random", "grid", "bayesian"), help=which)
    which = "what becomes of bad trials: asha stops them, pbt has them inherit (default: none)"
    parser.add_argument("--scheduler", choices=("none", "asha", "pbt"), default="none", help=which)
    which = "what counts (default: what the algorithm calls best)"
    parser.add_argument("--metric", help=which)
    parser.add_argument("--mode", choices=("max", "min"), help="whether more or less is better")
    parser.add_argument("--jobs", type=_whole, help="how many at a time (default: as many as fit)")
    for flag in ("--task", "--model"):
        parser.add_argument(flag)
    parser.add_argument("--config", type=Path)
    args, options = parser.parse_known_args(argv)
    if args.jobs == 0:
        raise ConfigError("sweep: --jobs is at least 1")

    from corelab.cluster.sweep import Sweep
    from corelab.experiments import resolve

    experiment = resolve(
        args.algorithm, task=args.task, model=args.model, file=args.config, argv=options
    )
    names = ("method", "trials", "scheduler", "metric", "mode")
    made = Sweep.create(experiment, args.search, **{name: getattr(args, name) for name in names})
    return _sweep(made.path, args.jobs)


def _sweep(folder: Path, jobs: int | None) -> int:
    """Bring the sweep in FOLDER to its end, and print what has come of it."""
    from corelab.cluster.picture import draw
    from corelab.cluster.sweep import Sweep, execute

    made = Sweep(folder)
    execute(made, jobs)
    _print_table(made.table())
    try:
        draw(made, folder / "sweep.png")
    except CorelabError as error:
        warn(str(error))
    print(folder)
    return 0


def resume(argv: list[str]) -> int:
    """Go on with a run from its newest whole checkpoint, with a folder of seeds, or a sweep."""
    parser = _parser("resume")
    parser.add_argument("run", type=Path, help="the directory of a run, of seeds, or of a sweep")
    parser.add_argument("--steps", type=_whole, help="a new budget, in the algorithm's unit")
    parser.add_argument("--jobs", type=_whole, help="how many at a time (default: 1 seed)")
    args = parser.parse_args(argv)

    from corelab.runs import RECORD, Run

    if (args.run / "sweep.json").exists():
        if args.steps is not None:
            raise ConfigError("resume: the budget of a sweep is fixed; --steps is for runs")
        return _sweep(args.run, args.jobs)
    if args.run.is_dir() and not (args.run / RECORD).exists():
        from corelab import seeds

        code = seeds.execute(
            args.run, args.jobs or 1, () if args.steps is None else ("--steps", str(args.steps))
        )
        print(args.run)
        return code
    print(Run(args.run).resume(args.steps).path)
    return 0


def runs(argv: list[str]) -> int:
    """List the runs in a folder: status, progress and best evaluation."""
    parser = _parser("runs")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--json", action="store_true", help="as one JSON list")
    args = parser.parse_args(argv)

    from corelab.runs import find_runs

    found = find_runs(args.folder)
    if args.json:
        keys = ("algorithm", "task", "model", "unit", "steps", "progress", "best", "weights_sha256")
        print(json.dumps([_row(run) | {k: run.record[k] for k in keys} for run in found], indent=2))
        return 0
    table = [("run", "status", "algorithm", "task", "progress", "best")]
    for run in found:
        progress, best = f"{run.progress:,}/{run.steps:,} {run.unit}", "-"
        if b := run.best:
            best = f"{b['metric']} {b['value']:.4g} at {b['progress']:,}"
        table.append((str(run.path), run.status, run.algorithm, run.task, progress, best))
    _print_table(table)
    return 0


def _row(run: Run) -> dict[str, Any]:
    return {"run": str(run.path), "status": run.status, "seed": run.seed}


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def _parser_of_a_run(verb: str, nargs: str | None = None) -> _Parser:
    parser = _parser(verb)
    which = "directories of runs, or folders of seeds" if nargs else "the run's directory"
    parser.add_argument("run", type=Path, nargs=nargs, help=which)
    parser.add_argument("-n", type=_whole, help="how many (default: the algorithm's choice)")
    parser.add_argument("--seed", type=_whole, default=0, help="the seed (default: 0)")
    which = "last, best, or a progress (default: last)"
    parser.add_argument("--checkpoint", default="last", help=which)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


def _common(args: argparse.Namespace) -> dict[str, Any]:
    if args.n == 0:
        raise ConfigError("command line: -n is at least 1")
    return {key: getattr(args, key) for key in ("n", "seed", "checkpoint", "device")}


def evaluate(argv: list[str]) -> int:
    """Measure what runs have learned. Further options are the algorithm's own."""
    parser = _parser_of_a_run("eval", nargs="+")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    profile = "draw how many runs reach which score, for each folder, into this picture"
    parser.add_argument("--profile", type=Path, help=profile)
    args, words = parser.parse_known_args(argv)

    from corelab.runs import RECORD
    from corelab.seeds import members

    groups = {str(path): members(path) for path in args.run}
    single = len(args.run) == 1 and (args.run[0] / RECORD).exists()
    if single and args.profile:
        raise ConfigError(f"eval: --profile compares folders of seeds, and {args.run[0]} is a run")
    rows = {group: [_measure(run, args, words) for run in runs] for group, runs in groups.items()}
    if not single:
        return _compare(rows, args)
    (row,) = rows[str(args.run[0])]
    if args.json:
        print(json.dumps({k: v for k, v in row.items() if k != "metrics"} | row["metrics"]))
    else:
        _print_table([(name, f"{value:.6g}") for name, value in row["metrics"].items()])
    return 0


def _measure(run: Run, args: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    """The numbers that evaluating RUN gives, and where they are from."""
    options = _own_options(run, "evaluate", ("self", "split", "n", "seed"), words)
    results = run.evaluate(split=args.split, **_common(args), **options)
    numbers = {k: float(v) for k, v in results.items() if hasattr(v, "__float__")}
    progress = int(run.checkpoints.pick(args.checkpoint).name)
    about = {"split": args.split, "progress": progress, **options}
    return _row(run) | about | {"task": run.task, "metrics": numbers}


def _own_options(
    run: Run, capability: str, besides: tuple[str, ...], words: Sequence[str]
) -> dict[str, Any]:
    """WORDS as the keyword parameters that RUN's algorithm gives its method CAPABILITY."""
    from corelab import config

    options = config.from_signature(run.capability(capability), besides=besides)
    known = {o.name: o for o in config.options(options)}
    chosen, _ = config.fill(options, config.from_command_line(words, known))
    return dict(vars(chosen))


def _compare(groups: dict[str, list[dict[str, Any]]], args: argparse.Namespace) -> int:
    """Print what the runs of each group say together."""
    from corelab import statistics

    listed = statistics.compare(groups)
    if args.json:
        print(json.dumps({"runs": groups, "summary": listed}))
    else:
        table = [("runs", "task", "metric", "IQM", "95% interval", "mean", "n")]
        for row in listed:
            low, high = row["interval"]
            figures = f"{row['iqm']:.6g}", f"{low:.6g} to {high:.6g}", f"{row['mean']:.6g}"
            table.append((row["group"], row["task"], row["metric"], *figures, str(row["runs"])))
        _print_table(table)
    if args.profile:
        statistics.draw_profiles(groups, args.profile)
    return 0


def sample(argv: list[str]) -> int:
    """Draw samples from what a run has learned. Further options are the algorithm's own."""
    parser = _parser_of_a_run("sample")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file to write")
    args, words = parser.parse_known_args(argv)

    from corelab.runs import Run

    run = Run(args.run)
    options = _own_options(run, "sample", ("self", "n", "seed"), words)
    media = run.sample(**_common(args), **options)
    try:
        media.save(args.output)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{args.output}: cannot be written ({reason})") from error
    print(args.output)
    return 0


def plugins(argv: list[str]) -> int:
    """List what is installed, and what is broken and why."""
    parser = _parser("plugins")
    parser.add_argument("--json", action="store_true", help="as one JSON list")
    verified = "instead, where each is from and whether its files are as they were installed"
    parser.add_argument("--verify", action="store_true", help=verified)
    args = parser.parse_args(argv)
    if args.verify:
        return _verify(args.json)
    rows = _plugin_rows(Plugins())
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = [("kind", "name", "interface", "owner", "summary")]
    for row in rows:
        owner, what = f"{row['distribution']} {row['version']}", ("interface", "summary")
        interface, text = ("BROKEN", row["broken"]) if row["broken"] else (row[k] for k in what)
        table.append((row["kind"], row["name"], interface, owner, text))
    _print_table(table)
    print("\nPlugins are code that runs with all your rights; --verify tells where each is from.")
    return 0


def _verify(as_json: bool) -> int:
    from corelab.verification import verify

    verdicts = verify()
    if as_json:
        print(json.dumps([asdict(v) | {"verdict": str(v)} for v in verdicts], indent=2))
    else:
        table = [("distribution", "origin", "files", "plugins")]
        for v in verdicts:
            names = ", ".join(v.plugins)
            table.append((f"{v.distribution} {v.version}", v.origin, str(v), names))
        _print_table(table)
    return 1 if any(v.altered for v in verdicts) else 0


def _plugin_rows(found: Plugins) -> list[dict[str, Any]]:
    """One row for each component, each sink and each plugin that is broken."""

    def row(kind: str, name: str, plugin: Plugin, **more: Any) -> dict[str, Any]:
        facts = {"kind": kind, "name": name, "interface": "", "summary": "", "broken": None}
        owner = {"distribution": plugin.distribution, "version": plugin.version}
        return facts | {"plugin": plugin.name} | owner | more

    rows = []
    for offer in sorted(found.offers, key=lambda o: (o.component.kind, o.component.name)):
        c = offer.component
        name = f"{c.name} ({', '.join(c.examples)}, …)" if c.pattern else c.name
        summary = c.summary
        if c.deprecated:
            mend = f": use {c.deprecated.instead}" if c.deprecated.instead else ""
            summary += f" (deprecated{mend})"
        more = {"interface": c.provides or ", ".join(c.uses), "summary": summary}
        rows.append(row(c.kind, name, offer.plugin, broken=_clash(found, offer) or None, **more))
    rows += [row("sink", p.name, p, summary=summary) for p, summary in found.sinks.items()]
    told = {"interface": "not allowed", "summary": f"{ALLOW} does not name it: not imported"}
    rows += [row("plugin", p.name, p, **told) for p in found.disallowed]
    return rows + [row("plugin", p.name, p, broken=why) for p, why in found.broken.items()]


def _clash(found: Plugins, offer: Offer) -> str:
    c = offer.component
    if c.kind == "verb" and c.name in VERBS:
        return f"corelab has this verb, too: name this one {offer.plugin.distribution}:{c.name}"
    return found.clash(offer)


def show(argv: list[str]) -> int:
    """Tell the options of an algorithm, task or model, and its source."""
    parser = _parser("show")
    parser.add_argument("kind", choices=PARTS)
    parser.add_argument("name")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    args = parser.parse_args(argv)

    from corelab import config

    found = Plugins()
    offer = found.find(args.kind, args.name)
    c, cls = offer.component, found.load(offer)
    facts = {"kind": c.kind, "name": c.name, "owner": str(offer.plugin), "summary": c.summary}
    facts |= {"source": c.paper, "interface": c.provides or ", ".join(c.uses)}
    if c.kind == "algorithm":
        facts |= {"unit": cls.unit, "best": cls.best, "presets": ", ".join(cls.presets)}
    options = list(config.options(cls.Config))
    if args.json:
        listed = [
            {"name": o.name, "type": config.type_name(o.type), "help": o.help}
            | {"default": config.to_plain(o.default)}
            for o in options
        ]
        print(json.dumps(facts | {"options": listed}, indent=2))
        return 0
    _print_table([(f"{key}:", value) for key, value in facts.items() if value])
    for o in options:
        print(f"\n--{c.kind}.{o.name.replace('_', '-')}  {config.type_name(o.type)}")
        print(textwrap.indent(f"{o.help} (default: {o.default})", "    "))
    return 0


def new(argv: list[str]) -> int:
    """Write a plugin of your own: a distribution to install, train and change."""
    parser = _parser("new")
    parser.add_argument("kind", help="algorithm, task, model or sink")
    parser.add_argument("name", help="what people will type, such as my-idea")
    parser.add_argument("-o", "--output", type=Path, help="the folder (default: corelab-NAME)")
    args = parser.parse_args(argv)

    from corelab.new import write

    print(write(args.kind, args.name, args.output))
    return 0


def check(argv: list[str]) -> int:
    """Run the conformance checks on a plugin."""
    parser = _parser("check")
    parser.add_argument("module", help="the index module, which the entry point names")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument("-k", default="", help="only checks whose name or component has this")
    parser.add_argument("--options", type=Path, help="TOML: how to try a component, by its name")
    args = parser.parse_args(argv)

    from corelab import config, testing

    sys.path.insert(0, str(Path.cwd()))  # a plugin is checked before it is installed, too
    options = config.from_file(args.options) if args.options else {}
    found = testing.checks(args.module, options=options)
    chosen = [check for check in found if args.k in f"{check.rule.name} ({check.subject})"]
    if not chosen:
        raise ConfigError(f"check: no check of {args.module} has {args.k!r} in its name")
    report = []
    for i, each in enumerate(chosen, 1):
        report.append(each.result())
        if not args.json:
            print(f"{i:>{len(str(len(chosen)))}}/{len(chosen)} {report[-1]}", flush=True)
    outcomes = [result.outcome for result in report]
    failed, skipped = outcomes.count("failed"), outcomes.count("skipped")
    counts = {"ran": len(report) - skipped, "failed": failed, "skipped": skipped}
    if args.json:
        print(json.dumps(counts | {"checks": [vars(result) for result in report]}, indent=2))
    else:
        print(f"{counts['ran']} checks ran, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def doctor(argv: list[str]) -> int:
    """Say what this machine has, and what is wrong with it."""
    _parser("doctor").parse_args(argv)

    from corelab.doctor import examine

    findings = examine()
    print(*findings, sep="\n")
    return 0 if all(finding.well for finding in findings) else 1


VERBS: dict[str, Callable[[list[str]], int]] = {
    f.__name__ if f is not evaluate else "eval": f
    for f in (train, sweep, resume, runs, evaluate, sample, plugins, show, new, check, doctor)
}


def _overview() -> None:
    """Print what corelab's own verbs do, and those of plugins."""
    print(__doc__, end="")
    found = Plugins()
    offered = [o for o in found.offers if o.component.kind == "verb"]
    if offered:
        print("\nverbs of plugins:")
        for o in offered:
            c, owner = o.component, o.plugin.distribution
            name = f"{owner}:{c.name}" if _clash(found, o) else c.name
            print(f"  {name:<20}  {c.summary} ({o.plugin})")


def _verb_of_a_plugin(name: str) -> Callable[[list[str]], int]:
    found = Plugins()
    known = [*VERBS, *found.names("verb")]
    if found.split_owner(name)[1] not in known:
        raise ConfigError(found.unknown("verb", name, known))
    return found.load(found.find("verb", name))  # type: ignore[no-any-return]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb in ARGV (default: of this process) and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    verb, *rest = words or [""]
    try:
        if verb in ("", "-h", "--help", "help"):
            _overview()
            return 0 if words else 2
        if verb in ("-V", "--version"):
            print(f"corelab {__version__}")
            return 0
        with one_line_each(warn):
            return (VERBS.get(verb) or _verb_of_a_plugin(verb))(rest)
    except CorelabError as error:
        warn(one_line(error))
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
