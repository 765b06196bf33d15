"""The theorems of a database to prove, and what each may be proved from."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from corelab import DataError
from corelab_envs.metamath.database import read
from corelab_envs.metamath.derivation import Derivation, Lemma, Library
from corelab_envs.metamath.grammar import PROVABLE, Printer
from corelab_envs.metamath.verification import cited
from corelab_envs.proving import Part, is_in

Premises: TypeAlias = Literal["all", "cited"]
"""What a theorem is proved from: all that stands before it, or what its proof there cites."""
SHIPPED = Path(__file__).with_name("propositional.mm")
"""Propositional calculus, of corelab's own encoding."""


class TheoremSet:
    """The theorems of the database PATH up to the statement UPTO.

    A theorem is for measuring if the SHA-256 of its label, as a number, is divisible by 10, and for
    learning otherwise, so a longer database moves none.
    """

    def __init__(
        self,
        path: Path | None,
        upto: str | None = None,
        part: Part = "all",
        premises: Premises = "all",
    ) -> None:
        self.path = path or SHIPPED
        self._premises = premises
        try:
            changed = self.path.stat().st_mtime_ns
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        self._library = _library(self.path, changed, upto)
        self.database = self._library.database
        stated = [a for a in self.database.assertions.values() if a.symbols[0] == PROVABLE]
        theorems = [a.label for a in stated if a.proof is not None]
        self.labels = [label for label in theorems if is_in(label, part)]
        """What the theorems are called, in the order of the database."""
        if not self.labels:
            raise DataError(
                f"{self.path}: none of its {len(theorems)} theorems is of the part {part!r}"
            )
        self._order = [a.label for a in sorted(stated, key=lambda a: (len(a.essential), a.number))]

    @property
    def show(self) -> Printer:
        """Writes formulas as the database does."""
        return self._library.show

    def begin(self, label: str) -> Derivation:
        """The theorem LABEL, with nothing proved. `DataError` if there is none, or no formula."""
        if label not in self.labels:
            raise DataError(f"{self.path}: there is no theorem {label!r} among {len(self.labels)}")
        return Derivation(self._library, self.database.assertions[label], self._lemmas(label))

    def _lemmas(self, label: str) -> list[Lemma]:
        """What the theorem LABEL may be proved from: with fewest premises first, then in order."""
        assertions, theorem = self.database.assertions, self.database.assertions[label]
        if self._premises == "cited":
            usable = set(cited(theorem))
            order = [x for x in self._order if x in usable]
        else:
            order = self._order
        return [self._library.lemma(x) for x in order if assertions[x].number < theorem.number]


@lru_cache(maxsize=4)
def _library(path: Path, changed: int, upto: str | None) -> Library:
    """The database as it was when it was last CHANGED, read once for all copies of a task."""
    return Library(read(path, upto))
