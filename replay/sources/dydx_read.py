"""Kept answers and messages of dYdX v4's indexer, and a genesis file: what their rows are, and whose.

An answer does not always tell its market or subaccount: then it is the name of the file that tells it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from replay.sources import dydx_rows as rows
from replay.sources._json import read_values
from replay.sources._read import Lines, check_held
from replay.sources._rejects import Rejects

_TICKER = re.compile(r"(?<![A-Z0-9])([A-Z0-9]+-USD)(?![A-Z0-9])")
_ACCOUNT = re.compile(r"(dydx1[0-9a-z]{6,58})(?:[/._-](\d+))?(?![0-9a-z])")

_PARSERS: dict[str, Callable[[rows.Row], Any]] = {
    "trades": rows.parse_trade,
    "fills": rows.parse_fill,
    "transfers": rows.parse_transfer,
    "historicalFunding": rows.parse_funding,
    "candles": rows.parse_candle,
    "oraclePrices": rows.parse_oracle,
    "markets": rows.parse_market,
    "subaccounts": rows.parse_subaccount,
}
TABLES = tuple(_PARSERS)

_BY_TIME = {"trades": "createdAt", "fills": "createdAt"}
_WITHOUT_MOMENT = ("bids", "asks")
_MARKS = {
    "fills": {"liquidity", "market"},
    "trades": {"side", "price", "type", "createdAt"},
    "transfers": {"sender", "recipient"},
    "historicalFunding": {"rate", "effectiveAt"},
    "candles": {"startedAt", "resolution"},
    "subaccounts": {"assetPositions", "openPerpetualPositions"},
}
"""Fields by which a row is known that stands by itself."""


@dataclass(slots=True)
class Found:
    """Rows of all files by table, in the order in which they stand; ``counts`` what was left out."""

    rows: dict[str, list[Any]] = field(default_factory=lambda: {table: [] for table in TABLES})
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            (
                "rows read",
                "rows that stand there twice",
                "fills of spot markets left out",
                "books without a moment left out",
                "messages of other channels",
            ),
            0,
        )
    )
    seen: set[tuple[str, str]] = field(default_factory=set)


def read_file(lines: Lines, found: Found, rejects: Rejects) -> None:
    """Read the documents of a file; rows that are not understood go to the rejects.

    Raises:
        SourceError: The file is no JSON, or a row is bad while rows are not set aside.
    """
    for line, document in read_values(lines):
        check_held(found.counts["rows read"], lines.path)
        try:
            parts = list(_parts(document, lines.path, found.counts))
        except ValueError as failure:
            found.counts["rows read"] += 1
            rejects.add(str(failure), file=lines.path, line=line, text=_shown(document))
            continue
        for table, items, context in parts:
            _take(table, items, context, found, rejects, lines.path, line)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:10_000]


def _take(
    table: str, items: list[Any], context: rows.Row, found: Found, rejects: Rejects, file: Path, line: int
) -> None:
    parse = _PARSERS[table]
    for place, item in enumerate(items):
        found.counts["rows read"] += 1
        try:
            if not isinstance(item, Mapping):
                raise ValueError(f"a row of {table} is no object")
            if table == "fills" and item.get("marketType", "PERPETUAL") != "PERPETUAL":
                found.counts["fills of spot markets left out"] += 1
                continue
            row = parse(_told(table, {**context, **item}))
        except ValueError as failure:
            rejects.add(str(failure), file=file, line=line, text=_shown(item), item=place)
            continue
        uid = getattr(row, "uid", None)
        if uid is not None:
            key = (table, f"{uid} {getattr(row, 'account', '')}")
            if key in found.seen:
                found.counts["rows that stand there twice"] += 1
                continue
            found.seen.add(key)
        found.rows[table].append(row)


def _told(table: str, row: rows.Row) -> rows.Row:
    """Return a row that has its market and account, which its answer or the file's name told."""
    if table == "trades" and "ticker" not in row:
        raise ValueError(
            "its market is told neither by the answer nor by a file name such as BTC-USD_trades.json"
        )
    if table == "fills" and not ("subaccountId" in row or {"address", "subaccountNumber"} <= row.keys()):
        raise ValueError(
            "its account is told neither by the answer nor by a file name such as dydx1..._0_fills.json"
        )
    return row


def _parts(document: Any, file: Path, counts: dict[str, int]) -> Iterator[tuple[str, list[Any], rows.Row]]:
    """Yield the lists of a document with their table and what is told of all of their rows, oldest row first."""
    if not isinstance(document, Mapping):
        raise ValueError("is no object of the indexer")
    if "app_state" in document:
        yield "markets", list(_genesis_markets(document)), {}
        return
    inner = document.get("result", document)
    context = _named_by(file)
    if "channel" in document or document.get("type") in ("connected", "error", "pong", "unsubscribed"):
        inner = document.get("contents")
        context |= _named_by(str(document.get("id", "")))
        if inner is None or document.get("channel") == "v4_block_height":
            counts["messages of other channels"] += 1
            return
    is_message = "channel" in document
    for whole in inner if isinstance(inner, list) else [inner]:
        yield from _lists(whole, context, counts, is_message=is_message)


def _lists(
    inner: Any, context: dict[str, str], counts: dict[str, int], *, is_message: bool
) -> Iterator[tuple[str, list[Any], rows.Row]]:
    if not isinstance(inner, Mapping):
        raise ValueError("has no object of rows")
    context = context | {key: inner[key] for key in ("address", "subaccountNumber") if key in inner}
    for table, marks in _MARKS.items():
        if marks <= inner.keys():
            yield table, [inner], context
            return
    known = [key for key in (*TABLES, "subaccount", "trading", *_WITHOUT_MOMENT) if key in inner]
    if not known:
        if is_message:
            counts["messages of other channels"] += 1
            return
        raise ValueError(
            f"has the keys {', '.join(map(str, inner))[:120]}, which are of no answer of the indexer"
        )
    counts["books without a moment left out"] += any(key in inner for key in _WITHOUT_MOMENT)
    for key in known:
        if key in TABLES:
            yield key, _oldest_first(key, _listed(key, inner[key]), is_message=is_message), context
        elif key == "subaccount":
            yield "subaccounts", [inner[key]], context


def _listed(table: str, found: Any) -> list[Any]:
    """Return rows as a list; those by market get their ticker, a single one stands for itself."""
    if table in ("markets", "oraclePrices") and isinstance(found, Mapping):
        return [
            {"ticker": name, **item} if isinstance(item, Mapping) else item for name, item in found.items()
        ]
    if table == "transfers" and isinstance(found, Mapping):
        return [found]
    if not isinstance(found, list):
        raise ValueError(f"{table} is no list")
    return found


def _oldest_first(table: str, items: list[Any], *, is_message: bool) -> list[Any]:
    """Turn an answer round, which has the newest row first, also among those of one moment."""
    key = _BY_TIME.get(table)
    if key is None or is_message or not all(isinstance(item, Mapping) for item in items):
        return items
    moments = [str(item.get(key)) for item in items]
    return items if moments and moments[0] < moments[-1] else items[::-1]


def _named_by(name: str | Path) -> dict[str, str]:
    """Return the ticker and the subaccount that a name tells, or the names of a file and its folder."""
    told: dict[str, str] = {}
    for part in [name] if isinstance(name, str) else [name.parent.name, name.name]:
        ticker, account = _TICKER.search(part), _ACCOUNT.search(part)
        if ticker:
            told["ticker"] = ticker[1]
        if account:
            told["address"] = account[1]
            if account[2]:
                told["subaccountNumber"] = account[2]
    return told


def _genesis_markets(document: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the steps of the markets of a genesis file, in the form of the indexer.

    A lot is ``step_base_quantums`` of ``10**atomic_resolution``; a tick ``subticks_per_tick`` of
    ``10**(quantum_conversion_exponent - 6 - atomic_resolution)``, 6 being the decimals of USDC.
    """
    try:
        state = document["app_state"]
        perpetuals = {item["params"]["id"]: item["params"] for item in state["perpetuals"]["perpetuals"]}
        for pair in state["clob"]["clob_pairs"]:
            market = perpetuals[pair["perpetual_clob_metadata"]["perpetual_id"]]
            atomic = int(market["atomic_resolution"])
            exponent = int(pair["quantum_conversion_exponent"]) - 6 - atomic
            yield {
                "ticker": market["ticker"],
                "tickSize": _power(int(pair["subticks_per_tick"]), exponent),
                "stepSize": _power(int(pair["step_base_quantums"]), atomic),
            }
    except (KeyError, TypeError, ValueError) as failure:
        raise ValueError(f"is no genesis with perpetuals and clob pairs: {failure!r}") from None


def _power(mantissa: int, exponent: int) -> str:
    """Write ``mantissa * 10**exponent`` as a plain decimal."""
    if not -30 <= exponent <= 30:
        raise ValueError(f"the exponent {exponent} is beyond 30")
    value = Fraction(mantissa) * Fraction(10) ** exponent
    return f"{value.numerator}" if value.denominator == 1 else f"{mantissa}e{exponent}"
