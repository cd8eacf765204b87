"""Files of declared feeds to a tape: rows in one order of time, prices made where the files have none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.errors import SourceError
from replay.progress import OnProgress
from replay.sources._bands import levels_of_bands
from replay.sources._book_lines import BookLinesReader
from replay.sources._books import ChangesReader, SnapshotReader
from replay.sources._feed_markets import FeedMarkets
from replay.sources._feed_reader import FeedReader, UnorderedReader
from replay.sources._made_prices import make_prices, without_marks
from replay.sources._merge import Columns, merge_by_time
from replay.sources._open_interest import OpenInterest
from replay.sources._parquet import ParquetRows
from replay.sources._read import Lines, Progress, is_parquet, name_inputs
from replay.sources._rejects import Rejects
from replay.sources.feeds import Family, Feed, Opened, find_feed
from replay.sources.ticker import NextFundingReader
from replay.tape.prices import LastBySecond
from replay.tape.schema import PriceKind
from replay.tape.write import TapeWriter

Array = npt.NDArray[Any]

_ORDER = (
    *((table, False) for table in ("trades", "liquidations", "prices", "funding", "bands", "depth")),
    ("open_interest", False),
    ("funding", True),
)
"""Tables in the order in which they are read; last what is beside the markets of all other files."""

UNSEEN = "@unseen"
"""Whose liquidations are that the source prints without a name."""


def load_feeds(
    family: Family,
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    """Import files of a family as a tape; see :class:`replay.sources.Load`.

    Raises:
        SourceError: A file of no known kind, or a row that cannot be understood.
        TapeError: ``out`` exists, or cannot be written.
    """
    names = name_inputs(inputs)
    whole = len(inputs)
    inputs = [file for file in inputs if not (family.may_be_empty and _is_empty(file))]
    if not inputs:
        raise SourceError(f"none of the {whole} files has a row", mend="a tape needs at least one")
    found = [find_feed(family, file) for file in inputs]
    _refuse_two_books(inputs, [feed for feed, _, _ in found])
    progress = Progress(inputs, on_progress)
    counts = {
        "files without rows": whole - len(inputs),
        "rows read": 0,
        "trade ids that are no numbers": 0,
        "moments before that of the row before": 0,
    }
    lasts: dict[int, LastBySecond] = {}
    digits: dict[int, int] = {}
    interest = OpenInterest()
    sources = []
    with TapeWriter(out, venue=family.venue, importer=family.importer, force=force) as writer:
        markets = FeedMarkets(family, writer)
        with Rejects(rejects, inputs=inputs, out=out, force=force) as aside:
            for table, beside in _ORDER:
                mine = [
                    (file, feed, columns, header)
                    for file, (first, columns, header) in zip(inputs, found, strict=True)
                    for feed in (first, *first.also)
                    if feed.table == table and feed.beside == beside
                ]
                number = markets.known if beside else markets.number
                with ExitStack() as stack:
                    opened = [
                        Opened(_entered(stack, file, names[file]), feed, columns, header)
                        for file, feed, columns, header in mine
                    ]
                    streams = [
                        _with_kind(_reader(part, aside, counts).batches(number), part.feed) for part in opened
                    ]
                    for batch in merge_by_time(streams, passed=_tells(progress, opened)):
                        _append(table, batch, markets, writer, lasts, digits, interest, counts)
                    for part in opened:
                        progress.read(part.lines)
                        if not any(part.feed in feed.also for feed, _, _ in found):
                            sources.append(part.provenance())
        aside.check(counts["rows read"])
        assumed = list(family.assumes)
        has_marks = any(feed.table == "prices" and feed.kind == PriceKind.MARK for feed, _, _ in found)
        if not has_marks and any(market >= 0 for market in markets.tape_market):
            assumed += make_prices(markets, lasts, digits, writer, counts)
        elif has_marks:
            assumed += without_marks(markets)
        if not any(market >= 0 for market in markets.tape_market):
            raise SourceError(
                "no file holds a derivative",
                file=inputs[0],
                mend="add trades of a perpetual; spot alone is no tape",
            )
        progress.writing()
        manifest = writer.finish(
            sources=sources,
            lacks=family.lacks,
            assumptions=assumed,
            counts={**counts, "rows set aside": aside.count},
            accounts_start="unknown",
        )
    progress.finished()
    return manifest


def _entered(stack: ExitStack, file: Path, name: str) -> Lines | ParquetRows:
    """Open a file until the stack closes: rows of Parquet, lines of any other."""
    return (
        stack.enter_context(ParquetRows(file, name))
        if is_parquet(file)
        else stack.enter_context(Lines(file, name))
    )


def _is_empty(file: Path) -> bool:
    """Tell whether a file holds nothing, as a recorder writes for a day without rows."""
    if file.stat().st_size == 0:
        return True
    if is_parquet(file):
        return False
    with Lines(file) as lines:
        return lines.is_at_end()


def _refuse_two_books(inputs: Sequence[Path], feeds: Sequence[Feed]) -> None:
    """Refuse two kinds of books in one import: the rows of one moment would be taken for one book.

    Raises:
        SourceError: There are.
    """
    books = {feed.name: file for file, feed in zip(inputs, feeds, strict=True) if feed.table == "depth"}
    if len(books) > 1:
        (one, _), (other, file) = list(books.items())[:2]
        raise SourceError(
            f"is a book of the kind {other!r}, and there are files of the kind {one!r}, too",
            file=file,
            mend="import one kind of books, the one with the most levels",
        )


def _reader(part: Opened, aside: Rejects, counts: dict[str, int]) -> FeedReader:
    """Return the reader that a feed needs."""
    if part.feed.parse is not None:
        return BookLinesReader(part, aside, counts)
    if part.feed.unordered:
        return UnorderedReader(part, aside, counts)
    if part.feed.levels:
        return SnapshotReader(part, aside, counts)
    if part.feed.snapshot:
        return ChangesReader(part, aside, counts)
    return (NextFundingReader if part.feed.due else FeedReader)(part, aside, counts)


def _tells(progress: Progress, opened: Sequence[Opened]) -> Callable[[], None]:
    def tell() -> None:
        if opened:
            progress.reading(max((part.lines for part in opened), key=lambda lines: lines.bytes_read))

    return tell


def _with_kind(batches: Iterator[Columns], feed: Feed) -> Iterator[Columns]:
    for batch in batches:
        batch["kind"] = np.full(len(batch["ts"]), int(feed.kind), np.int8)
        yield batch


def _append(
    table: str,
    batch: Columns,
    markets: FeedMarkets,
    writer: TapeWriter,
    lasts: dict[int, LastBySecond],
    digits: dict[int, int],
    interest: OpenInterest,
    counts: dict[str, int],
) -> None:
    """Append rows of derivatives to the tape; of spot only the last price by second is kept."""
    numbers = batch.pop("market")
    kind = batch.pop("kind")
    tape_market = np.array(markets.tape_market, np.int32)[numbers]
    if table == "trades":
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            last = lasts.setdefault(number, LastBySecond())
            last.add(batch["ts"][rows], batch["price"][rows], batch["price_digits"][rows])
            digits[number] = max(digits.get(number, 0), int(batch["price_digits"][rows].max()))
        counts["spot trades"] = counts.get("spot trades", 0) + int((tape_market < 0).sum())
    mine = np.flatnonzero(tape_market >= 0)
    columns: dict[str, Any] = {name: column[mine] for name, column in batch.items()}
    columns["market"] = tape_market[mine]
    if table == "trades":
        columns["trade_id"] = pa.array(columns["trade_id"], mask=columns["trade_id"] < 0)
        interest.note_trades(columns)
    elif table == "prices":
        columns["kind"] = kind[mine]
        markets.marked.update(columns["market"][kind[mine] == PriceKind.MARK].tolist())
    elif table == "liquidations":
        columns |= _liquidations(columns, numbers[mine], markets, writer, counts)
        del columns["taker_side"]
    elif table == "depth":
        pass
    elif table == "open_interest":
        columns = interest.changed(columns, counts)
    elif table == "bands":
        table, columns = "depth", levels_of_bands(columns)
    else:
        places = columns.pop("rate_digits")
        columns["rate"] = (
            columns["rate"] * 10 ** np.clip(12 - places, 0, 12) // 10 ** np.clip(places - 12, 0, 18)
        )
    writer.append(table, columns)


def _liquidations(
    columns: dict[str, Any],
    numbers: Array,
    markets: FeedMarkets,
    writer: TapeWriter,
    counts: dict[str, int],
) -> dict[str, Any]:
    """Return what a print of a liquidation needs beside its moment and price: it is of nobody in particular."""
    rows = len(numbers)
    first = counts.get("liquidations", 0)
    counts["liquidations"] = first + rows
    kinds = [markets.contracts[number].liquidation_price for number in numbers.tolist()]
    return {
        "liquidation": np.arange(first, first + rows, dtype=np.int64),
        "account": np.full(rows, writer.account(UNSEEN) if rows else 0, np.int32),
        "qty": columns["qty"] * columns["taker_side"],
        "price_kind": pa.array(kinds, pa.string()),
    }
