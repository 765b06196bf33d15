"""Word of tasks that take long, in plain lines on standard error."""

from __future__ import annotations

import sys
import time

_SECONDS = 2.0


class Progress:
    """Called often with how far WHAT has come; says so after two seconds and every two seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said = time.monotonic()

    def __call__(self, state: str) -> None:
        """Say STATE, unless it is too early."""
        now = time.monotonic()
        if now - self._said >= _SECONDS:
            self._said = now
            print(f"{self._what}: {state}", file=sys.stderr, flush=True)
