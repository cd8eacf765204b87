"""Generated tapes of any size with the skew of a real venue: few busy accounts, bursts, market makers.

``python -m benchmarks.tapes OUT --fills 20000000`` writes one; the same arguments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.tape.read import Tape, open_tape
from replay.tape.schema import FillKind, Grade, PriceKind
from replay.tape.write import TapeWriter

Ints = npt.NDArray[np.int64]

_START = 1_760_054_400_000_000_000  # 2025-10-10T00:00:00Z
_DAY = 86_400_000_000_000
_CHUNK = 500_000
_MAKERS = 200
_PRICE_DIGITS = 2
_QTY_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Size:
    """How large a tape is.

    Attributes:
        fills: Rows of `fills`, two a match.
        accounts: Accounts, the first 200 of them market makers that take the other side of most matches.
        markets: Linear markets.
        mark_seconds: Seconds between two marks of each market.
        fall: Share by which all marks fall in the 12 minutes from 21:15, such as 0.4; 0 is a calm day.
        leverage: Notional over cash of a typical account at the start of the fall.
        funding: Whether there is hourly funding.
    """

    fills: int = 1_000_000
    accounts: int = 20_000
    markets: int = 20
    mark_seconds: int = 60
    fall: float = 0.0
    leverage: float = 5.0
    funding: bool = False


def make_tape(path: Path, size: Size, *, seed: int = 7, force: bool = False) -> None:
    """Write a tape.

    Args:
        path: Folder that is to appear.
        size: How large it is.
        seed: Everything random follows from it.
        force: Replace an existing tape.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    base = np.exp(rng.uniform(np.log(5), np.log(50_000), size.markets))
    path_of = _walks(rng, size, base)
    with TapeWriter(path, venue="generated", importer="benchmarks.tapes", force=force) as writer:
        for market in range(size.markets):
            writer.market(f"M{market:03}", settle="USDC", tick=(1, _PRICE_DIGITS), lot=(1, _QTY_DIGITS))
        for account in range(size.accounts):
            writer.account(f"0x{account:040x}")
        turnover = np.zeros(size.accounts)
        for columns in _price_chunks(path_of, size):
            writer.append("prices", columns)
        for columns in _fill_chunks(rng, size, base, path_of):
            np.add.at(turnover, columns["account"], columns["value"])
            del columns["value"]
            writer.append("fills", columns)
        cash = np.maximum(np.abs(turnover) / size.leverage, 100.0)
        cash[:_MAKERS] = 1e9
        writer.append(
            "accounts",
            {
                "account": np.arange(size.accounts),
                "ledger": np.zeros(size.accounts, np.int16),
                "market": pa.nulls(size.accounts, pa.int32()),
                "cash": np.round(cash).astype(np.int64) * 10**8,
                "grade": np.full(size.accounts, int(Grade.KNOWN), np.int8),
            },
        )
        hours = np.arange(1, 24, dtype=np.int64) * 3_600_000_000_000 + _START
        shape = (len(hours), size.markets)
        if size.funding:
            writer.append(
                "funding",
                {
                    "ts": np.repeat(hours, size.markets),
                    "market": np.broadcast_to(np.arange(size.markets), shape).ravel(),
                    "rate": np.full(len(hours) * size.markets, 12_500_000, np.int64),
                },
            )
        writer.finish(
            sources=[{"name": f"seed {seed}", "bytes": 0, "sha256": ""}],
            lacks=[],
            assumptions=["The day is generated for benchmarks."],
            counts={},
            accounts_start="known",
        )


def kept_tape(folder: Path, size: Size) -> Tape:
    """Open the generated tape of a folder; make it if it is not there."""
    if not (folder / "tape.json").exists():
        make_tape(folder, size)
    return open_tape(folder)


def _walks(rng: np.random.Generator, size: Size, base: npt.NDArray[np.float64]) -> Ints:
    """Return marks in cents, one row each ``mark_seconds``, one column a market."""
    steps = _DAY // (size.mark_seconds * 10**9) + 1
    noise = rng.normal(0, 2e-4 * np.sqrt(size.mark_seconds / 3), (steps, size.markets)).cumsum(axis=0)
    times = np.arange(steps) * size.mark_seconds
    fall = np.interp(
        times, [0, 76_500, 77_220, 80_000, 86_400], [0, 0, size.fall, size.fall / 3, size.fall / 4]
    )
    marks = base * np.exp(noise) * (1 - fall[:, None])
    return np.maximum(np.round(marks * 10**_PRICE_DIGITS), 1).astype(np.int64)


def _price_chunks(walks: Ints, size: Size) -> Iterator[dict[str, Any]]:
    rows = max(1, _CHUNK // size.markets)
    for first in range(0, len(walks), rows):
        part = walks[first : first + rows]
        ts = _START + np.arange(first, first + len(part)) * size.mark_seconds * 10**9
        yield {
            "ts": np.repeat(ts, size.markets),
            "market": np.broadcast_to(np.arange(size.markets), part.shape).ravel(),
            "kind": np.full(part.size, int(PriceKind.MARK), np.int8),
            "price": part.ravel(),
            "price_digits": np.full(part.size, _PRICE_DIGITS, np.int8),
        }


def _fill_chunks(
    rng: np.random.Generator, size: Size, base: npt.NDArray[np.float64], walks: Ints
) -> Iterator[dict[str, Any]]:
    """Yield matches as two rows each: the taker by Zipf's law, the maker mostly one of the market makers."""
    matches = size.fills // 2
    weights = 1 / np.arange(1, size.accounts - _MAKERS + 1) ** 0.9
    edges = np.cumsum(weights / weights.sum())
    popular = np.cumsum(1 / np.arange(1, size.markets + 1) ** 1.1)
    popular /= popular[-1]
    position = 0.0
    span = _DAY - 2 * 10**9
    for first in range(0, matches, _CHUNK // 2):
        count = min(_CHUNK // 2, matches - first)
        gaps = rng.exponential(1.0, count) * np.where(rng.random(count) < 0.3, 0.0, 1.0)
        offset = position + gaps.cumsum()
        share = count / matches * span
        ts = (
            _START
            + 10**9
            + (
                first / matches * span + (offset - position) / max(offset[-1] - position, 1e-9) * share
            ).astype(np.int64)
        )
        taker = np.searchsorted(edges, rng.random(count)).clip(0, len(edges) - 1) + _MAKERS
        # An account trades its few favourites, drawn from its number; most often the first of them.
        rank = rng.geometric(0.6, count).clip(1, 8)
        draw = ((taker * 2_654_435_761 + rank * 40_503) % 1_000_003) / 1_000_003
        market = np.searchsorted(popular, draw).astype(np.int64)
        maker = rng.integers(0, _MAKERS, count)
        step = (ts - _START) // (size.mark_seconds * 10**9)
        price = np.maximum(walks[step, market] + rng.integers(-3, 4, count), 1)
        usd = np.exp(rng.normal(6, 1.5, count))
        qty = np.maximum(np.round(usd / base[market] * 10**_QTY_DIGITS), 1).astype(np.int64)
        # Most takers build longs until the evening: there must be somebody to liquidate.
        buys = rng.random(count) < np.where(ts < _START + 76_500 * 10**9, 0.56, 0.4)
        signed = np.where(buys, qty, -qty)
        value = signed * price / 10 ** (_QTY_DIGITS + _PRICE_DIGITS)
        rows = 2 * count
        yield {
            "ts": np.repeat(ts, 2),
            "match": np.repeat(np.arange(first, first + count), 2),
            "market": np.repeat(market, 2),
            "account": np.stack((taker, maker), axis=1).ravel(),
            "qty": np.stack((signed, -signed), axis=1).ravel(),
            "qty_digits": np.full(rows, _QTY_DIGITS, np.int8),
            "price": np.repeat(price, 2),
            "price_digits": np.full(rows, _PRICE_DIGITS, np.int8),
            "fee": np.stack((np.abs(value) * 45_000, np.abs(value) * -2_000), axis=1)
            .ravel()
            .astype(np.int64),
            "fee_ledger": np.zeros(rows, np.int16),
            "role": np.tile(np.array([1, 0], np.int8), count),
            "kind": np.full(rows, int(FillKind.TRADE), np.int8),
            "paired": np.ones(rows, np.int8),
            "mode": np.zeros(rows, np.int8),
            "value": np.stack((value, -value), axis=1).ravel(),
        }


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--fills", default=1_000_000, help="Rows of fills, two a match.")
@click.option("--accounts", default=20_000, help="Accounts.")
@click.option("--markets", default=20, help="Markets.")
@click.option("--mark-seconds", default=60, help="Seconds between marks.")
@click.option("--fall", default=0.0, help="Fall of all marks from 21:15, such as 0.4.")
@click.option("--leverage", default=5.0, help="Notional over cash of a typical account.")
@click.option("--funding", is_flag=True, help="Hourly funding.")
@click.option("--seed", default=7, help="Everything random follows from it.")
def main(
    out: Path,
    fills: int,
    accounts: int,
    markets: int,
    mark_seconds: int,
    fall: float,
    leverage: float,
    funding: bool,
    seed: int,
) -> None:
    """Write a generated tape.

    \b
    Example:
      python -m benchmarks.tapes out/bench/20m --fills 20000000 --accounts 200000 --markets 150
    """  # noqa: D301 - click reads the escape
    size = Size(fills, accounts, markets, mark_seconds, fall, leverage, funding)
    make_tape(out, size, seed=seed, force=True)


if __name__ == "__main__":
    main()
