"""The loop: windows of a tape go in, rows of run tables come out; phases in the order of the design.

Per step the kernel applies all events and judges the pools; where pools are in breach the host runs the
waterfall on the batch of their positions and lets the ledger kernel book the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError, TapeError
from replay.loop.advance import (
    BREACH,
    DONE,
    FAULTED,
    HEAP_FULL,
    Scratch,
    advance,
    close_shadows,
    row_actions,
)
from replay.loop.books import Conservation, check_conservation, open_books, value_of
from replay.loop.ledger import book_takeover
from replay.loop.margin import valuation
from replay.loop.shadow import ShadowAudit
from replay.loop.state import (
    BAD_PRICE,
    BREACHES,
    BREAK,
    BREAKS,
    CELL_OVERFLOW,
    FAULT,
    FAULT_MARKET,
    FAULT_POOL,
    FULL_HEAP,
    NO_MARK_FOR_FUNDING,
    SHADOW,
    SHADOWS,
    STEP_TS,
    State,
    mark_sources,
)
from replay.loop.waterfall import ForcedBatch, forced_batch, take_over
from replay.rules.plan import Plan
from replay.tape.read import Tape, Window
from replay.tape.schema import Grade
from replay.units import format_time

Array = npt.NDArray[Any]

_TABLES = ("transfers", "funding", "prices", "liquidations", "fills")


class Sink(Protocol):
    """Where the loop writes rows of run tables, in units of the tape."""

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Append rows by column."""


@dataclass(slots=True)
class Outcome:
    """What a replay did, beside the rows it wrote."""

    state: State
    conservation: Conservation
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TABLES, 0))
    liquidations: int = 0
    balanced_markets: int = 0
    first_ts: int | None = None
    last_ts: int | None = None


class Replay:
    """One pass over a tape under one plan.

    Args:
        tape: The tape.
        plan: The compiled rules.
        sink: Receives the rows of the run tables.
        rules_decide: ``--liquidations rules``: margin checks create the forced orders; otherwise only the
            tape moves the ledger and the waterfall runs as a shadow.
        anchoring: Book the difference to recorded equity against @unexplained before each liquidation.
    """

    def __init__(
        self, tape: Tape, plan: Plan, sink: Sink, *, rules_decide: bool = False, anchoring: bool = False
    ) -> None:
        self._tape = tape
        self._plan = plan
        self._sink = sink
        self._rules_decide = rules_decide
        grade = Grade.KNOWN if tape.manifest["accounts_start"] == "known" else Grade.UNKNOWN
        counted = tape.select("SELECT market, kind, count(*) FROM prices GROUP BY ALL ORDER BY ALL")
        kind_rows = {(market, kind): rows for market, kind, rows in counted}
        kinds, from_fills = mark_sources(kind_rows, tape.markets, anchoring=anchoring)
        self.state = State(
            tape.markets,
            tape.ledgers,
            tape.account_names,
            mark_kinds=kinds,
            fills_set_mark=from_fills,
            plan=plan,
            watching=rules_decide,
            anchoring=anchoring,
            grade=grade,
        )
        self._audit = ShadowAudit(self.state, plan, tape.words, rules_decide=rules_decide)
        self._outcome = Outcome(self.state, Conservation((), (), ()))
        self._outcome.balanced_markets = open_books(self.state, tape)
        if rules_decide:
            self._open_absorbers()

    def run(
        self, *, batch_rows: int = 65_536, threads: int = 2, until: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Replay the tape; yield (moment, rows so far) after each window, for progress.

        Raises:
            TapeError: A row that no tape may hold (an overflow of a cell, funding before the first mark).
            ConservationError: The books did not close.
        """
        rows_so_far = 0
        for window in self._tape.windows(batch_rows=batch_rows, threads=threads, until=until):
            self._replay_window(window)
            rows_so_far += window.rows
            last = int(self.state.arrays.counters[STEP_TS])
            if self._outcome.first_ts is None:
                self._outcome.first_ts = min(int(table[0][0]) for table in window if len(table[0]))
            self._outcome.last_ts = last
            yield last, rows_so_far
        self._outcome.conservation = check_conservation(self.state, self._outcome.last_ts or 0)

    @property
    def outcome(self) -> Outcome:
        """What the replay did; complete once :meth:`run` is exhausted."""
        return self._outcome

    def _replay_window(self, window: Window) -> None:
        state = self.state
        state.reserve(window.rows)
        forced = int(np.count_nonzero(window.fills.kind))
        scratch = Scratch(
            actions=row_actions(rules_decide=self._rules_decide),
            shadows=np.zeros(forced, SHADOW),
            breaks=np.zeros(len(window.fills.ts), BREAK),
            cursors=np.zeros(len(_TABLES), np.int64),
        )
        counters = state.arrays.counters
        counters[SHADOWS] = counters[BREAKS] = 0
        ruled: set[tuple[int, int]] = set()
        while True:
            status = advance(state.arrays, window, scratch, state.default_grade)
            if status == DONE:
                break
            if status == FAULTED:
                raise self._fault(window, scratch)
            if status == HEAP_FULL:
                state.grow_heap(int(counters[FULL_HEAP]))
            elif status == BREACH:
                ruled |= self._liquidate(scratch)
        for name, table in zip(_TABLES, window, strict=True):
            self._outcome.rows[name] += len(table[0])
        shadows = scratch.shadows[: counters[SHADOWS]]
        audit, engagements = self._audit.rows(window.liquidations, shadows, ruled)
        _append_rows(self._sink, "audit", audit)
        _append_rows(self._sink, "engagements", engagements)
        breaks = scratch.breaks[: counters[BREAKS]]
        if len(breaks):
            names = ("ts", "account", "market", "expected", "found")
            self._sink.append("breaks", {name: breaks[name] for name in names})
        if forced:
            check_conservation(state, int(counters[STEP_TS]))
        state.drain_external()

    def _liquidate(self, scratch: Scratch) -> set[tuple[int, int]]:
        """Run the waterfall on the pools in breach; return (pool, ts) of each."""
        state = self.state
        counters = state.arrays.counters
        ts = int(counters[STEP_TS])
        pools = state.arrays.breaches[: counters[BREACHES]].astype(np.int64)
        counters[BREACHES] = 0
        state.arrays.pools["liquidated_ts"][pools] = ts
        batch = forced_batch(state, ts, pools)
        stage = self._plan.ladder[0]
        take_over(batch, state, stage.absorber)
        value_before = self._absorber_equities(batch)
        book_takeover(state.arrays, batch.position, batch.bankruptcy_value, batch.absorber)
        if counters[FAULT]:
            raise self._fault(None, scratch)
        close_shadows(state.arrays, scratch)
        self._write(batch, stage.absorber, scratch, value_before)
        check_conservation(state, ts)
        return {(int(pool), ts) for pool in pools}

    def _absorber_equities(self, batch: ForcedBatch) -> dict[int, int]:
        """Return the equity of each absorber's pool before the step's takeovers."""
        pools = np.unique(self.state.positions["pool"][batch.absorber])
        return {int(pool): int(valuation(self.state.arrays, int(pool))[0]) for pool in pools}

    def _write(self, batch: ForcedBatch, absorber: str, scratch: Scratch, balances: dict[int, int]) -> None:
        """Write a step's liquidations, forced orders, absorber movements and engagements."""
        state, stage = self.state, self._plan.ladder[0]
        rows = len(batch.pool)
        first = np.concatenate(([True], batch.pool[1:] != batch.pool[:-1]))
        liquidation = self._outcome.liquidations + np.cumsum(first) - 1
        self._outcome.liquidations += int(first.sum())
        value_at_mark = np.array(
            [
                value_of(state, int(m), int(n), int(mark), at_mark=True)
                for m, n, mark in zip(batch.market, batch.size, batch.mark, strict=True)
            ],
            np.int64,
        )
        gain = value_at_mark - batch.bankruptcy_value
        shadows = scratch.shadows[: state.arrays.counters[SHADOWS]]
        is_recorded = np.isin(batch.position, shadows["position"][shadows["ts"] == batch.ts])
        zeros = np.zeros(rows, np.int64)
        asked = np.abs(batch.size)
        pools = state.pools[batch.pool]
        steps = np.full(rows, batch.ts)
        self._sink.append(
            "liquidations",
            {
                "liquidation": liquidation,
                "ts": steps,
                "ts_end": steps,
                "account": pools["account"],
                "ledger": pools["ledger"],
                "market": batch.market,
                "mode": state.positions["mode"][batch.position],
                "size": batch.size,
                "asked": asked,
                "netted": zeros,
                "book": zeros,
                "absorbed": batch.absorbed,
                "adl": zeros,
                "left": batch.left,
                "bankruptcy_value": batch.bankruptcy_value,
                "mark": batch.mark,
                "equity": batch.equity,
                "maintenance": batch.maintenance,
                "surplus": np.maximum(gain, 0),
                "shortfall": np.maximum(-gain, 0),
                "fund": zeros if absorber.startswith("@vault") else np.maximum(-gain, 0),
                "vault": np.maximum(-gain, 0) if absorber.startswith("@vault") else zeros,
                "socialised": zeros,
                "bad_debt": zeros,
                "recorded": is_recorded.astype(np.int8),
            },
        )
        self._sink.append(
            "forced_orders",
            {
                "ts": steps,
                "liquidation": liquidation,
                "stage": [stage.action] * rows,
                "account": pools["account"],
                "market": batch.market,
                "asked": -batch.size,
                "filled": -batch.size,
                "value": -batch.bankruptcy_value,
                "mark": batch.mark,
                "reason": [f"taken over whole by {absorber}"] * rows,
            },
        )
        takers = state.positions[batch.absorber]
        running = []
        for pool, amount in zip(takers["pool"].tolist(), gain.tolist(), strict=True):
            balances[pool] += amount
            running.append(balances[pool])
        self._sink.append(
            "absorber_ledger",
            {
                "ts": steps,
                "account": state.pools["account"][takers["pool"]],
                "ledger": pools["ledger"],
                "market": batch.market,
                "kind": [stage.action] * rows,
                "amount": gain,
                "balance": running,
                "inventory": takers["size"],
            },
        )
        self._write_engagements(batch, absorber, running)

    def _write_engagements(self, batch: ForcedBatch, absorber: str, balances: Sequence[int]) -> None:
        stage = self._plan.ladder[0]
        rows = []
        for market in np.unique(batch.market):
            mine = np.flatnonzero(batch.market == market)
            count = len(mine)
            rows.append(
                {
                    "ts": batch.ts,
                    "scope": absorber,
                    "market": int(market),
                    "ledger": self.state.markets[int(market)].ledger,
                    "stage": stage.action,
                    "state": "engaged",
                    "reason": f"equity below maintenance in {count} pool{'s' if count > 1 else ''}",
                    "measured": sum(batch.equity[mine].tolist()),
                    "threshold": sum(batch.maintenance[mine].tolist()),
                    "fund_balance": balances[int(mine[-1])],
                    "quantity": sum(batch.absorbed[mine].tolist()),
                    "shadow": 0,
                }
            )
        _append_rows(self._sink, "engagements", rows)

    def _open_absorbers(self) -> None:
        """Make the absorbers' pools and write what they begin with."""
        stage = self._plan.ladder[0]
        ledgers = sorted({market.ledger for market in self._tape.markets if market.dex != "spot"})
        pools = [self.state.pseudo_pool(stage.absorber, ledger) for ledger in ledgers]
        cash = [int(self.state.pools[pool]["cash"]) for pool in pools]
        start = self._tape.first_ts or 0
        rows = [
            {
                "ts": start,
                "account": self.state.account(stage.absorber),
                "ledger": ledger,
                "market": None,
                "kind": "opening",
                "amount": amount,
                "balance": amount,
                "inventory": None,
            }
            for ledger, amount in zip(ledgers, cash, strict=True)
        ]
        _append_rows(self._sink, "absorber_ledger", rows)

    def _fault(self, window: Window | None, scratch: Scratch) -> ReplayError:
        """Turn a fault of the kernel into an error that names account, market and row."""
        counters = self.state.arrays.counters
        market, pool = int(counters[FAULT_MARKET]), int(counters[FAULT_POOL])
        at = format_time(int(counters[STEP_TS]))
        name = self.state.markets[market].name if market >= 0 else "?"
        row = None
        if window is not None and scratch.cursors[4] < len(window.fills.ts):
            row = int(window.fills.seq[scratch.cursors[4]]) + 1
        code = int(counters[FAULT])
        if code == NO_MARK_FOR_FUNDING:
            return TapeError(
                f"funding of market {name} at {at} comes before its first mark",
                file=self._tape.path,
                key="funding",
                mend="give the tape a price before the first funding",
            )
        if code == BAD_PRICE:
            return TapeError(
                f"a price of market {name} at {at} is not positive, or a quantity is 0",
                file=self._tape.path,
                row=row,
                mend="`replay check` lists such rows",
            )
        assert code == CELL_OVERFLOW
        account = self.state.account_names[int(self.state.pools[pool]["account"])] if pool >= 0 else "?"
        return TapeError(
            f"size, cost or cash of {account} in {name} reaches 2^62 at {at}",
            file=self._tape.path,
            row=row,
            mend="amounts are in 1e-8 of the currency; check units and scales of the source",
        )


def _append_rows(sink: Sink, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        sink.append(table, {name: [row.get(name) for row in rows] for name in names})
