"""``replay import deribit``: kept answers and messages of Deribit's public API.

Read are trades, books, tickers, histories of funding, and settlements of the type bankruptcy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from replay.sources.deribit_read import Reading, Table
    from replay.tape.write import TapeWriter

    Ints = npt.NDArray[np.int64]
    Row = tuple[Any, ...]
    """A row of `liquidations`; see :func:`_write_liquidations`."""

HAS = (
    "Trades with taker side and number, and which side of each was liquidated: taker, maker or both.",
    "Mark and index with every trade (in answers of some years), and with tickers.",
    "Funding by the hour, and depth, one book a second, where such answers or messages are given.",
    "Losses of a session beyond what accounts had, and what of them was shared, where settlements of the type "
    "`bankruptcy` are given: liquidations of nobody (@unseen) without a fill, method `bankruptcy` or `socialized`, the "
    "loss as their equity below zero.",
)
LACKS = (
    "Who traded: `replay populate` makes accounts for such a day.",
    "Bankruptcy prices, leverage, and auto-deleveraging, which the public API does not show.",
    "Options, combinations and spot: their rows are left out and counted.",
)
ASSUMES = (
    "An amount of a contract against USD is dollars (inverse, settled in the coin), of one in USDC or USDT coins.",
    "Trades of one millisecond stand in the order of `trade_seq`, which an instrument counts without a gap; pages may "
    "overlap.",
    "A liquidated taker closed by its own trade, a liquidated maker by the opposite one; `MT` is two liquidations.",
    "Of a book the last state of each second is kept: the best 25 levels of a side as they are, those beyond in groups "
    "of 25, 50, 100 and so on. A message without `prev_change_id` is a snapshot; where the chain is broken, the book "
    "goes on as it is, and `gaps in the numbers of books` counts it.",
    "A mark or index that is the same as before is not told again.",
    "Amounts of bankruptcies are in the settlement currency, and losses whatever their sign; the instrument is told by "
    "the name of their file or folder, as of a history of funding.",
    "The funding rate of an hour is its `interest_1h`, paid at its end; the instrument of a history of funding is told "
    "by the name of its file or folder.",
)


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.errors import SourceError
    from replay.sources._read import Lines, Progress, name_inputs
    from replay.sources._rejects import Rejects
    from replay.sources.deribit_read import Reading
    from replay.tape.write import TapeWriter

    progress, names, sources = Progress(inputs, on_progress), name_inputs(inputs), []
    with TapeWriter(out, venue="deribit", importer="deribit", force=force) as writer:
        with Rejects(rejects, inputs=inputs, out=out, force=force) as aside:
            reading = Reading(lambda name, _file: declare(name, writer), aside)
            for file in inputs:
                with Lines(file, names[file]) as lines:
                    reading.read(lines)
                    progress.read(lines)
                    sources.append(lines.provenance())
        reading.finish()
        aside.check(reading.counts["rows read"])
        if not (len(reading.trades) or len(reading.prices) or len(reading.bankruptcies) or reading.depth):
            raise SourceError("holds no row of a future", file=inputs[0], mend="a tape needs at least one")
        progress.writing()
        counts = _write(reading, writer)
        manifest = writer.finish(
            sources=sources,
            lacks=LACKS,
            assumptions=ASSUMES,
            counts={**reading.counts, **counts, "rows set aside": aside.count},
            accounts_start="unknown",
        )
    progress.finished()
    return manifest


def declare(name: str, writer: TapeWriter) -> int:
    """Return the tape's market of a future, declaring it on first sight; see :data:`ASSUMES`."""
    from replay.tape.schema import Payoff

    base, _, settle = name.partition("-")[0].partition("_")
    if settle:
        return writer.market(name, settle=settle, payoff=Payoff.LINEAR)
    return writer.market(name, settle=base, payoff=Payoff.INVERSE, multiplier=Fraction(1))


def _sorted(table: Table, keys: Sequence[str]) -> dict[str, Ints]:
    """Return the columns of a table by time, then by the other keys."""
    import numpy as np

    cells = np.frombuffer(table.cells, np.int64).reshape(-1, len(table.names))
    columns = {name: cells[:, place] for place, name in enumerate(table.names)}
    order = np.lexsort([columns[key] for key in reversed(keys)])
    return {name: column[order] for name, column in columns.items()}


def _where(columns: dict[str, Ints], kept: npt.NDArray[Any]) -> dict[str, Ints]:
    return {name: column[kept] for name, column in columns.items()}


def _write(reading: Reading, writer: TapeWriter) -> Counter[str]:
    counts: Counter[str] = Counter()
    _write_liquidations(
        [*_write_trades(reading.trades, writer, counts), *_bankruptcies(reading.bankruptcies)], writer
    )
    _write_prices(reading.prices, writer)
    _write_funding(reading.funding, writer)
    _write_depth(reading, writer)
    return counts


def _write_trades(table: Table, writer: TapeWriter, counts: Counter[str]) -> list[Row]:
    """Append trades, each once; return the liquidations that they print: of the taker, the maker, or both."""
    import numpy as np

    rows = _sorted(table, ("ts", "market", "number"))
    _, first = np.unique(np.stack((rows["market"], rows["number"])), axis=1, return_index=True)
    counts["trades that stand there twice"] = len(table) - len(first)
    rows = _where(rows, np.sort(first))
    columns = {name: rows[name] for name in ("ts", "market", "price", "price_digits", "qty", "qty_digits")}
    writer.append("trades", {**columns, "taker_side": rows["side"], "trade_id": rows["number"]})
    taker, maker = rows["flag"] & 1, rows["flag"] >> 1
    forced = np.repeat(np.arange(len(first)), taker + maker)
    is_second = np.concatenate(([False], forced[1:] == forced[:-1]))
    is_maker = is_second | (taker[forced] == 0)
    found = _where(columns, forced)
    found["qty"] = found["qty"] * rows["side"][forced] * np.where(is_maker, -1, 1)
    words = np.array(["", "T", "M", "MT"])[rows["flag"][forced]]
    if len(forced):
        counts["trades with two liquidations"] = int(is_second.sum())
    return [
        (*row, "fill", word, None)
        for *row, word in zip(*(column.tolist() for column in (*found.values(), words)), strict=True)
    ]


def _bankruptcies(table: Table) -> list[Row]:
    """Return settlements of the type bankruptcy as liquidations without a fill; pages may overlap."""
    size = len(table.names)
    rows = sorted({tuple(table.cells[at : at + size]) for at in range(0, len(table.cells), size)})
    words = ("bankruptcy", "socialized")
    return [
        (ts, market, None, None, None, None, None, words[is_shared], -amount)
        for ts, market, is_shared, amount in rows
    ]


def _write_liquidations(rows: list[Row], writer: TapeWriter) -> None:
    """Append liquidations of nobody in order of time, each with a number of its own."""
    from replay.sources.market_data import UNSEEN

    ordered = sorted(rows, key=itemgetter(0))
    writer.append_rows(
        "liquidations",
        "ts market price price_digits qty qty_digits price_kind method equity liquidation account",
        ((*row, number, writer.account(UNSEEN)) for number, row in enumerate(ordered)),
    )


def _write_prices(table: Table, writer: TapeWriter) -> None:
    """Append marks and indices where they changed."""
    import numpy as np

    from replay.tape.schema import PriceKind

    rows = _sorted(table, ("ts", "market", "place"))
    kept = np.zeros(len(table), np.bool_)
    for market in np.unique(rows["market"]).tolist():
        for is_mark in (0, 1):
            mine = np.flatnonzero((rows["market"] == market) & (rows["is_mark"] == is_mark))
            value = np.stack((rows["price"][mine], rows["price_digits"][mine]))
            kept[mine[np.concatenate(([True], (value[:, 1:] != value[:, :-1]).any(axis=0)))[: len(mine)]]] = (
                True
            )
    rows = _where(rows, kept)
    kind = np.where(rows["is_mark"] == 1, int(PriceKind.MARK), int(PriceKind.INDEX)).astype(np.int8)
    columns = {name: rows[name] for name in ("ts", "market", "price", "price_digits")}
    writer.append("prices", {**columns, "kind": kind})


def _write_funding(table: Table, writer: TapeWriter) -> None:
    import numpy as np

    rows = _sorted(table, ("ts", "market", "rate"))
    if len(table):
        again = (np.diff(rows["ts"]) == 0) & (np.diff(rows["market"]) == 0) & (np.diff(rows["rate"]) == 0)
        rows = _where(rows, np.concatenate(([True], ~again)))
    writer.append("funding", rows)


def _write_depth(reading: Reading, writer: TapeWriter) -> None:
    import numpy as np

    if reading.depth:
        rows = {name: np.concatenate([part[name] for part in reading.depth]) for name in reading.depth[0]}
        writer.append("depth", _where(rows, np.argsort(rows["ts"], kind="stable")))


SOURCE = Source(
    name="deribit",
    summary="Deribit: kept answers and messages of its public API (trades, books, tickers, funding, bankruptcies; "
    "JSON)",
    has=HAS,
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
