"""``replay import tardis``: day files of the recorder tardis.dev, one a symbol and kind, gzipped CSV.

Read are ``trades`` (of derivatives; of spot markets they make the index), ``derivative_ticker`` (marks, index,
funding, open interest), ``liquidations``, and books: ``quotes``, ``book_snapshot_5``, ``book_snapshot_25``,
``incremental_book_L2``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from replay.progress import OnProgress
from replay.sources import Source

_SPOT = (
    "binance", "binance-us", "bitfinex", "bitstamp", "bybit-spot", "coinbase", "crypto-com", "gate-io",
    "gemini", "huobi", "kraken", "kucoin", "okex",
)  # fmt: skip

HAS = (
    "Trades with taker side of derivatives; the venue's number of each.",
    "Marks, index, funding and open interest where `derivative_ticker` files are given; else marks made from spot "
    "trades.",
    "Prints of liquidations, of nobody in particular (@unseen), where `liquidations` files are given.",
    "Depth, one book a second, where `quotes`, `book_snapshot_5`, `book_snapshot_25` or `incremental_book_L2` "
    "files are given.",
)
LACKS = (
    "Who traded: `replay populate` makes accounts for such a day.",
    "Which trades were forced; Binance's prints of its insurance fund and of deleveraging are not in the files "
    "(their ids are missing: `replay check`).",
    "Liquidations beyond the venue's feed: Binance prints at most one a second and market.",
)
ASSUMES = (
    "Moments are those of the venue (`timestamp`); rows stand in order of arrival, and one whose moment lies "
    "before that of the row before it takes the later one.",
    "A COIN-M contract of Binance is 100 USD of BTC and 10 USD of any other coin.",
    "Of a book the last state of each second is kept, of a book of changes its best 25 levels a side.",
    "Open interest is counted as trades are, and rounded to the digits that quantities of trades have; it is written "
    "where it changes.",
    "The funding paid is the last rate that the ticker told before the moment of payment passed.",
)

_LIQUIDATION_PRICE = {
    "binance-delivery": "order_limit",
    "binance-futures": "order_limit",
    "bybit": "bankruptcy",
}
"""What the price of a liquidation is, by the recorder's source for each venue."""

_KIND = re.compile(r"_(trades|derivative_ticker|liquidations|quotes|book_snapshot_5|book_snapshot_25|"
                   r"incremental_book_L2)_\d{4}-\d\d-\d\d_")  # fmt: skip


def _load(
    inputs: Sequence[Path],
    out: Path,
    *,
    force: bool,
    rejects: Path | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    from fractions import Fraction

    from replay.sources import symbols
    from replay.sources.feeds import Contract, Family, Feed
    from replay.sources.market_data import load_feeds
    from replay.tape.schema import PriceKind, Side

    head = ("exchange", "symbol", "timestamp", "local_timestamp")
    common: dict[str, Any] = {"time": "timestamp", "unit": "us", "symbol": "symbol", "by_arrival": True}
    order = ("id", "side", "price", "amount")
    state = ("funding_timestamp", "funding_rate", "predicted_funding_rate", "open_interest", "last_price",
             "index_price", "mark_price")  # fmt: skip
    taker: dict[str, Any] = {"qty": "amount", "side": "side", "sides": {"buy": 1, "sell": -1, "unknown": 0}}
    trades = Feed("trades", "trades", (*head, *order), trade_id="id", **taker, **common)
    liquidations = Feed("liquidations", "liquidations", (*head, *order), **taker, **common)

    def price(column: str, kind: PriceKind) -> Feed:
        return Feed(column, "prices", (*head, *state), price=column, kind=kind, skips_blank=True, **common)

    funding = Feed(
        "funding", "funding", (*head, *state), price="funding_rate", due="funding_timestamp", **common
    )
    interest = Feed(
        "open_interest",
        "open_interest",
        (*head, *state),
        price="",
        qty="open_interest",
        skips_blank=True,
        **common,
    )
    ticker = replace(
        price("mark_price", PriceKind.MARK),
        name="derivative_ticker",
        also=(price("index_price", PriceKind.INDEX), funding, interest),
    )

    def books(name: str, levels: tuple[tuple[Side, str, str], ...]) -> Feed:
        columns = (*head, *(column for _, *pair in levels for column in pair))
        return Feed(name, "depth", columns, price="", levels=levels, **common)

    quotes = books("quotes", ((Side.ASK, "ask_price", "ask_amount"), (Side.BID, "bid_price", "bid_amount")))
    snapshots = [
        books(
            f"book_snapshot_{deep}",
            tuple(
                (side, f"{name}[{level}].price", f"{name}[{level}].amount")
                for level in range(deep)
                for side, name in ((Side.ASK, "asks"), (Side.BID, "bids"))
            ),
        )
        for deep in (25, 5)
    ]
    changes = Feed(
        name="incremental_book_L2",
        table="depth",
        columns=(*head, "is_snapshot", "side", "price", "amount"),
        qty="amount",
        side="side",
        snapshot="is_snapshot",
        **common,
    )
    feeds = (trades, liquidations, ticker, quotes, *snapshots, changes)

    def identify(file: Path) -> Feed | None:
        match = _KIND.search(file.name)
        return None if match is None else next(feed for feed in feeds if feed.name == match[1])

    def describe(symbol: str, file: Path) -> Contract:
        contract = contract_of(symbol, file)
        return replace(contract, liquidation_price=_LIQUIDATION_PRICE.get(file.name.split("_", 1)[0]))

    def contract_of(symbol: str, file: Path) -> Contract:
        exchange = file.name.split("_", 1)[0]
        try:
            if exchange in _SPOT:
                return symbols.spot(symbol)
            if exchange == "binance-delivery":
                return symbols.binance_coin_margined(symbol)
            if exchange in ("binance-futures", "hyperliquid"):
                return symbols.linear(symbol if exchange == "binance-futures" else f"{symbol}USDC")
            if exchange == "bybit" and symbol.endswith(("USDT", "USDC")):
                return symbols.linear(symbol)
            if exchange == "bybit" and symbol.endswith("USD"):
                return symbols.coin_margined(symbol, contract_usd=Fraction(1))
        except ValueError as failure:
            raise symbols.unknown(symbol, file, f"is not understood: {failure}") from failure
        raise symbols.unknown(symbol, file, f"is of {exchange!r}, whose contract sizes are not known here")

    exchanges = sorted({file.name.split("_", 1)[0] for file in inputs} - set(_SPOT))
    family = Family(
        venue=exchanges[0] if len(exchanges) == 1 else "several",
        importer="tardis",
        feeds=feeds,
        describe=describe,
        identify=identify,
        may_be_empty=True,
        lacks=LACKS,
        assumes=ASSUMES,
    )
    return load_feeds(family, inputs, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="tardis",
    summary="Day files of tardis.dev (CSV): trades of derivatives and spot markets, tickers, liquidations, books",
    has=HAS,
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
