"""The closed alpha of 2023: 35,691 fills, 62 recorded liquidations, replayed to the atom.

Expected values are facts counted from the three published CSV files themselves, by hand or by the few lines
of arithmetic in the tests; nothing is read from the code under test.
"""

from __future__ import annotations

import csv
from collections import defaultdict
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
    return recording("hyperliquid-2023")


@pytest.fixture(scope="module")
def tape(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return replay.import_source("hyperliquid", [folder], tmp_path_factory.mktemp("alpha") / "tape")


@pytest.fixture(scope="module")
def recorded(tape: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("alpha") / "recorded"
    return replay.run_replay(tape, replay.load_rules("hyperliquid@2023-02"), out)


@pytest.fixture(scope="module")
def anchored(tape: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("alpha") / "anchored"
    rules = replay.load_rules("hyperliquid@2023-02")
    return replay.run_replay(tape, rules, out, liquidations="rules", anchor_equity="recorded")


@pytest.fixture(scope="module")
def audit(recorded: Run) -> list[dict[str, Any]]:
    return replay.query(recorded, "liquidation-audit").to_pylist()


def single_cross(audit: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in audit if row["leverage_type"] == "Cross" and row["legs"] == 1]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_recorded_liquidation_is_one_row_of_the_audit(
    folder: Path, audit: list[dict[str, Any]]
) -> None:
    recorded = [
        (row["time"], row["user"], Decimal(row["liquidated_ntl_pos"]))
        for row in rows_of(folder / "liquidations.csv")
    ]
    audited = [
        (
            row["ts"].isoformat()[:19] + "Z",
            row["account"],
            Decimal(repr(row["recorded_notional"])),
        )
        for row in audit
    ]
    assert audited == recorded
    assert len(single_cross(audit)) == 49


def test_the_replayed_size_is_what_was_forced_and_nothing_remains(
    folder: Path, audit: list[dict[str, Any]]
) -> None:
    forced: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for row in rows_of(folder / "non_mm_trades.csv"):
        sign = 1 if row["side"] == "Bid" else -1
        forced[row["time"], row["user"], row["coin"]] += sign * Decimal(row["sz"])
    for row in single_cross(audit):
        key = (row["ts"].isoformat()[:19] + "Z", row["account"], row["market"])
        assert Decimal(repr(row["replayed_size"])) == -forced[key]
        assert row["size_after"] == 0
        assert row["cost_after"] == 0


def test_the_takeovers_are_at_the_bankruptcy_price(audit: list[dict[str, Any]]) -> None:
    for row in single_cross(audit):
        price = row["implied_mark"] - row["recorded_equity"] / row["replayed_size"]
        assert row["bankruptcy_price"] == pytest.approx(price, rel=1e-12)
        assert abs(row["bankruptcy_price"] / row["fill_price"] - 1) * 1e4 <= 0.1
        assert abs(row["diff_bp"]) <= 0.1


def test_all_54_cross_liquidations_stood_below_one_percent(audit: list[dict[str, Any]]) -> None:
    ratios = [
        row["recorded_equity"] / row["recorded_notional"] for row in audit if row["leverage_type"] == "Cross"
    ]
    assert len(ratios) == 54
    assert max(ratios) < 0.01


def test_what_equity_the_tape_does_not_explain_is_listed(recorded: Run) -> None:
    rows = replay.query(
        recorded, "SELECT * FROM audit WHERE legs = 1 AND lower(leverage_type) = 'cross'"
    ).to_pylist()
    gaps = [abs(row["recorded_equity"] - row["replayed_equity_recorded_mark"]) for row in rows]
    assert sum(gap <= 0.10 for gap in gaps) == 6
    within = sum(gap <= 2e-4 * row["turnover"] for gap, row in zip(gaps, rows, strict=True))
    assert within == 24
    listed = replay.query(recorded, "unexplained-equity").to_pylist()
    assert len(listed) >= 49


def test_duplicates_are_kept(folder: Path, tape: Any) -> None:
    rows = [tuple(row.values()) for row in rows_of(folder / "non_mm_trades.csv")]
    assert len(rows) - len(set(rows)) == 948
    assert tape.rows("fills") == len(rows) == 35_691
    assert tape.rows("transfers") == 560


@pytest.mark.parametrize("which", ["recorded", "anchored"])
def test_books_close_to_the_atom(which: str, folder: Path, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(which)
    deposits = sum(Decimal(row["delta_usd"]) for row in rows_of(folder / "non_mm_ledger_updates.csv"))
    conservation = run.manifest["conservation"]
    assert conservation["open_markets"] == []
    (ledger,) = conservation["ledgers"]
    assert ledger["cash_less_cost"] == ledger["external_flow"] == int(deposits * 10**8)


def test_anchored_rules_find_every_cross_liquidation_and_take_it_over_at_the_recorded_price(
    anchored: Run,
) -> None:
    rows = replay.query(
        anchored,
        """
        SELECT a.leverage_type, a.legs, a.verdict, a.account, a.size_after, a.cost_after, a.fill_price,
               l.bankruptcy_value / l.size AS price, l.size, a.fill_qty
        FROM audit a LEFT JOIN liquidations l ON (a.ts, a.account, a.market) = (l.ts, l.account, l.market)
        """,
    ).to_pylist()
    cross = [row for row in rows if row["leverage_type"] == "Cross"]
    assert all(row["verdict"] == "found" and row["size"] == -row["fill_qty"] for row in cross)
    assert all(row["size_after"] == row["cost_after"] == 0 for row in cross)
    single = [row for row in cross if row["legs"] == 1]
    assert len(single) == 49
    assert max(abs(row["price"] / row["fill_price"] - 1) * 1e4 for row in single) <= 0.1
    assert {row["verdict"] for row in rows if row["leverage_type"] == "Isolated"} == {"missed"}


def test_a_pool_that_was_taken_over_is_left_with_exactly_nothing(tape: Any, tmp_path: Path) -> None:
    """Stop right after a takeover: the pool's cash is 0 atoms (SOL short of 222.99, 2023-03-10)."""
    until = 1_678_488_572 * 10**9  # 2023-03-10T22:49:32Z
    run = replay.run_replay(
        tape,
        replay.load_rules("hyperliquid@2023-02"),
        tmp_path / "cut",
        liquidations="rules",
        anchor_equity="recorded",
        until=until,
    )
    account = "0x17d8e3268b7c81111c98b7d3ccea55072a32d6c0"
    (row,) = replay.query(
        run, f"SELECT cash, equity FROM accounts_end WHERE account = '{account}'"
    ).to_pylist()
    assert row["cash"] == 0
    assert row["equity"] == 0


def test_both_sources_of_marks_are_named(recorded: Run, anchored: Run) -> None:
    assert any("last voluntary fill" in sentence for sentence in recorded.manifest["assumptions"])
    assert not any("implied by" in sentence for sentence in recorded.manifest["assumptions"])
    assert any("implied by" in sentence for sentence in anchored.manifest["assumptions"])


@pytest.mark.parametrize("options", [{}, {"liquidations": "rules"}])
def test_same_bytes_whatever_the_batches_and_threads(
    tape: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    rules = replay.load_rules("hyperliquid@2023-02")
    hashes = {
        replay.run_replay(
            tape, rules, tmp_path / f"{rows}-{threads}", batch_rows=rows, threads=threads, **options
        ).manifest["sha256"]
        for rows, threads in ((65_536, 2), (65_536, 1), (97, 1), (4_096, 2))
    }
    assert len(hashes) == 1


def test_a_replay_cut_short_writes_the_same_rows_up_to_there(
    tape: Any, recorded: Run, tmp_path: Path
) -> None:
    until = 1_681_000_000 * 10**9
    cut = replay.run_replay(tape, replay.load_rules("hyperliquid@2023-02"), tmp_path / "cut", until=until)
    query = f"SELECT * FROM raw.audit WHERE ts <= {until} ORDER BY seq"
    assert replay.query(cut, "SELECT * FROM raw.audit ORDER BY seq").equals(replay.query(recorded, query))
