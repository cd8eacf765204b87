"""One step of forced closing: rungs of the ladder, the absorber, what goes to auto-deleveraging, bad debt.

Within a step all book orders of all pools come first, then all takeovers, then all ADL, whatever the order
of the pools; quantities and money of each liquidation are accounted for in its episode.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.loop.absorbers import AbsorberBook
from replay.loop.books import value_of
from replay.loop.deleverage import Deleveraging, Losing
from replay.loop.depth import NO_LIMIT, Depth
from replay.loop.episodes import Episodes
from replay.loop.ledger import book_forced, move_cash
from replay.loop.rows import CascadeRows, Sink, append_rows
from replay.loop.socialise import shares
from replay.loop.state import ATTENDING, State
from replay.loop.watch import wait_for_marks
from replay.loop.waterfall import (
    ForcedBatch,
    fees_of,
    forced_batch,
    is_below_share,
    own_hedges,
    parts_of_values,
    pool_states,
    send_to_book,
    signed_like,
    surplus_over_bankruptcy,
    value_of_sizes,
)
from replay.rules.plan import BookOrder, NetOwnHedge, Plan, Takeover
from replay.tape.schema import Side
from replay.units import RATE_ONE

Array = npt.NDArray[Any]


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
        self.absorber = (
            None
            if plan.absorber is None
            else AbsorberBook(state, plan.absorber, start_ts, deleverages=plan.adl is not None)
        )
        self._rows = CascadeRows(state, sink, self.episodes, self.absorber)
        self._deleveraging = (
            None
            if plan.adl is None
            else Deleveraging(state, plan.adl, sink, self._rows, self.episodes, self.absorber)
        )
        self.touched: set[int] = set()
        self._nets = any(isinstance(rung, NetOwnHedge) for rung in plan.ladder)
        self._is_vault = plan.absorber is not None and plan.absorber.account.startswith("@vault")
        distinct = sorted({Fraction(*rung.level) for rung in plan.ladder})
        self._levels = [distinct.index(Fraction(*rung.level)) for rung in plan.ladder]
        if self.absorber is not None:
            self._rows.opening(start_ts)

    def step(self, ts: int, breaches: Array, recorded: Array) -> None:
        """Run one step.

        Args:
            ts: The step.
            breaches: int64 ids of the pools in breach at its end, ascending.
            recorded: Position slots that the tape forces in this step.
        """
        state = self._state
        if self.absorber is not None:
            self.absorber.make_room()
        restored = self._restored(set(breaches.tolist()))
        if len(breaches) or restored:
            self._attend_pools(ts, breaches, restored, recorded)
        else:
            self._attend_absorber(ts)
        holds = self.absorber is not None and bool(self.absorber.holdings())
        state.arrays.counters[ATTENDING] = bool(self.episodes.open) or holds

    def _attend_absorber(self, ts: int) -> None:
        """Look after what the absorber holds in a step in which no pool was judged."""
        losing = self._absorber_step(ts)
        if losing and self._deleveraging is not None:
            # Pools that wait for a mark were not judged in this step: no winners either.
            waiting = list(self.episodes.open)
            self._state.arrays.pools["in_breach"][waiting] = 1
            self.touched.update(self._deleveraging.close(ts, losing))
            self._state.arrays.pools["in_breach"][waiting] = 0

    def _attend_pools(self, ts: int, breaches: Array, restored: list[int], recorded: Array) -> None:
        """End what is restored, climb the ladder with what is in breach, then look after the absorber."""
        state = self._state
        self._pay_bad_debt(ts, np.array(restored, np.int64))
        self._end(restored, ts)
        # Pools that wait for a mark were not judged in this step: no winners either.
        state.arrays.pools["in_breach"][list(self.episodes.open)] = 1
        self.episodes.begin(forced_batch(state, ts, breaches), recorded)
        losing: list[Losing] = []
        if len(breaches):
            state.arrays.pools["liquidated_ts"][breaches] = ts
            self.touched.update(state.pools["account"][breaches].tolist())
            losing = self._ladder(ts, breaches)
        losing += self._absorber_step(ts)
        if losing and self._deleveraging is not None:
            self.touched.update(self._deleveraging.close(ts, losing))
        # A pool that waits may be flat, too: its position was the hedge of another's.
        closed = np.array(sorted(self.episodes.open), np.int64) if self._nets else breaches
        self._pay_bad_debt(ts, closed)
        wait_for_marks(state.arrays, np.array(sorted(self.episodes.open), np.int64))
        _, _, still_open = pool_states(state, closed)
        self._end(closed[~still_open].tolist(), ts)

    def finish(self) -> None:
        """Write the episodes that the end of the tape left open."""
        self._end(sorted(self.episodes.open), None)

    def _end(self, pools: list[int], ts: int | None) -> None:
        """End the liquidations of pools and write their rows."""
        if pools:
            self._sink.append("liquidations", self.episodes.end(pools, ts, self._is_vault))

    def _restored(self, in_breach: set[int]) -> list[int]:
        """Return the pools in liquidation that were judged in this step and are flat or not in breach."""
        waiting = self._state.pools["waiting"]
        return [pool for pool in sorted(self.episodes.open.keys() - in_breach) if not waiting[pool]]

    # --- the ladder ----------------------------------------------------------------------------------

    def _ladder(self, ts: int, breaches: Array) -> list[Losing]:
        """Run the rungs over all pools in breach, in the order of the rules; return what goes to ADL."""
        equity, maintenance, _ = pool_states(self._state, breaches)
        lowest = self._lowest_levels(equity, maintenance)
        losing: list[Losing] = []
        for number, rung in enumerate(self._plan.ladder):
            mine = breaches[lowest == self._levels[number]]
            mine = mine[self._still_in_breach(mine)]
            if not len(mine):
                continue
            batch = forced_batch(self._state, ts, mine)
            if isinstance(rung, BookOrder):
                self._book(batch, rung)
            elif isinstance(rung, Takeover):
                losing += self._take_over(batch, rung)
            elif isinstance(rung, NetOwnHedge):
                self._net(batch, rung)
            else:
                values = batch.bankruptcy_value.tolist()
                losing += [self._losing(batch, i, value, "ladder") for i, value in enumerate(values)]
        return losing

    def _lowest_levels(self, equity: Array, maintenance: Array) -> Array:
        """Return, per pool in breach, the number of the lowest level whose rungs apply."""
        found = np.full(len(equity), len(self._levels), np.int64)
        for number, rung in zip(self._levels, self._plan.ladder, strict=True):
            counts_equal = self._plan.breach_at_equal and rung.level[0] != 0
            applies = is_below_share(equity, maintenance, *rung.level, counts_equal)
            found[applies] = np.minimum(found[applies], number)
        return found

    def _still_in_breach(self, pools: Array) -> Array:
        equity, maintenance, is_open = pool_states(self._state, pools)
        return is_open & (equity - maintenance < int(self._plan.breach_at_equal))

    def _net(self, batch: ForcedBatch, rung: NetOwnHedge) -> None:
        """Close positions at the mark against the account's own of the other side and margin mode."""
        state = self._state
        hedges = own_hedges(state, batch.position)
        netted = np.zeros(len(batch.pool), np.int64)
        values = np.zeros(len(batch.pool), np.int64)
        for i in np.flatnonzero(hedges >= 0).tolist():
            position, hedge = int(batch.position[i]), int(hedges[i])
            size, other = (int(state.positions["size"][slot]) for slot in (position, hedge))
            if size * other >= 0:
                continue
            netted[i] = min(abs(size), abs(other))
            signed = -int(netted[i]) if size > 0 else int(netted[i])
            values[i] = value_of(state, int(batch.market[i]), signed, int(batch.mark[i]), at_mark=True)
            book_forced(state.arrays, *(np.array([x]) for x in (position, signed, values[i], hedge)))
            mine, other_leg = self.episodes.rows(np.array([position, hedge])).tolist()
            self.episodes.legs["netted"][mine] += netted[i]
            if other_leg >= 0:
                kept = abs(int(state.positions["size"][hedge]))
                left = self.episodes.legs["left"]
                left[other_leg] = min(int(left[other_leg]), kept)
        acted = netted > 0
        none = np.full(len(batch.pool), NO_LIMIT, np.int64)
        signed_rows = np.where(batch.size > 0, -netted, netted)
        reason = ["closed against its own hedge"] * len(batch.pool)
        self._rows.orders(batch, rung.action, netted, none, signed_rows, values, reason, acted)

    def _book(self, batch: ForcedBatch, rung: BookOrder) -> None:
        state = self._state
        if self.depth is None:
            return
        fills = send_to_book(batch, state, self.depth, rung)
        signed = np.where(batch.size > 0, -fills.filled, fills.filled)
        takers = state.arrays.markets["book"][batch.market].astype(np.int64)
        book_forced(state.arrays, batch.position, signed, fills.value, takers)
        fees = fees_of(fills.value, rung.fee_rate)
        gives = rung.surplus_to == "absorber" and self.absorber is not None
        if gives or rung.fee_from_improvement:
            surplus = surplus_over_bankruptcy(batch, fills)
            fees = np.minimum(fees, surplus)
            if gives:
                self._give(batch, surplus - fees, "surplus")
        if rung.fee_to_absorber and self.absorber is not None:
            self._give(batch, fees, "fee")
        else:
            ledgers = state.pools["ledger"][batch.pool]
            move_cash(
                state.arrays, batch.pool, state.arrays.ledgers["fees_pool"][ledgers].astype(np.int64), fees
            )
        started = fills.sliced & (fills.filled > 0)
        state.arrays.pools["cooldown_until"][batch.pool[started]] = batch.ts + rung.cooldown_ns
        legs = self.episodes.rows(batch.position)
        self.episodes.legs["book"][legs] += fills.filled
        self.episodes.legs["left"][legs] = fills.asked - fills.filled
        sent = fills.asked > 0
        self._rows.orders(
            batch, rung.action, fills.asked, fills.limit, signed, fills.value, fills.reason, sent
        )
        self._rows.engaged(batch, rung.action, "@book", fills.filled, sent, "forced orders sent to the book")

    def _give(self, batch: ForcedBatch, amounts: Array, kind: str) -> None:
        """Move a fee, or what fills were better than bankruptcy, to the absorber."""
        state = self._state
        assert self.absorber is not None
        targets = np.array([self.absorber.pool(int(x)) for x in state.pools["ledger"][batch.pool]], np.int64)
        move_cash(state.arrays, batch.pool, targets, amounts)
        if kind == "surplus":
            self.episodes.legs["surplus"][self.episodes.rows(batch.position)] += amounts
        for i in np.flatnonzero(amounts).tolist():
            self.absorber.book(int(batch.market[i]), int(amounts[i]))
        self._rows.movements(batch.ts, kind, batch.market, amounts)

    def _take_over(self, batch: ForcedBatch, rung: Takeover) -> list[Losing]:
        """Hand positions to the absorber as far as its capacity goes; the rest goes to ADL."""
        state = self._state
        assert self.absorber is not None
        rows = len(batch.pool)
        worth = value_of_sizes(state, batch.market, batch.size, batch.mark)
        price = batch.bankruptcy_value if rung.price == "bankruptcy" else _values_at_mark(batch, worth, rung)
        gain = worth - price
        absorbed = np.abs(batch.size)
        room: dict[int, int | None] = {}
        for market in np.unique(batch.market):
            self._judge(int(market), batch.ts)
            room[int(market)] = self.absorber.capacity(int(market), batch.ts)
        for i in range(rows):
            market, loss = int(batch.market[i]), -int(gain[i])
            left = room[market]
            if left is None or loss <= 0:
                continue
            if loss > left:
                lot = state.markets[market].lot
                absorbed[i] = abs(int(batch.size[i])) * left // loss // lot * lot
                room[market] = 0
            else:
                room[market] = left - loss
        value = parts_of_values(price, absorbed, np.abs(batch.size))
        signed = np.where(batch.size > 0, -absorbed, absorbed)
        takers = np.array([self.absorber.position(int(market)) for market in batch.market], np.int64)
        book_forced(state.arrays, batch.position, signed, -value, takers)
        taken = np.where(batch.size > 0, absorbed, -absorbed)
        taken_gain = value_of_sizes(state, batch.market, taken, batch.mark) - value
        legs, mine = self.episodes.legs, self.episodes.rows(batch.position)
        beyond = np.abs(batch.size) - absorbed
        legs["absorbed"][mine] += absorbed
        legs["left"][mine] = beyond
        legs["surplus"][mine] += np.maximum(taken_gain, 0)
        legs["shortfall"][mine] += np.maximum(-taken_gain, 0)
        for market, amount in zip(batch.market.tolist(), value.tolist(), strict=True):
            self.absorber.book(market, -amount)
        losing = [
            self._losing(batch, i, int(price[i] - value[i]), "takeover")
            for i in np.flatnonzero(beyond).tolist()
        ]
        reason = [
            f"taken over by {self.absorber.rule.account}"
            if q == abs(n)
            else "the absorber's capacity is used up"
            for q, n in zip(absorbed.tolist(), batch.size.tolist(), strict=True)
        ]
        everything = np.ones(rows, bool)
        none = np.full(rows, NO_LIMIT, np.int64)
        self._rows.orders(batch, rung.action, np.abs(batch.size), none, signed, -value, reason, everything)
        self._rows.movements(batch.ts, rung.action, batch.market, taken_gain)
        self._rows.engaged(
            batch, rung.action, self.absorber.rule.account, absorbed, everything, "equity below maintenance"
        )
        return losing

    def _losing(self, batch: ForcedBatch, i: int, bankruptcy_value: int, origin: str) -> Losing:
        """Return what is left of a forced order as a loser, priced as the rules say."""
        assert self._plan.adl is not None
        at_bankruptcy = self._plan.adl.price in ("bankruptcy", "clamped_oracle")
        value = bankruptcy_value if at_bankruptcy else None
        pool, position = int(batch.pool[i]), int(batch.position[i])
        quantity = abs(int(self._state.positions[position]["size"]))
        (row,) = self.episodes.rows(np.array([position]))
        self.episodes.legs["left"][row] = quantity
        episode = int(self.episodes.legs["liquidation"][row])
        return Losing(
            position, pool, int(batch.market[i]), quantity, value, origin, int(batch.equity[i]), episode
        )

    # --- the absorber --------------------------------------------------------------------------------

    def _judge(self, market: int, ts: int) -> None:
        """Let the absorber's start and stop rules judge a market; write the change."""
        assert self.absorber is not None
        if self._plan.adl is None:
            return
        verdict = self.absorber.judge(market, ts)
        if verdict is not None:
            self._rows.verdict(ts, market, verdict)

    def _absorber_step(self, ts: int) -> list[Losing]:
        """Work out inventory, judge the triggers, and return what of the absorber's goes to ADL."""
        if self.absorber is None:
            return []
        if self.absorber.rule.work_out == "book":
            self._work_out(ts)
        losing: list[Losing] = []
        if self.absorber.rule.drawdown is not None or self.absorber.rule.stops_at_zero:
            for market in self.absorber.holdings():
                self._judge(market, ts)
                losing += self._beyond_the_line(market, ts)
        if self.absorber.rule.insolvent_below and self._plan.adl is not None:
            losing += self._insolvent(losing)
        return losing

    def _work_out(self, ts: int) -> None:
        """Sell the absorber's inventory into what depth is left, at any price."""
        state = self._state
        assert self.absorber is not None
        if self.depth is None:
            return
        for market in self.absorber.holdings():
            size = self.absorber.size(market)
            side = Side.BID if size > 0 else Side.ASK
            one = np.array([abs(size)], np.int64)
            filled, magnitude = self.depth.fill(
                market, side, ts, one, np.array([NO_LIMIT]), np.array([False])
            )
            quantity = int(filled[0])
            if quantity == 0:
                continue
            inverse = bool(state.arrays.markets[market]["inverse"])
            value = -int(magnitude[0]) if (size > 0) != inverse else int(magnitude[0])
            mark = int(state.arrays.markets[market]["mark"])
            closed = value_of(state, market, signed_like(quantity, size), mark, at_mark=True)
            position = self.absorber.position(market)
            book = int(state.arrays.markets[market]["book"])
            book_forced(
                state.arrays,
                np.array([position]),
                np.array([-quantity if size > 0 else quantity]),
                np.array([value]),
                np.array([book]),
            )
            self.absorber.book(market, -value)
            self._rows.movements(ts, "work out", np.array([market]), np.array([-value - closed]))

    def _beyond_the_line(self, market: int, ts: int) -> list[Losing]:
        """Return the inventory of a market beyond its line, at the price that holds the line."""
        assert self.absorber is not None
        headroom = self.absorber.headroom(market, ts)
        ledger = self._state.markets[market].ledger
        beyond = 0 if headroom is None or not self.absorber.is_active(market) else max(0, -headroom)
        if self.absorber.rule.stops_at_zero:
            beyond = max(beyond, self._share_of_deficit(market, ledger))
        if beyond == 0:
            return []
        size = self.absorber.size(market)
        mark = int(self._state.arrays.markets[market]["mark"])
        at_mark = value_of(self._state, market, size, mark, at_mark=True)
        # Winners make good what the inventory lost, never what others lost before it: at most its cost.
        cost = int(self._state.positions[self.absorber.position(market)]["cost"])
        value = max(at_mark, min(at_mark + beyond, cost))
        return [self._absorber_losing(market, value)]

    def _share_of_deficit(self, market: int, ledger: int) -> int:
        """Return a market's share of a negative balance, by the losses of the markets held (rounded up)."""
        assert self.absorber is not None
        balance = self.absorber.balance(ledger)
        if balance >= 0:
            return 0
        losses = {
            m: max(0, -self.absorber.profit(m))
            for m in self.absorber.holdings()
            if self._state.markets[m].ledger == ledger
        }
        total = sum(losses.values())
        return 0 if total == 0 else -(balance * losses.get(market, 0) // total)

    def _insolvent(self, already: list[Losing]) -> list[Losing]:
        """Return the vault's positions to be closed at the previous mark until its equity is not negative.

        Args:
            already: Positions of it that another rule closes in this step, and what that brings.
        """
        state = self._state
        assert self.absorber is not None
        losing: list[Losing] = []
        brought = {order.market: self._gain(order) for order in already}
        for ledger in self.absorber.ledgers():
            equity = self.absorber.balance(ledger)
            equity += sum(gain for market, gain in brought.items() if state.markets[market].ledger == ledger)
            if equity >= 0:
                continue
            gains = []
            for market in self.absorber.holdings():
                if state.markets[market].ledger != ledger or market in brought:
                    continue
                record, size = state.arrays.markets[market], self.absorber.size(market)
                before = value_of(state, market, size, int(record["previous_mark"]), at_mark=True)
                now = value_of(state, market, size, int(record["mark"]), at_mark=True)
                if before > now:
                    gains.append((now - before, market))
            for loss, market in sorted(gains):
                if equity >= 0:
                    break
                losing.append(self._absorber_losing(market, None))
                equity -= loss
        return losing

    def _gain(self, order: Losing) -> int:
        """Return what a whole position of the absorber brings over its value at the mark."""
        assert order.value is not None
        state = self._state
        size = int(state.positions[order.position]["size"])
        mark = int(state.arrays.markets[order.market]["mark"])
        return order.value - value_of(state, order.market, size, mark, at_mark=True)

    def _absorber_losing(self, market: int, value: int | None) -> Losing:
        assert self.absorber is not None
        position, size = self.absorber.position(market), self.absorber.size(market)
        pool = int(self._state.positions[position]["pool"])
        account = self.absorber.rule.account
        equity = self.absorber.balance(self._state.markets[market].ledger)
        return Losing(position, pool, market, abs(size), value, account, equity, -1)

    # --- bad debt ------------------------------------------------------------------------------

    def _shared(self, pool: int, ledger: int) -> dict[int, int]:
        """Return what other pools pay of a pool's negative cash, by the socialisation of the rules."""
        state = self._state
        if self._plan.socialise == "none":
            return {}
        legs = self.episodes.legs[self.episodes.open[pool].legs]
        values = np.abs(value_of_sizes(state, legs["market"], legs["size"], legs["mark"])).tolist()
        by_market: dict[int, int] = {}
        for market, value in zip(legs["market"].tolist(), values, strict=True):
            by_market[market] = by_market.get(market, 0) + value
        loss = -int(state.pools[pool]["cash"])
        return shares(state, self._plan.socialise, loss, ledger, by_market, spared=list(self.episodes.open))

    def _pay_bad_debt(self, ts: int, pools: Array) -> None:
        """Bring flat pools with negative cash to zero: others are asked, the rest is booked against @bad_debt.

        A pool in liquidation may also have closed by itself, by trades of the tape.
        """
        state = self._state
        rows = []
        _, _, is_open = pool_states(state, pools)
        flat = pools[~is_open]
        for pool in flat[state.pools["cash"][flat] < 0].tolist():
            ledger = int(state.pools[pool]["ledger"])
            episode = self.episodes.open[pool]
            shared = self._shared(pool, ledger)
            left = -int(state.pools[pool]["cash"]) - sum(shared.values())
            payers = [*shared, *([state.pseudo_pool("@bad_debt", ledger)] if left else [])]
            amounts = [*shared.values(), *([left] if left else [])]
            targets = np.full(len(payers), pool, np.int64)
            move_cash(state.arrays, np.array(payers, np.int64), targets, np.array(amounts, np.int64))
            episode.socialised += sum(shared.values())
            episode.bad_debt += left
            for payer, amount in zip(payers, amounts, strict=True):
                rows.append(
                    {
                        "ts": ts,
                        "liquidation": episode.id,
                        "account": int(state.pools[payer if payer in shared else pool]["account"]),
                        "ledger": ledger,
                        "kind": "socialised" if payer in shared else "bad_debt",
                        "amount": amount,
                    }
                )
        append_rows(self._sink, "shared_losses", rows)


def _values_at_mark(batch: ForcedBatch, worth: Array, rung: Takeover) -> Array:
    """Return the values at which positions are taken over at the mark: a penalty less, or none is owed.

    The penalty is a share of the pool's maintenance, at most its equity, over its positions by maintenance.
    A pool that owes has its positions taken over at the bankruptcy price: the absorber pays.
    """
    values = batch.bankruptcy_value.copy()
    for i in np.flatnonzero(batch.equity >= 0).tolist():
        equity, maintenance = int(batch.equity[i]), int(batch.maintenance[i])
        penalty = min(equity, -(-maintenance * rung.penalty_rate // RATE_ONE))
        share = int(worth[i] - batch.bankruptcy_value[i])
        values[i] = int(worth[i]) - (share * penalty // equity if equity else 0)
    return values
