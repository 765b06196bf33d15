"""The conformance kit: what a plugin must pass before anyone should rely on it.

`corelab check MODULE` runs its checks. In a plugin's own tests each becomes a test with a name:

    from corelab.testing import Check, conformance


    @conformance("corelab_foo")
    def test_it_conforms(check: Check) -> None:
        check()
"""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal

from corelab.plugins import GROUP, Offer, Plugins, one_line
from corelab.testing.processes import Feeding, Surroundings, apart
from corelab.testing.rules import RULES, Failed, Rule, Skipped

if TYPE_CHECKING:
    import pytest

    from corelab.testing.trial import Trial

__all__ = ["Check", "Result", "check_plugin", "checks", "conformance"]

Options = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Result:
    """How one check came out."""

    name: str
    subject: str
    outcome: Literal["passed", "failed", "skipped"]
    why: str = ""
    """What was seen, if the check failed; why it was skipped; how far it went, if it says."""
    mend: str = ""
    """What to change, if the check failed."""

    def __str__(self) -> str:
        line = f"{self.outcome:<8}{self.name} ({self.subject})"
        return ": ".join(filter(None, (line, self.why))) + (self.mend and f". To mend: {self.mend}")


class Subject:
    """What is checked: a plugin's index, one of its components, or what it tells runs about."""

    def __init__(self, suite: Suite, kind: str, name: str, offer: Offer | None = None) -> None:
        self.suite = suite
        self.kind = kind
        """A kind of component, or "plugin", or "sink"."""
        self.name = name
        self.offer = offer
        self._results: dict[str, Result] = {}

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def rules(self) -> list[Rule]:
        """What is demanded of it."""
        return [rule for rule in RULES if self.kind in rule.kinds]

    @property
    def component(self) -> Any:
        """The class behind it."""
        assert self.offer
        return self.suite.plugins.load(self.offer)

    @cached_property
    def trial(self) -> Trial:
        """An experiment in which it takes part."""
        from corelab.testing.trial import Trial, choose

        assert self.offer
        spec = choose(self.suite, self.offer)
        return self.suite.trials.setdefault(repr(spec), Trial(spec, self.suite.plugins))

    @cached_property
    def fed(self) -> dict[str, Any]:
        """What a sink did that was told about runs in a process of its own."""
        return apart(Feeding(self.suite.module), self.suite.surroundings)

    def result(self, rule: Rule) -> Result:
        """How RULE comes out, after those that it needs; found out once."""
        if rule.name not in self._results:
            self._results[rule.name] = self._find_out(rule)
        return self._results[rule.name]

    def _find_out(self, rule: Rule) -> Result:
        about = rule.name, str(self)
        for need in self.rules:
            if need.name in rule.needs and self.result(need).outcome != "passed":
                return Result(*about, "skipped", f"{need.name} has to pass first")
        try:
            note = rule.body(self)
        except Skipped as why:
            return Result(*about, "skipped", str(why))
        except Failed as seen:
            return Result(*about, "failed", str(seen), rule.mend)
        except (Exception, SystemExit) as error:
            return Result(*about, "failed", one_line(error), rule.mend)
        return Result(*about, "passed", note or "")


@dataclass(frozen=True)
class Check:
    """One demand on one subject. To call it is to make the demand: AssertionError if it fails."""

    subject: Subject
    rule: Rule

    def __str__(self) -> str:
        return f"{self.subject.kind}-{self.subject.name}-{self.rule.name}".replace(" ", "-")

    def result(self) -> Result:
        """How it comes out."""
        return self.subject.result(self.rule)

    def __call__(self) -> None:
        """Find out. `unittest.SkipTest`, which pytest knows too, if there is nothing to look at."""
        __tracebackhide__ = True
        result = self.result()
        if result.outcome == "skipped":
            raise unittest.SkipTest(result.why)
        if result.outcome == "failed":
            raise AssertionError(f"{result.why}. To mend: {result.mend}")


class Suite:
    """The checks of one plugin, and what has been seen of it."""

    def __init__(self, module: str, options: Options, iterations: int) -> None:
        self.module = module
        self.options = options
        self.iterations = iterations
        self.surroundings = Surroundings.here()
        own, *others = entries(module)
        self.name = own.name
        self.plugins = Plugins([own, *others])
        self.trials: dict[str, Trial] = {}
        self.subjects = [Subject(self, "plugin", module)]
        for offer in self.plugins.offers:
            if offer.plugin.name == self.name:
                c = offer.component
                self.subjects.append(Subject(self, c.kind, c.name, offer))
        if any(sink.name == self.name for sink in self.plugins.sinks):
            self.subjects.append(Subject(self, "sink", self.name))


def entries(module: str) -> list[EntryPoint]:
    """That of the plugin with the index MODULE, installed or not, and all others installed."""
    found = list(entry_points(group=GROUP))
    own = next((e for e in found if e.value == module), EntryPoint(module, module, GROUP))
    return [own, *(e for e in found if e.value != module)]


def checks(module: str, *, options: Options | None = None, iterations: int = 4) -> list[Check]:
    """The checks of the plugin with the index module MODULE, installed or not.

    Each component is tried out in small runs, whose algorithm does ITERATIONS steps a few times. An
    algorithm learns from its default task; a task or a model is used by the first algorithm that
    can, of the same plugin if there is one. OPTIONS say otherwise, for a component by its name:
    `{"foo": {"algorithm.batch_size": 8}, "bar": {"algorithm": "ppo", "task.folder": "data"}}`.
    """
    subjects = Suite(module, options or {}, iterations).subjects
    return [Check(subject, rule) for subject in subjects for rule in subject.rules]


def check_plugin(
    module: str, iterations: int = 4, *, options: Options | None = None
) -> list[Result]:
    """Run every check on the plugin with the index module MODULE; see `checks`."""
    return [check.result() for check in checks(module, options=options, iterations=iterations)]


def conformance(
    module: str, *, options: Options | None = None, iterations: int = 4
) -> pytest.MarkDecorator:
    """Make of a test function with the parameter `check` one test for each of `checks`."""
    import pytest

    found = checks(module, options=options, iterations=iterations)
    return pytest.mark.parametrize("check", found, ids=str)
