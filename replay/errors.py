"""The one exception tree of the project.

    ReplayError                 anything the user can mend: data, rules or options (exit code 1)
    ├── SourceError             a public file could not be understood
    ├── TapeError               a tape folder is missing, half-written, damaged or of another schema
    ├── RulesError              a rule book is wrong, or asks for what is not supported yet
    ├── RunError                a run folder is missing or damaged, or a run cannot be made as asked
    └── ConservationError       the books did not close: a defect of the program, never of the input

Every error says what was found, where, what is allowed and how to mend it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class ReplayError(Exception):
    """Base of all errors a user can act on.

    Args:
        problem: What was found, in one sentence.
        file: The file (or folder) it was found in.
        row: One-based row, line or record number in that file.
        key: Column, field or configuration key.
        mend: What is allowed, or what to do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        key: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.problem = problem
        self.file = None if file is None else str(file)
        self.row = row
        self.key = key
        self.mend = mend
        super().__init__(self.message())

    def message(self) -> str:
        """Return the whole message: ``file:row: key: problem. Mend``."""
        where = self.file or ""
        if self.row is not None:
            where = f"{where}:{self.row}" if where else f"row {self.row}"
        parts = [part for part in (where, self.key) if part]
        text = ": ".join([*parts, self.problem])
        return f"{text}\n  {self.mend}" if self.mend else text


class SourceError(ReplayError):
    """A public file could not be understood."""


class TapeError(ReplayError):
    """A tape folder is missing, half-written, damaged or of another schema."""


class RulesError(ReplayError):
    """A rule book is wrong, or asks for what is not supported yet."""


class RunError(ReplayError):
    """A run folder is missing or damaged, or a run cannot be made as asked."""


class ConservationError(ReplayError):
    """Sizes or money did not sum to the atom: a defect of the program."""


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return the mend for an unknown name: the known one that is most like it, else what is given."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise
