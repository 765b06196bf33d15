"""Plugins: found without weight, kept apart from each other, and told about in one sentence."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import corelab as core
from corelab import API, Component, ConfigError, PluginError
from corelab.cli import main
from corelab.experiments import resolve
from corelab.plugins import Plugins

HEAVY = {"torch", "ray", "gymnasium", "numpy", "sklearn", "tensorboard", "rich", "tyro"}

Install = Callable[..., None]
Corelab = Callable[..., subprocess.CompletedProcess[str]]


def index(*components: Component) -> str:
    return (
        "from corelab import Component, hookimpl\n\ncorelab_api = (1, 0)\n\n\n"
        f"@hookimpl\ndef corelab_components():\n    return {list(components)!r}\n"
    )


def algorithm(name: str, *uses: str, target: str = "toy_parts:Toy") -> Component:
    return Component("algorithm", name, target, "learns", uses=uses)


def task(name: str, provides: str = "toy", **more: Any) -> Component:
    return Component("task", name, "toy_parts:Toy", "is learned from", provides=provides, **more)


def model(name: str, provides: str) -> Component:
    return Component("model", name, "toy_parts:Toy", "is made of layers", provides=provides)


GOOD = index(algorithm("toy", "toy", "network"), task("plain"))


def faults(found: Plugins) -> dict[str, str]:
    """What is broken, by distribution; corelab's own apart."""
    whys = {plugin.distribution: why for plugin, why in found.broken.items()}
    whys.pop("corelab-ml", None)
    return whys


def owners(found: Plugins) -> set[str]:
    return {offer.plugin.distribution for offer in found.offers}


# -- light discovery ---------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["plugins", "plugins --json", "--help", "--version"])
def test_looking_around_imports_nothing_heavy(words: str, bandit: None) -> None:
    code = (
        f"import sys; from corelab.cli import main; main({words.split()!r}); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert HEAVY & loaded == set()
    assert ("corelab_bandit" in loaded) == (words != "--version")


def cpu_of_listing(environment: Mapping[str, str]) -> float:
    """CPU seconds of `corelab plugins` in a process of its own."""
    quietly = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    words = [sys.executable, "-m", "corelab", "plugins"]
    child = os.posix_spawn(sys.executable, words, environment, file_actions=quietly)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


def test_a_listing_takes_a_third_of_a_second_at_most(bandit: None) -> None:
    assert min(cpu_of_listing(os.environ) for _ in range(5)) <= 0.35


def test_twenty_more_plugins_cost_a_listing_a_fifth_at_most(install: Install, site: Path) -> None:
    for i in range(20):
        install(f"light-{i}", index(task(f"light-{i}")))
    crowded = dict(os.environ)
    bare = crowded | {"PYTHONPATH": ""}
    cpu_of_listing(crowded)  # compiles
    pairs = [(cpu_of_listing(bare), cpu_of_listing(crowded)) for _ in range(9)]
    assert statistics.median(more / less for less, more in pairs) <= 1.2


# -- a broken plugin is one line, and the others work ------------------------------------------

NEEDS_UPGRADE = "upgrade corelab-ml"
SAYS_NOTHING = "does not say which API"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", SAYS_NOTHING),
        (f"corelab_api = '{API[0]}.{API[1]}'", SAYS_NOTHING),
        (f"corelab_api = {list(API)}", SAYS_NOTHING),
        (f"corelab_api = {(*API, 0)}", SAYS_NOTHING),
        (f"corelab_api = {API[0] + 1, 0}", NEEDS_UPGRADE),
        (f"corelab_api = {API[0], API[1] + 1}", NEEDS_UPGRADE),
        (f"corelab_api = {API[0] - 1, 9}", "upgrade odd-toys"),
    ],
)
def test_a_plugin_for_another_api_is_refused(line: str, reason: str, install: Install) -> None:
    install("odd-toys", index(task("odd")).replace("corelab_api = (1, 0)", line))
    install("good-toys", GOOD)
    found = Plugins()
    assert reason in faults(found)["odd-toys"]
    assert "odd-toys" not in owners(found)
    assert found.find("task", "plain").plugin.distribution == "good-toys"


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        (
            "@hookimpl\ndef corelab_run_loged(run):\n    pass\n",
            "there is no hook corelab_run_loged; did you mean 'corelab_run_logged'?",
        ),
        (
            "@hookimpl\ndef corelab_run_started(run, colour):\n    pass\n",
            "corelab_run_started has no parameter 'colour': it has run",
        ),
        (
            "def corelab_run_ended(run):\n    pass\n",
            "corelab_run_ended is not marked with @hookimpl",
        ),
    ],
    ids=["misspelt", "unknown argument", "unmarked"],
)
def test_a_hook_that_would_never_be_called_is_an_error(
    hook: str, says: str, install: Install
) -> None:
    install("odd-toys", f"{index(task('odd'))}\n\n{hook}")
    found = Plugins()
    assert says in faults(found)["odd-toys"]
    assert "odd-toys" not in owners(found)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("raise RuntimeError('one\\ntwo')", "RuntimeError: one two"),
        ("import sys\nsys.exit('enough')", "SystemExit: enough"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        (None, "ModuleNotFoundError: No module named 'odd_toys'"),
        ("def broken(:", "SyntaxError"),
    ],
    ids=["raises", "exits", "lacks a dependency", "is missing", "is not Python"],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    source: str | None, says: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("odd-toys", source, version="2.5")
    install("good-toys", GOOD)
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if "odd-toys" in line)
    assert line.split()[:5] == ["plugin", "odd_toys", "BROKEN", "odd-toys", "2.5"]
    assert says in line
    assert any(line.split()[:2] == ["task", "plain"] for line in lines)


@pytest.mark.parametrize(
    ("component", "says"),
    [
        ("'ppo'", "'ppo', which is not a Component"),
        ("Component('tusk', 'a', 'm:C', '')", "there is no kind 'tusk'; did you mean 'task'?"),
        ("Component('task', 'a', 'm.C', '', provides='x')", "'m.C'"),
        ("Component('task', 'a', 'm:C', '')", "which interface the task provides"),
        ("Component('task', None, 'm:C', '', provides='x')", "None"),
        ("Component('task', 'a', 'm:C', None, provides='x')", "'a'"),
        ("Component('task', 'a', 'm:C', '', provides='x', pattern='(')", "'('"),
        ("Component('algorithm', 'a', 'm:C', '', uses='dataset')", "'dataset'"),
    ],
    ids=["a str", "kind", "target", "no interface", "name", "summary", "pattern", "uses"],
)
def test_a_malformed_component_breaks_its_own_plugin_only(
    component: str, says: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("odd-toys", index().replace("return []", f"return [{component}]"))
    install("good-toys", GOOD)
    found = Plugins()
    assert says in faults(found)["odd-toys"]
    assert found.find("task", "plain").plugin.distribution == "good-toys"
    assert main(["plugins"]) == 0


def test_components_may_be_yielded(install: Install) -> None:
    install("good-toys", GOOD.replace("return [", "yield from ["))
    assert Plugins().find("task", "plain").plugin.distribution == "good-toys"


# -- names -------------------------------------------------------------------------------------


def test_two_distributions_may_name_their_plugins_alike(install: Install) -> None:
    install("red-toys", index(task("red")), entry="toys")
    install("blue-toys", index(task("blue")), entry="toys")
    found = Plugins()
    assert faults(found) == {}
    assert found.find("task", "red").plugin.distribution == "red-toys"
    assert found.find("task", "blue").plugin.distribution == "blue-toys"


def test_sinks_of_one_name_are_both_listed(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"{index()}\n\n@hookimpl\ndef corelab_run_ended(run):\n    pass\n"
    install("red-toys", source, entry="toys")
    install("blue-toys", source, entry="toys")
    assert main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    listed = {row["distribution"] for row in rows if row["kind"] == "sink"}
    assert {"red-toys", "blue-toys"} <= listed


def test_a_clash_names_both_owners_and_the_owner_decides(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("Red.Toys", index(task("car")), version="1.1")
    install("blue-toys", index(task("car")), version="2.2")
    found = Plugins()
    with pytest.raises(PluginError) as caught:
        found.find("task", "car")
    for part in ("Red.Toys 1.1", "blue-toys 2.2", "Red.Toys:car", "blue-toys:car"):
        assert part in str(caught.value)
    assert found.find("task", "blue-toys:car").plugin.distribution == "blue-toys"
    assert found.find("task", "red_toys:car").plugin.distribution == "Red.Toys"
    assert main(["plugins", "--json"]) == 0
    told = {r["distribution"]: r["broken"] for r in json.loads(capsys.readouterr().out)}
    assert "also offered by blue-toys 2.2: name this one Red.Toys:car" in told["Red.Toys"]
    assert "also offered by Red.Toys 1.1: name this one blue-toys:car" in told["blue-toys"]


def test_a_distribution_that_offers_a_name_twice_is_told_off(install: Install) -> None:
    install("odd-toys", index(task("car"), task("bus"), task("car")))
    found = Plugins()
    assert "odd-toys offers the task 'car' twice" in faults(found)["odd-toys"]
    assert found.find("task", "car").component.name == "car"
    assert found.find("task", "bus").component.name == "bus"


def test_a_distribution_with_two_plugins_of_one_name_is_told_off(install: Install) -> None:
    install("odd-toys", index(task("car")), entry="toys", module="odd_cars")
    install("odd-toys", index(task("bus")), entry="toys", module="odd_buses")
    assert "has two plugins called 'toys'" in faults(Plugins())["odd-toys"]


@pytest.mark.parametrize("typed", ["epsilon-gredy", "Epsilon-Greedy"])
def test_a_slip_of_the_hand_is_answered_with_the_name_that_was_meant(
    typed: str, bandit: None
) -> None:
    with pytest.raises(PluginError, match=r"did you mean 'epsilon-greedy'\?$"):
        Plugins().find("algorithm", typed)


def test_an_unknown_name_is_answered_with_what_fits(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = (task("car"), task("bus"), task("sum", "arithmetic"))
    install("toys", index(algorithm("toy", "toy"), *tasks))
    monkeypatch.setenv("CORELAB_PLUGINS", "toys")
    found = Plugins()
    with pytest.raises(PluginError) as caught:
        found.find("task", "zzz", found.find("algorithm", "toy"))
    assert str(caught.value) == "there is no task 'zzz': installed: bus, car"


def test_an_unknown_name_may_belong_to_a_broken_plugin(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("toys", GOOD)
    install("odd-toys", "1 / 0", version="0.3")
    monkeypatch.setenv("CORELAB_PLUGINS", "toys, odd-toys")
    with pytest.raises(PluginError) as caught:
        Plugins().find("task", "zzz")
    for part in ("'odd_toys'", "odd-toys 0.3", "is broken", "ZeroDivisionError"):
        assert part in str(caught.value)


def test_a_task_of_the_wrong_kind_is_answered_with_three_of_the_right_one(
    install: Install,
) -> None:
    tasks = [task(name) for name in ("car", "bus", "tram", "ship")]
    install("toys", index(algorithm("toy", "toy"), *tasks, task("sum", "arithmetic")))
    found = Plugins()
    with pytest.raises(PluginError) as caught:
        found.find("task", "sum", found.find("algorithm", "toy"))
    said = str(caught.value)
    assert "'sum' is of the kind 'arithmetic'" in said
    assert "toy needs one of the kind 'toy'" in said
    assert said.endswith("car, bus, tram")


def test_a_model_for_an_algorithm_without_one_is_refused(install: Install) -> None:
    install("toys", index(algorithm("toy", "toy"), task("car"), model("mlp", "network")))
    found = Plugins()
    with pytest.raises(PluginError, match="toy works without a model"):
        found.find("model", "mlp", found.find("algorithm", "toy"))


def test_models_of_two_interfaces_may_share_a_name(install: Install) -> None:
    both = index(
        algorithm("painter", "brush"),
        algorithm("player", "joystick"),
        algorithm("polymath", "brush", "joystick"),
        model("mlp", "brush"),
        model("mlp", "joystick"),
    )
    install("toys", both)
    found = Plugins()

    def meant(name: str, user: str) -> str:
        return found.find("model", name, found.find("algorithm", user)).component.provides

    assert faults(found) == {}
    assert meant("mlp", "painter") == "brush"
    assert meant("mlp", "player") == "joystick"
    assert meant("joystick/mlp", "polymath") == "joystick"
    assert meant("toys:brush/mlp", "polymath") == "brush"
    with pytest.raises(PluginError, match="brush/mlp or joystick/mlp"):
        meant("mlp", "polymath")


PARTS = '''
from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """Options."""

    size: str = "small"
    """How big it is."""


class Toy:
    Config = Config
    unit, best = "steps", "max eval/score"
    default_task, default_model, default_steps = "plain", "", 10
    highlights, presets = (), {}

    def step(self):
        pass

    save = load = step
'''
WITH_ID = PARTS.replace("size:", "id:")


def test_a_pattern_answers_to_every_name_that_matches_in_full(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    roads = task("roads", pattern=r"Road-v\d", examples=("Road-v0", "Road-v1"))
    parts = {"toy_parts": WITH_ID}
    install("toys", index(algorithm("toy", "toy"), roads, task("Road-v9")), modules=parts)
    monkeypatch.setenv("CORELAB_PLUGINS", "toys")
    found = Plugins()
    experiment = resolve("toy", task="toys:Road-v7", plugins=found)
    assert experiment.task.component.name == "roads"
    assert experiment.task_name == experiment.options.task.id == "Road-v7"
    assert experiment.sources["task.id"] == "name of the task"
    assert found.find("task", "Road-v9").component.name == "Road-v9"
    assert found.names("task") == ["Road-v0", "Road-v1", "Road-v9"]
    with pytest.raises(PluginError, match=r"no task 'Road-v77': did you mean 'Road-v.'\?"):
        found.find("task", "Road-v77")


def test_a_task_without_a_pattern_may_have_an_option_called_id(install: Install) -> None:
    install("toys", GOOD, modules={"toy_parts": WITH_ID})
    experiment = resolve("toy", values={"task.id": "large"})
    assert experiment.task_name == "plain"
    assert experiment.config()["task"] == {"name": "plain", "id": "large"}


def test_the_owner_that_was_chosen_is_kept_in_the_record(install: Install) -> None:
    install("toys", GOOD, modules={"toy_parts": PARTS})
    install("blue-toys", index(task("plain")))
    written = resolve("toy", task="blue-toys:plain").config()
    again = resolve("toy", task=written["task"]["name"])
    assert again.task.plugin.distribution == "blue-toys"


def test_the_interface_that_was_chosen_is_kept_in_the_record(install: Install) -> None:
    models = (model("mlp", "one"), model("mlp", "two"))
    parts = PARTS.replace('"plain", "",', '"plain", "one/mlp",')
    toy = index(algorithm("toy", "toy", "one", "two"), task("plain"), *models)
    install("toys", toy, modules={"toy_parts": parts})
    written = resolve("toy", model="two/mlp").config()
    again = resolve("toy", model=written["model"]["name"])
    assert again.model is not None
    assert again.model.component.provides == "two"


# -- verbs -------------------------------------------------------------------------------------

JUGGLE = """
from corelab import DataError


def juggle(argv):
    if "--hard" in argv:
        raise DataError("this one is too hard")
    print("juggled", *argv)
    return len(argv)
"""


def verb(name: str = "juggle", target: str = "toy_verbs:juggle") -> Component:
    return Component("verb", name, target, "juggle something")


def test_a_verb_of_a_plugin_is_called_with_its_words_and_gives_the_exit_code(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("toys", index(verb()), modules={"toy_verbs": JUGGLE})
    assert main(["juggle", "--size", "2", "-h"]) == 3
    assert capsys.readouterr().out == "juggled --size 2 -h\n"
    assert main(["toys:juggle"]) == 0
    assert capsys.readouterr().out == "juggled\n"
    assert main(["juggle", "--hard"]) == 2
    assert capsys.readouterr().err == "corelab: this one is too hard\n"


def test_verbs_of_plugins_are_listed_and_not_imported(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("toys", index(verb()), modules={"toy_verbs": JUGGLE})
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert overview.index("\n  doctor ") < overview.index("\n  juggle ")
    assert "juggle something (toys 1.0)" in overview
    assert main(["plugins"]) == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["verb", "juggle", "toys", "1.0", "juggle", "something"] in listed
    assert "toy_verbs" not in sys.modules


def test_a_verb_of_corelab_stays_corelabs(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("toys", index(verb("plugins")), modules={"toy_verbs": JUGGLE})
    assert main(["plugins", "--json"]) == 0
    (row,) = (r for r in json.loads(capsys.readouterr().out) if r["distribution"] == "toys")
    assert row["broken"] == "corelab has this verb, too: name this one toys:plugins"
    assert main(["help"]) == 0
    assert "\n  toys:plugins  " in capsys.readouterr().out
    assert main(["toys:plugins"]) == 0
    assert capsys.readouterr().out == "juggled\n"


def test_a_verb_of_two_plugins_names_both(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("toys", index(verb()), modules={"toy_verbs": JUGGLE})
    install("logic", index(verb()), version="2.0")
    assert main(["juggle"]) == 2
    said = capsys.readouterr().err
    for part in ("logic 2.0", "toys 1.0", "logic:juggle", "toys:juggle"):
        assert part in said


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 / 0", "verb 'juggle' of toys 1.0 cannot be loaded: ZeroDivisionError"),
        ("juggle = 3", "verb 'juggle' of toys 1.0 cannot be used: juggle is not a function"),
        ("", "has no attribute 'juggle'"),
    ],
    ids=["raises", "no function", "missing"],
)
def test_a_broken_verb_is_one_sentence(
    source: str, says: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("toys", index(verb()), modules={"toy_verbs": source})
    assert main(["juggle"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("jugle", "juggle")])
def test_a_misspelt_verb_is_answered_with_the_one_that_was_meant(
    typed: str, meant: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("toys", index(verb()))
    assert main([typed]) == 2
    assert f"there is no verb {typed!r}: did you mean {meant!r}?" in capsys.readouterr().err


# -- the list of those allowed -----------------------------------------------------------------


@pytest.mark.parametrize("allowed", ["wooden", "Red_Toys", " wooden , "])
def test_only_what_is_allowed_is_imported(
    allowed: str, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("red-toys", index(task("red")), entry="wooden")
    install("blue-toys", index(task("blue")))
    monkeypatch.setenv("CORELAB_PLUGINS", allowed)
    found = Plugins()
    assert owners(found) == {"red-toys"}
    assert "blue_toys" not in sys.modules


def test_an_empty_list_allows_nothing(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("toys", GOOD)
    monkeypatch.setenv("CORELAB_PLUGINS", "")
    found = Plugins()
    assert (found.offers, found.sinks, found.broken) == ([], {}, {})


def test_allowing_what_is_not_installed_is_an_error(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("wooden-toys", GOOD)
    monkeypatch.setenv("CORELAB_PLUGINS", "wodden-toys")
    with pytest.raises(ConfigError) as caught:
        Plugins()
    assert "CORELAB_PLUGINS allows 'wodden-toys', which is not installed" in str(caught.value)
    assert "did you mean 'wooden-toys'?" in str(caught.value)


# -- sinks -------------------------------------------------------------------------------------

EAR = """
from corelab import hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_run_logged(run, progress):
    with (run.path / "heard.txt").open("a") as file:
        file.write(f"{progress}\\n")
"""

FAILURE = """
from corelab import hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_run_logged(run, progress):
    {failure}
"""


@pytest.mark.parametrize(
    "failure",
    [
        "raise OSError('the server is away')",
        "raise OSError(f'the server is away since {progress}')",
        "raise SystemExit('the server is away')",
    ],
    ids=["one error", "many errors", "an exit"],
)
def test_a_sink_that_fails_is_told_of_once_and_the_others_hear_all(
    failure: str,
    install: Install,
    bandit: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install("a-deaf-sink", FAILURE.format(failure=failure), entry="deaf")
    install("b-sink", EAR, entry="ear")
    install(
        "z-sink",
        EAR.replace("heard", "heard-too").replace("progress)", "progress, **_)"),
        entry="zz-ear",
    )
    run = core.train(
        "epsilon-greedy",
        steps=40,
        run_dir=tmp_path,
        options={"run.log_every": 10, "run.eval_every": 0, "run.sinks": ["deaf", "ear", "zz-ear"]},
    )
    assert run.status == "done"
    for file in ("heard.txt", "heard-too.txt"):
        assert (run.path / file).read_text().split() == ["10", "20", "30", "40", "40"]
    told = [line for line in capsys.readouterr().err.splitlines() if "'deaf'" in line]
    assert len(told) == 1
    assert "failed in corelab_run_logged" in told[0]
    assert "the server is away" in told[0]
    assert (run.path / "log.txt").read_text().count("the server is away") == 1


def test_only_the_sinks_that_were_chosen_hear_of_a_run(
    install: Install, bandit: None, tmp_path: Path
) -> None:
    install("b-sink", EAR, entry="ear")
    run = core.train("epsilon-greedy", steps=10, run_dir=tmp_path, options={"run.sinks": ["jsonl"]})
    assert (run.path / "metrics.jsonl").exists()
    assert not (run.path / "heard.txt").exists()


def test_choosing_an_unknown_sink_is_an_error_before_anything_is_made(
    bandit: None, tmp_path: Path
) -> None:
    with pytest.raises(core.CorelabError, match=r"no sink 'jsonnl'; did you mean 'jsonl'\?"):
        core.train("epsilon-greedy", run_dir=tmp_path, options={"run.sinks": ["jsonnl"]})
    assert list(tmp_path.iterdir()) == []


# -- what stands behind a name -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("class Toy", "class Tay"), "has no attribute 'Toy'"),
        (("from dataclasses", "import no_such_module\nfrom dataclasses"), "no_such_module"),
        (("from dataclasses", "exit('no licence')\nfrom dataclasses"), "no licence"),
        (("frozen=True", "frozen=False"), "Config is not a frozen dataclass"),
        (("    Config = Config", "    Config = dict"), "Config is not a frozen dataclass"),
        (("size: str", "name: str"), "may not have a field `name`"),
        (('unit, best = "steps"', 'ubit, best = "steps"'), "Toy has no unit"),
        (("highlights, presets = (), {}", "pass"), "Toy has no highlights, presets"),
        (("save = load = step", "load = step"), "Toy has no save"),
        (('size: str = "small"', "size: str"), "size"),
    ],
    ids=[
        *("no class", "no dependency", "exits", "mutable", "no dataclass", "field called name"),
        *("no unit", "no highlights and presets", "no save", "no default"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_sentence_that_names_its_owner(
    change: tuple[str, str], says: str, install: Install
) -> None:
    parts = PARTS.replace(*change)
    assert parts != PARTS
    install("odd-toys", GOOD, version="0.7", modules={"toy_parts": parts})
    with pytest.raises(PluginError) as caught:
        resolve("toy")
    said = str(caught.value)
    assert said.startswith("algorithm 'toy' of odd-toys 0.7 cannot be ")
    assert says in said
    assert "\n" not in said


def test_a_broken_algorithm_ends_the_command_with_2_and_one_line(
    install: Install, corelab: Corelab
) -> None:
    install("odd-toys", GOOD, modules={"toy_parts": "import no_such_module"})
    done = corelab("train", "toy")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "odd-toys 1.0 cannot be loaded: ModuleNotFoundError" in line


# -- listings ----------------------------------------------------------------------------------


def test_the_json_listing_has_one_row_for_each_part_sink_and_broken_plugin(
    install: Install, corelab: Corelab
) -> None:
    roads = task("roads", pattern=r"Road-v\d", examples=("Road-v0",))
    install("toys", index(algorithm("toy", "toy", "network"), roads, model("mlp", "network")))
    install("ear", f'"""Listens\n\nTo all."""\n{EAR}', version="3.0")
    install("odd-toys", "1 / 0", version="0.2")
    rows = json.loads(corelab("plugins", "--json").stdout)
    keys = {"kind", "name", "interface", "summary", "broken", "plugin", "distribution", "version"}
    assert all(set(row) == keys for row in rows)
    ours = {
        (r["kind"], r["name"]): (r["interface"], r["summary"], r["plugin"], r["version"])
        for r in rows
        if r["distribution"] in ("toys", "ear", "odd-toys")
    }
    assert ours == {
        ("algorithm", "toy"): ("toy, network", "learns", "toys", "1.0"),
        ("task", "roads (Road-v0, …)"): ("toy", "is learned from", "toys", "1.0"),
        ("model", "mlp"): ("network", "is made of layers", "toys", "1.0"),
        ("sink", "ear"): ("", "Listens", "ear", "3.0"),
        ("plugin", "odd_toys"): ("", "", "odd_toys", "0.2"),
    }
    broken = {r["name"]: r["broken"] for r in rows if r["distribution"] in ("toys", "odd-toys")}
    assert "ZeroDivisionError" in broken.pop("odd_toys")
    assert set(broken.values()) == {None}


def test_show_tells_options_with_their_sentences_types_defaults_and_the_source(
    bandit: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "algorithm", "epsilon-greedy"]) == 0
    text = capsys.readouterr().out
    assert "corelab-bandit 0.1.0" in text
    assert "Sutton & Barto 2018" in text
    assert "--algorithm.epsilon  float" in text
    assert "rather than the one that looks best. (default: 0.1)" in text
    assert main(["show", "task", "bernoulli-bandit", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["interface"] == "bandit"
    assert facts["options"] == [
        {"name": "arms", "type": "int", "help": "How many arms it has.", "default": 10},
        {
            "name": "odds_seed",
            "type": "int",
            "help": "The seed that the arms' odds are drawn from.",
            "default": 0,
        },
    ]
