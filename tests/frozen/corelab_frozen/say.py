"""A verb of the command line."""

from __future__ import annotations


def say(argv: list[str]) -> int:
    """Print ARGV."""
    print(*argv)
    return 0
