"""The loop: windows of a tape go in, rows of run tables come out; phases in the order of the design.

Per step the kernel applies all events and judges the pools; where pools are in breach the host runs the
waterfall on the batch of their positions and lets the ledger kernel book the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError, RulesError, TapeError
from replay.loop.added import Added, book_added, cut_window
from replay.loop.advance import (
    ASKED,
    ATTEND,
    DONE,
    FAULTED,
    HEAP_FULL,
    JUDGED,
    Scratch,
    advance,
    row_actions,
)
from replay.loop.books import Conservation, check_conservation, open_books
from replay.loop.cascade import Cascade
from replay.loop.depth import Depth, no_book
from replay.loop.episodes import no_cases
from replay.loop.executed import RecordedExecution
from replay.loop.fund import no_fund, stacked
from replay.loop.queue import queue_of
from replay.loop.rows import Sink, append_rows, no_rows
from replay.loop.series import Sampler
from replay.loop.session import Sessions
from replay.loop.shadow import ShadowAudit
from replay.loop.state import (
    BAD_PRICE,
    BREACHES,
    BREAK,
    BREAKS,
    BUCKETS,
    CELL_OVERFLOW,
    EXECUTING,
    FAULT,
    FAULT_MARKET,
    FAULT_POOL,
    FORCED_STEPS,
    FULL_HEAP,
    GUESSED,
    IN_STEP,
    NO_MARK_FOR_FUNDING,
    POSITIONS,
    SHADOW,
    SHADOWS,
    STEP_TS,
    STEPS,
    State,
    guess_positions,
    mark_sources,
    oracle_sources,
)
from replay.loop.step import Forcing, no_ladder, work_of
from replay.rules.plan import Plan
from replay.tape.ahead import read_ahead
from replay.tape.read import NONE, Tape, Window
from replay.tape.schema import Grade, Payoff, PriceKind
from replay.units import format_time

Array = npt.NDArray[Any]

_NEVER = (1 << 63) - 1
_NOTHING = Forcing(
    no_book(),
    stacked([no_fund()]),
    no_rows(),
    no_cases(),
    no_ladder(),
    queue_of(None, 0, {}, 0),
    work_of(0, 0),
)
_TABLES = ("transfers", "funding", "prices", "liquidations", "fills", "depth")


@dataclass(slots=True)
class Outcome:
    """What a replay did, beside the rows it wrote."""

    state: State
    conservation: Conservation
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TABLES, 0))
    liquidations: int = 0
    balanced_markets: int = 0
    crossed_depth: int = 0
    first_ts: int | None = None
    last_ts: int | None = None


def _bucket(plan: Plan) -> int:
    """Return the width of the buckets of traded volume, 0 where no rule asks for it."""
    if plan.depth is None or plan.depth.provider != "volume":
        return 0
    return max(1, plan.depth.window_ns // BUCKETS)


def _oracles(plan: Plan, kind_rows: dict[tuple[int, int], int], tape: Tape) -> list[int]:
    """Return the price kind of each market's oracle; refuse rules that need one the tape does not have."""
    kinds = oracle_sources(kind_rows, tape.markets)
    for market, kind in zip(tape.markets, kinds, strict=True):
        if plan.oracle_key and kind < 0 and market.payoff != Payoff.SPOT:
            raise RulesError(
                f"the rules use the oracle price, and the tape has neither oracle nor index of {market.name}",
                file=tape.path,
                key=plan.oracle_key,
                mend="import a source of oracle or index prices too, or choose another price with --set",
            )
    return kinds


def _mark_sources(
    plan: Plan, kind_rows: dict[tuple[int, int], int], tape: Tape, *, anchoring: bool
) -> tuple[list[int], list[bool]]:
    """Choose what sets each market's mark by the price at which the rules measure risk."""
    kinds, from_fills = mark_sources(kind_rows, tape.markets, anchoring=anchoring)
    if plan.risk_price == "mark":
        return kinds, from_fills
    oracles = oracle_sources(kind_rows, tape.markets)
    for market in tape.markets:
        kind = oracles[market.id] if plan.risk_price == "oracle" else int(PriceKind.INDEX)
        if market.payoff == Payoff.SPOT:
            continue
        if kind < 0 or not kind_rows.get((market.id, kind)):
            wanted = "neither oracle nor index" if plan.risk_price == "oracle" else "no index"
            raise RulesError(
                f"the rules measure risk at the {plan.risk_price}, and the tape has {wanted} of {market.name}",
                file=tape.path,
                key="price.risk_price",
                mend="import a source of these prices too, or --set price.risk_price=mark",
            )
        kinds[market.id], from_fills[market.id] = 1 << kind, False
    return kinds, from_fills


def _check_exempt(plan: Plan, tape: Tape, added: Sequence[Added]) -> None:
    """Refuse rules that spare an account which neither the tape nor the user brings: its name is mistaken."""
    if plan.adl is None or not plan.adl.exempt_accounts:
        return
    known = {*tape.account_names, *(entry.account for entry in added)}
    missing = [name for name in plan.adl.exempt_accounts if name not in known]
    if missing:
        raise RulesError(
            f"the tape has no account called {missing[0]}",
            file=tape.path,
            key="adl.exempt.accounts",
            mend="name accounts as the tape does (`replay sql` on a run lists them in accounts), or leave it out",
        )


def _check_rounds(plan: Plan, *, rules_decide: bool, anchoring: bool) -> None:
    """Refuse rounds in a run that knows the equity of a pool in one step only: hardly any is a round."""
    if plan.period_ns and rules_decide and anchoring:
        raise RulesError(
            "pools are judged in rounds, and anchored equity is known only in the step of a recorded liquidation",
            file=plan.name,
            key="step.kind",
            mend="--set step='{kind=\"per_timestamp\"}', or leave --anchor-equity out",
        )


class Replay:
    """One pass over a tape under one plan.

    Args:
        tape: The tape.
        plan: The compiled rules.
        sink: Receives the rows of the run tables.
        rules_decide: ``--liquidations rules``: margin checks create the forced orders; otherwise only the
            tape moves the ledger and the waterfall runs as a shadow.
        anchoring: Book the difference to recorded equity against @unexplained before each liquidation.
        executing: ``--execution depth`` with recorded liquidations: see :mod:`replay.loop.executed`.
        added: Accounts of the user's own, in order of their moments; see :mod:`replay.loop.added`.
        watched: Names of accounts whose positions are sampled from the start.
        sample_ns: How often the series are sampled; 0 is never.
    """

    def __init__(
        self,
        tape: Tape,
        plan: Plan,
        sink: Sink,
        *,
        rules_decide: bool = False,
        anchoring: bool = False,
        executing: bool = False,
        added: Sequence[Added] = (),
        watched: Sequence[str] = (),
        sample_ns: int = 0,
    ) -> None:
        self._tape = tape
        self._plan = plan
        self._sink = sink
        self._rules_decide = rules_decide
        self._added = list(added)
        _check_exempt(plan, tape, self._added)
        _check_rounds(plan, rules_decide=rules_decide, anchoring=anchoring)
        grade = Grade.KNOWN if tape.manifest["accounts_start"] == "known" else Grade.UNKNOWN
        counted = tape.select("SELECT market, kind, count(*) FROM prices GROUP BY ALL ORDER BY ALL")
        kind_rows = {(market, kind): rows for market, kind, rows in counted}
        kinds, from_fills = _mark_sources(plan, kind_rows, tape, anchoring=anchoring)
        self.state = State(
            tape.markets,
            tape.ledgers,
            tape.account_names,
            mark_kinds=kinds,
            oracle_kinds=_oracles(plan, kind_rows, tape),
            fills_set_mark=from_fills,
            plan=plan,
            watching=rules_decide,
            anchoring=anchoring,
            grade=grade,
            bucket_ns=_bucket(plan),
        )
        self._outcome = Outcome(self.state, Conservation((), (), ()))
        self._outcome.balanced_markets = open_books(self.state, tape)
        start = tape.first_ts or 0
        self._executed = RecordedExecution(self.state, plan, start) if executing else None
        self.state.arrays.counters[EXECUTING] = executing
        executed = None if self._executed is None else self._executed.results
        self._audit = ShadowAudit(self.state, plan, tape.words, rules_decide=rules_decide, executed=executed)
        self.cascade = Cascade(self.state, plan, sink, start) if rules_decide else None
        if self.cascade is not None and plan.socialise == "session_profit_pro_rata":
            self.cascade.sessions = Sessions(self.state, plan.session_start_ns, start)
        self._sampler = None
        if sample_ns:
            followed = [self.state.account(name) for name in watched]
            self._sampler = Sampler(self.state, self.cascade, plan.adl, sink, followed)
        self._sample_ns = sample_ns
        self._sampled_steps = 0
        self._breaks = np.zeros(0, BREAK)
        self._unproved_rows = 0

    def run(
        self, *, batch_rows: int = 131_072, threads: int = 1, until: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """Replay the tape; yield (moment, rows so far) after each window, for progress.

        Raises:
            TapeError: A row that no tape may hold (an overflow of a cell, funding before the first mark).
            ConservationError: The books did not close.
        """
        rows_so_far = 0
        windows = self._tape.windows(batch_rows=batch_rows, threads=threads, until=until)
        for window, guesses in read_ahead(windows, self._guesses):
            for piece in self._pieces(window):
                self._replay_window(piece, guesses[: len(piece.fills.ts)])
                guesses = guesses[len(piece.fills.ts) :]
            rows_so_far += window.rows
            last = int(self.state.arrays.counters[STEP_TS])
            if self._outcome.first_ts is None:
                self._outcome.first_ts = min(int(table[0][0]) for table in window if len(table[0]))
            self._outcome.last_ts = last
            yield last, rows_so_far
        if self._outcome.last_ts is not None:
            self._between_steps(self._outcome.last_ts)
        if self.cascade is not None:
            self.cascade.finish()
            self._outcome.liquidations = self.cascade.episodes.count
        if self._depth is not None:
            self._outcome.crossed_depth = self._depth.refused
        self._outcome.conservation = check_conservation(self.state, self._outcome.last_ts or 0)

    def _guesses(self, window: Window) -> Array:
        """Look up the positions of fills, maybe while earlier ones are booked."""
        fills = window.fills
        guesses = np.empty(len(fills.ts), np.int64)
        guess_positions(self.state.arrays.position_table, fills.account, fills.market, fills.mode, guesses)
        return guesses

    @property
    def outcome(self) -> Outcome:
        """What the replay did; complete once :meth:`run` is exhausted."""
        return self._outcome

    def _pieces(self, window: Window) -> Iterator[Window]:
        """Cut a window behind the steps after which an added account is booked or the series are sampled."""
        last = max(int(table[0][-1]) for table in window if len(table[0]))
        while True:
            first = min(int(table[0][0]) for table in window if len(table[0]))
            sessions = self._sessions
            ts = min(
                self._next_sample(first),
                self._added[0].ts if self._added else _NEVER,
                sessions.next if sessions is not None else _NEVER,
            )
            if ts >= last:
                yield window
                return
            before, window = cut_window(window, ts)
            if before.rows:
                yield before
            self._between_steps(ts)

    def _next_sample(self, first: int) -> int:
        """Return the next moment at which the series are due: none passes without a step since the last."""
        if self._sampler is None:
            return _NEVER
        if int(self.state.arrays.counters[STEPS]) > self._sampled_steps:
            first = int(self.state.arrays.counters[STEP_TS])
        return -(-first // self._sample_ns) * self._sample_ns

    def _between_steps(self, ts: int) -> None:
        """Book the added accounts that are due at ``ts``, then sample if it is time."""
        due = [entry for entry in self._added if entry.ts <= ts]
        del self._added[: len(due)]
        sessions = self._sessions
        if due:
            before = None if sessions is None else sessions.worths()
            book_added(self.state, due)
            if sessions is not None and before is not None:
                sessions.pass_over(before)
        if sessions is not None:
            sessions.begin(ts)
        steps = int(self.state.arrays.counters[STEPS])
        if self._sampler is not None and ts % self._sample_ns == 0 and steps > self._sampled_steps:
            self._sampler.sample(ts)
            self._sampled_steps = steps

    def _replay_window(self, window: Window, guesses: Array) -> None:
        state = self.state
        state.reserve(window.rows)
        forced = int(np.count_nonzero(window.fills.kind))
        if len(self._breaks) < len(window.fills.ts):
            self._breaks = np.zeros(len(window.fills.ts), BREAK)
        scratch = Scratch(
            actions=row_actions(rules_decide=self._rules_decide),
            shadows=np.zeros(forced, SHADOW),
            breaks=self._breaks,
            cursors=np.zeros(len(_TABLES), np.int64),
            slots=guesses,
            rates=np.full(len(state.markets), NONE, np.int64),
            near=np.zeros(GUESSED, np.int64),
            looked_up=np.zeros(2, np.int64),
        )
        counters = state.arrays.counters
        counters[SHADOWS] = counters[BREAKS] = 0
        if self._sessions is not None:
            self._sessions.note(window.transfers)
        depth = self._depth
        if depth is not None:
            depth.open_window(window.depth, window.fills)
        ruled: set[tuple[int, int]] = set()
        forced_steps = int(counters[FORCED_STEPS])
        while True:
            status = advance(state.arrays, self._forcing, window, scratch, state.default_grade)
            if status == DONE:
                break
            if status == FAULTED:
                raise self._fault(window, scratch)
            if status == HEAP_FULL:
                state.grow_heap(int(counters[FULL_HEAP]))
            elif status == ATTEND:
                self._execute(scratch)
            elif status == ASKED:
                assert self.cascade is not None
                self.cascade.answer(int(counters[STEP_TS]))
            elif status == JUDGED:
                ts, judged = int(counters[STEP_TS]), state.arrays.breaches[: counters[BREACHES]]
                ruled |= {(pool, ts) for pool in judged.tolist()}
        for name, table in zip(_TABLES, window, strict=True):
            self._outcome.rows[name] += len(table[0])
        shadows = scratch.shadows[: counters[SHADOWS]]
        audit, engagements = self._audit.rows(window.liquidations, shadows, ruled)
        append_rows(self._sink, "audit", audit)
        if engagements and self.cascade is not None:
            self.cascade.rows.flush_engagements()
        append_rows(self._sink, "engagements", engagements)
        breaks = scratch.breaks[: counters[BREAKS]]
        if len(breaks):
            names = ("ts", "account", "market", "expected", "found")
            self._sink.append("breaks", {name: breaks[name] for name in names})
        self._unproved_rows += window.rows
        # The proof reads every position: in step with the rows it costs the same at every size of a venue.
        if (forced or counters[FORCED_STEPS] > forced_steps) and self._unproved_rows >= int(
            counters[POSITIONS]
        ):
            check_conservation(state, int(counters[STEP_TS]))
            self._unproved_rows = 0
        state.drain_external()

    @property
    def _forcing(self) -> Forcing:
        """The waterfall as the kernel sees it; of nobody, where only the tape forces."""
        return _NOTHING if self.cascade is None else self.cascade.forcing

    @property
    def _sessions(self) -> Sessions | None:
        """The sessions over whose gains losses are shared, if they are."""
        return None if self.cascade is None else self.cascade.sessions

    @property
    def _depth(self) -> Depth | None:
        """The book that forced orders meet, if they meet any."""
        stage = self.cascade or self._executed
        return None if stage is None else stage.depth

    def _execute(self, scratch: Scratch) -> None:
        """Execute what the tape forces in the current step."""
        assert self._executed is not None
        ts = int(self.state.arrays.counters[STEP_TS])
        shadows = scratch.shadows[: self.state.arrays.counters[SHADOWS]]
        self._executed.step(ts, shadows[np.searchsorted(shadows["ts"], ts) :])

    def _fault(self, window: Window, scratch: Scratch) -> ReplayError:
        """Turn a fault of the kernel into an error that names account, market and row."""
        counters = self.state.arrays.counters
        market, pool = int(counters[FAULT_MARKET]), int(counters[FAULT_POOL])
        at = format_time(int(counters[STEP_TS]))
        name = self.state.markets[market].name if market >= 0 else "?"
        row = None
        if not counters[IN_STEP] and scratch.cursors[4] < len(window.fills.ts):
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
