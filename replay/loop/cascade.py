"""One step of forced closing: rungs of the ladder, the absorber, what goes to auto-deleveraging, bad debt.

Within a step all book orders of all pools come first, then all takeovers, then all ADL, whatever the order
of the pools; quantities and money of each liquidation are accounted for in its episode. The stages themselves
are compiled (:mod:`replay.loop.stages`), and so is their order (:mod:`replay.loop.step`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.loop.absorbers import Absorbers
from replay.loop.debts import pay_debt
from replay.loop.deleverage import Deleveraging
from replay.loop.depth import Book, Depth, no_book
from replay.loop.episodes import Episodes
from replay.loop.fund import Fund, Funds
from replay.loop.ledger import move_cash
from replay.loop.policies.allocate import largest_remainder
from replay.loop.rows import DEBT, Rows, Sink, append_rows, write_movements
from replay.loop.session import Sessions
from replay.loop.socialise import shares
from replay.loop.stages import LOSING, Forcing
from replay.loop.state import State
from replay.loop.step import DONE, enter, force, ladder_of, leave
from replay.loop.waterfall import indebted, rungs_of, value_of_sizes
from replay.rules.plan import BookOrder, NetOwnHedge, Plan, Rung, Takeover

Array = npt.NDArray[Any]

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
        self.absorbers = Absorbers(
            state,
            plan.absorbers,
            start_ts,
            deleverages=plan.adl is not None,
            has_book=self.depth is not None,
            exempt=() if plan.adl is None else plan.adl.exempt_markets,
            suspends_book=plan.adl is not None and plan.adl.suspends_book,
        )
        self.rows = Rows(state, sink)
        self._deleveraging = None
        if plan.adl is not None:
            opening: dict[int, int] = {}
            if self.absorbers.books:
                first = self.absorbers.books[0]
                opening = {purse: first.balance(purse) for purse in first.in_use()}
            self._deleveraging = Deleveraging(
                state, plan.adl, self.rows, self.episodes, opening, plan.max_deleveragings
            )
        self._nets = any(isinstance(rung, NetOwnHedge) for rung in plan.ladder)
        self._rungs = ladder_of(plan, rungs_of(plan), len(state.markets))
        self._lowest, self._losing = _NOTHING, np.zeros(0, LOSING)
        self.sessions: Sessions | None = None
        for absorber in self.absorbers.books:
            self.rows.opening(start_ts, absorber.balances())

    @property
    def funds(self) -> Funds:
        """The absorbers as compiled code sees them; nobody, where the rules have none."""
        return self.absorbers.arrays

    @property
    def forcing(self) -> Forcing:
        """What the loop needs of it to look after the absorber."""
        return Forcing(self._book_arrays, self.funds, self.rows.arrays)

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
        self.absorbers.make_room()
        restored, forced = enter(self._state.arrays, self.episodes.arrays, breaches)
        if len(restored):
            self._pay_bad_debt(ts, restored)
            self._end(restored, ts)
        losing = self._force(ts, breaches, recorded, forced)
        if len(losing) and self._deleveraging is not None:
            self._deleveraging.close(ts, self.funds, losing)
        self._leave(ts, breaches, is_judged=bool(len(breaches) or len(restored)))
        self.rows.flush(everything=False)

    def _force(self, ts: int, breaches: Array, recorded: Array, forced: int) -> Array:
        """Run the ladder and the absorber's own step; return what goes to ADL, as LOSING records."""
        rungs, markets = len(self._plan.ladder), len(self._plan.absorbers) * len(self._state.markets)
        self.episodes.reserve(forced)
        self.rows.reserve(
            orders=rungs * forced,
            liquidations=self.episodes.legs_in_use + forced,
            stages=rungs + 2 * len(self._plan.absorbers) + 3,
        )
        if len(self._losing) < rungs * forced + markets:
            self._losing = np.zeros(2 * (rungs * forced + markets), LOSING)
        if len(self._lowest) < len(breaches):
            self._lowest = np.zeros(2 * len(breaches), np.int64)
        own = np.unique(recorded).astype(np.int64) if len(recorded) else _NOTHING
        number, lost = DONE, 0
        while True:
            number, lost, fresh = force(
                self._state.arrays,
                self._book_arrays,
                self.funds,
                self.episodes.arrays,
                self.rows.arrays,
                self._rungs,
                ts,
                breaches,
                own,
                number,
                self._lowest,
                self._losing,
                lost,
            )
            if number == DONE:
                return self._losing[:lost]
            self._open_positions(fresh, self._plan.ladder[number])

    def _leave(self, ts: int, breaches: Array, *, is_judged: bool) -> None:
        """End the step; pools that are flat and owe have their debts paid before."""
        closed = breaches
        if is_judged and self._nets:
            # A pool that waits may be flat, too: its position was the hedge of another's.
            closed = np.sort(self.episodes.open)
        for owing in (True, False):
            debts = leave(
                self._state.arrays,
                self.episodes.arrays,
                self.funds,
                self.rows.arrays,
                ts,
                is_judged,
                closed,
                owing,
            )
            if len(debts) == 0:
                return
            self._pay(ts, debts)

    def finish(self) -> None:
        """Write the episodes that the end of the tape left open."""
        self._end(np.sort(self.episodes.open), None)
        self.rows.flush()

    def _end(self, pools: Array, ts: int | None) -> None:
        """End the liquidations of pools and write their rows."""
        self.episodes.end(self.rows, pools, ts)

    def _open_positions(self, markets: Array, rung: Rung) -> None:
        """Give the absorber a position in each market, in the order in which the rung has it act."""
        absorber = self.absorbers.books[rung.absorber if isinstance(rung, Takeover) else 0]
        ascending = isinstance(rung, BookOrder) or absorber.rule.drawdown is not None
        for market in np.unique(markets).tolist() if ascending else markets.tolist():
            absorber.position(market)
        self.episodes.reserve(0)

    # --- bad debt ------------------------------------------------------------------------------

    def _held_at_first(self, pool: int) -> dict[int, int]:
        """Return what a pool in liquidation held at its first breach, as value per market, ascending."""
        legs = self.episodes.legs_of(pool)
        values = np.abs(value_of_sizes(self._state, legs["market"], legs["size"], legs["mark"])).tolist()
        return dict(sorted(zip(legs["market"].tolist(), values, strict=True)))

    def _pay_out_of(self, fund: Fund, ts: int, pools: Array) -> None:
        """Let an absorber pay what flat pools owe, by the markets they held, as far as it may."""
        self.rows.reserve()
        arrays, buffers = self._state.arrays, self.rows.arrays
        for pool in pools.tolist():
            held = self._held_at_first(pool)
            debt = -int(self._state.pools[pool]["cash"])
            parts = largest_remainder(debt, list(held.values()), [debt] * len(held))
            markets = np.array(list(held), np.int64)
            pay_debt(arrays, fund, self.episodes.arrays, buffers, pool, markets, parts, ts)
        write_movements(arrays, fund, buffers, ts, DEBT)

    def _shared(self, ts: int, pool: int, ledger: int) -> dict[int, int]:
        """Return what other pools pay of a pool's negative cash, by the socialisation of the rules."""
        state = self._state
        loss = -int(state.pools[pool]["cash"])
        if self._plan.socialise == "none" or loss == 0:
            return {}
        return shares(
            state,
            self._plan.socialise,
            loss,
            ledger,
            self._held_at_first(pool),
            spared=self.episodes.open,
            gains=None if self.sessions is None else self.sessions.gains(ts),
        )

    def _pay_bad_debt(self, ts: int, pools: Array) -> None:
        """Bring flat pools with negative cash to zero: the absorber and then others pay, the rest is @bad_debt's.

        A pool in liquidation may also have closed by itself, by trades of the tape.
        """
        self._pay(ts, indebted(self._state.arrays, pools))

    def _pay(self, ts: int, pools: Array) -> None:
        """Bring the negative cash of flat pools to zero."""
        state = self._state
        rows = []
        for absorber in self.absorbers.books:
            if absorber.rule.pays_debts:
                self._pay_out_of(absorber.arrays, ts, pools)
        for pool in pools.tolist():
            ledger = int(state.pools[pool]["ledger"])
            shared = self._shared(ts, pool, ledger)
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
