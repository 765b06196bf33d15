"""What has changed in the public interface since the last tag so that a plugin could break.

`python tests/breakages.py [REPOSITORY]` finds it with griffe, which compares the sources without
running them. Without a tag there is nothing to compare with, and it says so.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

MODULES = (
    *("corelab", "corelab.errors", "corelab.hooks", "corelab.testing"),
    *("corelab_datasets.interface", "corelab_envs.interface", "corelab_media"),
    "corelab_diagnosis.interface",
)
"""Where public names are: see docs/api-policy.md."""
PLACES = (".", "plugins", "envs")
"""The folders with packages, from the repository's root."""


def last_tag(repository: Path) -> str:
    """The newest tag that the current commit comes after; "" if there is none."""
    words = ["git", "-C", str(repository), "describe", "--tags", "--abbrev=0"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def breakages(repository: Path, tag: str) -> Iterator[str]:
    """A sentence for each change since TAG that could break a plugin."""
    for package in sorted({module.partition(".")[0] for module in MODULES}):
        places = [place for place in PLACES if (repository / place / package).is_dir()]
        if not places:
            continue
        try:
            then = griffe.load_git(
                package, ref=tag, repo=repository, search_paths=places, resolve_aliases=True
            )
        except ImportError:  # it is younger than the tag
            continue
        here = [repository / place for place in places]
        now = griffe.load(package, search_paths=here, try_relative_path=False, resolve_aliases=True)
        public = set(public_paths(then))
        for change in griffe.find_breaking_changes(then, now):
            path = change.obj.path
            if any(path == name or path.startswith(f"{name}.") for name in public):
                coloured = change.explain(griffe.ExplanationStyle.ONE_LINE)
                yield re.sub(r"\x1b\[\d*m", "", coloured)


def public_paths(package: griffe.Object | griffe.Alias) -> Iterator[str]:
    """Where the public names of PACKAGE stand and where they are from: corelab.context.Context."""
    for module in MODULES:
        root, _, inner = module.partition(".")
        if root != package.name or (inner and inner not in package.members):
            continue
        content = package[inner] if inner else package
        for name in content.exports or content.members:
            member = content.members.get(str(name))
            if member is not None and (content.exports or not member.is_alias):
                yield f"{module}.{name}"
                try:
                    yield member.canonical_path
                except griffe.AliasResolutionError:  # of another distribution
                    continue


if __name__ == "__main__":
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").absolute()
    since = last_tag(root)
    if not since:
        print("there is no tag yet, so there is no earlier interface to compare with")
        sys.exit()
    found = list(breakages(root, since))
    print(*found, sep="\n", end="\n" * bool(found))
    if found:
        sys.exit(f"this breaks plugins that were written for {since}: see docs/api-policy.md")
    print(f"nothing public has changed since {since} that could break a plugin")
