"""Options: where a value may be written, which one wins, and what is said about a wrong one."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corelab import ConfigError, PluginError, config
from corelab.experiments import Experiment, resolve
from corelab.loop import RunConfig

Corelab = Callable[..., subprocess.CompletedProcess[str]]
Install = Callable[..., None]

INDEX = """
from corelab import Component, hookimpl

corelab_api = (1, 0)


@hookimpl
def corelab_components():
    return [
        Component("algorithm", "toy", "toy_parts:Toy", "learns", uses=("play",)),
        Component("algorithm", "other", "toy_parts:Toy", "learns", uses=("play",)),
        Component("task", "plain", "toy_parts:Plain", "as it is", provides="play"),
        Component("task", "tuned", "toy_parts:Plain", "with a preset", provides="play"),
    ]
"""
PARTS = '''
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Options:
    """Options of the toy."""

    rate: float = 0.5
    """How fast."""
    size: int = 1
    """How big."""
    loud: bool = False
    """Whether it sounds."""
    quiet: bool = True
    """Whether it does not."""
    title: str = "toy"
    """What it is called."""
    sizes: tuple[int, ...] = (1, 2)
    """Its parts."""
    words: tuple[str, ...] = ()
    """What it says."""
    mode: Literal["slow", "fast"] = "slow"
    """How it moves."""
    file: Path = Path("toy.txt")
    """Where it is kept."""
    limit: float | None = None
    """When it stops."""


class Toy:
    """A toy."""

    Config = Options
    unit, best = "turns", "max eval/score"
    default_task, default_model, default_steps = "plain", "", 10
    highlights = ()
    presets = {"tuned": {"algorithm.rate": 2.0, "algorithm": {"size": 2}}}

    def step(self):
        pass

    save = load = step


@dataclass(frozen=True)
class Task:
    """Options of the task."""

    speed: float = 1.0
    """How fast it goes by."""


class Plain:
    Config = Task
'''


@pytest.fixture(autouse=True)
def toys(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("toys", INDEX, modules={"toy_parts": PARTS})
    monkeypatch.setenv("CORELAB_PLUGINS", "toys")
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "toy.toml") -> Path:
    file = Path(name)
    file.write_text(text)
    return file


def typed(line: str) -> Experiment:
    return resolve("toy", argv=line.split())


def option(experiment: Experiment, name: str) -> Any:
    return getattr(experiment.options.algorithm, name)


# -- which one wins ----------------------------------------------------------------------------


def test_a_later_layer_wins_and_is_named_as_the_source() -> None:
    layers: dict[str, dict[str, Any]] = {
        "preset for tuned": {"task": "tuned"},
        "toy.toml": {"file": written("algorithm.rate = 3.0")},
        "python": {"values": {"algorithm.rate": 4.0}},
        "command line": {"argv": ["--algorithm.rate", "5.0"]},
    }
    assert resolve("toy").sources["algorithm.rate"] == "default"
    given: dict[str, Any] = {}
    for i, (source, layer) in enumerate(layers.items(), start=2):
        given |= layer
        experiment = resolve("toy", **given)
        assert option(experiment, "rate") == i
        assert experiment.sources["algorithm.rate"] == source
        assert option(experiment, "size") == 2
        assert experiment.sources["algorithm.size"] == "preset for tuned"
        assert experiment.sources["algorithm.mode"] == "default"


def test_the_last_of_two_on_the_command_line_wins() -> None:
    assert option(typed("--algorithm.size 3 --algorithm.size=4"), "size") == 4


def test_python_values_may_be_nested_or_dotted() -> None:
    experiment = resolve("toy", values={"algorithm": {"rate": 7}, "task.speed": 8})
    assert (option(experiment, "rate"), experiment.options.task.speed) == (7.0, 8.0)


@pytest.mark.parametrize("text", ['task = "tuned"', '[task]\nname = "tuned"\nspeed = 3.0'])
def test_a_file_may_name_the_task_in_two_ways(text: str) -> None:
    experiment = resolve("toy", file=written(text))
    assert experiment.task_name == "tuned"
    assert experiment.options.task.speed == (3.0 if "speed" in text else 1.0)


def test_a_name_given_by_hand_wins_over_the_file() -> None:
    assert resolve("toy", task="plain", file=written('task = "tuned"')).task_name == "plain"


def test_the_record_of_a_run_is_a_file_of_options_too() -> None:
    words = "--seed 4 --algorithm.sizes 3 4 --algorithm.mode fast --run.max-seconds 9"
    first = resolve("toy", task="tuned", argv=words.split())
    record = written(json.dumps({"config": first.config(), "status": "done"}), "run.json")
    again = resolve("toy", file=record)
    assert again.config() == first.config()
    assert again.sources["algorithm.sizes"] == "run.json"


# -- what the command line understands ---------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--algorithm.rate", "3e-4"], "rate", 3e-4),
        (["--algorithm.rate=3e-4"], "rate", 3e-4),
        (["--algorithm.rate", "-1.5"], "rate", -1.5),
        (["--algorithm.size", "1e6"], "size", 1_000_000),
        (["--algorithm.size", "60_000"], "size", 60_000),
        (["--algorithm.size", "-7"], "size", -7),
        (["--algorithm.size", "-9007199254740993"], "size", -9007199254740993),
        (["--algorithm.loud"], "loud", True),
        (["--algorithm.loud", "true"], "loud", True),
        (["--algorithm.loud=True"], "loud", True),
        (["--algorithm.quiet", "false"], "quiet", False),
        (["--algorithm.no-quiet"], "quiet", False),
        (["--algorithm.title", "two words"], "title", "two words"),
        (["--algorithm.title", "-x"], "title", "-x"),
        (["--algorithm.title=--loud"], "title", "--loud"),
        (["--algorithm.title="], "title", ""),
        (["--algorithm.sizes", "1e3", "-4"], "sizes", (1000, -4)),
        (["--algorithm.sizes=5"], "sizes", (5,)),
        (["--algorithm.sizes"], "sizes", ()),
        (["--algorithm.words", "a b", ""], "words", ("a b", "")),
        (["--algorithm.mode", "fast"], "mode", "fast"),
        (["--algorithm.file", "some/where"], "file", Path("some/where")),
        (["--algorithm.limit", "2"], "limit", 2.0),
        (["--algorithm.limit", "None"], "limit", None),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else None,
)
def test_a_value_on_the_command_line(words: list[str], name: str, value: object) -> None:
    got = option(resolve("toy", argv=["--seed", "3", *words, "--steps", "9"]), name)
    assert got == value
    assert type(got) is type(value) or isinstance(value, Path)


@pytest.mark.parametrize("words", ["--algorithm.no-quiet true", "--algorithm.no-quiet=false"])
def test_a_negated_flag_takes_no_value(words: str) -> None:
    with pytest.raises(ConfigError, match="quiet"):
        typed(words)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("rate = 3e-4", "rate", 3e-4),
        ("rate = 2", "rate", 2.0),
        ("size = 1e6", "size", 1_000_000),
        ("size = 60_000", "size", 60_000),
        ("size = -9007199254740993", "size", -9007199254740993),
        ("sizes = []", "sizes", ()),
        ('words = ["-a", "--loud"]', "words", ("-a", "--loud")),
        ("quiet = false", "quiet", False),
    ],
)
def test_a_value_in_a_file(text: str, name: str, value: object) -> None:
    experiment = resolve("toy", file=written(f"[algorithm]\n{text}"))
    got = option(experiment, name)
    assert got == value
    assert type(got) is type(value)
    others = {k: v for k, v in vars(experiment.options.algorithm).items() if k != name}
    assert others == {k: v for k, v in vars(resolve("toy").options.algorithm).items() if k != name}


# -- what is said about a wrong one ------------------------------------------------------------

WRONG = [
    # the option, its type in words, as TOML, as Python, as a word
    ("rate", "float", '"high"', "high", "high"),
    ("rate", "float", "true", True, "true"),
    ("size", "int", "1.5", 1.5, "1.5"),
    ("size", "int", "inf", float("inf"), "inf"),
    ("size", "int", "nan", float("nan"), "nan"),
    ("loud", "bool", '"yes"', "yes", "yes"),
    ("sizes", "any number of int", "[1.5]", [1.5], "1.5"),
    ("sizes", "any number of int", '["a"]', ["a"], "a"),
    ("mode", "one of 'slow', 'fast'", '"quick"', "quick", "quick"),
    ("limit", "float or None", '"never"', "never", "never"),
]
WRONG_IN_FILES_ONLY = [
    ("rate", "float", "[1.0]", [1.0]),
    ("size", "int", "true", True),
    ("loud", "bool", "1", 1),
    ("title", "str", "3", 3),
    ("sizes", "any number of int", "3", 3),
    ("file", "Path", "3", 3),
]


def said_about(name: str, kind: str, value: object, **layer: Any) -> str:
    """What is said about the one wrong VALUE in LAYER, the source cut off."""
    with pytest.raises(ConfigError) as caught:
        resolve("toy", **layer)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(f" takes {kind}, got {value!r}")
    return said.removesuffix(f" takes {kind}, got {value!r}").removesuffix(f"algorithm.{name}")


@pytest.mark.parametrize(("name", "kind", "toml", "value", "word"), WRONG)
def test_a_value_of_a_wrong_type_is_named_with_its_option_and_type_in_every_layer(
    name: str, kind: str, toml: str, value: object, word: str
) -> None:
    file = written(f"[algorithm]\n{name} = {toml}")
    assert said_about(name, kind, value, file=file) == "toy.toml: "
    assert said_about(name, kind, value, values={f"algorithm.{name}": value}) == "python: "
    argv = ["--seed", "3", f"--algorithm.{name}", word]
    assert said_about(name, kind, word, argv=argv) == "command line: --"


@pytest.mark.parametrize(("name", "kind", "toml", "value"), WRONG_IN_FILES_ONLY)
def test_a_value_of_a_wrong_type_in_a_file_is_not_bent_until_it_fits(
    name: str, kind: str, toml: str, value: object
) -> None:
    file = written(f"[algorithm]\n{name} = {toml}")
    assert said_about(name, kind, value, file=file) == "toy.toml: "


@pytest.mark.parametrize("words", ["--algorithm.title", "--algorithm.title a b"])
def test_a_single_value_is_neither_none_nor_two(words: str) -> None:
    with pytest.raises(ConfigError, match=r"--algorithm\.title takes str, got"):
        typed(words)


def test_an_unknown_option_is_answered_with_the_one_that_was_meant() -> None:
    layers: dict[str, dict[str, Any]] = {
        "toy.toml: there is no option 'algorithm.rte'; did you mean 'algorithm.rate'?": {
            "file": written("[algorithm]\nrte = 1.0")
        },
        "python: there is no option 'rate'; did you mean 'algorithm.rate'?": {
            "values": {"rate": 1.0}
        },
        "command line: there is no option --algorithm.tilte; did you mean '--algorithm.title'?": {
            "argv": ["--algorithm.tilte", "x"]
        },
    }
    for sentence, layer in layers.items():
        with pytest.raises(ConfigError) as caught:
            resolve("toy", **layer)
        assert str(caught.value) == sentence


def test_what_a_config_itself_refuses_is_told_in_its_own_words(
    bandit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORELAB_PLUGINS", "bandit")
    with pytest.raises(ConfigError, match=r"^task\.arms is at least 2, got 1$"):
        resolve("epsilon-greedy", argv=["--task.arms", "1"])


def test_a_word_that_belongs_to_no_option_is_named() -> None:
    for line in ("fast --seed 3", "--algorithm.title=toy fast"):
        with pytest.raises(ConfigError, match="command line: 'fast' belongs to no option"):
            typed(line)


def test_an_unknown_option_in_a_preset_is_named(install: Install) -> None:
    parts = PARTS.replace('"algorithm.rate": 2.0', '"algorithm.rato": 2.0')
    install("toys", INDEX, modules={"toy_parts": parts})
    with pytest.raises(ConfigError, match=r"preset for tuned: .* 'algorithm.rato'; did you mean"):
        resolve("toy", task="tuned")


def test_a_preset_may_choose_the_model_and_its_options_belong_to_that_one(install: Install) -> None:
    index = INDEX.replace(
        "    ]",
        """        Component("model", "wide", "toy_parts:Plain", "a net", provides="net"),
        Component("model", "deep", "toy_parts:Plain", "a net", provides="net"),
    ]""",
    ).replace('"learns", uses=("play",)', '"learns", uses=("play", "net")')
    parts = PARTS.replace('= "plain", "", 10', '= "plain", "deep", 10')
    parts = parts.replace('"algorithm.rate": 2.0', '"model": "wide", "model.speed": 3.0')
    install("toys", index, modules={"toy_parts": parts})
    chosen = {
        (task, model): resolve("toy", task=task, model=model)
        for task in ("plain", "tuned")
        for model in (None, "deep", "wide")
    }
    assert {
        key: (e.config()["model"]["name"], e.options.model.speed) for key, e in chosen.items()
    } == {
        ("plain", None): ("deep", 1.0),
        ("plain", "deep"): ("deep", 1.0),
        ("plain", "wide"): ("wide", 1.0),
        ("tuned", None): ("wide", 3.0),
        ("tuned", "deep"): ("deep", 1.0),
        ("tuned", "wide"): ("wide", 3.0),
    }


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("toy.toml", None, "toy.toml: cannot be read (No such file or directory)"),
        ("toy.toml", "[algorithm\n", "toy.toml: is not TOML ("),
        ("toy.toml", 'algorithm = "other"', "toy.toml: is for 'other', not for 'toy'"),
        ("toy.json", '{"seed": 3}', "toy.json: is not a run.json ("),
        ("toy.json", "[]", "toy.json: is not a run.json ("),
        ("toy.json", "{", "toy.json: is not a run.json ("),
    ],
)
def test_a_file_of_options_that_cannot_be_used_is_named(
    name: str, text: str | None, says: str
) -> None:
    if text is not None:
        written(text, name)
    with pytest.raises(ConfigError) as caught:
        resolve("toy", file=Path(name))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_named() -> None:
    Path("toy.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"toy\.toml: is not TOML"):
        resolve("toy", file=Path("toy.toml"))


def test_an_algorithm_without_a_model_refuses_one() -> None:
    with pytest.raises(PluginError, match="toy works without a model"):
        resolve("toy", model="mlp")


@pytest.mark.parametrize(
    "words",
    [
        "--steps 0",
        "--run.keep 0",
        "--run.threads 0",
        "--run.log-every 0",
        "--run.eval-every -1",
        "--run.checkpoint-every -1",
        "--run.checkpoint-seconds -1",
        "--run.max-seconds -1",
        "--run.eval-n 0",
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_name(words: str) -> None:
    name, value = words.removeprefix("--").replace("-", "_", 1).split()
    with pytest.raises(ConfigError) as caught:
        typed(words)
    assert name in str(caught.value)
    assert value in str(caught.value).replace("_", "-")


@pytest.mark.parametrize(
    "target", ["eval/score", "eval/score > 3", "eval/score >= high", "eval/score >= 1e", ">= 3"]
)
def test_a_target_that_is_no_sentence_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match='takes a sentence like "eval/return >= 475"') as caught:
        RunConfig(target=target)
    assert repr(target) in str(caught.value)


def test_the_help_of_a_training_tells_the_sentence_of_every_option(
    bandit: None, corelab: Corelab
) -> None:
    done = corelab("train", "epsilon-greedy", "--help", CORELAB_PLUGINS="bandit", COLUMNS="100")
    assert done.returncode == 0
    told = " ".join(done.stdout.replace("│", " ").split())
    from corelab_bandit.bandit import Config as Bandit
    from corelab_bandit.epsilon_greedy import Config as EpsilonGreedy

    for kind in (RunConfig, Bandit, EpsilonGreedy):
        sentences = config.field_help(kind)
        assert set(sentences) == {field.name for field in dataclasses.fields(kind)}
        for sentence in sentences.values():
            assert sentence in told


# -- every value survives ----------------------------------------------------------------------


@dataclass(frozen=True)
class Every:
    """One option of each type."""

    number: float = 0.5
    count: int = 1
    flag: bool = False
    text: str = "a"
    choice: Literal["a", "b c"] = "a"
    path: Path = Path("/tmp")
    numbers: tuple[float, ...] = ()
    counts: tuple[int, ...] = (1,)
    texts: tuple[str, ...] = ("all",)
    maybe_number: float | None = None
    maybe_count: int | None = 3
    maybe_text: str | None = None
    maybe_flag: bool | None = None


TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["-a", "--flag", "None"])
INTEGERS = st.integers() | st.sampled_from([2**53 + 1, -(2**53) - 1])  # no float is either
NUMBERS = st.floats(allow_nan=False)  # nan == nan is the one thing that does not hold
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": NUMBERS,
    "count": INTEGERS,
    "flag": st.booleans(),
    "text": TEXT,
    "choice": st.sampled_from(["a", "b c"]),
    "path": TEXT.filter(lambda t: "\0" not in t).map(lambda t: Path("/", t)),
    "numbers": st.lists(NUMBERS, max_size=4).map(tuple),
    "counts": st.lists(INTEGERS, max_size=4).map(tuple),
    "texts": st.lists(TEXT, max_size=4).map(tuple),
    "maybe_number": st.none() | NUMBERS,
    "maybe_count": st.none() | INTEGERS,
    "maybe_text": st.none() | TEXT,
    "maybe_flag": st.none() | st.booleans(),
}


@pytest.mark.parametrize("name", VALUES)
def test_any_value_comes_back_from_a_record_as_it_was(name: str) -> None:
    known = {o.name: o for o in config.options(Every)}

    @settings(max_examples=50)
    @given(VALUES[name])
    def check(value: object) -> None:
        given = dataclasses.replace(Every(), **{name: value})
        plain = json.loads(json.dumps(config.to_plain(given)))
        back, sources = config.fill(Every, config.from_mapping(plain, known, "run.json"))
        assert back == given
        assert set(sources.values()) == {"run.json"}

    check()
