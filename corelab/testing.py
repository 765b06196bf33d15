"""The conformance checks: what a plugin must pass before anyone should rely on it.

`corelab check MODULE` runs them, and so does `check_plugin("module")` in the plugin's own tests.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from corelab import config
from corelab.plugins import GROUP, Offer, Plugins, one_line

HEAVY = ("torch", "ray", "gymnasium", "numpy", "sklearn", "tensorboard", "matplotlib", "jax")
"""What an index module must not import."""


Check = Callable[[], None]


@dataclass(frozen=True)
class Result:
    """How one check came out."""

    name: str
    subject: str
    outcome: Literal["passed", "failed", "skipped"]
    why: str = ""

    def __str__(self) -> str:
        line = f"{self.outcome:<8}{self.name} ({self.subject})"
        return f"{line}: {self.why}" if self.why else line


class _SkippedError(Exception):
    """The check has nothing to look at, and why."""


def check_plugin(module: str, iterations: int = 4) -> list[Result]:
    """Run every check on the plugin with the index module MODULE, installed or not.

    Each algorithm is stepped ITERATIONS times on its default task, twice, once saved and loaded
    half-way, on the CPU and, if there is one, on the GPU.
    """

    def import_is_light() -> None:
        path = f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); "
        code = f"{path}import {module}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert not done.returncode, f"cannot be imported: {done.stderr.strip().splitlines()[-1]}"
        heavy = sorted(set(HEAVY) & set(done.stdout.split()))
        assert not heavy, f"imports {', '.join(heavy)}: import them in the component's own module"

    results = [_run(import_is_light, module)]
    if results[0].outcome == "failed":
        return results
    found = list(entry_points(group=GROUP))
    own = [e for e in found if e.value == module] or [EntryPoint(module, module, GROUP)]
    plugins = Plugins([own[0], *(e for e in found if e.value != module)])

    def index_is_accepted() -> None:
        for plugin, why in plugins.broken.items():
            assert plugin.name != own[0].name, why

    results.append(_run(index_is_accepted, module))
    for offer in [o for o in plugins.offers if o.plugin.name == own[0].name]:
        checks = _of_any(plugins, offer)
        if offer.component.kind == "algorithm":
            checks += _of_algorithm(plugins, offer, iterations)
        subject = f"{offer.component.kind} {offer.component.name}"
        results += [_run(check, subject) for check in checks]
    return results


def _run(check: Check, subject: str) -> Result:
    name = check.__name__
    try:
        check()
    except _SkippedError as why:
        return Result(name, subject, "skipped", str(why))
    except (Exception, SystemExit) as error:
        text = str(error) if isinstance(error, AssertionError) else one_line(error)
        return Result(name, subject, "failed", text)
    return Result(name, subject, "passed")


def _of_any(plugins: Plugins, offer: Offer) -> list[Check]:
    def loads() -> None:
        plugins.load(offer)

    def options_are_explained() -> None:
        silent = [o.name for o in config.options(plugins.load(offer).Config) if not o.help]
        assert not silent, f"no sentence stands under {', '.join(silent)}"

    def options_survive_a_file() -> None:
        cls = plugins.load(offer).Config
        known = {o.name: o for o in config.options(cls)}
        plain = json.loads(json.dumps(config.to_plain(cls())))
        again, _ = config.fill(cls, config.from_mapping(plain, known, "file"))
        assert config.to_plain(again) == plain, f"{plain} came back as {config.to_plain(again)}"

    return [loads, options_are_explained, options_survive_a_file]


def _of_algorithm(plugins: Plugins, offer: Offer, iterations: int) -> list[Check]:
    import torch

    from corelab.context import Context
    from corelab.experiments import resolve
    from corelab.state import save_tree

    name = offer.component.name

    def make(seed: int, device: str = "cpu") -> tuple[Any, Any]:
        experiment = resolve(name, values={"seed": seed}, plugins=plugins)
        context = experiment.context(device)
        return experiment.build(context), context

    def trace(algorithm: Any, n: int) -> list[dict[str, float]]:
        return [{k: float(v) for k, v in algorithm.step().items()} for _ in range(n)]

    def written(save: Callable[[Path], None]) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            save(Path(folder))
            files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
            return {str(p.relative_to(folder)): p.read_bytes() for p in files}

    def content(algorithm: Any) -> dict[str, bytes]:
        return written(algorithm.save)

    def drawn(context: Context) -> dict[str, bytes]:
        return written(lambda folder: save_tree(folder / "streams", context.state_dict()))

    def fresh(seed: int, device: str = "cpu", steps: int = iterations) -> tuple[Any, Any]:
        algorithm, context = make(seed, device)
        with context.owning_globals():
            return algorithm, trace(algorithm, steps)

    def metrics_are_finite_and_progress_counts() -> None:
        algorithm, context = make(0)
        with context.owning_globals():
            for _ in range(iterations):
                before = algorithm.progress
                (row,) = trace(algorithm, 1)
                assert algorithm.progress > before, "step() does not count in `progress`"
                wrong = [k for k, v in row.items() if not math.isfinite(v)]
                assert not wrong, f"not finite: {', '.join(wrong)}"

    def same_seed_same_metrics() -> None:
        assert fresh(3)[1] == fresh(3)[1], "two runs with one seed differ"

    def other_seed_other_metrics() -> None:
        assert fresh(3)[1] != fresh(4)[1], "the seed changes nothing"

    def resumed_equals_unbroken() -> None:
        whole, context = make(5)
        with context.owning_globals(), tempfile.TemporaryDirectory() as folder:
            trace(whole, iterations)
            whole.save(Path(folder))
            streams = context.state_dict()
            expected = trace(whole, iterations)
            resumed, context = make(5)
            resumed.load(Path(folder))
            context.load_state_dict(streams)
            assert trace(resumed, iterations) == expected, "metrics differ after load()"
        assert content(resumed) == content(whole), (
            "the state differs after load() and as many steps"
        )

    def evaluation_leaves_training_alone() -> None:
        algorithm, context = make(6)
        if not hasattr(algorithm, "evaluate"):
            raise _SkippedError("it has no evaluate()")
        with context.owning_globals():
            trace(algorithm, 1)
            before, streams = content(algorithm), drawn(context)
            first = _numbers(algorithm.evaluate("validation", 2, 0))
            assert _numbers(algorithm.evaluate("validation", 2, 0)) == first, "it is not repeatable"
            assert content(algorithm) == before, "evaluate() changes the algorithm's state"
            assert drawn(context) == streams, "evaluate() draws from the run's streams"

    def travels_to_a_worker() -> None:
        experiment = resolve(name, plugins=plugins)
        options = experiment.options
        for part in (options.algorithm, options.task, options.model):
            assert pickle.loads(pickle.dumps(part)) == part, f"{part} does not survive pickling"
            assert dataclasses.is_dataclass(part)

    def runs_on_a_gpu() -> None:
        if not torch.cuda.is_available():
            raise _SkippedError("there is no GPU here")
        fresh(0, "cuda", 2)

    return [
        metrics_are_finite_and_progress_counts,
        same_seed_same_metrics,
        other_seed_other_metrics,
        resumed_equals_unbroken,
        evaluation_leaves_training_alone,
        travels_to_a_worker,
        runs_on_a_gpu,
    ]


def _numbers(results: dict[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in results.items() if hasattr(v, "__float__")}
