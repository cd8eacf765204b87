"""The loop against the bare scan of the same columns, on a tape generated for the occasion.

``BENCH_FILLS=20000000 BENCH_ACCOUNTS=200000 BENCH_MARKETS=150 make bench`` measures the size of a venue's day.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import replayed, scan
from benchmarks.tapes import Size, make_tape
from replay.tape.read import Tape, open_tape

FILLS = int(os.environ.get("BENCH_FILLS", "1000000"))
SIZE = Size(
    fills=FILLS,
    accounts=int(os.environ.get("BENCH_ACCOUNTS", "20000")),
    markets=int(os.environ.get("BENCH_MARKETS", "20")),
)


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    path: Path = tmp_path_factory.mktemp("bench") / "tape"
    make_tape(path, SIZE)
    return open_tape(path)


def test_bare_scan(benchmark: Any, tape: Tape) -> None:
    benchmark.extra_info["rows"] = FILLS
    assert benchmark.pedantic(scan, args=(tape,), rounds=3, warmup_rounds=1) == FILLS


def test_fills_to_positions(benchmark: Any, tape: Tape) -> None:
    benchmark.extra_info["rows"] = FILLS
    assert benchmark.pedantic(replayed, args=(tape,), rounds=3, warmup_rounds=1) == FILLS
