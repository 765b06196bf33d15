"""The verb `corelab diagnose`."""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from corelab import ConfigError, Run
from corelab_diagnosis.checks import CHECKS, findings
from corelab_diagnosis.examination import examine
from corelab_diagnosis.interface import Evidence, Finding

_WIDTH = 96


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"corelab diagnose: {message}; see corelab diagnose --help")


def diagnose(argv: list[str]) -> int:
    """Say why a run may not be learning: what was seen, why it matters, what to try, and where
    that is written. The likeliest cause comes first.
    """
    parser = _Parser(prog="corelab diagnose", description=diagnose.__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's directory")
    help_ = "only what the run wrote down; else some of its updates are done once more and watched"
    parser.add_argument("--no-probe", action="store_true", help=help_)
    parser.add_argument("--json", action="store_true", help="as JSON")
    args = parser.parse_args(argv)

    run = Run(args.run)
    evidence, more = examine(run, probe=not args.no_probe)
    found = findings(evidence, more)
    looked = _looked_at(evidence, len(CHECKS) + len(more))
    if args.json:
        facts = {"run": str(run.path), "looked_at": looked, "findings": [asdict(f) for f in found]}
        print(json.dumps(facts, indent=1))
    else:
        print(f"{run.path}: {run.algorithm} on {run.task}; {looked}")
        for number, finding in enumerate(found, 1):
            print(f"\n{number}. {finding.check}\n{_paragraphs(finding)}")
        if not found:
            print("\nNothing was found that would keep it from learning.")
    return 0


def _looked_at(e: Evidence, checks: int) -> str:
    watched = sum(networks.updates for networks in (e.start, e.end) if networks)
    updates = f" and {watched} updates" if watched else ""
    return f"{checks} checks on {len(e.rows)} rows of metrics{updates}"


def _paragraphs(finding: Finding) -> str:
    parts = {
        "seen": finding.seen,
        "why": finding.why,
        "try": finding.advice,
        "source": finding.source,
    }
    return "\n".join(
        textwrap.fill(text, _WIDTH, initial_indent=f"   {name:8}", subsequent_indent=" " * 11)
        for name, text in parts.items()
    )
