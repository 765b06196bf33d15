"""What is deprecated keeps working, and says so: what, since when, until when, and what instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import corelab as core
from corelab import Deprecated, DeprecatedWarning
from corelab.cli import main
from corelab.experiments import resolve

Install = Callable[..., None]

INDEX = """
from corelab import Component, Deprecated, hookimpl
corelab_api = (1, 0)

@hookimpl
def corelab_components():
    old = Deprecated(since="2.1", removed_in="2.2", instead="counter")
    common = ("count_parts:Counter", "counts")
    return [Component("task", "numbers", "count_parts:Numbers", "", provides="numbers"),
            Component("algorithm", "counter", *common, uses=("numbers",)),
            Component("algorithm", "accountant", *common, uses=("numbers",), deprecated=old)]
"""
PARTS = '''
from dataclasses import dataclass
from corelab import Deprecated, Saved

@dataclass(frozen=True)
class Nothing:
    """No options."""

class Numbers:
    Config = Nothing
    def __init__(self, config): pass

@Deprecated(since="2.1", removed_in="2.2", instead="stride").option("step_size")
@Deprecated(since="2.1", removed_in="2.2", instead="loud").option("verbose")
@dataclass(frozen=True)
class Config:
    """Options."""

    stride: int = 1
    """How far it counts at once."""
    loud: bool = False
    """Whether it counts aloud."""

class Counter(Saved):
    Config = Config
    unit, default_task, default_model, default_steps = "numbers", "numbers", "", 10
    best, highlights, presets, saved = "max eval/none", (), {}, ("progress",)
    def __init__(self, config, task, model, context):
        self.progress, self.stride = 0, config.stride
    def step(self):
        self.progress += self.stride
        return {"stride": self.stride}
'''


@pytest.fixture
def counter(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("counting", INDEX, version="2.1", modules={"count_parts": PARTS})
    monkeypatch.chdir(tmp_path)


def test_a_function_works_and_names_its_successor_at_the_line_that_calls_it() -> None:
    @Deprecated(since="1.1", removed_in="2.0", instead="corelab.train")
    def learn(steps: int) -> int:
        """Learns."""
        return steps

    with pytest.warns(DeprecatedWarning) as told:
        assert learn(3) == 3
    (warning,) = told
    said = str(warning.message)
    assert said.endswith(".learn is deprecated since 1.1 and removed in 2.0: use corelab.train")
    assert warning.filename == __file__
    assert learn.__doc__ == "Learns."


def test_the_former_name_of_a_parameter_is_understood() -> None:
    @Deprecated(since="1.1", removed_in="2.0", instead="steps").parameter("budget")
    def learn(steps: int = 1) -> int:
        return steps

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (learn(2), learn(steps=3)) == (2, 3)
    old: dict[str, int] = {"budget": 4}
    says = r"the parameter budget of .*learn is deprecated since 1\.1 .*: use steps$"
    with pytest.warns(DeprecatedWarning, match=says):
        assert learn(**old) == 4
    with pytest.raises(TypeError):
        learn(steps=1, **old)


@pytest.mark.parametrize(
    ("values", "argv", "source"),
    [
        ({"algorithm.step_size": 5}, [], "python"),
        ({}, ["--algorithm.step-size", "5"], "command line"),
        ({}, ["--algorithm.step_size=5"], "command line"),
    ],
)
def test_the_former_name_of_an_option_is_understood_wherever_it_is_written(
    values: dict[str, int], argv: list[str], source: str, counter: None
) -> None:
    says = (
        f"^{source}: the option algorithm.step_size is deprecated since 2.1 and removed in 2.2: "
        "use algorithm.stride$"
    )
    with pytest.warns(DeprecatedWarning, match=says):
        experiment = resolve("counter", values=values, argv=argv)
    assert experiment.config()["algorithm"] == {"name": "counter", "stride": 5, "loud": False}
    assert experiment.sources["algorithm.stride"] == source


@pytest.mark.parametrize(
    ("flag", "loud"), [("--algorithm.verbose", True), ("--algorithm.no-verbose", False)]
)
def test_the_former_name_of_a_flag_is_understood(flag: str, loud: bool, counter: None) -> None:
    with pytest.warns(DeprecatedWarning, match="use algorithm.loud"):
        assert resolve("counter", argv=[flag]).options.algorithm.loud is loud


def test_a_former_name_is_not_offered_to_anyone(
    counter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(core.ConfigError) as caught:
        resolve("counter", argv=["--algorithm.step-sizes", "5"])
    assert "step-size'" not in str(caught.value)
    assert main(["show", "algorithm", "counter"]) == 0
    assert "step-size" not in capsys.readouterr().out


def test_a_run_that_was_recorded_with_a_former_name_goes_on(counter: None) -> None:
    run = core.train("counter", steps=10, options={"algorithm.stride": 5})
    record = run.path / "run.json"
    record.write_text(record.read_text().replace('"stride"', '"step_size"'))
    with pytest.warns(DeprecatedWarning, match="run.json: the option algorithm.step_size"):
        again = core.Run(run.path).resume(20)
    assert again.progress == 20
    assert again.config["algorithm"]["stride"] == 5


def test_a_former_component_trains_and_is_told_on_one_line_once(
    counter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "accountant", "--algorithm.step-size", "2", "--run.name", "old"]
    assert main([*words, "--run.sinks", "jsonl"]) == 0
    said = capsys.readouterr()
    assert said.out == "runs/old\n"
    assert said.err.splitlines() == [
        "corelab: the algorithm 'accountant' of counting 2.1 is deprecated since 2.1 and removed "
        "in 2.2: use counter",
        "corelab: command line: the option algorithm.step_size is deprecated since 2.1 and removed "
        "in 2.2: use algorithm.stride",
    ]
    assert main(["plugins"]) == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if "accountant" in x)
    assert line.endswith("counts (deprecated: use counter)")


def test_other_warnings_are_shown_as_ever_on_the_command_line(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    speak = (
        "import warnings\n\ndef speak(argv):\n"
        "    warnings.warn('mind the gap', UserWarning)\n    return 0\n"
    )
    index = "[Component('verb', 'speak', 'talk_parts:speak', '')]"
    source = INDEX[: INDEX.index("    old =")] + f"    return {index}\n"
    install("talking", source, modules={"talk_parts": speak})
    with pytest.warns(UserWarning, match="mind the gap"):
        assert main(["speak"]) == 0


def test_a_component_is_not_deprecated_by_a_word(install: Install) -> None:
    with pytest.raises(core.PluginError, match=r"'now' is not a corelab\.Deprecated"):
        core.Component("verb", "a", "m:f", "", deprecated="now")  # type: ignore[arg-type]
