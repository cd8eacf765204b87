"""One step of forced closing: rungs of the ladder, the absorber, what goes to auto-deleveraging, bad debt.

Within a step all book orders of all pools come first, then all takeovers, then all ADL, whatever the order
of the pools; quantities and money of each liquidation are accounted for in its episode. The stages themselves
are compiled (:mod:`replay.loop.stages`), and so is their order (:mod:`replay.loop.step`); here is what they ask for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.loop.absorbers import Absorbers
from replay.loop.closing import stages_to_close
from replay.loop.debts import pay_debt
from replay.loop.deleverage import Deleveraging
from replay.loop.depth import Depth, no_book
from replay.loop.episodes import Episodes
from replay.loop.fund import Fund, Funds
from replay.loop.ledger import move_cash
from replay.loop.policies.allocate import largest_remainder
from replay.loop.queue import queue_of
from replay.loop.rows import DEBT, Rows, Sink, write_movements
from replay.loop.session import Sessions
from replay.loop.socialise import shares
from replay.loop.state import State
from replay.loop.step import (
    ASKED,
    ASKS,
    AT_RUNG,
    DEBTS,
    FORCED_ROWS,
    LOSERS,
    LOST,
    PIECES,
    POSITIONS,
    ROOM,
    ROOM_TO_CLOSE,
    Forcing,
    ladder_of,
    needs_of,
    work_of,
)
from replay.loop.waterfall import rungs_of, value_of_sizes
from replay.rules.plan import BookOrder, Plan, Rung, Takeover

Array = npt.NDArray[Any]

_NO_BOOK = no_book()


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
        opening: dict[int, int] = {}
        if plan.adl is not None and self.absorbers.books:
            first = self.absorbers.books[0]
            opening = {purse: first.balance(purse) for purse in first.in_use()}
        self._queue = queue_of(plan.adl, len(state.markets), opening, plan.max_deleveragings)
        self._deleveraging = None
        if plan.adl is not None:
            self._deleveraging = Deleveraging(state, plan.adl, self._queue, self.rows, self.episodes)
        self._ladder = ladder_of(plan, rungs_of(plan), len(state.markets), len(state.ledgers))
        self._work = work_of(0, 0)
        self.sessions: Sessions | None = None
        for absorber in self.absorbers.books:
            self.rows.opening(start_ts, absorber.balances())

    @property
    def funds(self) -> Funds:
        """The absorbers as compiled code sees them; nobody, where the rules have none."""
        return self.absorbers.arrays

    @property
    def forcing(self) -> Forcing:
        """The waterfall as the loop sees it."""
        return Forcing(
            _NO_BOOK if self.depth is None else self.depth.arrays,
            self.funds,
            self.rows.arrays,
            self.episodes.arrays,
            self._ladder,
            self._queue,
            self._work,
        )

    def answer(self, ts: int) -> None:
        """Do what a step asks for, see :func:`replay.loop.step.step`."""
        numbers = self._work.numbers
        asks, asked = numbers[ASKS], self._work.asked[: numbers[ASKED]].copy()
        if asks == ROOM:
            self._make_room(int(numbers[FORCED_ROWS]))
        elif asks == DEBTS:
            self._pay(ts, asked)
        elif asks == POSITIONS:
            self._open_positions(asked, self._plan.ladder[numbers[AT_RUNG]])
        elif asks == LOSERS and self._deleveraging is not None:
            self._deleveraging.close(ts, self.funds, self._work.losing[: numbers[LOST]])
        elif asks == ROOM_TO_CLOSE:
            self._state.make_lists()
            self.rows.reserve(adl=int(numbers[PIECES]), stages=stages_to_close(self.funds))

    def _make_room(self, forced: int) -> None:
        """Make room for a step that forces so many positions."""
        self.absorbers.make_room()
        self.episodes.reserve(forced)
        orders, legs, stages, losers = needs_of(self.forcing, forced)
        self.rows.reserve(orders=orders, liquidations=legs, losses=2 * legs, stages=stages)
        if len(self._work.losing) < losers or len(self._work.lowest) < legs:
            room = work_of(2 * legs, 2 * losers)
            self._work = room._replace(numbers=self._work.numbers)

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

    def _pay(self, ts: int, pools: Array) -> None:
        """Bring flat pools with negative cash to zero: the absorber and then others pay, the rest is @bad_debt's.

        A pool in liquidation may also have closed by itself, by trades of the tape.
        """
        state = self._state
        rows = []
        for absorber in self.absorbers.books:
            if absorber.rule.pays_debts:
                self._pay_out_of(absorber.arrays, ts, pools)
        for pool in pools.tolist():
            ledger = int(state.pools[pool]["ledger"])
            shared = self._shared(ts, pool, ledger)
            left = -int(state.pools[pool]["cash"]) - sum(shared.values())
            payers = [*shared, *([self._bad_debt(ledger)] if left else [])]
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
        self.rows.shared(rows)

    def _bad_debt(self, ledger: int) -> int:
        """Return the pool of a ledger's bad debt."""
        self._ladder.bad_debt[ledger] = self._state.pseudo_pool("@bad_debt", ledger)
        return int(self._ladder.bad_debt[ledger])
