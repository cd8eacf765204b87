"""Order books as lines of JSON beside just reading the same file: messages a second of both.

``BENCH_MESSAGES=120000 make bench ARGS='-k import_books'`` measures a longer file. Each message changes 30 levels of a
book of 500 a side, ten messages a second.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from replay.sources import import_source
from replay.sources._read import Lines
from replay.tape.read import open_tape

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "20000"))
START = 1_760_054_400_000
LEVELS, CHANGED = 500, 15


def _levels(sign: int, first: int, count: int, quantity: int) -> list[list[str]]:
    """Levels of a side outwards from 120,000, a tenth apart; a quantity of 0 takes a level away."""
    return [[f"{120_000 + sign * (first + i) / 10:.1f}", f"0.{quantity:03}"] for i in range(1, count + 1)]


def _message(number: int) -> str:
    is_first = number == 1
    first, count = (0, LEVELS) if is_first else (number * 7 % (LEVELS - CHANGED), CHANGED)
    at, quantity = START + number * 100, number % 900 + 1
    data = {
        "s": "BTCUSDT",
        "b": _levels(-1, first, count, quantity),
        "a": _levels(1, first, count, quantity),
        "u": number,
        "seq": number,
    }
    kind = "snapshot" if is_first else "delta"
    return json.dumps({"topic": "orderbook.500.BTCUSDT", "type": kind, "ts": at, "cts": at, "data": data})


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("books") / "2025-10-10_BTCUSDT_ob500.data.zip"
    text = "".join(_message(number) + "\n" for number in range(1, MESSAGES + 1))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(file.name.removesuffix(".zip"), text)
    return file


def test_reading_books_alone(benchmark: Any, book: Path) -> None:
    def read() -> int:
        with Lines(book) as lines:
            return sum(1 for _ in lines)

    benchmark.extra_info["messages"] = MESSAGES
    assert benchmark.pedantic(read, rounds=3, warmup_rounds=1) == MESSAGES


def test_import_books(benchmark: Any, book: Path, tmp_path: Path) -> None:
    benchmark.extra_info["messages"] = MESSAGES
    benchmark.pedantic(
        import_source,
        args=("bybit", [book], tmp_path / "tape"),
        kwargs={"force": True},
        rounds=3,
        warmup_rounds=1,
    )
    ((seconds,),) = open_tape(tmp_path / "tape").select("SELECT count(DISTINCT ts) FROM depth")
    assert seconds == pytest.approx(MESSAGES / 10, abs=1)
