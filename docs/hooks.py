"""What mkdocs adds to the pages: the help of corelab as it is now.

A ```console block of one command that ends with `--help` shows what it prints; the page of an
algorithm ends with the table of its options.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from typing import Any

from mkdocs.exceptions import PluginError

from corelab import cli
from corelab.plugins import Plugins

HELP = re.compile(r"^(```console\n\$ corelab (.*--help)\n)```$", re.MULTILINE)
LOADED = re.compile(r"<(?:script|img)[^>]+src=\"http|<link[^>]+stylesheet[^>]+href=\"http")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """MARKDOWN with the help that it asks for."""
    markdown = HELP.sub(lambda block: f"{block[1]}{_say(*block[2].split())}```", markdown)
    name = page.file.src_uri.removeprefix("algorithms/").removesuffix(".md")
    return markdown + (_options(name) if name in Plugins().names("algorithm") else "")


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """OUTPUT as it is. PluginError if a reader without a network would miss a part of it."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri}: loads from elsewhere: {found[0]}")
    return output


def _say(*words: str) -> str:
    """What `corelab WORDS` prints."""
    os.environ["COLUMNS"] = "96"
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        assert cli.main(words) == 0, words
    return said.getvalue()


def _options(algorithm: str) -> str:
    facts = json.loads(_say("show", "algorithm", algorithm, "--json"))
    rows = [
        f"| `--algorithm.{option['name'].replace('_', '-')}` | {option['type']} "
        f"| `{option['default']!r}` | {option['help']} |"
        for option in facts["options"]
    ]
    head = ["", "## Options", "", "| option | takes | default | what it is |", "|---|---|---|---|"]
    more = (
        f"`corelab train {algorithm} --help` tells those of its tasks and models, too; "
        "[Options](../configuration.md) those of every run."
    )
    return "\n".join([*head, *rows, "", more])
