"""``replay import binance``: files of Binance's public archive, of USD-M, COIN-M and spot markets.

Read are ``trades``, ``aggTrades``, one-minute ``markPriceKlines`` and ``indexPriceKlines``, ``fundingRate``,
``bookDepth``, ``bookTicker``, ``liquidationSnapshot`` and of ``metrics`` the open interest, zipped or not, with or
without a header. The file's name tells its kind and symbol. A ``.CHECKSUM`` beside a file is held against it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.errors import SourceError
from replay.folders import sha256_file
from replay.progress import OnProgress
from replay.sources import Source

if TYPE_CHECKING:
    from replay.sources.feeds import Contract, Feed

LACKS = (
    "Who traded: `replay populate` makes accounts for such a day.",
    "Executions of the insurance fund and of auto-deleveraging: the archive leaves them out, and their numbers are "
    "missing in the sequence.",
    "Marks and index finer than a minute.",
    "Ratios of longs to shorts: of `metrics` files only open interest is read.",
    "Liquidations beyond the exchange's feed, which prints at most one a second and symbol.",
)
ASSUMES = (
    "A candle of mark or index is known at its end: its close stands there.",
    "A COIN-M contract is 100 USD of BTC and 10 USD of any other coin.",
    "Percentage bands of depth are levels at the mean price of what lies between two bands.",
    "Of a book ticker the last state of each second is kept.",
    "Rows of liquidationSnapshot are forced orders at their average fill, the sale of a long or the purchase of a "
    "short; a row that the archive has twice counts twice.",
    "Open interest of `metrics` is counted as trades are: in coins, of COIN-M in contracts. It is known at its "
    "`create_time`, and rounded to the digits that quantities of trades have.",
    "A symbol with `_PERP` or a delivery date is COIN-M; a pair in a folder named spot is spot; others are USD-M.",
)
_KINDS = "trades|aggTrades|bookDepth|bookTicker|fundingRate|liquidationSnapshot|metrics|1m"
_NAME = re.compile(rf"(?P<symbol>[A-Z0-9_]+?)-(?P<kind>{_KINDS})-\d{{4}}-\d\d")
_MINUTE = 60 * 10**9


def feeds() -> dict[str, Feed]:
    """Return the kinds of files by the word in their names; candles by the folder they lie in."""
    from replay.sources.feeds import Feed
    from replay.tape.schema import PriceKind, Side

    takers = {"true": -1, "false": 1}  # is_buyer_maker: the taker sold
    symbol = rf"^([A-Z0-9_]+?)-(?:{_KINDS})-"
    candle = (
        "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
        "taker_buy_volume", "taker_buy_quote_volume", "ignore",
    )  # fmt: skip

    order = (
        "side", "order_type", "time_in_force", "original_quantity", "price", "average_price", "order_status",
        "last_fill_quantity", "accumulated_fill_quantity",
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
        "bookTicker": Feed(
            name="bookTicker", table="depth",
            columns=("update_id", "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty",
                     "transaction_time", "event_time"),
            time="transaction_time", unit="ms", file_symbol=symbol, price="", by_arrival=True,
            levels=((Side.ASK, "best_ask_price", "best_ask_qty"), (Side.BID, "best_bid_price", "best_bid_qty")),
        ),
        "liquidationSnapshot": Feed(
            name="liquidationSnapshot", table="liquidations", columns=("time", *order), time="time", unit="ms",
            file_symbol=symbol, price="average_price", qty="accumulated_fill_quantity", side="side",
            sides={"buy": 1, "sell": -1},
        ),
        "liquidationSnapshot with symbols": Feed(
            name="liquidationSnapshot with symbols", table="liquidations", columns=("time", "symbol", *order),
            time="time", unit="ms", symbol="symbol", price="average_price", qty="accumulated_fill_quantity",
            side="side", sides={"buy": 1, "sell": -1},
        ),
        "bookDepth": Feed(
            name="bookDepth", table="bands", columns=("timestamp", "percentage", "depth", "notional"),
            time="timestamp", unit="iso", file_symbol=symbol, price="notional", qty="depth", side="percentage",
        ),
        "metrics": Feed(
            name="metrics", table="open_interest",
            columns=("create_time", "symbol", "sum_open_interest", "sum_open_interest_value",
                     "count_toptrader_long_short_ratio", "sum_toptrader_long_short_ratio",
                     "count_long_short_ratio", "sum_taker_long_short_vol_ratio"),
            time="create_time", unit="iso", symbol="symbol", price="", qty="sum_open_interest", unordered=True,
            skips_blank=True,
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


def check_sum(file: Path) -> None:
    """Hold a file against the ``.CHECKSUM`` beside it, if there is one.

    Raises:
        SourceError: The file is not the one that the checksum was made of.
    """
    beside = file.with_name(f"{file.name}.CHECKSUM")
    if not beside.is_file():
        return
    words = beside.read_text(encoding="ascii", errors="replace").split()
    found = sha256_file(file)
    if not words or words[0].lower() != found:
        raise SourceError(
            f"has the SHA-256 {found}, {beside.name} says {words[0] if words else 'nothing'}",
            file=file,
            mend="download both again; without the .CHECKSUM beside it the file is not held against anything",
        )


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
        describe=lambda symbol, file: replace(describe(symbol, file), liquidation_price="fill"),
        lacks=LACKS,
        assumes=ASSUMES,
        identify=lambda file: identify(file, kinds),
    )
    files = [file for file in inputs if not file.name.endswith(".CHECKSUM")]
    for file in files:
        check_sum(file)
    return load_feeds(family, files, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="binance",
    summary="Binance's public archive: trades, aggTrades, mark and index klines, fundingRate, bookDepth, bookTicker, "
    "liquidationSnapshot, metrics",
    has=(
        "Trades with taker side and number; marks and index by minute; funding rates; depth in percentage bands, or "
        "the best of the book; forced orders without names; open interest every five minutes.",
        "Trades of spot pairs in a folder named spot, which make an index where no marks are given.",
    ),
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
