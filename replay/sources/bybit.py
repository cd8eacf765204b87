"""``replay import bybit``: day files of Bybit's public archive, one a symbol.

Read are trades (gzipped CSV) and order books (``ob200``, ``ob500``: zipped lines of JSON).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    from replay.sources.feeds import BookMessage, Contract

LACKS = (
    "Who traded: `replay populate` makes accounts for such a day.",
    "Which trades were forced, marks, index and funding.",
    "Depth beyond the 200 or 500 levels of an order book file; without such a file, any depth.",
)
ASSUMES = (
    "A symbol against USDT or USDC (or ending in PERP, against USDC) is linear in its coin; one against USD is "
    "inverse, one dollar a contract; in a folder named spot it is spot.",
    "Of a book the last state of each second is kept, at the moment of the matching engine (`cts`) where it is told.",
    "The best 25 levels of a side are kept as they are; those beyond in groups of 25, 50, 100 and so on, each one "
    "level at its mean price.",
    "A message with `u` 1 is a snapshot: the service was restarted. Where `u` is not one more than before, the book "
    "goes on as it is, and `gaps in the numbers of books` counts it.",
)


def describe(symbol: str, file: Path) -> Contract:
    """Return what a symbol is; see :data:`ASSUMES`."""
    from replay.sources import symbols

    try:
        if "spot" in {part.lower() for part in file.parts}:
            return symbols.spot(symbol)
        if symbol.endswith("PERP"):
            return symbols.linear(f"{symbol.removesuffix('PERP')}USDC")
        if symbol.endswith("USD"):
            return symbols.coin_margined(symbol, contract_usd=Fraction(1))
        return symbols.linear(symbol)
    except ValueError as failure:
        raise symbols.unknown(symbol, file, f"is not understood: {failure}") from failure


def book_message(line: bytes) -> BookMessage:
    """Read a message of the topic ``orderbook.DEPTH.SYMBOL``; format from tape-formats.md section 3.

    Raises:
        ValueError: It is none; the text says why (as do the errors of what it lacks).
    """
    import orjson

    from replay.sources._book_lines import moment
    from replay.sources.feeds import BookMessage

    found = orjson.loads(line)
    data, kind = found["data"], found["type"]
    if not str(found["topic"]).startswith("orderbook.") or kind not in ("snapshot", "delta"):
        raise ValueError(f"its topic is {found['topic']!r}, its type {kind!r}")
    symbol, update = data["s"], data["u"]
    if type(symbol) is not str or type(update) is not int:
        raise ValueError(f"its symbol is {symbol!r}, its number {update!r}")
    ts = moment(found.get("cts", found["ts"]))
    return BookMessage(symbol, ts, kind == "snapshot" or update == 1, data["b"], data["a"], update)


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.sources.feeds import Family, Feed
    from replay.sources.market_data import load_feeds

    trades = Feed(
        name="trades",
        table="trades",
        columns=(
            "timestamp", "symbol", "side", "size", "price", "tickDirection", "trdMatchID", "grossValue",
            "homeNotional", "foreignNotional",
        ),
        time="timestamp",
        unit="s",
        symbol="symbol",
        qty="size",
        side="side",
        sides={"buy": 1, "sell": -1},
    )  # fmt: skip
    books = Feed("orderbook", "depth", (), "", "", parse=book_message)
    family = Family("bybit", "bybit", (trades, books), describe, LACKS, ASSUMES)
    return load_feeds(family, inputs, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="bybit",
    summary="Bybit's public archive: day files of trades and order books (ob200, ob500)",
    has=("Trades with taker side.", "Depth, one book a second, where order book files are given."),
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
