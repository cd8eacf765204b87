"""Recorded messages of venues, and the same messages in the normalised form of another program.

../shared/data/payloads/raw-messages holds both; what is read here are Bybit's messages of the topic
``orderbook.DEPTH.SYMBOL``, the only recorded ones of a form that a day file of an importer has.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from replay.sources import import_source
from replay.tape.read import open_tape
from replay.tape.schema import Side
from replay.units import parse_time

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "payloads" / "raw-messages"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the recorded messages in ../shared/data/payloads are not here"
)

Level = tuple[Side, Fraction, Fraction]


def recorded(venue: str) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Return each recorded message of a venue with what it is in the normalised form, numbers as texts."""
    raw = json.loads((FOLDER / "mappers_raw_messages.extracted.json").read_text(encoding="utf-8"))
    text = (FOLDER / "mappers.test.snapshot").read_text(encoding="utf-8")
    found = re.findall(
        rf"^exports\[`(?:mappers > )?map {venue} messages (\d+)`\] = `\n(.*?)\n`;", text, re.S | re.M
    )
    normalised = {
        int(number): json.loads(re.sub(r"\bundefined\b", "null", body), parse_float=str, parse_int=str)
        for number, body in found
    }
    return [
        (message, normalised[number])
        for number, message in enumerate(raw[f"map {venue} messages"], start=1)
        if number in normalised
    ]


def books_of_bybit() -> dict[str, list[tuple[dict[str, Any], list[dict[str, Any]]]]]:
    """Return by symbol the messages from its snapshot on as far as their numbers follow one another.

    One recorded change of BTCUSDT is of another day, and its snapshot is not there: it is no part of a book.
    """
    found: dict[str, list[tuple[dict[str, Any], list[dict[str, Any]]]]] = {}
    left_out = 0
    for message, rows in recorded("bybit"):
        if not str(message.get("topic", "")).startswith("orderbook."):
            continue
        mine = found.setdefault(message["data"]["s"], [])
        if not mine or message["data"]["u"] == mine[-1][0]["data"]["u"] + 1:
            mine.append((message, rows))
        else:
            left_out += 1
    assert {symbol: len(mine) for symbol, mine in found.items()} == {"BTCUSDT": 2, "BTCPERP": 2}
    assert left_out == 1
    return found


def applied(book: dict[tuple[Side, Fraction], Fraction], row: dict[str, Any]) -> None:
    """Apply a normalised row to a book."""
    if row["type"] == "book_ticker":
        book.clear()
        for side, name in ((Side.BID, "bid"), (Side.ASK, "ask")):
            book[side, Fraction(row[f"{name}Price"])] = Fraction(row[f"{name}Amount"])
        return
    assert row["type"] == "book_change"
    if row["isSnapshot"]:
        book.clear()
    for side, name in ((Side.BID, "bids"), (Side.ASK, "asks")):
        for level in row[name]:
            book[side, Fraction(level["price"])] = Fraction(level["amount"])


def sorted_levels(book: dict[tuple[Side, Fraction], Fraction]) -> list[Level]:
    """Bids before asks, best first, without levels of zero."""
    levels = [(side, price, qty) for (side, price), qty in book.items() if qty]
    return sorted(levels, key=lambda level: (level[0], level[1] if level[0] == Side.ASK else -level[1]))


def test_bybits_recorded_books_are_what_another_program_makes_of_them(tmp_path: Path) -> None:
    """Of each symbol the book at the end of its last second, with its moment, is compared level by level."""
    for symbol, mine in books_of_bybit().items():
        file = tmp_path / f"2023-04-05_{symbol}_ob1.data"
        file.write_text("".join(json.dumps(message) + "\n" for message, _ in mine), encoding="utf-8")
        import_source("bybit", [file], tmp_path / symbol)
        tape = open_tape(tmp_path / symbol)
        (market,) = tape.markets
        found: dict[int, list[Level]] = {}
        for ts, side, price, qty in tape.select("SELECT ts, side, price, qty FROM depth ORDER BY seq"):
            level = (Side(side), Fraction(price, 10**market.price_scale), Fraction(qty, 10**market.qty_scale))
            found.setdefault(ts, []).append(level)
        book: dict[tuple[Side, Fraction], Fraction] = {}
        expected: dict[int, list[Level]] = {}
        for _, rows in mine:
            for row in rows:
                applied(book, row)
                ts = parse_time(row["timestamp"])
                expected = {at: levels for at, levels in expected.items() if at // 10**9 != ts // 10**9}
                expected[ts] = sorted_levels(book)
        assert found == expected
