"""Order books as lines of JSON beside just reading the same file: messages a second of both.

``BENCH_MESSAGES=120000 make bench ARGS='-k import_books'`` measures a longer file. Each message changes 30 levels of a
book of 500 a side, ten messages a second.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
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


def _part(number: int) -> tuple[bool, list[list[str]], list[list[str]]]:
    """Return whether a message is the snapshot, and its bids and asks."""
    is_first = number == 1
    first, count = (0, LEVELS) if is_first else (number * 7 % (LEVELS - CHANGED), CHANGED)
    quantity = number % 900 + 1
    return is_first, _levels(-1, first, count, quantity), _levels(1, first, count, quantity)


def _bybit(number: int) -> str:
    is_first, bids, asks = _part(number)
    at = START + number * 100
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": number, "seq": number}
    kind = "snapshot" if is_first else "delta"
    return json.dumps({"topic": "orderbook.500.BTCUSDT", "type": kind, "ts": at, "cts": at, "data": data})


def _okx(number: int) -> str:
    is_first, bids, asks = _part(number)
    sides = {"asks": [[*level, "1"] for level in asks], "bids": [[*level, "1"] for level in bids]}
    action = "snapshot" if is_first else "update"
    return json.dumps({"instId": "BTC-USDT-SWAP", "action": action, **sides, "ts": str(START + number * 100)})


def _zip(file: Path, text: str) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(file.name.removesuffix(".zip"), text)


def _tar(file: Path, text: str) -> None:
    with tarfile.open(file, "w:gz", compresslevel=1) as archive:
        entry = tarfile.TarInfo(file.name.removesuffix(".tar.gz") + ".data")
        entry.size = len(text.encode())
        archive.addfile(entry, io.BytesIO(text.encode()))


FORMS: dict[str, tuple[str, Callable[[int], str], Callable[[Path, str], None]]] = {
    "bybit": ("2025-10-10_BTCUSDT_ob500.data.zip", _bybit, _zip),
    "okx": ("BTC-USDT-SWAP-L2orderbook-400lv-2025-10-10.tar.gz", _okx, _tar),
}


@pytest.fixture(scope="module", params=FORMS)
def book(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the source and a file of messages."""
    name, message, pack = FORMS[request.param]
    file: Path = tmp_path_factory.mktemp("books") / name
    pack(file, "".join(message(number) + "\n" for number in range(1, MESSAGES + 1)))
    return request.param, file


def test_reading_books_alone(benchmark: Any, book: tuple[str, Path]) -> None:
    def read() -> int:
        with Lines(book[1]) as lines:
            return sum(1 for _ in lines)

    benchmark.extra_info["messages"] = MESSAGES
    assert benchmark.pedantic(read, rounds=3, warmup_rounds=1) == MESSAGES


def test_import_books(benchmark: Any, book: tuple[str, Path], tmp_path: Path) -> None:
    source, file = book
    benchmark.extra_info["messages"] = MESSAGES
    benchmark.pedantic(
        import_source,
        args=(source, [file], tmp_path / "tape"),
        kwargs={"force": True},
        rounds=3,
        warmup_rounds=1,
    )
    ((seconds,),) = open_tape(tmp_path / "tape").select("SELECT count(DISTINCT ts) FROM depth")
    assert seconds == pytest.approx(MESSAGES / 10, abs=1)
