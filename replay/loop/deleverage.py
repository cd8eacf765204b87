"""Auto-deleveraging of one step: losers of all pools and of the absorber against ranked winners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop import rows as of
from replay.loop.adl import book_pairs, pair_queue
from replay.loop.adl_prices import PRICES, value_pieces
from replay.loop.episodes import Cases, Episodes
from replay.loop.fund import EXISTS, IS_VAULT, Fund, Funds, balance, counted_fund_at, fund_at, note, part_of
from replay.loop.ledger import add_cash
from replay.loop.margin import fault, valued_pool
from replay.loop.policies.registry import QUEUE, named_policy
from replay.loop.policies.wiring import taken_by
from replay.loop.ranking import Ranking, rank_winners
from replay.loop.rows import Buffers, Rows, add_movement, write_movements
from replay.loop.safeguard import guarded_pairs
from replay.loop.state import CELL_OVERFLOW, Arrays, State
from replay.loop.waterfall import value_at
from replay.rules.plan import Adl
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]


class Deleveraging:
    """Closes losers against winners and accounts for it in their liquidations.

    Args:
        state: The state.
        rule: How winners are ranked, priced and charged.
        rows: Receives the rows.
        episodes: The open liquidations.
        opening: What the absorber opened with, by purse: below a share of it another price may hold.
        most: How many positions of pools in breach are tried in a step; 0: all.
    """

    def __init__(
        self,
        state: State,
        rule: Adl,
        rows: Rows,
        episodes: Episodes,
        opening: Mapping[int, int],
        most: int = 0,
    ) -> None:
        self._state = state
        self._rule = rule
        self._rows = rows
        self._episodes = episodes
        self._policy = None if rule.method == QUEUE else named_policy(rule.method)
        self._most = most
        self._is_plain_queue = self._policy is None and rule.winner_cap == RATE_ONE
        self._price = PRICES.index(rule.price)
        self._fallback = PRICES.index(rule.fallback_price) if rule.fallback_price else self._price
        self._lines = {purse: rule.fallback_below * amount // RATE_ONE for purse, amount in opening.items()}

    def close(self, ts: int, funds: Funds, losing: Array) -> None:
        """Close losers against the ranked winners of their market, one ranking per market and side.

        Args:
            ts: The step.
            funds: The absorbers.
            losing: LOSING records, those of absorbers behind all others.
        """
        if self._rule.exempt_markets:
            losing = losing[~np.isin(losing["market"], self._rule.exempt_markets)]
            if not len(losing):
                return
        if self._most:
            losing = self._in_turn(losing)
        side = 2 * losing["market"] + losing["is_short"]
        losing = losing[np.lexsort((losing["position"], losing["pool"], losing["episode"] < 0, side))]
        side.sort()
        starts = np.flatnonzero(np.diff(side, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(side)], strict=True):
            self._close_side(ts, funds, losing[start:end])

    def _in_turn(self, losing: Array) -> Array:
        """Return the losers that are tried in this step; the pools of the others are judged in the next."""
        mine = np.flatnonzero(losing["episode"] >= 0)
        order = mine[np.lexsort((losing["position"][mine], losing["episode"][mine]))]
        late = order[self._most :]
        self._state.arrays.pools["deferred"][losing["pool"][late]] = 1
        return np.delete(losing, late)

    def _close_side(self, ts: int, funds: Funds, losing: Array) -> None:
        market, need = int(losing["market"][0]), int(losing["quantity"].sum())
        ranking = rank_winners(
            self._state,
            market,
            self._rule,
            losers_are_long=not losing["is_short"][0],
            need=need if self._is_plain_queue and not self._rule.must_not_worsen else None,
        )
        price = self._fallback if self._is_low(funds, market) else self._price
        loser, winner, pieces = self._pairs(market, need, losing, ranking, price)
        self._rows.reserve(adl=len(pieces), stages=2 + len(funds.rule))
        close_side(
            self._state.arrays,
            funds,
            self._episodes.arrays,
            self._rows.arrays,
            ts,
            losing,
            loser,
            winner,
            pieces,
            ranking.winners,
            ranking.lights,
            ranking.candidates,
            price,
            self._rule.loser_fee_rate,
            self._rule.winner_fee_rate,
            self._rule.residual_to_absorber,
        )

    def _is_low(self, funds: Funds, market: int) -> bool:
        """Tell whether the absorber is so low that the other price of the rules holds."""
        if not self._rule.fallback_price:
            return False
        fund = part_of(funds, 0)
        purse = int(fund.markets[market]["purse"])
        return bool(balance(self._state.arrays, fund, purse) <= self._lines[purse])

    def _pairs(
        self, market: int, need: int, losing: Array, ranking: Ranking, price: int
    ) -> tuple[Array, Array, Array]:
        """Return the loser, the winner and the quantity of each piece."""
        lot, arrays = self._state.markets[market].lot, self._state.arrays
        if not self._rule.must_not_worsen:
            offered = self._capped(ranking.size, lot)
            if self._policy is not None:
                offered = taken_by(self._policy, need, lot, ranking.winners, self._rule.method)
            return pair_queue(losing["quantity"].copy(), offered)
        policy = self._policy
        if policy is None:
            most = self._capped(ranking.size, lot)
            return guarded_pairs(arrays, losing, ranking, most, None, self._rule, price)

        def offer(need: int, rows: Array, left: Array) -> Array:
            some = ranking.winners[rows]
            some["size"] = left
            return taken_by(policy, need, lot, some, self._rule.method)

        return guarded_pairs(arrays, losing, ranking, ranking.size, offer, self._rule, price)

    def _capped(self, sizes: Array, lot: int) -> Array:
        """Return what a queue may close of each winner: a share in whole lots, one at least."""
        if self._rule.winner_cap == RATE_ONE:
            return sizes
        capped = [size * self._rule.winner_cap // RATE_ONE // lot * lot for size in sizes.tolist()]
        return np.minimum(np.maximum(np.array(capped, np.int64), lot), sizes)


@kernel
def _equity_and_notional(s: Arrays, slot: int) -> tuple[int, int]:
    """Return equity and notional of a position's pool at the marks, in atoms; 0 without a value."""
    pool = i64(s.positions[slot].pool)
    if not valued_pool(s, pool):
        return 0, 0
    return s.valuations[pool][0], s.valuations[pool][2]


@allocating_kernel
def close_side(
    s: Arrays,
    funds: Funds,
    c: Cases,
    r: Buffers,
    ts: int,
    losing: Array,
    loser: Array,
    winner: Array,
    pieces: Array,
    winners: Array,
    lights: Array,
    candidates: int,
    price: int,
    loser_rate: int,
    winner_rate: int,
    residual_to_absorber: bool,
) -> None:
    """Close the losers of one market and side against winners, piece by piece.

    Args:
        s: The state.
        funds: The absorbers.
        c: The open liquidations.
        r: Receives the rows.
        ts: The step.
        losing: LOSING records of one market and side.
        loser: Row of the loser of each piece, rising.
        winner: Row of its winner.
        pieces: Its unsigned quantity.
        winners: CANDIDATE records in order of rank.
        lights: Their lit lights.
        candidates: How many were ranked.
        price: Place in :data:`replay.loop.adl_prices.PRICES`.
        loser_rate: Fee of the loser, in 1e-12 of value.
        winner_rate: Fee of the winner.
        residual_to_absorber: Whether the absorber has, or pays, what the price differs from bankruptcy.
    """
    count, market = len(pieces), i64(losing[0].market)
    m = s.markets[market]
    values, parts = np.empty(count, np.int64), np.empty(count, np.int64)
    value_pieces(s, losing, loser, pieces, price, values, parts)
    first = r.counts[of.ADL_ROWS]
    rows = r.adl[first : first + count]
    r.counts[of.ADL_ROWS] += count
    loser_slots, winner_slots = np.empty(count, np.int64), np.empty(count, np.int64)
    gains = np.zeros(len(funds.rule), np.int64)
    is_own = np.zeros(len(funds.rule), np.uint8)
    for i in range(count):
        order, row, chosen = losing[loser[i]], rows[i], winners[winner[i]]
        loser_slots[i], winner_slots[i] = order.position, chosen.position
        p, q = s.positions[order.position], s.positions[chosen.position]
        row.ts, row.liquidation, row.market, row.ledger = ts, order.episode, market, m.ledger
        row.loser, row.winner = s.pools[order.pool].account, s.pools[q.pool].account
        row.origin, row.rank, row.candidates = order.origin, winner[i] + 1, candidates
        row.score, row.lights = chosen.score, lights[winner[i]]
        row.quantity, row.value, row.mark = pieces[i], values[i], m.mark
        row.loser_size_before, row.winner_size_before = p.size, q.size
        row.loser_equity_before, _ = _equity_and_notional(s, order.position)
        row.winner_equity_before, row.winner_notional_before = _equity_and_notional(s, chosen.position)
        if order.episode < 0:
            worth = value_at(s, market, pieces[i] if p.size > 0 else -pieces[i], m.mark)
            gains[order.absorber] += values[i] - worth
            is_own[order.absorber] = 1
    loser_fees, winner_fees = np.empty(count, np.int64), np.empty(count, np.int64)
    realised = np.empty(count, np.int64)
    book_pairs(
        s,
        loser_slots,
        winner_slots,
        pieces,
        np.abs(values),
        loser_rate,
        winner_rate,
        loser_fees,
        winner_fees,
        realised,
    )
    if residual_to_absorber:
        _settle_residuals(s, counted_fund_at(funds, 0), c, r, ts, losing, loser, loser_slots, parts - values)
    for i in range(count):
        order, row = losing[loser[i]], rows[i]
        p, q = s.positions[loser_slots[i]], s.positions[winner_slots[i]]
        row.realised, row.loser_fee, row.winner_fee = realised[i], loser_fees[i], winner_fees[i]
        row.loser_size_after, row.winner_size_after = p.size, q.size
        row.loser_equity_after, _ = _equity_and_notional(s, loser_slots[i])
        row.winner_equity_after, _ = _equity_and_notional(s, winner_slots[i])
        s.pools[q.pool].touched = 1
        if order.episode < 0:
            note(s, counted_fund_at(funds, order.absorber), market, values[i])
        else:
            leg = c.legs[c.leg_of[loser_slots[i]]]
            leg.adl += pieces[i]
            leg.left -= pieces[i]
    _write_needed(s, funds, r, ts, losing)
    for number in range(len(is_own)):
        if is_own[number]:
            add_movement(r, market, gains[number])
            write_movements(s, counted_fund_at(funds, number), r, ts, of.DELEVERAGED)


@kernel
def _settle_residuals(
    s: Arrays, f: Fund, c: Cases, r: Buffers, ts: int, losing: Array, loser: Array, slots: Array, owed: Array
) -> None:
    """Bring what the losers got to their bankruptcy price: the absorber pays what is owed, or has what is over."""
    market = i64(losing[0].market)
    total = i64(0)
    is_any = False
    for i in range(len(owed)):
        if losing[loser[i]].episode < 0:
            continue
        is_any = True
        if owed[i] == 0:
            continue
        add_cash(s, i64(s.positions[slots[i]].pool), owed[i])
        add_cash(s, f.pools[f.markets[market].purse], -owed[i])
        note(s, f, market, -owed[i])
        leg = c.legs[c.leg_of[slots[i]]]
        leg.shortfall += max(owed[i], 0)
        if f.rule[IS_VAULT]:
            leg.vault += max(owed[i], 0)
        leg.surplus += max(-owed[i], 0)
        total -= owed[i]
    if is_any:
        add_movement(r, market, total)
        write_movements(s, f, r, ts, of.RESIDUAL)


@kernel
def _write_needed(s: Arrays, funds: Funds, r: Buffers, ts: int, losing: Array) -> None:
    """Write that deleveraging engaged for the losers of one market and side, and how much they needed."""
    market = i64(losing[0].market)
    ledger = i64(s.markets[market].ledger)
    row = r.engagements[r.counts[of.ENGAGEMENT_ROWS]]
    r.counts[of.ENGAGEMENT_ROWS] += 1
    f = fund_at(funds, losing[0].absorber)
    exists = f.rule[EXISTS] != 0
    row.ts, row.market, row.ledger, row.stage = ts, market, ledger, of.ADL
    row.scope = of.account_of(s, f, market) if exists else of.NOBODY
    row.state, row.reason, row.count = of.ENGAGED, of.NOT_CLOSED, len(losing)
    row.measured, row.threshold, row.quantity, row.has_quantity = 0, 0, 0, 1
    for order in losing:
        row.measured += order.equity
        row.quantity += order.quantity
        if abs(row.measured) >= BOUND or row.quantity >= BOUND:
            fault(s, CELL_OVERFLOW, order.pool, market)
    row.has_balance = exists
    row.fund_balance = balance(s, f, i64(f.markets[market].purse)) if exists else 0
