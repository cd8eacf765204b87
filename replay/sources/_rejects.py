"""Rows that cannot be understood: the first one stops the import, or all are set aside and counted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from replay.errors import SourceError

MOST_PER_MILLE = 1
"""An import fails if more than this many rows in a thousand were set aside."""


class Rejects:
    """Where rows go that cannot be understood; a context manager around the reading of an import.

    Without a path the first such row is raised as the error of the import. With one, each is written to
    it as a JSON line of ``file``, ``line``, ``reason`` and ``text``; a row that is only a part of a line
    also has ``item``, its place in the line from 0, and its own text. The file stays if the import fails
    after a row was set aside; an import without such rows leaves it empty.

    Args:
        path: The rejects file, or ``None``.
        inputs: Files of the import, which the rejects file may not replace.
        out: Tape folder, in which the rejects file may not lie.
        force: Replace an existing rejects file.

    Raises:
        SourceError: The file exists, is an input, lies in the tape folder, or cannot be written.
    """

    def __init__(self, path: Path | None, *, inputs: Iterable[Path], out: Path, force: bool) -> None:
        self.count = 0
        self._path = path
        self._stream: IO[str] | None = None
        if path is None:
            return
        real = path.resolve()
        if real in {file.resolve() for file in inputs}:
            raise SourceError("is an input, not a place for rejects", file=path, key="--rejects")
        if out.resolve() in (real, *real.parents):
            raise SourceError(
                "lies in the tape folder", file=path, key="--rejects", mend="choose another place"
            )
        if path.exists() and not (force and path.is_file()):
            raise SourceError(
                "already exists",
                file=path,
                key="--rejects",
                mend="choose another file, or pass --force to replace it",
            )

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._stream = self._path.open("w", encoding="utf-8")
            except OSError as failure:
                raise SourceError(
                    f"cannot be written: {failure.strerror}", file=self._path, key="--rejects"
                ) from failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None and self._stream is not None:
            self._stream.close()
            if kind is not None and self.count == 0:
                self._path.unlink(missing_ok=True)

    @property
    def sets_aside(self) -> bool:
        """Whether such rows are set aside; else the first stops the import."""
        return self._stream is not None

    def add(
        self,
        reason: str,
        *,
        file: Path,
        line: int,
        text: str,
        key: str | None = None,
        item: int | None = None,
    ) -> None:
        """Set a row aside, or stop.

        Args:
            reason: What is wrong with it, in one sentence without a full stop.
            file: File it stands in.
            line: Line from 1.
            text: The row as it stands there.
            key: Field that is wrong.
            item: Place of the row within the line, if a line holds several.

        Raises:
            SourceError: There is no rejects file, or it cannot be written.
        """
        if self._stream is None:
            place = reason if item is None else f"{reason} (row {item + 1} of the line)"
            raise SourceError(
                place,
                file=file,
                row=line,
                key=key,
                mend="--rejects FILE sets such rows aside and counts them",
            )
        record: dict[str, str | int] = {"file": str(file), "line": line}
        if item is not None:
            record["item"] = item
        record["reason"] = f"{key}: {reason}" if key else reason
        record["text"] = text
        self._stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.count += 1

    def check(self, rows: int) -> None:
        """Refuse an import of ``rows`` rows, rejects included, if too many of them were set aside.

        Raises:
            SourceError: More than 0.1 % were.
        """
        if self.count * 1000 > rows * MOST_PER_MILLE:
            raise SourceError(
                f"{self.count:,} of {rows:,} rows could not be understood, which is more than 0.1 %",
                file=self._path,
                mend="the reasons stand in this file; no tape was written",
            )
