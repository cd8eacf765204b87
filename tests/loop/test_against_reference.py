"""The compiled loop against the reference engine on random days: no cell may differ.

``REPLAY_RANDOM_STEPS=100000`` sets how many steps each mode of replay is compared on; the seeds of the days
rise from 0, so a longer run begins with the days of a shorter one.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from replay.rules import load_rules
from replay.run.execute import run
from replay.tape.read import open_tape
from replay.tape.schema import FillKind, Grade, Mode, Payoff, PriceKind
from tests.loop.in_memory import MemoryRun, Row, run_in_memory
from tests.reference import (
    Books,
    Day,
    Facts,
    Fill,
    Liquidation,
    Market,
    OpeningCash,
    OpeningPosition,
    Position,
    Price,
    Rules,
    Tier,
    Transfer,
    replay,
)
from tests.strategies import day_of_tape, random_day, random_rules, write_tape

STEPS = int(os.environ.get("REPLAY_RANDOM_STEPS", "4000"))
"""Steps to compare in each of the four modes."""

MODES = [
    pytest.param(ruled, anchored, id=f"{'rules' if ruled else 'recorded'}{'-anchored' if anchored else ''}")
    for ruled in (False, True)
    for anchored in (False, True)
]

REASONS = {
    "opened", "increased", "reduced", "closed", "flipped", "opened from start", "break", "rebate", "transfer",
    "fee in another ledger", "funding", "spot fee",
}  # fmt: skip
"""What must have happened in every mode; the rest only where it can."""

RULED = {"takeover", "left out", "clipped", "dropped", "settled apart", "verdict flat"}


# --- what the reference expects of each table ---------------------------------------------------------


def expected_accounts(books: Books) -> dict[Any, Any]:
    rows = {}
    for (account, ledger, market), pool in books.pools.items():
        marked = books.marked(pool)
        known = marked and (pool.special or pool.grade < Grade.UNKNOWN)
        equity = books.equity(pool) if known else None
        if pool.special and not pool.cash and not equity:
            continue
        rows[account, ledger, market] = (
            pool.cash,
            equity,
            books.maintenance(pool) if marked else None,
            None if pool.special else pool.grade,
        )
    return rows


def found_accounts(found: MemoryRun) -> dict[Any, Any]:
    rows = {}
    for row in found.tables["accounts_end"]:
        account = found.account_names[row["account"]]
        assert row["special"] == account.startswith("@")
        if row["special"] and not row["cash"] and not row["equity"]:
            continue
        rows[account, row["ledger"], row["market"]] = (
            row["cash"],
            row["equity"],
            row["maintenance"],
            None if row["special"] else row["grade"],
        )
    return rows


def expected_positions(books: Books) -> dict[Any, Any]:
    def kept(position: Position) -> bool:
        return bool(position.size or position.cost or (position.recorded_size and not position.pool.special))

    return {
        (account, market, mode): (
            position.size,
            None if position.pool.special else position.recorded_size,
            position.cost,
            books.marks.get(market),
            books.value(position) if market in books.marks else None,
            int(position.entry_unknown),
        )
        for (account, market, mode), position in books.positions.items()
        if kept(position)
    }


def found_positions(found: MemoryRun) -> dict[Any, Any]:
    return {
        (found.account_names[row["account"]], row["market"], row["mode"]): (
            row["size"],
            None if found.account_names[row["account"]].startswith("@") else row["recorded_size"],
            row["cost"],
            row["mark"],
            row["value"],
            int(row["entry_unknown"]),
        )
        for row in found.tables["positions_end"]
    }


def expected_breaks(books: Books) -> list[Any]:
    return [(row.ts, row.account, row.market, row.expected, row.found) for row in books.breaks]


def found_breaks(found: MemoryRun) -> list[Any]:
    return [
        (row["ts"], found.account_names[row["account"]], row["market"], row["expected"], row["found"])
        for row in found.tables.get("breaks", [])
    ]


def expected_liquidations(books: Books) -> list[Any]:
    return list(map(tuple, books.takeovers))


def found_liquidations(found: MemoryRun) -> list[Any]:
    columns = ("market", "mode", "size", "bankruptcy_value", "equity", "maintenance", "mark")
    rows = found.tables.get("liquidations", [])
    for row in rows:
        assert row["asked"] == row["absorbed"] == abs(row["size"])
        assert row["netted"] == row["book"] == row["adl"] == row["left"] == 0
        assert row["shortfall"] == row["fund"] + row["vault"] + row["socialised"] + row["bad_debt"]
        assert row["ts_end"] == row["ts"]
    return [
        (row["ts"], found.account_names[row["account"]], row["ledger"], *(row[name] for name in columns))
        for row in rows
    ]


def verdict_of(facts: Facts) -> str:
    if not facts.standing.judged:
        return "unknown equity"
    if not facts.size:
        return "flat"
    return "agrees" if facts.standing.short else "healthy"


def expected_audit(books: Books) -> Counter[Any]:
    return Counter(
        (
            facts.ts,
            facts.account,
            facts.market,
            facts.filled,
            facts.filled_value,
            facts.size,
            facts.cost,
            facts.mark,
            *facts.standing[:3],
            facts.bankruptcy_value,
            facts.grade,
            facts.size_after,
            facts.cost_after,
            None if books.ruled else verdict_of(facts),
        )
        for facts in books.facts
    )


def found_audit(found: MemoryRun, *, ruled: bool) -> Counter[Any]:
    columns = (
        "market", "fill_qty", "fill_value", "replayed_size", "replayed_cost", "mark", "replayed_equity",
        "replayed_maintenance", "replayed_notional", "bankruptcy_value", "grade", "size_after", "cost_after",
    )  # fmt: skip
    return Counter(
        (
            row["ts"],
            found.account_names[row["account"]],
            *(row[name] for name in columns),
            None if ruled else row["verdict"],
        )
        for row in found.tables.get("audit", [])
        if row["verdict"] != "unmatched"
    )


def expected_unmatched(day: Day, books: Books) -> Counter[Any]:
    """Return the recorded liquidations of which the tape has no forced fill."""
    forced = {(facts.ts, facts.account, facts.market) for facts in books.facts}
    return Counter(
        (row.ts, row.liquidation, row.account, row.market)
        for row in day.liquidations
        if (row.ts, row.account, row.market) not in forced
    )


def found_unmatched(found: MemoryRun) -> Counter[Any]:
    return Counter(
        (row["ts"], row["liquidation"], found.account_names[row["account"]], row["market"])
        for row in found.tables.get("audit", [])
        if row["verdict"] == "unmatched"
    )


def differences(day: Day, books: Books, found: MemoryRun) -> Iterator[str]:
    """Yield every cell in which a run is not what the reference expects, in words."""
    tables: list[tuple[str, Any, Any]] = [
        ("accounts_end", expected_accounts(books), found_accounts(found)),
        ("positions_end", expected_positions(books), found_positions(found)),
        ("audit", expected_audit(books), found_audit(found, ruled=books.ruled)),
        ("audit, unmatched", expected_unmatched(day, books), found_unmatched(found)),
    ]
    for table, expected, got in tables:
        for key in {**expected, **got}:
            if expected.get(key) != got.get(key):
                yield f"{table} {key}: expected {expected.get(key)}, found {got.get(key)}"
    lists = [
        ("breaks", expected_breaks(books), found_breaks(found)),
        ("liquidations", expected_liquidations(books), found_liquidations(found)),
    ]
    for table, wanted, rows in lists:
        if wanted != rows:
            yield f"{table}: expected {wanted}, found {rows}"


# --- the comparisons ----------------------------------------------------------------------------------


def flat_rate(day: Day, rate: Fraction, absorber: str) -> Rules:
    return Rules({market: [Tier(0, rate, 0)] for market in range(len(day.markets))}, absorber)


def ten_percent(day: Day) -> Rules:
    return flat_rate(day, Fraction(1, 10), "@vault:test")


def unit_day() -> Day:
    """Return a day of two markets in which V(n, P) is n * P atoms."""
    market = Market("FIRST", Payoff.LINEAR, 0, Fraction(1, 10**8), 0, 0, 0)
    return Day([market, market._replace(name="SECOND")], [("", "USDC")], ["a", "b"], "known")


def fill(ts: int, market: int, account: str, qty: int, price: int, fee: int = 0) -> Fill:
    return Fill(ts, market, account, qty, price, fee, 0, FillKind.TRADE, 0, None, None, Mode.CROSS)


def test_a_pool_that_gets_its_last_mark_by_closing_a_position_is_judged() -> None:
    """A long in a market without marks hides that 5 atoms do not margin 100, until it is closed."""
    day = unit_day()
    day.opening_cash = [OpeningCash("a", 0, None, 5, Grade.KNOWN)]
    day.opening_positions = [OpeningPosition("a", 1, Mode.CROSS, 1, 100)]
    day.prices = [Price(1, 0, PriceKind.MARK, 100)]
    day.fills = [fill(1, 0, "a", 1, 100), fill(2, 1, "a", -1, 100)]
    books = replay(day, ten_percent(day), ruled=True)
    assert [(row.ts, row.market, row.value) for row in books.takeovers] == [(2, 0, 95)]
    found = run_in_memory(day, ten_percent(day), ruled=True, anchored=False)
    assert list(differences(day, books, found)) == []


def test_a_rising_mark_can_breach_a_long_by_carrying_it_into_a_higher_tier() -> None:
    """At 100 equity is 150 of 10 needed; at 106 it is 210 of 212, at 400 it would be 3,150 of 800."""
    day = unit_day()
    day.opening_cash = [OpeningCash("a", 0, None, 150, Grade.KNOWN)]
    day.prices = [Price(1, 0, PriceKind.MARK, 100), Price(2, 0, PriceKind.MARK, 106)]
    day.fills = [fill(1, 0, "a", 10, 100)]
    table = [Tier(0, Fraction(1, 100), 0), Tier(1_050, Fraction(1, 5), 0)]
    rules = Rules({0: table, 1: table}, "@vault:test")
    books = replay(day, rules, ruled=True)
    assert [(row.ts, row.equity, row.maintenance) for row in books.takeovers] == [(2, 210, 212)]
    found = run_in_memory(day, rules, ruled=True, anchored=False)
    assert list(differences(day, books, found)) == []


def test_an_anchored_pool_is_judged_in_the_step_of_its_anchor_only() -> None:
    """Taken over at recorded equity in step 2; its position of step 3 falls short by a fee, unanchored."""
    day = unit_day()
    day.opening_cash = [OpeningCash("a", 0, None, 500, Grade.KNOWN)]
    day.transfers = [Transfer(3, "a", 0, None, 20)]
    day.prices = [Price(1, 0, PriceKind.MARK, 100), Price(2, 0, PriceKind.MARK, 90)]
    day.fills = [fill(1, 0, "a", 10, 100), fill(3, 0, "a", 2, 90, fee=15)]
    day.liquidations = [Liquidation(2, 0, "a", 0, "Cross", 8)]
    books = replay(day, ten_percent(day), ruled=True, anchored=True)
    assert [(row.ts, row.value) for row in books.takeovers] == [(2, 892)]
    assert books.positions["a", 0, Mode.CROSS].size == 2
    found = run_in_memory(day, ten_percent(day), ruled=True, anchored=True)
    assert list(differences(day, books, found)) == []


@pytest.mark.parametrize(("ruled", "anchored"), MODES)
def test_random_days(ruled: bool, anchored: bool, capsys: pytest.CaptureFixture[str]) -> None:
    steps, seed = 0, 0
    reasons: Counter[str] = Counter()
    while steps < STEPS:
        day = random_day(seed)
        rules = random_rules(seed, day)
        books = replay(day, rules, ruled=ruled, anchored=anchored)
        found = run_in_memory(day, rules, ruled=ruled, anchored=anchored, seed=seed)
        assert list(differences(day, books, found)) == [], f"seed {seed}"
        outcome = found.outcome
        assert outcome is not None
        assert outcome.conservation.sizes == (0,) * len(day.markets)
        assert outcome.conservation.external_flow == tuple(books.external[i] for i in range(len(day.ledgers)))
        reasons += books.reasons
        reasons.update(f"verdict {verdict_of(facts)}" for facts in books.facts)
        steps += books.steps
        seed += 1
    if "REPLAY_RANDOM_STEPS" in os.environ:
        with capsys.disabled():
            counts = ", ".join(f"{name} {count:,}" for name, count in sorted(reasons.items()))
            print(f"\n{steps:,} steps of {seed:,} days without a difference: {counts}", file=sys.stderr)
    needed = REASONS | (RULED if ruled else set()) | ({"anchored"} if anchored else set())
    needed |= {"verdict unknown equity", "verdict healthy", "verdict agrees"}
    assert {name for name in needed if not reasons[name]} == set(), "the random days must reach every branch"


@pytest.mark.parametrize("ruled", [False, True])
def test_a_crowded_day(ruled: bool) -> None:
    """More pools and positions than the loop makes room for at first."""
    day = random_day(9, steps=60, accounts=90)
    rules = random_rules(9, day)
    books = replay(day, rules, ruled=ruled)
    assert len(books.positions) > 150
    found = run_in_memory(day, rules, ruled=ruled, anchored=False)
    assert list(differences(day, books, found)) == []


@pytest.mark.parametrize(("ruled", "anchored"), MODES)
@pytest.mark.parametrize("seed", range(3))
def test_random_days_through_files(tmp_path: Path, seed: int, ruled: bool, anchored: bool) -> None:
    """A day, its tape on disk, the run of it on disk: what SQL would see is what the reference expects."""
    day = random_day(seed)
    write_tape(day, tmp_path / "tape")
    tape = open_tape(tmp_path / "tape")
    assert day_of_tape(tape) == day
    rules = flat_rate(day, Fraction(1, 100), "@vault:liquidator")  # the closed alpha's, in two lines
    books = replay(day, rules, ruled=ruled, anchored=anchored)
    made = run(
        tape,
        load_rules("hyperliquid@2023-02"),
        tmp_path / "run",
        liquidations="rules" if ruled else "recorded",
        anchor_equity="recorded" if anchored else None,
        batch_rows=50,
    )
    found = MemoryRun(
        tables={path.stem: read_rows(path) for path in made.path.glob("*.parquet")},
        account_names=[row["name"] for row in read_rows(made.path / "account_names.parquet")],
    )
    assert list(differences(day, books, found)) == []


def read_rows(path: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(path, partitioning=None).to_pylist()
    return rows
