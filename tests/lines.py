"""Counts the core's lines of code, and says so if it has outgrown its size.

Blanks, comments and docstrings do not count, which is how cloc counts Python.
"""

import ast
import sys
import tokenize
from pathlib import Path

LIMIT = 2_300
"""Growing past it needs a reason in docs/architecture.md."""
TOOLS = ("doctor.py", "statistics.py", "testing.py")
"""For looking at a machine, at results and at plugins; no run imports them: they are told apart."""
SILENT = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def count(file: Path) -> int:
    """Lines of FILE that hold code."""
    lines: set[int] = set()
    with file.open("rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type not in SILENT:
                lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(file.read_text())):
        alone = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if alone and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


if __name__ == "__main__":
    counts = {file.name: count(file) for file in sorted(Path("corelab").rglob("*.py"))}
    print(", ".join(f"{name} {n}" for name, n in counts.items()))
    tools = sum(counts.pop(name) for name in TOOLS)
    core = sum(counts.values())
    print(f"the core has {core:,} lines of code (limit {LIMIT:,}), its tools {tools}")
    sys.exit(core > LIMIT and "the core has outgrown its size: see docs/architecture.md")
