"""One step of forced closing: rungs of the ladder, the absorber, auto-deleveraging, bad debt, and their rows.

Within a step all book orders of all pools come first, then all takeovers, then all ADL, whatever the order
of the pools; quantities and money of each liquidation are accounted for in its episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from replay.loop.absorbers import AbsorberBook
from replay.loop.adl import SCORES, Ranking, book_pairs, pair_queue, rank_winners
from replay.loop.books import value_of
from replay.loop.depth import NO_LIMIT, Depth
from replay.loop.episodes import Episodes, Leg
from replay.loop.ledger import book_forced, move_cash
from replay.loop.margin import is_valued, valuation
from replay.loop.state import ATTENDING, MARKS_MOVED, State
from replay.loop.watch import soil, wait_for_marks
from replay.loop.waterfall import (
    ForcedBatch,
    fees_of,
    forced_batch,
    pool_states,
    send_to_book,
    surplus_over_bankruptcy,
    value_of_sizes,
)
from replay.rules.plan import Adl, BookOrder, Plan, Takeover
from replay.tape.schema import Side

Array = npt.NDArray[Any]


class Sink(Protocol):
    """Where the loop writes rows of run tables, in units of the tape."""

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Append rows by column."""


def append_rows(sink: Sink, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows that are given one by one; a column missing in a row is unknown."""
    if rows:
        names = list(dict.fromkeys(name for row in rows for name in row))
        sink.append(table, {name: [row.get(name) for row in rows] for name in names})


@dataclass(slots=True)
class Losing:
    """A position, or part of one, that goes to auto-deleveraging.

    ``value`` is the signed contract value of the whole quantity at which it is closed, or None for the price
    of the rules. ``origin`` says where it comes from: the pool's own ladder, or an absorber.
    """

    position: int
    pool: int
    market: int
    quantity: int
    value: int | None
    origin: str
    equity: int
    episode: int


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
        self.absorber = None if plan.absorber is None else AbsorberBook(state, plan.absorber, start_ts)
        self._is_vault = plan.absorber is not None and plan.absorber.account.startswith("@vault")
        distinct = sorted({Fraction(*rung.level) for rung in plan.ladder})
        self._levels = [distinct.index(Fraction(*rung.level)) for rung in plan.ladder]
        if self.absorber is not None:
            self._write_opening(start_ts)

    def step(self, ts: int, breaches: Array, recorded: Array) -> None:
        """Run one step.

        Args:
            ts: The step.
            breaches: int64 ids of the pools in breach at its end, ascending.
            recorded: Position slots that the tape forces in this step.
        """
        state = self._state
        in_breach = set(breaches.tolist())
        rows: list[dict[str, Any]] = []
        restored = self._restored(in_breach)
        self._pay_bad_debt(ts, np.array(restored, np.int64))
        for pool in restored:
            rows += self.episodes.end(pool, ts, self._is_vault)
        # Pools that wait for a mark were not judged in this step: no winners either.
        state.arrays.pools["in_breach"][list(self.episodes.open)] = 1
        self._open_episodes(ts, breaches, recorded)
        losing: list[Losing] = []
        if len(breaches):
            state.arrays.pools["liquidated_ts"][breaches] = ts
            losing = self._ladder(ts, breaches)
        losing += self._absorber_step(ts)
        if losing and self._plan.adl is not None:
            self._deleverage(ts, losing, self._plan.adl)
        self._pay_bad_debt(ts, breaches)
        wait_for_marks(state.arrays, np.array(sorted({*in_breach, *self.episodes.open}), np.int64))
        _, _, still_open = pool_states(state, breaches)
        for pool in breaches[~still_open].tolist():
            rows += self.episodes.end(pool, ts, self._is_vault)
        append_rows(self._sink, "liquidations", rows)
        holds = self.absorber is not None and bool(self.absorber.holdings())
        state.arrays.counters[ATTENDING] = bool(self.episodes.open) or holds

    def finish(self) -> None:
        """Write the episodes that the end of the tape left open."""
        rows: list[dict[str, Any]] = []
        for pool in sorted(self.episodes.open):
            rows += self.episodes.end(pool, None, self._is_vault)
        append_rows(self._sink, "liquidations", rows)

    def _restored(self, in_breach: set[int]) -> list[int]:
        """Return the pools in liquidation that were judged in this step and are not in breach any more.

        They are judged when a mark moves; in other steps only those count that no longer are in breach. These
        have no certificate from the judge yet, so it has to see them in the next step.
        """
        candidates = np.array(sorted(self.episodes.open.keys() - in_breach), np.int64)
        if not self._state.arrays.counters[MARKS_MOVED] and len(candidates):
            candidates = candidates[~self._still_in_breach(candidates)]
            for pool in candidates.tolist():
                soil(self._state.arrays, pool)
        return list(candidates.tolist())

    def _open_episodes(self, ts: int, breaches: Array, recorded: Array) -> None:
        """Begin episodes, and add legs for positions that came later."""
        batch = forced_batch(self._state, ts, breaches)
        forced = set(recorded.tolist())
        for i in range(len(batch.pool)):
            pool, position = int(batch.pool[i]), int(batch.position[i])
            episode = self.episodes.of(pool, ts, int(batch.equity[i]), int(batch.maintenance[i]))
            if position not in episode.legs:
                episode.legs[position] = Leg(
                    position,
                    int(batch.market[i]),
                    int(batch.size[i]),
                    int(batch.mark[i]),
                    int(batch.bankruptcy_value[i]),
                    recorded=int(position in forced),
                )
            episode.legs[position].left = 0

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
            else:
                losing += [self._losing(batch, i, None, "ladder") for i in range(len(batch.pool))]
        return losing

    def _lowest_levels(self, equity: Array, maintenance: Array) -> Array:
        """Return, per pool in breach, the number of the lowest level whose rungs apply."""
        found = np.full(len(equity), len(self._levels), np.int64)
        for i, (have, need) in enumerate(zip(equity.tolist(), maintenance.tolist(), strict=True)):
            for number, rung in zip(self._levels, self._plan.ladder, strict=True):
                strict = not (self._plan.breach_at_equal and rung.level[0])
                slack = have * rung.level[1] - rung.level[0] * need
                if (slack < 0 or (slack == 0 and not strict)) and number < found[i]:
                    found[i] = number
        return found

    def _still_in_breach(self, pools: Array) -> Array:
        equity, maintenance, is_open = pool_states(self._state, pools)
        return is_open & (equity - maintenance < int(self._plan.breach_at_equal))

    def _book(self, batch: ForcedBatch, rung: BookOrder) -> None:
        state = self._state
        if self.depth is None:
            return
        fills = send_to_book(batch, state, self.depth, rung)
        signed = np.where(batch.size > 0, -fills.filled, fills.filled)
        takers = state.arrays.markets["book"][batch.market].astype(np.int64)
        book_forced(state.arrays, batch.position, signed, fills.value, takers)
        fees = fees_of(fills.value, rung.fee_rate)
        if rung.surplus_to == "absorber" and self.absorber is not None:
            surplus = surplus_over_bankruptcy(batch, fills)
            fees = np.minimum(fees, surplus)
            kept = surplus - fees
            self._give_surplus(batch, kept)
        fees_pools = state.arrays.ledgers["fees_pool"][state.pools["ledger"][batch.pool]].astype(np.int64)
        move_cash(state.arrays, batch.pool, fees_pools, fees)
        started = fills.sliced & (fills.filled > 0)
        state.arrays.pools["cooldown_until"][batch.pool[started]] = batch.ts + rung.cooldown_ns
        for i in range(len(batch.pool)):
            leg = self.episodes.open[int(batch.pool[i])].legs[int(batch.position[i])]
            leg.book += int(fills.filled[i])
            leg.left = int(fills.asked[i] - fills.filled[i])
        sent = fills.asked > 0
        self._write_orders(
            batch, rung.action, fills.asked, fills.limit, signed, fills.value, fills.reason, sent
        )
        self._engage(batch, rung.action, "@book", fills.filled, sent, "forced orders sent to the book")

    def _give_surplus(self, batch: ForcedBatch, amounts: Array) -> None:
        """Move what fills were better than bankruptcy to the absorber."""
        state = self._state
        assert self.absorber is not None
        targets = np.array([self.absorber.pool(int(x)) for x in state.pools["ledger"][batch.pool]], np.int64)
        move_cash(state.arrays, batch.pool, targets, amounts)
        for i in np.flatnonzero(amounts):
            self.absorber.book(int(batch.market[i]), int(amounts[i]))
            self.episodes.open[int(batch.pool[i])].legs[int(batch.position[i])].surplus += int(amounts[i])
        self._write_movements(batch.ts, "surplus", batch.market, amounts)

    def _take_over(self, batch: ForcedBatch, rung: Takeover) -> list[Losing]:
        """Hand positions to the absorber as far as its capacity goes; the rest goes to ADL at bankruptcy."""
        state = self._state
        assert self.absorber is not None
        rows = len(batch.pool)
        worth = value_of_sizes(state, batch.market, batch.size, batch.mark)
        gain = worth - batch.bankruptcy_value
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
        value = np.array(
            [
                _part(int(v), int(q), abs(int(n)))
                for v, q, n in zip(batch.bankruptcy_value, absorbed, batch.size, strict=True)
            ],
            np.int64,
        )
        signed = np.where(batch.size > 0, -absorbed, absorbed)
        takers = np.array([self.absorber.position(int(market)) for market in batch.market], np.int64)
        book_forced(state.arrays, batch.position, signed, -value, takers)
        taken = np.where(batch.size > 0, absorbed, -absorbed)
        taken_gain = value_of_sizes(state, batch.market, taken, batch.mark) - value
        losing = []
        for i in range(rows):
            leg = self.episodes.open[int(batch.pool[i])].legs[int(batch.position[i])]
            leg.absorbed += int(absorbed[i])
            leg.left = abs(int(batch.size[i])) - int(absorbed[i])
            leg.surplus += max(0, int(taken_gain[i]))
            leg.shortfall += max(0, -int(taken_gain[i]))
            self.absorber.book(int(batch.market[i]), -int(value[i]))
            if leg.left:
                losing.append(self._losing(batch, i, int(batch.bankruptcy_value[i] - value[i]), "takeover"))
        reason = [
            f"taken over by {self.absorber.rule.account}"
            if q == abs(n)
            else "the absorber's capacity is used up"
            for q, n in zip(absorbed.tolist(), batch.size.tolist(), strict=True)
        ]
        everything = np.ones(rows, bool)
        none = np.full(rows, NO_LIMIT, np.int64)
        self._write_orders(batch, rung.action, np.abs(batch.size), none, signed, -value, reason, everything)
        self._write_movements(batch.ts, rung.action, batch.market, taken_gain)
        self._engage(
            batch, rung.action, self.absorber.rule.account, absorbed, everything, "equity below maintenance"
        )
        return losing

    def _losing(self, batch: ForcedBatch, i: int, value: int | None, origin: str) -> Losing:
        pool, position = int(batch.pool[i]), int(batch.position[i])
        quantity = abs(int(self._state.positions[position]["size"]))
        episode = self.episodes.open[pool]
        episode.legs[position].left = quantity
        return Losing(
            position, pool, int(batch.market[i]), quantity, value, origin, int(batch.equity[i]), episode.id
        )

    # --- the absorber --------------------------------------------------------------------------------

    def _judge(self, market: int, ts: int) -> None:
        """Let the absorber's start and stop rules judge a market; write the change."""
        assert self.absorber is not None
        if self._plan.adl is None:
            return
        verdict = self.absorber.judge(market, ts)
        if verdict is not None:
            ledger = self._state.markets[market].ledger
            append_rows(
                self._sink,
                "engagements",
                [
                    {
                        "ts": ts,
                        "scope": self.absorber.rule.account,
                        "market": market,
                        "ledger": ledger,
                        "stage": "adl",
                        "state": "start" if verdict.active else "stop",
                        "reason": verdict.reason,
                        "measured": verdict.measured,
                        "threshold": verdict.threshold,
                        "fund_balance": self.absorber.balance(ledger),
                        "quantity": None,
                        "shadow": 0,
                    }
                ],
            )

    def _absorber_step(self, ts: int) -> list[Losing]:
        """Work out inventory, judge the triggers, and return what of the absorber's goes to ADL."""
        if self.absorber is None:
            return []
        if self.absorber.rule.work_out == "book":
            self._work_out(ts)
        losing: list[Losing] = []
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
            closed = value_of(state, market, _signed(quantity, size), mark, at_mark=True)
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
            self._write_movements(ts, "work out", np.array([market]), np.array([-value - closed]))

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

    # --- auto-deleveraging ---------------------------------------------------------------------------

    def _deleverage(self, ts: int, losing: list[Losing], rule: Adl) -> None:
        """Close losers against the ranked winners of their market, one ranking per market and side."""
        losing.sort(key=lambda order: (order.episode < 0, order.pool, order.position))
        sizes = self._state.positions["size"][[order.position for order in losing]].tolist()
        sides: dict[tuple[int, bool], list[Losing]] = {}
        for order, size in zip(losing, sizes, strict=True):
            sides.setdefault((order.market, size < 0), []).append(order)
        for market, is_short in sorted(sides):
            self._close_side(ts, market, not is_short, sides[market, is_short], rule)

    def _close_side(self, ts: int, market: int, is_long: bool, orders: list[Losing], rule: Adl) -> None:
        state = self._state
        arrays = state.arrays
        ranking = rank_winners(
            state, market, losers_are_long=is_long, score=SCORES[rule.score], lights=rule.lights
        )
        quantities = np.array([order.quantity for order in orders], np.int64)
        loser, winner, pieces = pair_queue(quantities, ranking.size)
        values = self._piece_values(market, is_long, orders, loser, pieces, rule)
        loser_slots = np.array([order.position for order in orders], np.int64)[loser]
        winner_slots = ranking.position[winner]
        before = _Sides(state, loser_slots, winner_slots)
        loser_fees, winner_fees = np.zeros(len(pieces), np.int64), np.zeros(len(pieces), np.int64)
        book_pairs(
            arrays,
            loser_slots,
            winner_slots,
            pieces,
            np.abs(values),
            rule.loser_fee_rate,
            rule.winner_fee_rate,
            loser_fees,
            winner_fees,
        )
        after = _Sides(state, loser_slots, winner_slots)
        for index, piece, value in zip(loser.tolist(), pieces.tolist(), values.tolist(), strict=True):
            order = orders[index]
            if order.episode >= 0:
                leg = self.episodes.open[order.pool].legs[order.position]
                leg.adl += piece
                leg.left -= piece
            elif self.absorber is not None:
                self.absorber.book(market, value)
        self._write_adl(
            ts,
            market,
            orders,
            loser,
            winner,
            pieces,
            values,
            ranking,
            before,
            after,
            loser_fees,
            winner_fees,
        )

    def _piece_values(
        self, market: int, is_long: bool, orders: list[Losing], loser: Array, pieces: Array, rule: Adl
    ) -> Array:
        """Return the signed value of the part of the loser that each piece closes.

        No price is below zero: where a bankruptcy value has the other sign, because the position's share of
        the pool's deficit is larger than its notional, it is closed for nothing and the rest is bad debt.
        """
        record = self._state.arrays.markets[market]
        is_positive = is_long != bool(record["inverse"])
        mark = int(record["previous_mark"] if rule.price == "previous_mark" else record["mark"])
        sign = 1 if is_long else -1
        values = np.zeros(len(pieces), np.int64)
        given = [0] * len(orders)
        closed = [0] * len(orders)
        for i, (index, piece) in enumerate(zip(loser.tolist(), pieces.tolist(), strict=True)):
            whole = orders[index].value
            if whole is None:
                values[i] = value_of(self._state, market, sign * piece, mark, at_mark=True)
                continue
            whole = max(whole, 0) if is_positive else min(whole, 0)
            closed[index] += piece
            if closed[index] == orders[index].quantity:
                values[i] = whole - given[index]
            else:
                values[i] = _part(whole, piece, orders[index].quantity)
            given[index] += int(values[i])
        return values

    def _write_adl(
        self,
        ts: int,
        market: int,
        orders: list[Losing],
        loser: Array,
        winner: Array,
        pieces: Array,
        values: Array,
        ranking: Ranking,
        before: _Sides,
        after: _Sides,
        loser_fees: Array,
        winner_fees: Array,
    ) -> None:
        state = self._state
        info = state.markets[market]
        rows = [
            {
                "ts": ts,
                "liquidation": orders[index].episode if orders[index].episode >= 0 else None,
                "loser": int(state.pools[orders[index].pool]["account"]),
                "winner": int(state.pools[ranking.pool[rank]]["account"]),
                "market": market,
                "ledger": info.ledger,
                "origin": orders[index].origin,
                "rank": rank + 1,
                "candidates": len(ranking.position),
                "score": float(ranking.score[rank]),
                "lights": int(ranking.lights[rank]),
                "quantity": int(pieces[i]),
                "value": int(values[i]),
                "mark": int(state.arrays.markets[market]["mark"]),
                "realised": int(after.winner_cash[i] - before.winner_cash[i]),
                "loser_fee": int(loser_fees[i]),
                "winner_fee": int(winner_fees[i]),
                "loser_size_before": int(before.loser_size[i]),
                "loser_size_after": int(after.loser_size[i]),
                "winner_size_before": int(before.winner_size[i]),
                "winner_size_after": int(after.winner_size[i]),
                "loser_equity_before": int(before.loser_equity[i]),
                "loser_equity_after": int(after.loser_equity[i]),
                "winner_equity_before": int(before.winner_equity[i]),
                "winner_equity_after": int(after.winner_equity[i]),
                "winner_notional_before": int(before.winner_notional[i]),
            }
            for i, (index, rank) in enumerate(zip(loser.tolist(), winner.tolist(), strict=True))
        ]
        append_rows(self._sink, "adl_fills", rows)
        needed = sum(order.quantity for order in orders)
        scope = self.absorber.rule.account if self.absorber is not None else "@book"
        append_rows(
            self._sink,
            "engagements",
            [
                {
                    "ts": ts,
                    "scope": scope,
                    "market": market,
                    "ledger": info.ledger,
                    "stage": "adl",
                    "state": "engaged",
                    "reason": f"no stage before could close them: {len(orders)} orders",
                    "measured": sum(order.equity for order in orders),
                    "threshold": 0,
                    "fund_balance": None if self.absorber is None else self.absorber.balance(info.ledger),
                    "quantity": needed,
                    "shadow": 0,
                }
            ],
        )
        if self.absorber is not None:
            own = [i for i, index in enumerate(loser.tolist()) if orders[index].episode < 0]
            if own:
                worth = sum(
                    value_of(
                        state,
                        market,
                        _signed(int(pieces[i]), int(before.loser_size[i])),
                        int(state.arrays.markets[market]["mark"]),
                        at_mark=True,
                    )
                    for i in own
                )
                gained = sum(int(values[i]) for i in own) - worth
                self._write_movements(ts, "deleveraged", np.array([market]), np.array([gained]))

    # --- bad debt, rows ------------------------------------------------------------------------------

    def _pay_bad_debt(self, ts: int, pools: Array) -> None:
        """Bring flat pools with negative cash to zero; what nobody paid is booked against @bad_debt.

        A pool in liquidation may also have closed by itself, by trades of the tape.
        """
        state = self._state
        rows = []
        _, _, is_open = pool_states(state, pools)
        flat = pools[~is_open]
        for pool in flat[state.pools["cash"][flat] < 0].tolist():
            cash = int(state.pools[pool]["cash"])
            ledger = int(state.pools[pool]["ledger"])
            payer = state.pseudo_pool("@bad_debt", ledger)
            move_cash(state.arrays, np.array([payer]), np.array([pool]), np.array([-cash]))
            episode = self.episodes.open[pool]
            episode.bad_debt += -cash
            rows.append(
                {
                    "ts": ts,
                    "liquidation": episode.id,
                    "account": int(state.pools[pool]["account"]),
                    "ledger": ledger,
                    "kind": "bad_debt",
                    "amount": -cash,
                }
            )
        append_rows(self._sink, "shared_losses", rows)

    def _write_orders(
        self,
        batch: ForcedBatch,
        stage: str,
        asked: Array,
        limit: Array,
        signed: Array,
        value: Array,
        reason: Sequence[str],
        sent: Array,
    ) -> None:
        rows = np.flatnonzero(sent)
        if len(rows) == 0:
            return
        import pyarrow as pa

        pools = self._state.pools[batch.pool[rows]]
        self._sink.append(
            "forced_orders",
            {
                "ts": np.full(len(rows), batch.ts),
                "liquidation": [self.episodes.open[int(pool)].id for pool in batch.pool[rows]],
                "stage": [stage] * len(rows),
                "account": pools["account"],
                "market": batch.market[rows],
                "asked": np.where(batch.size[rows] > 0, -asked[rows], asked[rows]),
                "limit_price": pa.array(limit[rows], mask=limit[rows] == NO_LIMIT),
                "filled": signed[rows],
                "value": value[rows],
                "mark": batch.mark[rows],
                "reason": [reason[i] for i in rows.tolist()],
            },
        )

    def _write_movements(self, ts: int, kind: str, markets: Array, amounts: Array) -> None:
        """Write what movements brought or cost the absorber at the mark, one row per market."""
        assert self.absorber is not None
        rows = []
        for market in np.unique(markets):
            amount = sum(amounts[markets == market].tolist())
            ledger = self._state.markets[int(market)].ledger
            rows.append(
                {
                    "ts": ts,
                    "account": self._state.account(self.absorber.rule.account),
                    "ledger": ledger,
                    "market": int(market),
                    "kind": kind,
                    "amount": amount,
                    "balance": self.absorber.balance(ledger),
                    "inventory": self.absorber.size(int(market)),
                }
            )
        append_rows(self._sink, "absorber_ledger", rows)

    def _write_opening(self, ts: int) -> None:
        assert self.absorber is not None
        rows = []
        for ledger in self.absorber.ledgers():
            balance = self.absorber.balance(ledger)
            rows.append(
                {
                    "ts": ts,
                    "account": self._state.account(self.absorber.rule.account),
                    "ledger": ledger,
                    "market": None,
                    "kind": "opening",
                    "amount": balance,
                    "balance": balance,
                    "inventory": None,
                }
            )
        append_rows(self._sink, "absorber_ledger", rows)

    def _engage(
        self, batch: ForcedBatch, stage: str, scope: str, quantity: Array, acted: Array, reason: str
    ) -> None:
        """Write that a stage acted in this step, one row per market."""
        rows = []
        for market in np.unique(batch.market[acted]):
            mine = np.flatnonzero((batch.market == market) & acted)
            ledger = self._state.markets[int(market)].ledger
            count = len(mine)
            balance = None
            if self.absorber is not None and scope == self.absorber.rule.account:
                balance = self.absorber.balance(ledger)
            rows.append(
                {
                    "ts": batch.ts,
                    "scope": scope,
                    "market": int(market),
                    "ledger": ledger,
                    "stage": stage,
                    "state": "engaged",
                    "reason": f"{reason}: {count} pool{'s' if count > 1 else ''}",
                    "measured": sum(batch.equity[mine].tolist()),
                    "threshold": sum(batch.maintenance[mine].tolist()),
                    "fund_balance": balance,
                    "quantity": sum(quantity[mine].tolist()),
                    "shadow": 0,
                }
            )
        append_rows(self._sink, "engagements", rows)


class _Sides:
    """Sizes, equities and cash of both sides of ADL pieces at one moment."""

    def __init__(self, state: State, losers: Array, winners: Array) -> None:
        positions = state.positions
        self.loser_size = positions["size"][losers].copy()
        self.winner_size = positions["size"][winners].copy()
        loser_pools, winner_pools = positions["pool"][losers], positions["pool"][winners]
        self.winner_cash = state.pools["cash"][winner_pools].copy()
        values = {
            int(pool): valuation(state.arrays, int(pool)) if is_valued(state.arrays, int(pool)) else (0, 0, 0)
            for pool in np.unique(np.concatenate((loser_pools, winner_pools)))
        }
        self.loser_equity = [values[int(pool)][0] for pool in loser_pools]
        self.winner_equity = [values[int(pool)][0] for pool in winner_pools]
        self.winner_notional = [values[int(pool)][2] for pool in winner_pools]


def _part(value: int, quantity: int, whole: int) -> int:
    """Return the part of a signed value that belongs to part of its quantity: floor of the magnitude."""
    part = abs(value) * quantity // whole
    return part if value >= 0 else -part


def _signed(quantity: int, size: int) -> int:
    return quantity if size > 0 else -quantity
