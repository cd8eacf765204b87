"""A fall of the whole market through the waterfall: liquidations and ADL fills a second, tables written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.day import VOLUME
from benchmarks.tapes import Size, make_tape
from replay.rules import load_rules
from replay.run.execute import run
from replay.tape.read import Tape, open_tape

SIZE = Size(
    fills=int(os.environ.get("BENCH_FILLS", "400000")),
    accounts=int(os.environ.get("BENCH_ACCOUNTS", "20000")),
    markets=int(os.environ.get("BENCH_MARKETS", "20")),
    mark_seconds=3,
    fall=0.5,
    leverage=6,
)


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    path: Path = tmp_path_factory.mktemp("bench") / "tape"
    make_tape(path, SIZE)
    return open_tape(path)


@pytest.mark.parametrize("rules", ["hyperliquid@2025-10-10", "bybit@2025-09-23"])
@pytest.mark.parametrize("liquidations", ["recorded", "rules"])
def test_a_fall_through_the_waterfall(
    benchmark: Any, tmp_path: Path, tape: Tape, rules: str, liquidations: str
) -> None:
    """The difference of the two modes is what the watch and the waterfall cost."""
    book = load_rules(rules, overrides=VOLUME)
    made = benchmark.pedantic(
        run,
        args=(tape, book, tmp_path / "run"),
        kwargs={"liquidations": liquidations, "force": True},
        rounds=3,
        warmup_rounds=1,
    )
    benchmark.extra_info["liquidations"] = made.manifest["counts"]["liquidations by the rules"]
    benchmark.extra_info["adl fills"] = made.rows("adl_fills")
    if liquidations == "rules":
        assert made.rows("liquidations") > 100
