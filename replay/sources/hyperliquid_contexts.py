"""``asset_ctxs``: Hyperliquid's mark and oracle of every coin by the minute, beside node fills.

One CSV file a day, of the columns :data:`COLUMNS`; format from tape-formats.md section 1.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.sources._numbers import parse_number, parse_utc_second
from replay.sources._read import Lines, Progress
from replay.sources._rejects import Rejects
from replay.tape.schema import Payoff, PriceKind
from replay.tape.write import TapeWriter

COLUMNS = (
    "time,coin,funding,open_interest,prev_day_px,day_ntl_vlm,premium,oracle_px,mark_px,mid_px,impact_bid_px,"
    "impact_ask_px"
)
_WIDTH = COLUMNS.count(",") + 1
_TIME, _COIN, _ORACLE, _MARK = 0, 1, 7, 8
_NAMES = ("ts", "market", "kind", "price", "price_digits")


class Contexts:
    """Marks and oracles of all files, in order of time, and how far they were written to the tape.

    Args:
        writer: The tape; it gets a market for each coin.
        after: Moment in ns up to which rows are left out.
    """

    def __init__(self, writer: TapeWriter, after: int = -1) -> None:
        self._writer = writer
        self._after = after
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._columns: dict[str, npt.NDArray[np.int64]] = {name: np.zeros(0, np.int64) for name in _NAMES}
        self._next = 0
        self.rows = 0

    def read(
        self, inputs: Sequence[Path], names: dict[Path, str], rejects: Rejects, progress: Progress
    ) -> list[dict[str, Any]]:
        """Read files; return their provenance.

        Raises:
            SourceError: A file that cannot be read, or a row that cannot be understood while none is set aside.
        """
        sources = []
        for file in inputs:
            with Lines(file, names[file]) as lines:
                for number, line in lines:
                    if number == 1 and line.startswith(b"time,"):
                        continue
                    self.rows += 1
                    try:
                        self._add(line.decode("utf-8").split(","))
                    except ValueError as failure:
                        text = line.decode("utf-8", "backslashreplace")
                        rejects.add(str(failure), file=file, line=number, text=text)
                sources.append(lines.provenance())
                progress.read(lines)
        columns = np.array(self._rows, np.int64).reshape(-1, len(_NAMES))
        self._rows.clear()
        columns = columns[np.argsort(columns[:, 0], kind="stable")]
        self._columns = dict(zip(_NAMES, columns.T, strict=True))
        return sources

    def _add(self, cells: list[str]) -> None:
        if len(cells) != _WIDTH:
            raise ValueError(f"has {len(cells)} columns, not {_WIDTH}: {COLUMNS}")
        ts = parse_utc_second(cells[_TIME])
        prices = []
        for place, kind in ((_MARK, PriceKind.MARK), (_ORACLE, PriceKind.ORACLE)):
            mantissa, digits = parse_number(cells[place])
            if mantissa <= 0:
                raise ValueError(f"the price {cells[place]} is not above zero")
            prices.append((int(kind), mantissa, digits))
        if ts <= self._after:
            return
        if ":" in cells[_COIN]:
            return  # a builder dex settles in a token that this file does not tell
        market = self._writer.market(cells[_COIN], settle="USDC", payoff=Payoff.LINEAR)
        self._rows += [(ts, market, kind, mantissa, digits) for kind, mantissa, digits in prices]

    def write_until(self, ts: int, own: dict[str, Any] | None = None) -> None:
        """Append the prices up to a moment, those of the same moment first, with rows of another source between.

        Args:
            ts: The moment.
            own: Rows of `prices` in order of time, none later than the moment.
        """
        end = int(np.searchsorted(self._columns["ts"], ts, side="right"))
        mine = {name: column[self._next : end] for name, column in self._columns.items()}
        self._next = max(self._next, end)
        if own is None:
            self._writer.append("prices", mine)
            return
        both = {name: np.concatenate((mine[name], np.asarray(own[name], np.int64))) for name in _NAMES}
        order = np.argsort(both["ts"], kind="stable")
        self._writer.append("prices", {name: column[order] for name, column in both.items()})

    def finish(self) -> None:
        """Append what is left."""
        self.write_until(np.iinfo(np.int64).max)
