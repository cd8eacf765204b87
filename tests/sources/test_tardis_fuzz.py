"""Damaged day files of tardis.dev: a tape or one error, never anything else. ``REPLAY_FUZZ=1700`` tries 10,200."""

from __future__ import annotations

import gzip
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from replay.errors import ReplayError
from replay.sources import import_source
from tests.sources.test_tardis_books import CHANGES, HEAD, START, TICKER, VENUE, row, trades

TRIES = int(os.environ.get("REPLAY_FUZZ", "30"))

_ORDERS = [row(n * 1_000, n, "buy" if n % 2 else "sell", f"{100 + n / 10}", "2.5") for n in range(20)]
_LEVELS = [
    f"{side}[{n}].{what}" for n in range(5) for side in ("asks", "bids") for what in ("price", "amount")
]
FILES = {
    "trades": ("id,side,price,amount", _ORDERS),
    "liquidations": ("id,side,price,amount", _ORDERS),
    "derivative_ticker": (
        TICKER,
        [
            row(n * 100_000, START + (n // 5 + 1) * 500_000, "0.0001", "", 77, 99, 99.5, 100 + n)
            for n in range(20)
        ],
    ),
    "quotes": (
        "ask_amount,ask_price,bid_price,bid_amount",
        [row(n * 400_000, 1, 101, 100, 2) for n in range(20)],
    ),
    "book_snapshot_5": (",".join(_LEVELS), [row(n * 400_000, *([101, 1, 100, 2] * 5)) for n in range(20)]),
    "incremental_book_L2": (
        CHANGES,
        [
            row(n * 400_000, "true" if n < 4 else "false", "bid" if n % 2 else "ask", 100 + n, 2)
            for n in range(20)
        ],
    ),
}
_CELLS = [b"9" * 30, b"1e300", b"-1", b"nan", b"", b"\xff\xfe", b"0", b'"', b"1." + b"3" * 30]


def damaged(text: bytes, rng: random.Random) -> bytes:
    """Flip bits, cut, insert, drop, swap columns, put cells that are none, or change the unit of time."""
    way = rng.randrange(7)
    data = bytearray(text)
    place = rng.randrange(len(data))
    if way == 0:
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif way == 1:
        del data[place:]
    elif way == 2:
        data[place:place] = rng.randbytes(rng.randrange(1, 9))
    elif way == 3:
        del data[place : place + rng.randrange(1, 60)]
    else:
        lines = [line.split(b",") for line in text.split(b"\n")]
        one, other = rng.randrange(8), rng.randrange(8)
        if way == 5:
            cells = rng.choice(lines[1:-1])
            cells[rng.randrange(len(cells))] = rng.choice(_CELLS)
        for cells in lines if way != 5 else ():
            if way == 4 and len(cells) > max(one, other):
                cells[one], cells[other] = cells[other], cells[one]
            elif way == 6 and len(cells) > 2:
                cells[2] = cells[2][:-3] if place % 2 else cells[2] + b"000"
        return b"\n".join(b",".join(cells) for cells in lines)
    return bytes(data)


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_a_tape_or_one_error(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    header, rows = FILES[kind]
    text = (HEAD + header + "\n" + "".join(rows)).encode()
    ends: Counter[str] = Counter()
    for number in range(TRIES):
        rng = random.Random(f"{kind} {number}")
        data = damaged(text, rng)
        if rng.random() < 0.4:
            data = gzip.compress(data, 1)
            if rng.random() < 0.3:
                data = data[: rng.randrange(len(data))]
        file = tmp_path / f"{VENUE}_{kind}_2025-10-10_BTCUSDT.csv"
        file.write_bytes(data)
        files = [file] if kind == "trades" else [file, trades(tmp_path)]
        try:
            import_source("tardis", files, tmp_path / "tape", force=True)
            ends["tape"] += 1
        except ReplayError:
            ends["error"] += 1
    assert set(ends) == {"tape", "error"}, f"both ends are met, else the damage is of one kind: {ends}"
    assert capfd.readouterr().err == ""
