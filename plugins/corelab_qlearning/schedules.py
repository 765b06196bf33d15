"""How options change over a run."""

from __future__ import annotations


def linear(begin: float, end: float, share: float) -> float:
    """From BEGIN to END in a straight line as SHARE goes from 0 to 1, and END from there on."""
    return begin + (end - begin) * min(max(share, 0.0), 1.0)
