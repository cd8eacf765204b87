"""One step of forced closing: rungs of the ladder, the absorber, what goes to auto-deleveraging, bad debt.

Within a step all book orders of all pools come first, then all takeovers, then all ADL, whatever the order
of the pools; quantities and money of each liquidation are accounted for in its episode. The stages themselves
are compiled (:mod:`replay.loop.stages`); here is only their order.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.loop.absorbers import AbsorberBook
from replay.loop.deleverage import Deleveraging
from replay.loop.depth import Book, Depth, no_book
from replay.loop.episodes import Episodes, begin_episodes, begin_step, end_step
from replay.loop.fund import Fund, is_quiet, no_fund
from replay.loop.ledger import move_cash
from replay.loop.rows import Rows, Sink, append_rows
from replay.loop.socialise import shares
from replay.loop.stages import (
    Forcing,
    absorber_losing,
    give_up,
    net_own_hedges,
    send_to_book,
    take_over,
    work_out,
)
from replay.loop.state import State
from replay.loop.waterfall import (
    ask,
    forced_batch,
    indebted,
    lowest_rungs,
    rungs_of,
    still_in_breach,
    value_of_sizes,
)
from replay.rules.plan import BookOrder, NetOwnHedge, Plan, Rung, Takeover

Array = npt.NDArray[Any]

_NOBODY = no_fund()
_NO_BOOK = no_book()
_NOTHING = np.zeros(0, np.int64)


class Cascade:
    """Runs the waterfall of a plan, step by step.

    Args:
        state: The state.
        plan: The compiled rules.
        sink: Receives the rows.
        start_ts: Beginning of the tape.
    """

    def __init__(self, state: State, plan: Plan, sink: Sink, start_ts: int) -> None:
        self._state = state
        self._plan = plan
        self._sink = sink
        self.episodes = Episodes(state)
        self.depth = None if plan.depth is None else Depth(state, plan.depth)
        self.absorber = None
        if plan.absorber is not None:
            self.absorber = AbsorberBook(
                state,
                plan.absorber,
                start_ts,
                deleverages=plan.adl is not None,
                has_book=self.depth is not None,
                exempt=() if plan.adl is None else plan.adl.exempt_markets,
            )
        self.rows = Rows(state, sink)
        self._deleveraging = None
        if plan.adl is not None:
            self._deleveraging = Deleveraging(state, plan.adl, self.rows, self.episodes)
        self._at_bankruptcy = plan.adl is not None and plan.adl.price in ("bankruptcy", "clamped_oracle")
        self._nets = any(isinstance(rung, NetOwnHedge) for rung in plan.ladder)
        self._is_vault = plan.absorber is not None and plan.absorber.account.startswith("@vault")
        self._rungs = rungs_of(plan)
        levels = [Fraction(*rung.level) for rung in plan.ladder]
        self._first_of_level = [levels.index(level) for level in levels]
        self._heads = np.full(2 * len(state.markets), -1, np.int64)
        if self.absorber is not None:
            self.rows.opening(start_ts, self.absorber.balances())

    @property
    def fund(self) -> Fund:
        """The absorber as compiled code sees it; of nobody, where the rules have none."""
        return _NOBODY if self.absorber is None else self.absorber.arrays

    @property
    def forcing(self) -> Forcing:
        """What the loop needs of it to look after the absorber."""
        return Forcing(self._book_arrays, self.fund, self.rows.arrays)

    @property
    def _book_arrays(self) -> Book:
        return _NO_BOOK if self.depth is None else self.depth.arrays

    def step(self, ts: int, breaches: Array, recorded: Array) -> None:
        """Run one step.

        Args:
            ts: The step.
            breaches: int64 ids of the pools in breach at its end, ascending.
            recorded: Position slots that the tape forces in this step.
        """
        state, episodes = self._state, self.episodes
        if self.absorber is not None:
            self.absorber.make_room()
        restored = begin_step(state.arrays, episodes.arrays)
        is_judged = bool(len(breaches) or len(restored))
        losing: list[Array] = []
        if len(restored):
            self._pay_bad_debt(ts, restored)
            self._end(restored, ts)
        if len(breaches):
            losing = self._ladder(ts, breaches, recorded)
        losing += self._absorber_step(ts)
        if losing and self._deleveraging is not None:
            self._deleveraging.close(ts, self.fund, np.concatenate(losing))
        closed = breaches
        if is_judged and self._nets:
            # A pool that waits may be flat, too: its position was the hedge of another's.
            closed = np.sort(episodes.open)
        if len(closed):
            self._pay_bad_debt(ts, closed)
        flat = end_step(state.arrays, episodes.arrays, self.fund, is_judged, closed)
        self._end(flat, ts)
        self.rows.flush(everything=False)

    def finish(self) -> None:
        """Write the episodes that the end of the tape left open."""
        self._end(np.sort(self.episodes.open), None)
        self.rows.flush()

    def _end(self, pools: Array, ts: int | None) -> None:
        """End the liquidations of pools and write their rows."""
        self.episodes.end(self.rows, pools, ts, absorber_is_vault=self._is_vault)

    # --- the ladder ----------------------------------------------------------------------------------

    def _ladder(self, ts: int, breaches: Array, recorded: Array) -> list[Array]:
        """Run the rungs over all pools in breach, in the order of the rules; return what goes to ADL."""
        state = self._state
        batch = forced_batch(state.arrays, breaches)
        self.episodes.reserve(len(batch))
        begin_episodes(
            state.arrays,
            self.episodes.arrays,
            batch,
            ts,
            np.unique(recorded).astype(np.int64) if len(recorded) else _NOTHING,
        )
        lowest = np.empty(len(breaches), np.int64)
        at_equal = self._plan.breach_at_equal
        seen = int(lowest_rungs(state.arrays, breaches, self._rungs, at_equal, lowest))
        losing: list[Array] = []
        for number, rung in enumerate(self._plan.ladder):
            first = self._first_of_level[number]
            if not seen >> first & 1:
                continue
            pools = still_in_breach(state.arrays, breaches, lowest, first, at_equal)
            if len(pools):
                losing += self._act(rung, self._rungs[number], forced_batch(state.arrays, pools), ts)
        return losing

    def _act(self, rung: Rung, record: Any, batch: Array, ts: int) -> list[Array]:
        """Let one rung act on the positions of its pools; return what goes to ADL, if anything."""
        arrays, rows = self._state.arrays, self.rows
        rows.reserve(orders=len(batch))
        if isinstance(rung, NetOwnHedge):
            net_own_hedges(arrays, self.fund, self.episodes.arrays, rows.arrays, batch, ts)
        elif isinstance(rung, BookOrder):
            if self.depth is not None:
                self._book(rung, record, batch, ts)
        else:
            if isinstance(rung, Takeover):
                self._open_positions(batch["market"], ascending=self._has_line)
                arrays, cases = self._state.arrays, self.episodes.arrays
                lost = take_over(
                    arrays, self.fund, cases, rows.arrays, batch, record, ts, self._at_bankruptcy
                )
            else:
                lost = give_up(arrays, self.episodes.arrays, batch, self._at_bankruptcy)
            return [lost] if len(lost) else []
        return []

    def _book(self, rung: BookOrder, record: Any, batch: Array, ts: int) -> None:
        assert self.depth is not None
        ask(self._state.arrays, batch, record, ts)
        if self.absorber is not None and (rung.surplus_to == "absorber" or rung.fee_to_absorber):
            self._open_positions(batch["market"], ascending=True)
        send_to_book(
            self._state.arrays,
            self._book_arrays,
            self.fund,
            self.episodes.arrays,
            self.rows.arrays,
            batch,
            record,
            ts,
            self._heads,
        )

    @property
    def _has_line(self) -> bool:
        return self._plan.absorber is not None and self._plan.absorber.drawdown is not None

    def _open_positions(self, markets: Array, *, ascending: bool) -> None:
        """See that the absorber has a position in each market; new ones in the order in which it acts."""
        assert self.absorber is not None
        fresh = markets[self.fund.markets["slot"][markets] < 0]
        if len(fresh):
            for market in np.unique(fresh).tolist() if ascending else fresh.tolist():
                self.absorber.position(market)
            self.episodes.reserve(0)

    def _absorber_step(self, ts: int) -> list[Array]:
        """Work out inventory, judge the triggers, and return what of the absorber's goes to ADL."""
        if self.absorber is None:
            return []
        self.rows.reserve()
        arrays, buffers = self._state.arrays, self.rows.arrays
        work_out(arrays, self._book_arrays, self.fund, buffers, ts)
        if is_quiet(arrays, self.fund, ts):
            return []
        losing = absorber_losing(arrays, self.fund, buffers, ts)
        return [losing] if len(losing) else []

    # --- bad debt ------------------------------------------------------------------------------

    def _shared(self, pool: int, ledger: int) -> dict[int, int]:
        """Return what other pools pay of a pool's negative cash, by the socialisation of the rules."""
        state = self._state
        if self._plan.socialise == "none":
            return {}
        legs = self.episodes.legs_of(pool)
        values = np.abs(value_of_sizes(state, legs["market"], legs["size"], legs["mark"])).tolist()
        by_market: dict[int, int] = {}
        for market, value in zip(legs["market"].tolist(), values, strict=True):
            by_market[market] = by_market.get(market, 0) + value
        loss = -int(state.pools[pool]["cash"])
        return shares(state, self._plan.socialise, loss, ledger, by_market, spared=self.episodes.open)

    def _pay_bad_debt(self, ts: int, pools: Array) -> None:
        """Bring flat pools with negative cash to zero: others are asked, the rest is booked against @bad_debt.

        A pool in liquidation may also have closed by itself, by trades of the tape.
        """
        state = self._state
        rows = []
        for pool in indebted(state.arrays, pools).tolist():
            ledger = int(state.pools[pool]["ledger"])
            shared = self._shared(pool, ledger)
            left = -int(state.pools[pool]["cash"]) - sum(shared.values())
            payers = [*shared, *([state.pseudo_pool("@bad_debt", ledger)] if left else [])]
            amounts = [*shared.values(), *([left] if left else [])]
            targets = np.full(len(payers), pool, np.int64)
            move_cash(state.arrays, np.array(payers, np.int64), targets, np.array(amounts, np.int64))
            episode = self.episodes.of(pool)
            episode["socialised"] += sum(shared.values())
            episode["bad_debt"] += left
            for payer, amount in zip(payers, amounts, strict=True):
                rows.append(
                    {
                        "ts": ts,
                        "liquidation": int(episode["id"]),
                        "account": int(state.pools[payer if payer in shared else pool]["account"]),
                        "ledger": ledger,
                        "kind": "socialised" if payer in shared else "bad_debt",
                        "amount": amount,
                    }
                )
        append_rows(self._sink, "shared_losses", rows)
