"""What holds on every day under every rules: random small days with depth, under random plans.

``REPLAY_RANDOM_DAYS=5000`` sets how many; the seeds rise from 0.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from replay.loop.books import closing_tables, valuations_of
from replay.loop.depth import NO_LIMIT, Depth
from replay.loop.engine import Replay
from replay.rules.plan import BookOrder, Deleverage, Plan, Takeover
from replay.tape import read
from replay.tape.schema import Side
from replay.units import RATE_ONE
from tests.loop.in_memory import MemoryRun, Row
from tests.reference import Day, contract_value
from tests.strategies import random_day
from tests.waterfall.random_plans import DeepTape, random_depth, random_plan

DAYS = int(os.environ.get("REPLAY_RANDOM_DAYS", "100"))


# --- a run in memory -------------------------------------------------------------------------------------


class WatchedDepth:
    """The book of a run, with a look at what each call has left."""

    def __init__(self, depth: Depth) -> None:
        self._depth = depth
        self.left_over: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._depth, name)

    def fill(self, market: int, side: Side, ts: int, asked: Any, limit: Any, whole: Any) -> Any:
        filled, values = self._depth.fill(market, side, ts, asked, limit, whole)
        prices, quantities = self._depth.levels(market, side, ts)
        missing = self._depth.taken(market, side, ts)
        left = np.maximum(quantities - np.maximum(missing - (quantities.cumsum() - quantities), 0), 0)
        for want, got, worst, all_or_nothing in zip(asked, filled, limit, whole, strict=True):
            within = prices >= worst if side == Side.BID else prices <= worst
            there = int(left[within | (worst == NO_LIMIT)].sum())
            if got < want and there and not all_or_nothing:
                self.left_over.append((ts, market, side, int(want), int(got), there))
        return filled, values


class Result(MemoryRun):
    """The tables of a run in memory; a column that a row lacks is unknown, as in the journal."""

    def of(self, table: str) -> list[Row]:
        return self.tables.get(table, [])

    def known(self, table: str) -> list[Row]:
        return [{k: v for k, v in row.items() if v is not None} for row in self.of(table)]


def replayed(day: Day, plan: Plan, depth: list[Row], *, cuts: int = 0) -> tuple[Result, Replay]:
    """Replay a day; ``cuts`` decides where the windows of the tape are cut."""
    result = Result()
    loop = Replay(
        cast(read.Tape, DeepTape(day, depth, cuts)), plan, result, rules_decide=True, anchoring=False
    )
    assert loop.cascade is not None
    assert loop.cascade.depth is not None
    watched = WatchedDepth(loop.cascade.depth)
    loop.cascade.depth = cast(Any, watched)
    for _ in loop.run():
        pass
    assert watched.left_over == [], "an order was not filled though a level within its limit was there"
    for table, columns in closing_tables(loop.state, valuations_of(loop.state)).items():
        result.append(table, columns)
    result.account_names = loop.state.account_names
    return result, loop


@pytest.fixture(scope="module")
def runs() -> list[tuple[int, Day, Plan, Result, Replay]]:
    def make() -> Iterator[tuple[int, Day, Plan, Result, Replay]]:
        for seed in range(DAYS):
            day = random_day(seed, steps=30)
            plan = random_plan(seed, day)
            yield seed, day, plan, *replayed(day, plan, random_depth(seed, day))

    return list(make())


Runs = list[tuple[int, Day, Plan, Result, Replay]]


# --- what holds --------------------------------------------------------------------------------------------


def test_the_days_reach_every_stage_and_reason(runs: Runs) -> None:
    """Otherwise the invariants below say nothing."""
    seen: Counter[str] = Counter()
    for _, _, _, result, _ in runs:
        seen.update(row["stage"] for row in result.of("forced_orders"))
        seen.update(row["reason"].split("@")[0] for row in result.of("forced_orders"))
        seen.update("adl " + row["origin"].split(":")[0] for row in result.of("adl_fills"))
        seen.update(row["kind"] for row in result.of("absorber_ledger"))
        seen.update(row["kind"] for row in result.of("shared_losses"))
        seen.update("end" for row in result.of("liquidations") if row["ts_end"] is not None)
        seen.update("open" for row in result.of("liquidations") if row["ts_end"] is None)
    wanted = {
        "book", "takeover", "filled", "depth used up", "depth within the limit used up", "taken over by ",
        "the absorber's capacity is used up", "adl ladder", "adl takeover", "adl @vault", "adl @fund",
        "surplus", "work out", "deleveraged", "bad_debt", "end", "open",
    }  # fmt: skip
    assert wanted <= set(seen), sorted(wanted - set(seen))


def test_sizes_sum_to_zero_and_money_to_what_came_in(runs: Runs) -> None:
    for seed, day, _, result, loop in runs:
        sums = loop.outcome.conservation
        assert not any(sums.sizes), seed
        assert list(sums.cash_less_cost) == list(sums.external_flow), seed
        sizes: Counter[int] = Counter()
        for row in result.of("positions_end"):
            sizes[row["market"]] += row["size"]
        assert not any(sizes.values()), seed
        assert len(day.markets) == len(sums.sizes)


def test_every_lot_asked_for_went_somewhere(runs: Runs) -> None:
    """Asked = netted + book + absorbed + adl + left, and each part is what its own table says."""
    for seed, _, _, result, _ in runs:
        parts: Counter[tuple[int, int, str]] = Counter()
        for row in result.of("forced_orders"):
            assert abs(row["filled"]) <= abs(row["asked"]), seed
            assert row["filled"] * row["asked"] >= 0, seed
            parts[row["liquidation"], row["market"], row["stage"]] += abs(row["filled"])
        for row in result.of("adl_fills"):
            if row["liquidation"] is not None:
                parts[row["liquidation"], row["market"], "adl"] += row["quantity"]
        for row in result.of("liquidations"):
            where = (seed, row["liquidation"])
            total = row["netted"] + row["book"] + row["absorbed"] + row["adl"] + row["left"]
            assert row["asked"] == total, where
            assert min(row[name] for name in ("netted", "book", "absorbed", "adl", "left")) >= 0, where
            key = (row["liquidation"], row["market"])
            assert row["netted"] == parts.pop((*key, "net"), 0), where
            assert row["book"] == parts.pop((*key, "book"), 0), where
            assert row["absorbed"] == parts.pop((*key, "takeover"), 0), where
            assert row["adl"] == parts.pop((*key, "adl"), 0), where
        assert not +parts, seed


def test_every_shortfall_was_paid_by_somebody(runs: Runs) -> None:
    """Shortfall = fund + vault + socialised + bad debt, and each part is what its own table says."""
    for seed, _, _, result, loop in runs:
        rows = result.of("liquidations")
        for row in rows:
            paid = row["fund"] + row["vault"] + row["socialised"] + row["bad_debt"]
            assert row["shortfall"] == paid, (seed, row["liquidation"])
            assert min(row[name] for name in ("surplus", "fund", "vault", "socialised", "bad_debt")) >= 0
        bad_debt = sum(row["bad_debt"] for row in rows)
        for kind in ("socialised", "bad_debt"):
            shared = sum(row["amount"] for row in result.of("shared_losses") if row["kind"] == kind)
            assert shared == sum(row[kind] for row in rows), (seed, kind)
        owed = [
            row["cash"]
            for row in result.of("accounts_end")
            if result.account_names[row["account"]] == "@bad_debt"
        ]
        assert sum(owed) == -bad_debt, seed
        gained = sum(row["surplus"] - row["fund"] - row["vault"] for row in rows)
        kinds = ("surplus", "takeover", "debt", "residual")
        moved = [row["amount"] for row in result.of("absorber_ledger") if row["kind"] in kinds]
        assert gained == sum(moved), seed
        assert loop.cascade is not None


def test_accounts_that_the_waterfall_emptied_owe_nothing(runs: Runs) -> None:
    """A liquidation ends restored or flat; who ended flat in it has no negative cash."""
    for seed, _, _, result, loop in runs:
        state = loop.state
        open_pools = {int(state.positions[i]["pool"]) for i in np.flatnonzero(state.positions["size"])}
        emptied = {
            (row["account"], row["ledger"], row["market"] if row["mode"] else -1): row["ts_end"]
            for row in result.of("liquidations")
            if row["ts_end"] == loop.outcome.last_ts
        }
        for pool, record in enumerate(state.pools):
            key = (int(record["account"]), int(record["ledger"]), int(record["market"]))
            if key in emptied and pool not in open_pools:
                assert record["cash"] >= 0, (seed, key)


def test_no_winner_is_closed_beyond_its_size_or_without_a_profit(runs: Runs) -> None:
    for seed, _, _, result, _ in runs:
        closed: dict[Any, Counter[str]] = defaultdict(Counter)
        for row in result.of("adl_fills"):
            long = row["loser_size_before"] > 0
            assert (row["winner_size_before"] > 0) != long, seed
            for who in ("winner", "loser"):
                before, after = row[f"{who}_size_before"], row[f"{who}_size_after"]
                assert abs(after) <= abs(before), seed
                assert before * after >= 0, seed
            assert row["rank"] <= row["candidates"], seed
            key = (row["ts"], row["market"], long, row["winner"], row["rank"])
            closed[key]["quantity"] += row["quantity"]
            closed[key]["size"] = abs(row["winner_size_before"])
            closed[key]["change"] = abs(row["winner_size_before"] - row["winner_size_after"])
        for key, sums in closed.items():
            assert 0 < sums["quantity"] == sums["change"] <= sums["size"], (seed, key)


def test_a_queue_closes_winners_from_the_first_rank_without_a_gap(runs: Runs) -> None:
    queues = [
        run
        for run in runs
        if run[2].adl is not None and run[2].adl.method == "queue" and not run[2].adl.must_not_worsen
    ]
    assert len(queues) > len(runs) // 6
    for seed, _, plan, result, _ in queues:
        ranks: dict[Any, dict[int, bool]] = defaultdict(dict)
        scores: dict[Any, list[tuple[int, float]]] = defaultdict(list)
        for row in result.of("adl_fills"):
            key = (row["ts"], row["market"], row["loser_size_before"] > 0)
            ranks[key][row["rank"]] = row["winner_size_after"] == 0
            scores[key].append((row["rank"], row["score"]))
        for key, reached in ranks.items():
            assert sorted(reached) == list(range(1, len(reached) + 1)), (seed, key)
            if plan.adl is not None and plan.adl.winner_cap == RATE_ONE:
                whole = [reached[rank] for rank in sorted(reached)[:-1]]
                assert all(whole), (seed, key, "closed whole but the last")
            assert [rank for rank, _ in scores[key]] == sorted(rank for rank, _ in scores[key])


def test_within_a_step_the_stages_keep_their_order(runs: Runs) -> None:
    order = {"book": 0, "takeover": 1, "adl": 2}
    for seed, _, _, result, _ in runs:
        stages: dict[int, list[int]] = defaultdict(list)
        for row in result.of("engagements"):
            if row["state"] == "engaged":
                stages[row["ts"]].append(order[row["stage"]])
        assert all(found == sorted(found) for found in stages.values()), seed


def test_nobody_is_deleveraged_for_an_order_before_the_book_was_asked(runs: Runs) -> None:
    """Where a rung sends the whole order to the book before the same level hands it on."""
    for seed, _, plan, result, _ in runs:
        first, last = plan.ladder[-2:] if len(plan.ladder) > 1 else (None, None)
        if not isinstance(first, BookOrder) or not isinstance(last, Takeover | Deleverage):
            continue
        if last.level != first.level or first.slice_above or first.size != "full":
            continue
        if plan.adl is not None and plan.adl.suspends_book:
            continue
        short = {
            (row["ts"], row["liquidation"], row["market"])
            for row in result.of("forced_orders")
            if row["stage"] == "book" and row["filled"] != row["asked"]
        }
        for row in result.of("adl_fills"):
            if row["liquidation"] is not None:
                assert (row["ts"], row["liquidation"], row["market"]) in short, seed


def test_the_same_tables_however_the_tape_is_cut(runs: Runs) -> None:
    for seed, day, plan, result, _ in runs[:: max(1, len(runs) // 40)]:
        again, _ = replayed(day, plan, random_depth(seed, day), cuts=seed + 1)
        for table in sorted(set(result.tables) | set(again.tables)):
            assert result.known(table) == again.known(table), (seed, table)


def test_more_depth_never_fills_less_in_the_first_step_of_a_day() -> None:
    """Up to the first forced orders both days are one state; each order then fills at least as much."""
    compared = 0
    for seed in range(DAYS):
        day = random_day(seed, steps=30)
        plan = random_plan(seed, day)
        rung = next(rung for rung in plan.ladder if isinstance(rung, BookOrder) and rung.size == "full")
        assert plan.depth is not None
        plan = replace(plan, ladder=(rung,), depth=replace(plan.depth, provider="levels"), adl=None)
        orders = [
            [
                (row["ts"], row["liquidation"], row["market"], row["asked"], abs(row["filled"]))
                for row in replayed(day, plan, random_depth(seed, day, times=times))[0].of("forced_orders")
            ]
            for times in (1, 2)
        ]
        thin, deep = ([row for row in rows if row[0] == rows[0][0]] for rows in orders)
        assert [row[:4] for row in thin] == [row[:4] for row in deep], seed
        assert all(less[4] <= more[4] for less, more in zip(thin, deep, strict=True)), seed
        compared += sum(row[4] > 0 for row in thin)
    assert compared > DAYS // 10


def test_the_value_of_a_piece_is_that_of_its_contract(runs: Runs) -> None:
    """ADL at the mark or the previous mark: no price but these; the rest sums to what the loser was worth."""
    for seed, day, plan, result, _ in runs:
        if plan.adl is None or plan.adl.price != "mark" or plan.adl.fallback_price:
            continue
        for row in result.of("adl_fills"):
            if row["origin"] == "ladder":
                spec = day.markets[row["market"]]
                sign = 1 if row["loser_size_before"] > 0 else -1
                value = contract_value(spec, sign * row["quantity"], row["mark"], spec.mark_scale)
                assert row["value"] == value, seed
