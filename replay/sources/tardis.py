"""``replay import tardis``: day files of the recorder tardis.dev, one a symbol and kind, gzipped CSV.

Read are ``trades`` (of derivatives; of spot markets they make the index) and ``derivative_ticker`` (marks).
"""

from __future__ import annotations

from collections.abc import Sequence
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
    "Marks and funding rates where `derivative_ticker` files are given; else marks made from spot trades.",
)
LACKS = (
    "Who traded: `replay populate` makes accounts for such a day.",
    "Which trades were forced.",
    "Depth of the book: `quotes`, `book_snapshot` and `incremental_book_L2` files are not read yet.",
)
ASSUMES = (
    "Moments are those of the venue (`timestamp`); rows stand in order of arrival, and one whose moment lies "
    "before that of the row before it takes the later one.",
    "A COIN-M contract of Binance is 100 USD of BTC and 10 USD of any other coin.",
)


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
    from replay.tape.schema import PriceKind

    head = ("exchange", "symbol", "timestamp", "local_timestamp")
    trades = Feed(
        name="trades",
        table="trades",
        columns=(*head, "id", "side", "price", "amount"),
        time="timestamp",
        unit="us",
        symbol="symbol",
        qty="amount",
        side="side",
        sides={"buy": 1, "sell": -1, "unknown": 0},
        trade_id="id",
        by_arrival=True,
    )
    marks = Feed(
        name="derivative_ticker",
        table="prices",
        columns=(*head, "funding_timestamp", "funding_rate", "predicted_funding_rate", "open_interest",
                 "last_price", "index_price", "mark_price"),
        time="timestamp",
        unit="us",
        symbol="symbol",
        price="mark_price",
        kind=PriceKind.MARK,
        by_arrival=True,
        skips_blank=True,
    )  # fmt: skip

    def describe(symbol: str, file: Path) -> Contract:
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
        feeds=(trades, marks),
        describe=describe,
        lacks=LACKS,
        assumes=ASSUMES,
    )
    return load_feeds(family, inputs, out, force=force, rejects=rejects, on_progress=on_progress)


SOURCE = Source(
    name="tardis",
    summary="Day files of tardis.dev (CSV): trades of derivatives and of spot markets, derivative_ticker",
    has=HAS,
    lacks=LACKS,
    assumes=ASSUMES,
    load=_load,
)
