"""``replay import binance``: files of Binance's public archive, of USD-M, COIN-M and spot markets.

Read are ``trades``, ``aggTrades``, one-minute ``markPriceKlines`` and ``indexPriceKlines``, ``fundingRate`` and
``bookDepth``, zipped or not, with or without a header. The file's name tells its kind and symbol.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    from replay.sources.feeds import Contract, Feed

LACKS = (
    "Who traded: `replay populate` makes accounts for such a day.",
    "Executions of the insurance fund and of auto-deleveraging: the archive leaves them out, and their numbers are "
    "missing in the sequence.",
    "Marks and index finer than a minute.",
)
ASSUMES = (
    "A candle of mark or index is known at its end: its close stands there.",
    "A COIN-M contract is 100 USD of BTC and 10 USD of any other coin.",
    "Percentage bands of depth are levels at the mean price of what lies between two bands.",
    "A symbol with `_PERP` or a delivery date is COIN-M; a pair in a folder named spot is spot; others are USD-M.",
)
_NAME = re.compile(r"(?P<symbol>[A-Z0-9_]+?)-(?P<kind>trades|aggTrades|bookDepth|fundingRate|1m)-\d{4}-\d\d")
_MINUTE = 60 * 10**9


def feeds() -> dict[str, Feed]:
    """Return the kinds of files by the word in their names; candles by the folder they lie in."""
    from replay.sources.feeds import Feed
    from replay.tape.schema import PriceKind

    takers = {"true": -1, "false": 1}  # is_buyer_maker: the taker sold
    symbol = r"^([A-Z0-9_]+?)-(?:trades|aggTrades|bookDepth|fundingRate|1m)-"
    candle = (
        "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
        "taker_buy_volume", "taker_buy_quote_volume", "ignore",
    )  # fmt: skip

    def candles(name: str, kind: PriceKind) -> Feed:
        return Feed(
            name=name, table="prices", columns=candle, time="open_time", unit="ms", file_symbol=symbol,
            price="close", kind=kind, added=_MINUTE,
        )  # fmt: skip

    return {
        "trades": Feed(
            name="trades", table="trades", columns=("id", "price", "qty", "quote_qty", "time", "is_buyer_maker"),
            time="time", unit="ms", file_symbol=symbol, qty="qty", side="is_buyer_maker", sides=takers,
            trade_id="id",
        ),
        "aggTrades": Feed(
            name="aggTrades", table="trades",
            columns=("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time",
                     "is_buyer_maker"),
            time="transact_time", unit="ms", file_symbol=symbol, qty="quantity", side="is_buyer_maker",
            sides=takers, trade_id="agg_trade_id",
        ),
        "markPriceKlines": candles("markPriceKlines", PriceKind.MARK),
        "indexPriceKlines": candles("indexPriceKlines", PriceKind.INDEX),
        "fundingRate": Feed(
            name="fundingRate", table="funding",
            columns=("calc_time", "funding_interval_hours", "last_funding_rate"),
            time="calc_time", unit="ms", file_symbol=symbol, price="last_funding_rate",
        ),
        "bookDepth": Feed(
            name="bookDepth", table="bands", columns=("timestamp", "percentage", "depth", "notional"),
            time="timestamp", unit="iso", file_symbol=symbol, price="notional", qty="depth", side="percentage",
        ),
    }  # fmt: skip


def identify(file: Path, kinds: dict[str, Feed]) -> Feed | None:
    """Return a file's kind by its name, of a candle by its path; None where neither tells."""
    match = _NAME.search(file.name)
    if match is None:
        return None
    if match["kind"] != "1m":
        return kinds[match["kind"]]
    parts = {part.lower() for part in file.parts}
    return kinds["markPriceKlines" if "markpriceklines" in parts else "indexPriceKlines"]


def describe(symbol: str, file: Path) -> Contract:
    """Return what a symbol is; see :data:`ASSUMES`."""
    from replay.sources import symbols

    try:
        if "spot" in {part.lower() for part in file.parts}:
            return symbols.spot(symbol)
        if "_" in symbol or symbol.endswith("USD"):
            return symbols.binance_coin_margined(symbol)
        return symbols.linear(symbol)
    except ValueError as failure:
        raise symbols.unknown(symbol, file, f"is not understood: {failure}") from failure


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from replay.sources.feeds import Family
    from replay.sources.market_data import load_feeds

    kinds = feeds()
    is_coin = any("_PERP" in file.name or "cm" in file.parts for file in inputs)
    family = Family(
        venue="binance-coinm" if is_coin else "binance",
        importer="binance",
        feeds=tuple(kinds.values()),
        describe=describe,
        lacks=LACKS,
        assumes=ASSUMES,
        identify=lambda file: identify(file, kinds),
    )
    files = [file for file in inputs if not file.name.endswith(".CHECKSUM")]
    return load_feeds(family, files, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="binance",
    summary="Binance's public archive: trades, aggTrades, markPriceKlines, indexPriceKlines, fundingRate, bookDepth",
    has=(
        "Trades with taker side and number; marks and index by minute; funding rates; depth in percentage bands.",
        "Trades of spot pairs in a folder named spot, which make an index where no marks are given.",
    ),
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
