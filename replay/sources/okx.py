"""``replay import okx``: day files of OKX's public archive.

Read are trades (zipped CSV, one an instrument), funding rates (zipped CSV of all swaps or of one) and order books of
400 or 5,000 levels (lines of JSON in a gzipped tar).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    from replay.sources.feeds import BookMessage, Contract

LACKS = (
    "Who traded: `replay populate` makes accounts for such a day.",
    "Which trades were forced, marks and index; funding and depth where no such file is given.",
    "Sizes of contracts, but for those of a file of instruments beside them (the kept answer of "
    "`GET /api/v5/public/instruments?instType=SWAP`, JSON).",
)
ASSUMES = (
    "A day of trades and funding is a day of UTC+8: the file of the 10th holds the 9th from 16:00 to the 10th 16:00 "
    "UTC. A day of books is one of UTC.",
    "Of a book the last state of each second is kept: the best 25 levels of a side as they are, those beyond in groups "
    "of 25, 50, 100 and so on, each one level at its mean price. The files do not number messages, so that a missing "
    "one is not seen until the next of the 96 snapshots of a day.",
    "A funding rate is that of the payment at its `funding_time`; those of swaps that no other file names are left "
    "out and counted.",
)
_ASSUMED_SIZES = (
    "Without a file of instruments a linear swap is one coin a contract, which is wrong where the contract value is "
    "not 1; an inverse swap (against USD) is 100 USD a contract of BTC, 10 USD of any other coin."
)
_SWAP = re.compile(r"(?P<base>[A-Z0-9]+)-(?P<quote>USDT|USDC|USD)(-SWAP)?$")


def describe(symbol: str, file: Path) -> Contract:
    """Return what an instrument is without a file that tells it; see :data:`_ASSUMED_SIZES`."""
    from replay.sources import symbols

    match = _SWAP.fullmatch(symbol)
    if match is None:
        raise symbols.unknown(symbol, file, "is no pair or swap against USDT, USDC or USD")
    pair = match["base"] + match["quote"]
    if not symbol.endswith("-SWAP"):
        return symbols.spot(pair)
    return symbols.binance_coin_margined(pair) if match["quote"] == "USD" else symbols.linear(pair)


def book_message(line: bytes) -> BookMessage:
    """Read a line of an order book file; format from tape-formats.md section 4.

    Raises:
        ValueError: It is none; the text says why (as do the errors of what it lacks).
    """
    import orjson

    from replay.sources._book_lines import moment
    from replay.sources.feeds import BookMessage

    found = orjson.loads(line)
    symbol, action = found["instId"], found["action"]
    if type(symbol) is not str or action not in ("snapshot", "update"):
        raise ValueError(f"its instrument is {symbol!r}, its action {action!r}")
    return BookMessage(symbol, moment(found["ts"]), action == "snapshot", found["bids"], found["asks"])


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.folders import sha256_file
    from replay.sources import symbols
    from replay.sources.feeds import Family, Feed
    from replay.sources.market_data import load_feeds
    from replay.sources.okx_instruments import is_instruments, read_instruments

    told = [file for file in inputs if is_instruments(file)]
    inputs = [file for file in inputs if file not in told]
    known: dict[str, Contract | str] = {}
    for file in told:
        known |= read_instruments(file)

    def contract_of(symbol: str, file: Path) -> Contract:
        if not told or not symbol.endswith("-SWAP"):
            return describe(symbol, file)
        found = known.get(symbol, "it is not there")
        if isinstance(found, str):
            raise symbols.unknown(symbol, file, f"is not understood from {told[0].name}: {found}")
        return found

    sizes = tuple(f"Contract sizes are those of {file.name}, SHA-256 {sha256_file(file)}." for file in told)
    trades = Feed(
        name="trades",
        table="trades",
        columns=("instrument_name", "trade_id", "side", "price", "size", "created_time"),
        time="created_time",
        unit="ms",
        symbol="instrument_name",
        qty="size",
        side="side",
        sides={"buy": 1, "sell": -1},
        trade_id="trade_id",
    )
    funding = Feed(
        name="fundingrates",
        table="funding",
        columns=("instrument_name", "funding_rate", "funding_time"),
        time="funding_time",
        unit="ms",
        symbol="instrument_name",
        price="funding_rate",
        unordered=True,
        beside=True,
    )
    books = Feed("L2orderbook", "depth", (), "", "", parse=book_message)
    family = Family(
        "okx", "okx", (trades, funding, books), contract_of, LACKS, (*ASSUMES, *(sizes or (_ASSUMED_SIZES,)))
    )
    return load_feeds(family, inputs, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="okx",
    summary="OKX's public archive: day files of trades, funding rates and order books (400 and 5,000 levels)",
    has=(
        "Trades with taker side and number.",
        "Funding rates, and depth, one book a second, where such files are given.",
    ),
    lacks=LACKS,
    assumes=(*ASSUMES, _ASSUMED_SIZES),
    load=_load,
)
