"""The conformance kit finds what is wrong, and nothing else, and first-party plugins pass it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tomllib
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import corelab
from corelab.cli import main
from corelab.experiments import resolve
from corelab.plugins import Plugins
from corelab.testing import Check, Result, check_plugin, checks
from corelab.testing.rules import RULES

pytest_plugins = ["pytester"]

Install = Callable[..., None]

GOOD = Path(__file__).parent / "good_plugin"
PROJECT = Path(__file__).parent.parent / "pyproject.toml"
MODULES = set(tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["corelab"].values())
ON_RAY = "corelab_rllib"

IMPORTS = "import multiprocessing, os, random, socket, time, warnings\nfrom pathlib import Path\n"
MAKES = "self.losses = []"
LEARNS = "loss.backward()"
TELLS = '{"loss": loss.item()}\n\n'
PLUGIN, PARTS, SINK = "good_plugin", "good_parts", "good_sink"


def made(line: str) -> tuple[str, str, str]:
    return PARTS, MAKES, f"{MAKES}; {line}"


def learned(line: str) -> tuple[str, str, str]:
    return PARTS, LEARNS, f"{line}; {LEARNS}"


def told(more: str) -> tuple[str, str, str]:
    return PARTS, TELLS, f'{{"loss": loss.item(), {more}}}\n\n'


def evaluated(line: str) -> tuple[str, str, str]:
    return PARTS, "with torch.no_grad():", f"{line}\n        with torch.no_grad():"


MISTAKES: dict[str, tuple[str, tuple[str, str, str]]] = {
    "a heavy index": ("import_is_light", (PLUGIN, "\n\n@hook", "import numpy\n\n@hook")),
    "another API": ("index_is_accepted", (PLUGIN, "(1, 0)", "(2, 0)")),
    "no unit": ("loads", (PARTS, 'unit = "examples"', "")),
    "options that can change": (
        "loads",
        (PARTS, "(frozen=True)\n    class Config:\n        lr", "\n    class Config:\n        lr"),
    ),
    "an option without a sentence": (
        "options_are_explained",
        (PARTS, '"""The length of a step."""', ""),
    ),
    "a default of another type": ("options_survive_a_file", (PARTS, "lr: float", "lr: int")),
    "a step that raises": ("runs", learned("1 / 0")),
    "progress that stands still": ("runs", (PARTS, "self.progress += len(x)", "self.progress = 8")),
    "a clock for a seed": ("same_seed_same_metrics", (PARTS, "(self.seed, ", "(time.time_ns(), ")),
    "a seed of its own": ("other_seed_other_metrics", (PARTS, "(self.seed, ", "(0, ")),
    "momentum that is not saved": ("resumed_equals_unbroken", (PARTS, '"optimizer", ', "")),
    "an infinite metric": ("metrics_are_finite", told('"snr": np.inf')),
    "a metric with the loop's prefix": ("metrics_are_named", told('"train/size": 1.0')),
    "a best that is not measured": (
        "metrics_are_named",
        (PARTS, "min eval/loss", "min eval/error"),
    ),
    "an evaluation that draws": (
        "evaluation_leaves_training_alone",
        evaluated("self.context.rng('x').random()"),
    ),
    "an evaluation that learns": (
        "evaluation_leaves_training_alone",
        evaluated("self.process += 1"),
    ),
    "an evaluation by chance": (
        "evaluation_leaves_training_alone",
        evaluated("return {'loss': time.time()}"),
    ),
    "a task with NaN": (
        "numbers_are_finite",
        (PARTS, '{"weights": None}', '{"weights": np.array([np.nan])}'),
    ),
    "a model without gradients": (
        "weights_learn",
        (PARTS, "return self.layer(x)", "return 0 * self.layer(x) + x"),
    ),
    "NaN passed over": (
        "nan_is_refused",
        (PARTS, "loss = ((self", "x, y = x.nan_to_num(), y.nan_to_num(); loss = ((self"),
    ),
    "NaN in a traceback": ("nan_is_refused", learned("assert loss.isfinite()")),
    "a hash that differs by process": ("travels_to_a_worker", told('"chance": hash("a") / 2**64')),
    "an update of its own in each process": ("workers_equal_one", (PARTS, ".average(", ".total(")),
    "a sum over a shard": ("workers_equal_one", (PARTS, ".mean()", ".sum() / 8")),
    "a state of this process": ("killed_equals_unbroken", made("self.process = os.getpid()")),
    "a variable of the environment": (
        "globals_are_left_alone",
        made("os.environ['MISTAKE'] = 'made'"),
    ),
    "a filter of warnings": ("globals_are_left_alone", made("warnings.simplefilter('ignore')")),
    "a seed for everyone": ("globals_are_left_alone", made("random.seed(0)")),
    "threads for everyone": ("globals_are_left_alone", made("torch.set_num_threads(2)")),
    "a file beside the run": ("files_stay_in_the_run", made("Path('notes.txt').write_text('')")),
    "a look at the network": ("network_is_left_alone", made("socket.getaddrinfo('127.0.0.1', 80)")),
    "graphs that are kept": ("nothing_leaks", learned("self.losses.append(loss)")),
    "pipes that stay open": (
        "nothing_leaks",
        learned("self.losses.append(multiprocessing.Pipe())"),
    ),
    "a sink that needs a metric": (
        "hooks_do_not_raise",
        (SINK, "sorted(metrics)", "metrics['train/loss']"),
    ),
    "a sink that needs a beginning": (
        "hooks_do_not_raise",
        (SINK, "(run.path, None)", "(run.path)"),
    ),
    "a sink that takes metrics out": (
        "metrics_are_left_alone",
        (SINK, "sorted(metrics)", "metrics.clear()"),
    ),
    "a sink that leaves files open": (
        "files_are_closed",
        (SINK, "file.close()", "_files[id(file)] = file"),
    ),
    "a sink that writes elsewhere": (
        "files_stay_in_the_run",
        (SINK, '(run.path / "heard.txt")', 'Path("heard.txt")'),
    ),
    "a sink that seeds": (
        "globals_are_left_alone",
        (SINK, "if file", "random.seed(0)\n    if file"),
    ),
}
"""The rule that has to object, and what is put instead of what in which module."""


def names(report: list[Result], outcome: str) -> set[str]:
    return {result.name for result in report if result.outcome == outcome}


@pytest.fixture
def plugin(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Install the good plugin, or the good sink, with a mistake; the name of its index module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISTAKE", "none")  # which puts back what a mistake makes of it

    def plugin(module: str, right: str = "", wrong: str = "") -> str:
        sources = {file.stem: file.read_text() for file in GOOD.glob("*.py")}
        assert right in sources[module]
        sources[module] = IMPORTS * (module != PLUGIN) + sources[module].replace(right, wrong, 1)
        index = SINK if module == SINK else PLUGIN
        install(index, sources.pop(index), modules=sources)
        return index

    return plugin


def test_nothing_is_wrong_where_no_mistake_is_made(plugin: Callable[..., str]) -> None:
    report = [r for module in (PARTS, SINK) for r in check_plugin(plugin(module), iterations=2)]
    assert [str(r) for r in report if r.outcome == "failed"] == []
    assert {r.why for r in report if r.outcome == "skipped"} <= {"there is no GPU here"}
    assert names(report, "passed") | {"runs_on_a_gpu"} == {rule.name for rule in RULES}


def test_every_rule_has_a_mistake_that_it_catches() -> None:
    assert {rule for rule, _ in MISTAKES.values()} | {"runs_on_a_gpu"} == {r.name for r in RULES}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_caught_by_its_rule_and_by_no_other(
    mistake: str, plugin: Callable[..., str]
) -> None:
    rule, (module, right, wrong) = MISTAKES[mistake]
    report = check_plugin(plugin(module, right, wrong), iterations=2)
    failed = [result for result in report if result.outcome == "failed"]
    assert [str(result) for result in failed if result.name != rule] == []
    assert failed
    assert all(result.why and result.mend for result in failed)


def test_a_failed_check_raises_what_was_seen_and_what_to_change(plugin: Callable[..., str]) -> None:
    _, change = MISTAKES["an option without a sentence"]
    by_name = {str(check): check for check in checks(plugin(*change))}
    with pytest.raises(AssertionError, match=r"no sentence stands under lr\. To mend: put a"):
        by_name["algorithm-fit-options_are_explained"]()
    by_name["model-line-options_are_explained"]()


def test_checks_that_need_a_failed_one_are_skipped_for_it(plugin: Callable[..., str]) -> None:
    _, change = MISTAKES["no unit"]
    by_name = {str(check): check for check in checks(plugin(*change))}
    with pytest.raises(unittest.SkipTest, match="loads has to pass first"):
        by_name["algorithm-fit-options_are_explained"]()
    with pytest.raises(unittest.SkipTest, match=r"cannot be tried.*has no unit.*`options` say how"):
        by_name["task-numbers-runs"]()


def test_options_are_for_the_component_of_that_name(plugin: Callable[..., str]) -> None:
    options = {"fit": {"algorithm.lr": 0.5}, "line": {"model.bias": False, "seed": 3}}
    found = {str(c.subject): c.subject for c in checks(plugin(PARTS), options=options)}
    chosen = {name: found[name].trial.experiment().config() for name in list(found)[1:]}
    assert [c["algorithm"]["lr"] for c in chosen.values()] == [0.1, 0.1, 0.5]
    assert [c["model"]["bias"] for c in chosen.values()] == [True, False, True]


SESSION = """
from corelab.testing import Check, conformance

@conformance("good_plugin")
def test_it_conforms(check: Check) -> None:
    check()
"""


def test_pytest_has_a_test_for_each_check_and_sums_them_up(
    plugin: Callable[..., str], pytester: pytest.Pytester
) -> None:
    _, change = MISTAKES["no unit"]
    plugin(*change)
    pytester.makepyfile(SESSION)
    words = ["-p", "no:corelab", "-p", "corelab.pytest_plugin", "--strict-markers", "-W", "error"]
    session = pytester.runpytest_inprocess(*words, "-v", "-k", "light or loads or explained")
    session.stdout.fnmatch_lines(
        [
            "*::test_it_conforms[[]plugin-good_plugin-import_is_light[]] PASSED*",
            "*::test_it_conforms[[]algorithm-fit-loads[]] FAILED*",
            "*::test_it_conforms[[]algorithm-fit-options_are_explained[]] SKIPPED*",
            "E*AssertionError: algorithm 'fit' of * has no unit. To mend: the target names *",
            "*conformance: 6 checks ran, 1 failed, 1 skipped*",
            "1 x loads has to pass first",
        ]
    )


def test_the_pytest_plugin_costs_other_peoples_sessions_nothing() -> None:
    code = "import pytest, sys, corelab.pytest_plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "numpy", "corelab.testing", "corelab.config"}


def test_the_verb_says_what_ran_as_lines_and_as_json(
    plugin: Callable[..., str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, change = MISTAKES["an option without a sentence"]
    module = plugin(*change)
    assert main(["check", module, "-k", "explained"]) == 1
    *_, failed, summary = capsys.readouterr().out.splitlines()
    assert failed.startswith("3/3 failed  options_are_explained (algorithm fit): no sentence")
    assert summary == "3 checks ran, 1 failed, 0 skipped"
    (tmp_path / "checks.toml").write_text('[fit]\nmodel = "nothing"\n')
    words = ["--json", "--options", str(tmp_path / "checks.toml")]
    assert main(["check", module, "-k", "runs (algorithm", *words]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ran"], report["failed"], report["skipped"]) == (1, 1, 0)
    assert "there is no model 'nothing'" in report["checks"][0]["why"]
    assert main(["check", module, "-k", "nonsense"]) == 2


def test_the_page_tells_every_rule() -> None:
    page = (PROJECT.parent / "docs" / "conformance.md").read_text()
    for rule in RULES:
        assert f"| `{rule.name}` | {', '.join(rule.kinds)} | {rule.about} |" in page


SEARCH = {
    "algorithm.games": 4,
    "algorithm.simulations": 2,
    "algorithm.eval_simulations": 2,
    "algorithm.batch_size": 8,
    "algorithm.minimax_depth": 0,
}
SMALL_UNET = {"model.channels": 16, "model.blocks": 1}
SMALL_VQVAE = {
    "algorithm.batch_size": 16,
    "algorithm.entries": 8,
    "algorithm.dim": 4,
    "algorithm.prior_channels": 8,
    "algorithm.prior_layers": 2,
    "model.channels": 4,
}
PROVER = {
    "algorithm.batch": 30,
    "algorithm.inferences": 20,
    "algorithm.eval_inferences": 20,
    "algorithm.policy_buckets": 1024,
    "algorithm.value_buckets": 256,
    "algorithm.updates": 5,
}
CHEAP: dict[str, dict[str, Any]] = {
    "actor-critic/cnn": {"algorithm": "a2c", "task": "MinAtar/Breakout-v1", "model.width": 16},
    "alphazero": SEARCH,
    "atari": {
        "algorithm": "a2c",
        "algorithm.horizon": 4,
        "model": "cnn",
        "model.width": 16,
        "task.max_episode_steps": 20,
        "task.num_envs": 2,
    },
    "connect-four": SEARCH,
    "diffusion": SMALL_UNET,
    "digits": {"algorithm": "vae"},
    "dit": {"model.width": 16, "model.depth": 1, "model.heads": 2},
    "independent": {
        "algorithm": "a2c",
        "task": "mpe2/simple_spread_v3",
        "task.policies": "independent",
    },
    "lstm": {"algorithm": "ppo", "model.width": 16, "algorithm.horizon": 32},
    "pettingzoo-game": {"task": "classic/tictactoe_v3", **SEARCH},
    "plusplus": {"model.layers": 1, "model.channels": 8},
    "policy-value/cnn": SEARCH,
    "policy-value/mlp": SEARCH,
    "q-network/cnn": {"task": "MinAtar/Breakout-v1", "algorithm.learning_starts": 64},
    "rainbow": {"task.num_envs": 2},
    "resnet": SEARCH,
    "sac": {"task.num_envs": 2},
    "tic-tac-toe": SEARCH,
    "unet": SMALL_UNET,
    "vq-conv": SMALL_VQVAE,
    "vqvae": SMALL_VQVAE,
}
"""How components are tried where their defaults are slow, or do not fit the first algorithm."""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """How to try each component, with data for those that need some."""
    pictures, mnist, runs = (tmp_path_factory.mktemp(name) for name in ("png", "mnist", "runs"))
    rng = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(pictures / f"{i}.png")
    for part, n in (("train", 240), ("t10k", 50)):
        for kind, array in (
            ("images-idx3", rng.integers(0, 256, (n, 28, 28), np.uint8)),
            ("labels-idx1", np.arange(n, dtype=np.uint8) % 10),
        ):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (mnist / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    vqvae = corelab.train("vqvae", steps=160, run_dir=runs, options=SMALL_VQVAE).path
    return CHEAP | {
        "images": {"algorithm": "vae", "task.folder": pictures, "task.size": 8},
        "mnist": {"algorithm": "vae", "task.folder": mnist},
        "fashion-mnist": {"algorithm": "vae", "task.folder": mnist},
        "latents": {"task.run": vqvae, **SMALL_UNET},
    }


@pytest.mark.parametrize("module", sorted(MODULES - {ON_RAY}))
def test_first_party_plugins_conform(module: str, options: dict[str, Any]) -> None:
    report = check_plugin(module, options=options)
    assert [str(r) for r in report if r.outcome == "failed"] == []
    skipped = {r.name: r.why for r in report if r.outcome == "skipped"}
    single = "it learns in one process: it has no `sharded`"
    assert skipped.pop("workers_equal_one", single) == single
    assert skipped.keys() <= {"nan_is_refused", "runs_on_a_gpu"}, skipped
    assert sum(r.outcome == "passed" for r in report) >= 2


@pytest.mark.parametrize(
    "check",
    [
        check
        for check in checks(ON_RAY)
        if check.rule.name.startswith(("import_", "index_", "loads", "options_"))
    ],
    ids=str,
)
def test_what_needs_no_run_is_as_demanded_of_rllibs_algorithms(check: Check) -> None:
    assert check.result().outcome == "passed", check.result()


def test_an_algorithm_that_says_it_is_not_exact_need_not_repeat_itself(
    plugin: Callable[..., str],
) -> None:
    change = PARTS, 'unit = "examples"', 'exact = False; unit = "examples"'
    by_name = {str(check): check for check in checks(plugin(*change), iterations=2)}
    with pytest.raises(unittest.SkipTest, match="says of itself that it is not exact"):
        by_name["algorithm-fit-same_seed_same_metrics"]()
    with pytest.raises(unittest.SkipTest, match="same_seed_same_metrics has to pass first"):
        by_name["algorithm-fit-resumed_equals_unbroken"]()


ALGORITHMS = [o.component.name for o in Plugins().offers if o.component.kind == "algorithm"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_preset_names_options_that_exist_and_all_of_them_count(algorithm: str) -> None:
    plugins = Plugins()
    presets = plugins.load(plugins.find("algorithm", algorithm)).presets
    for task, preset in presets.items():
        chosen = resolve(algorithm, task=task, plugins=plugins)
        counted = {k for k, source in chosen.sources.items() if source == f"preset for {task}"}
        assert counted == set(preset) - {"model"}
        if "model" in preset:
            assert chosen.config()["model"]["name"] == preset["model"]
