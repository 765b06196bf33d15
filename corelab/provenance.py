"""Where a plugin's code comes from: what a run records about it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from dataclasses import asdict
from importlib.machinery import all_suffixes
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Any

from corelab.plugins import Plugin


def origin(distribution: Distribution) -> str:
    """Where DISTRIBUTION was installed from: "index", or the URL in its direct_url.json.

    The URL of an editable installation follows "editable", that of a repository ends in the commit
    (`git+https://…@4f2a…`).
    """
    text = distribution.read_text("direct_url.json")
    if text is None:
        return "index" if distribution.read_text("RECORD") else "unknown"
    try:
        facts = json.loads(text)
        if "vcs_info" in facts:
            return "{vcs}+{url}@{commit_id}".format(url=facts["url"], **facts["vcs_info"])
        editable = "dir_info" in facts and facts["dir_info"].get("editable")
        return f"editable {facts['url']}" if editable else str(facts["url"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return "unknown"


def code_sha256(target: str) -> str:
    """The hash of the code around TARGET, "module" or "module:Class": its whole top package."""
    spec = importlib.util.find_spec(re.split(r"[.:]", target)[0])
    if spec is None:
        return ""
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = {str(f.relative_to(folder)): f for folder in folders for f in folder.rglob("*.*")}
    if not folders and spec.origin:
        files = {Path(spec.origin).name: Path(spec.origin)}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        if name.endswith(tuple(all_suffixes())) and "__pycache__" not in file.parts:
            digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def provenance(plugin: Plugin, target: str) -> dict[str, Any]:
    """What `run.json` says about PLUGIN, of which it uses TARGET."""
    try:
        source = origin(Distribution.from_name(plugin.distribution))
    except PackageNotFoundError:
        source = "unknown"
    return asdict(plugin) | {"origin": source, "sha256": code_sha256(target)}
