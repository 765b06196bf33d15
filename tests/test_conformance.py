"""Every first-party plugin passes the checks that a stranger's has to pass."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from corelab.experiments import resolve
from corelab.plugins import Plugins
from corelab.testing import check_plugin

BAD = """
import torch
from dataclasses import dataclass
from corelab import Saved

@dataclass(frozen=True)
class Config:
    pass

class Nothing:
    Config = Config
    def __init__(self, config): pass

class Bad(Saved):
    Config = Config
    unit, default_task, default_model, default_steps = "steps", "nothing", "", 10
    best, highlights, presets, saved = "max eval/x", (), {}, ("progress", "steps")
    def __init__(self, config, task, model, context):
        self.generator, self.progress, self.steps = context.generator("noise"), 0, 0
    def step(self):
        self.steps += 1
        self.progress = COUNTED
        return {"noise": torch.rand((), generator=self.generator)}
    def evaluate(self, split="test", n=None, seed=0):
        DRAWN
        return {"x": 0.0}
"""
INDEX = """
from corelab import Component, hookimpl
corelab_api = (1, 0)

@hookimpl
def corelab_components():
    return [Component("task", "nothing", "bad_parts:Nothing", "", provides="nothing"),
            Component("algorithm", "bad", "bad_parts:Bad", "", uses=("nothing",))]
"""

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
MODULES = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["corelab"].values()


@pytest.mark.parametrize("module", MODULES)
def test_first_party_plugins_conform(module: str) -> None:
    report = check_plugin(module)
    assert [str(r) for r in report if r.outcome == "failed"] == []
    assert {r.why for r in report if r.outcome == "skipped"} <= {"there is no GPU here"}
    assert sum(r.outcome == "passed" for r in report) >= 2


@pytest.mark.parametrize(
    ("counted", "drawn", "caught_by"),
    [
        ("self.steps", "pass", set()),
        ("256", "pass", {"metrics_are_finite_and_progress_counts"}),
        (
            "self.steps",
            "torch.rand((), generator=self.generator)",
            {"evaluation_leaves_training_alone"},
        ),
    ],
    ids=["nothing wrong", "progress stands still", "evaluation draws from a stream"],
)
def test_a_mistake_is_caught_by_its_check(
    counted: str, drawn: str, caught_by: set[str], install: Callable[..., None]
) -> None:
    source = BAD.replace("COUNTED", counted).replace("DRAWN", drawn)
    install("bad-plugin", INDEX, modules={"bad_parts": source})
    failed = {r.name for r in check_plugin("bad_plugin") if r.outcome == "failed"}
    assert failed == caught_by


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
