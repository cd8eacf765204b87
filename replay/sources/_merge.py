"""Rows of several files in one order of time, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Columns = dict[str, Array]

_FOREVER = (1 << 63) - 1


class _Held:
    """What is read ahead of one file."""

    def __init__(self, batches: Iterator[Columns], place: int) -> None:
        self._batches = batches
        self._place = place
        self._rows = 0
        self.columns: Columns | None = None
        self.pull()

    def pull(self) -> None:
        """Add the next batch with rows to what is held."""
        for batch in self._batches:
            count = len(batch["ts"])
            if count == 0:
                continue
            batch["_row"] = np.arange(self._rows, self._rows + count, dtype=np.int64)
            batch["_place"] = np.full(count, self._place, np.int64)
            self._rows += count
            self.columns = batch if self.columns is None else _joined([self.columns, batch])
            return
        self.is_done = True

    is_done = False

    @property
    def last_ts(self) -> int:
        """Moment up to which all is held, exclusively."""
        return _FOREVER if self.is_done else int(self.columns["ts"][-1]) if self.columns is not None else 0

    def take(self, before: int) -> Columns | None:
        """Hand out the rows before a moment."""
        if self.columns is None:
            return None
        end = int(np.searchsorted(self.columns["ts"], before, side="left"))
        if before == _FOREVER:
            end = len(self.columns["ts"])
        if end == 0:
            return None
        taken = {name: column[:end] for name, column in self.columns.items()}
        rest = {name: column[end:] for name, column in self.columns.items()}
        self.columns = rest if len(rest["ts"]) else None
        return taken


def merge_by_time(
    streams: Sequence[Iterator[Columns]], *, passed: Callable[[], None] = lambda: None
) -> Iterator[Columns]:
    """Yield the rows of streams in order of ``(ts, place of the stream, row)``.

    Args:
        streams: Batches of columns of equal names, each stream in order of ``ts``.
        passed: Called after each batch, for progress.
    """
    held = [_Held(stream, place) for place, stream in enumerate(streams)]
    while held:
        for part in held:
            while part.columns is None and not part.is_done:
                part.pull()
        before = min((part.last_ts for part in held), default=_FOREVER)
        pieces = [piece for part in held if (piece := part.take(before)) is not None]
        if pieces:
            joined = _joined(pieces)
            order = np.lexsort((joined["_row"], joined["_place"], joined["ts"]))
            yield {name: column[order] for name, column in joined.items() if not name.startswith("_")}
            passed()
        elif before == _FOREVER:
            return
        else:  # a moment of more rows than a batch
            for part in held:
                if part.last_ts == before and not part.is_done:
                    part.pull()


def _joined(pieces: Sequence[Columns]) -> Columns:
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
