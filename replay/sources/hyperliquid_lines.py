"""The two older forms of Hyperliquid's fills: a fill a line without its block, and a trade a line with both sides.

Format from tape-formats.md section 1.4. Both become blocks without a number, so that one reader serves all forms:
``node_fills`` hold ``[user, fill]`` with the fill's own time in milliseconds, ``node_trades`` an object with the
buyer and the seller in ``side_info``.
"""

from __future__ import annotations

from typing import Any

from replay.sources._numbers import parse_moment
from replay.sources.hyperliquid_blocks import EARLIEST_MS, LATEST_MS, Block, parse_json
from replay.sources.hyperliquid_words import is_spot
from replay.units import NS_PER_MS

NAMES_OF_TRADES = {"startPosition": "start_pos"}
"""What `node_trades` call a field of a fill."""

_TRADE = ("coin", "side", "time", "px", "sz", "trade_dir_override", "side_info")
_KNOWN_OF_TRADE = frozenset((*_TRADE, "hash"))
_PLAIN = "Na"
_SIDES = ("B", "A")


def parse_pair(line: bytes) -> Block:
    """Read a line of ``node_fills``.

    Raises:
        ValueError: It is no pair of a user and a fill with a time; the text says why.
    """
    pair = parse_json(line)
    if type(pair) is not list or len(pair) != 2 or type(pair[1]) is not dict:
        raise ValueError("is not a pair of a user and a fill")
    moment = pair[1].get("time")
    if type(moment) is not int or not EARLIEST_MS <= moment < LATEST_MS:
        raise ValueError(f"time {moment!r} is not milliseconds between 2015 and 2035")
    return Block(-1, moment * NS_PER_MS, [pair], [])


class TradeLines:
    """Reads lines of ``node_trades``; matches are numbered from 1, since the files have no number of them."""

    def __init__(self) -> None:
        self._matches = 0

    def __call__(self, line: bytes) -> Block:
        """Read a line.

        Raises:
            ValueError: It is no trade, or one of a documented kind no more; the text says why.
        """
        trade = parse_json(line)
        if type(trade) is not dict:
            raise ValueError("is not a JSON object")
        for key in _TRADE:
            if key not in trade:
                raise ValueError(f"lacks {key}")
        if type(trade["time"]) is not str:
            raise ValueError(f"time {trade['time']!r} is not text")
        ts = parse_moment(trade["time"])
        if trade["trade_dir_override"] != _PLAIN:
            raise ValueError(
                f"trade_dir_override {trade['trade_dir_override']!r} is not the documented {_PLAIN!r}"
            )
        if trade["side"] not in _SIDES:
            raise ValueError(f"side {trade['side']!r} is neither B nor A")
        info = trade["side_info"]
        if type(info) is not list or len(info) != 2 or not all(type(part) is dict for part in info):
            raise ValueError("side_info is not a buyer and a seller")
        self._matches += 1
        events = [
            [part.get("user"), self._fill(trade, side, part)] for side, part in zip(_SIDES, info, strict=True)
        ]
        return Block(-1, ts, events, [key for key in trade if key not in _KNOWN_OF_TRADE], line)

    def _fill(self, trade: dict[str, Any], side: str, part: dict[str, Any]) -> dict[str, Any]:
        """Return one side of a trade as a fill without a fee; its ``dir`` tells the side, no more."""
        spot = type(trade["coin"]) is str and is_spot(trade["coin"])
        buys, sells = ("Buy", "Sell") if spot else ("Open Long", "Open Short")
        fill = {
            "coin": trade["coin"],
            "px": trade["px"],
            "sz": trade["sz"],
            "side": side,
            "dir": buys if side == "B" else sells,
            "crossed": side == trade["side"],
            "fee": "0",
            "feeToken": "USDC",
            "tid": self._matches,
        }
        return fill | ({"startPosition": part["start_pos"]} if "start_pos" in part else {})
