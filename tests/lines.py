"""Counts the core's lines of code, and says so if it has outgrown its size.

Blanks, comments and docstrings do not count, which is how cloc counts Python.
"""

import ast
import sys
import tokenize
from pathlib import Path

LIMIT = 2_750
"""Growing past it needs a reason in docs/architecture.md."""
TOOLS = ("doctor.py", "new.py", "pytest_plugin.py", "statistics.py", "testing", "verification.py")
"""For machines, results, and plugins that are written; no run imports them: they are told apart."""
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
    files = sorted(Path("corelab").rglob("*.py"))
    counts = {str(file.relative_to("corelab")): count(file) for file in files}
    print(", ".join(f"{name} {n}" for name, n in counts.items()))
    tools = sum(n for name, n in counts.items() if name.split("/")[0] in TOOLS)
    on_ray = sum(n for name, n in counts.items() if name.startswith("cluster/"))
    core = sum(counts.values()) - tools - on_ray
    told_apart = f"its tools {tools}, its part on Ray {on_ray}"
    print(f"the core has {core:,} lines of code (limit {LIMIT:,}), {told_apart}")
    sys.exit(core > LIMIT and "the core has outgrown its size: see docs/architecture.md")
