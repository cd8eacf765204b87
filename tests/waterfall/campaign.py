"""Compare the loop with the reference engine on one random day, cell by cell over all tables of the run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

from replay.loop.books import closing_tables, valuations_of
from replay.loop.engine import Replay
from replay.tape import read
from tests.loop.in_memory import MemoryRun, Row
from tests.reference.waterfall import Waterfall, run_waterfall
from tests.strategies import random_day, random_rules
from tests.waterfall.random_ladder import (
    with_conditions,
    with_guard,
    with_ladder_axes,
    with_rate_limits,
    with_shares,
    with_step_axes,
)
from tests.waterfall.random_plans import DeepTape, random_depth, random_plan, with_risk_price

STAGES = (
    "net: closed against its own hedge",
    "book: filled",
    "book: depth used up",
    "book: depth within the limit used up",
    "takeover: taken over by @vault",
    "takeover: taken over by @fund",
    "takeover: the absorber's capacity is used up",
    "adl: ladder",
    "adl: takeover",
    "adl: @vault",
    "adl: @fund",
    "ledger: opening",
    "ledger: surplus",
    "ledger: takeover",
    "ledger: work out",
    "ledger: deleveraged",
    "ledger: debt",
    "takeover: taken over by @vault:second",
    "takeover: taken over by @fund:second",
    "takeover: the absorber does nothing for the market now",
    "ledger: residual",
    "engaged: book",
    "engaged: takeover",
    "engaged: adl",
    "start: the balance is not above zero",
    "start: drawdown of the market against the fund's peak",
    "stop: the balance is above zero",
    "stop: drawdown of the market against the fund's peak",
    "shared: bad_debt",
    "ended",
    "left open",
    "adl fee",
    "winner fee",
    "an account is spared",
    "a market is spared",
    "refused: below_maintenance",
    "refused: always",
    "the price in need",
    "a tie is broken",
    "the book is left alone",
    "the cap of a step",
    "a breach waits for its round",
    "a breach waits for its turn",
    "a loser waits for its turn",
    "a share of all is enough",
    "no share is enough",
    "the rest of a share is handed on",
    "what is left enters alone",
    "more of it later",
    "a market is guarded",
    "start: the price is too far from its average",
    "stop: nobody is passed over for the price any more",
    "the cap of a pool in a step",
    "risk at the oracle",
    "risk at the index",
)
"""Every stage and reason that a day under some rules can reach."""

_ACCOUNTS = ("account", "loser", "winner")
_IGNORED = ("seq", "shadow")
_TABLES = ("engagements", "liquidations", "forced_orders", "absorber_ledger", "adl_fills", "shared_losses")


@dataclass
class Tally:
    """What was compared, what differed, and what happened how often."""

    days: int = 0
    steps: int = 0
    cells: int = 0
    differences: list[str] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add what another comparison found."""
        self.days += other.days
        self.steps += other.steps
        self.cells += other.cells
        self.differences += other.differences
        self.hits += other.hits


def compare(
    seed: int, *, steps: int | None = None, accounts: int | None = None, ladder: bool = True
) -> Tally:
    """Replay one random day with both engines and compare all tables.

    Args:
        seed: Decides the day, the rules, the book and where the windows of the tape are cut.
        steps: Steps of the day; by default the day decides.
        accounts: Accounts of the day; likewise.
        ladder: Whether the axes of :mod:`tests.waterfall.random_ladder` are drawn, too.
    """
    day = random_day(seed, steps=steps, accounts=accounts)
    plan, depth = random_plan(seed, day), random_depth(seed, day)
    if ladder:
        has_steps = all(own.basis != "entry" for own in random_rules(seed, day).own.values())
        plan = with_ladder_axes(seed, plan, has_steps=has_steps)
        if has_steps:
            plan = with_shares(seed, plan)
        plan = with_conditions(seed, plan)
        plan = with_rate_limits(seed, plan)
        plan = with_step_axes(seed, plan)
        plan = with_guard(seed, plan)
    day, plan = with_risk_price(seed, day, plan)
    books = run_waterfall(day, random_rules(seed, day), plan, depth)
    found = MemoryRun()
    replay = Replay(cast(read.Tape, DeepTape(day, depth, seed)), plan, found, rules_decide=True)
    for _ in replay.run():
        pass
    for table, columns in closing_tables(replay.state, valuations_of(replay.state)).items():
        found.append(table, columns)
    found.account_names = replay.state.account_names
    tally = Tally(days=1, steps=books.steps, hits=_hits(books))
    for table in _TABLES:
        _compare_rows(seed, table, books.rows.get(table, []), _named(found, table), tally)
    _compare_maps(seed, "accounts_end", _accounts(books), _found_accounts(found), tally)
    _compare_maps(seed, "positions_end", _positions(books), _found_positions(found), tally)
    return tally


def _named(found: MemoryRun, table: str) -> list[Row]:
    rows = []
    for row in found.tables.get(table, []):
        named = {name: value for name, value in row.items() if name not in _IGNORED}
        for column in _ACCOUNTS:
            if column in named:
                named[column] = found.account_names[named[column]]
        rows.append(named)
    return rows


def _compare_rows(seed: int, table: str, expected: list[Row], got: list[Row], tally: Tally) -> None:
    tally.cells += sum(map(len, expected))
    if len(expected) != len(got):
        tally.differences.append(f"seed {seed}, {table}: {len(expected)} rows expected, {len(got)} found")
    for number, (wanted, row) in enumerate(zip(expected, got, strict=False)):
        if wanted != row:
            cells = {k: (wanted.get(k), row.get(k)) for k in wanted | row if wanted.get(k) != row.get(k)}
            if cells:
                tally.differences.append(f"seed {seed}, {table} row {number} at {wanted.get('ts')}: {cells}")


def _compare_maps(seed: int, table: str, expected: Any, got: Any, tally: Tally) -> None:
    tally.cells += sum(map(len, expected.values()))
    tally.differences += [
        f"seed {seed}, {table} {key}: expected {expected.get(key)}, found {got.get(key)}"
        for key in {**expected, **got}
        if expected.get(key) != got.get(key)
    ]


def _accounts(books: Waterfall) -> dict[Any, Any]:
    rows = {}
    for (account, ledger, market), pool in books.pools.items():
        known = books.marked(pool) and (pool.special or pool.grade < 3)
        equity = books.equity(pool) if known else None
        if not pool.special or pool.cash or equity:
            maintenance = books.maintenance(pool) if books.marked(pool) else None
            rows[account, ledger, market] = (pool.cash, equity, maintenance)
    return rows


def _found_accounts(found: MemoryRun) -> dict[Any, Any]:
    return {
        (found.account_names[row["account"]], row["ledger"], row["market"]): (
            row["cash"], row["equity"], row["maintenance"],
        )
        for row in found.tables["accounts_end"]
        if not row["special"] or row["cash"] or row["equity"]
    }  # fmt: skip


def _positions(books: Waterfall) -> dict[Any, Any]:
    return {
        key: (position.size, position.cost)
        for key, position in books.positions.items()
        if position.size or position.cost
    }


def _found_positions(found: MemoryRun) -> dict[Any, Any]:
    return {
        (found.account_names[row["account"]], row["market"], row["mode"]): (row["size"], row["cost"])
        for row in found.tables["positions_end"]
        if row["size"] or row["cost"]
    }


def _hits(books: Waterfall) -> Counter[str]:
    hits: Counter[str] = +books.met
    hits[f"risk at the {books.plan.risk_price}"] += 1
    for row in books.rows.get("forced_orders", []):
        hits[f"{row['stage']}: {row['reason'].split(':')[0]}"] += 1
        hits[f"{row['stage']}: {':'.join(row['reason'].split(':')[:2])}"] += ":second" in row["reason"]
    for row in books.rows.get("adl_fills", []):
        hits[f"adl: {row['origin'].split(':')[0]}"] += 1
        hits["adl fee"] += row["loser_fee"] > 0
        hits["winner fee"] += row["winner_fee"] > 0
    for row in books.rows.get("absorber_ledger", []):
        hits[f"ledger: {row['kind']}"] += 1
    for row in books.rows.get("engagements", []):
        words = row["stage"] if row["state"] == "engaged" else row["reason"].split(":")[0]
        hits[f"{row['state']}: {words}"] += 1
    for row in books.rows.get("shared_losses", []):
        hits[f"shared: {row['kind']}"] += 1
    for row in books.rows.get("liquidations", []):
        hits["left open" if row["ts_end"] is None else "ended"] += 1
    return hits
