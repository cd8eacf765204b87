"""500 recorded blocks of 2025-10-27: both rows of every match, chains of start positions, spot set apart."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import replay
from replay.run.store import Run
from tests.end_to_end.recordings import recording

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def folder() -> Path:
    return recording("hyperliquid-node-fills")


@pytest.fixture(scope="module")
def fills(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return [
        (user, fill)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
        for user, fill in json.loads(line)["events"]
    ]


@pytest.fixture(scope="module")
def tape(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return replay.import_source("hyperliquid", [folder], tmp_path_factory.mktemp("node") / "tape")


@pytest.fixture(scope="module")
def recorded(tape: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    rules = replay.load_rules("hyperliquid@2023-02")
    return replay.run_replay(tape, rules, tmp_path_factory.mktemp("node") / "run")


@pytest.fixture(scope="module", params=["recorded", "rules"])
def run(tape: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Run:
    out = tmp_path_factory.mktemp("node") / "run"
    return replay.run_replay(tape, replay.load_rules("hyperliquid@2023-02"), out, liquidations=request.param)


def test_every_match_has_both_rows(tape: Any, fills: list[Any]) -> None:
    connection = tape.connection()
    ((rows, matches, unpaired),) = connection.sql(
        "SELECT count(*), count(DISTINCT match), count(*) FILTER (paired = 0) FROM fills"
    ).fetchall()
    assert rows == len(fills) == 3590
    assert matches == len({fill["tid"] for _, fill in fills}) == 1795
    assert unpaired == 0


def test_no_chain_breaks_and_nobody_of_unknown_equity_is_liquidated(run: Run) -> None:
    assert run.rows("breaks") == 0
    assert run.manifest["counts"]["start_positions checked"] > 2000
    assert run.rows("liquidations") == 0
    (row,) = replay.query(run, "SELECT verdict, account FROM audit").to_pylist()
    assert row == {"verdict": "unknown equity", "account": "0xa59f55114ccb120487c4fb5766cb89b123c13563"}


def test_closing_sizes_are_the_last_start_position_and_fill(recorded: Run, fills: list[Any]) -> None:
    expected: dict[tuple[str, str], Decimal] = {}
    for user, fill in fills:
        if not fill["coin"].startswith("@"):
            signed = Decimal(fill["sz"]) if fill["side"] == "B" else -Decimal(fill["sz"])
            expected[user, fill["coin"]] = Decimal(fill["startPosition"]) + signed
    found = {
        (row["account"], row["market"]): row["size"]
        for row in replay.query(recorded, "SELECT account, market, size FROM positions_end").to_pylist()
    }
    assert len(expected) > 1000
    for key, size in expected.items():
        if size == 0:
            assert key not in found or found[key] == 0
        else:
            assert found[key] == pytest.approx(float(size), rel=1e-12)


def test_spot_rows_are_set_apart(run: Run, fills: list[Any]) -> None:
    spot = [fill for _, fill in fills if fill["coin"].startswith("@")]
    assert run.manifest["counts"]["spot rows set apart"] == len(spot) == 258
    markets = replay.query(run, "SELECT DISTINCT market FROM positions_end").column("market").to_pylist()
    assert not any(market.startswith("@") for market in markets)


def test_fees_in_other_tokens_are_ledgers_of_their_own(recorded: Run, fills: list[Any]) -> None:
    expected: dict[tuple[str, str], Decimal] = {}
    for _, fill in fills:
        dex = (
            "spot"
            if fill["coin"].startswith("@")
            else fill["coin"].partition(":")[0]
            if ":" in fill["coin"]
            else ""
        )
        key = (dex, fill["feeToken"])
        expected[key] = expected.get(key, Decimal(0)) + Decimal(fill["fee"])
    rows = replay.query(
        recorded, "SELECT dex, currency, cash FROM accounts_end WHERE account = '@fees'"
    ).to_pylist()
    found = {(row["dex"], row["currency"]): row["cash"] for row in rows}
    assert {key: pytest.approx(float(total), abs=3e-7) for key, total in expected.items()} == {
        key: found[key] for key in expected
    }


def test_books_close_to_the_atom(run: Run) -> None:
    conservation = run.manifest["conservation"]
    assert conservation["open_markets"] == []
    assert all(ledger["cash_less_cost"] == ledger["external_flow"] for ledger in conservation["ledgers"])
