"""Settings of an environment's own, as they are given on the command line."""

from __future__ import annotations

import ast
from typing import Any

from corelab import require


def read_settings(words: tuple[str, ...]) -> dict[str, Any]:
    """`N=5` as {"N": 5}; what is no Python value is text."""
    settings = {}
    for word in words:
        key, equals, value = word.partition("=")
        require(bool(key and equals), "task.settings", word, "of the form setting=value")
        try:
            settings[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[key] = value
    return settings
