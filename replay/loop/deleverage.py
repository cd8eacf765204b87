"""Auto-deleveraging of one step: losers of all pools and of the absorber against ranked winners."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.kernels import allocating_kernel, i64, kernel
from replay.loop import rows as of
from replay.loop.adl import Ranking, book_pairs, pair_queue, rank_winners
from replay.loop.episodes import Cases, Episodes
from replay.loop.fund import EXISTS, Funds, balance, counted_fund_at, fund_at, note
from replay.loop.margin import fault, valued_pool
from replay.loop.policies.registry import QUEUE, named_policy
from replay.loop.policies.wiring import taken_by
from replay.loop.rows import Buffers, Rows, add_movement, write_movements
from replay.loop.state import CELL_OVERFLOW, Arrays, State
from replay.loop.waterfall import part_of_value, value_at
from replay.rules.plan import Adl
from replay.units import BOUND, RATE_ONE

Array = npt.NDArray[Any]

_PRICES = ("mark", "previous_mark", "bankruptcy", "oracle", "clamped_oracle")
_MARK, _PREVIOUS_MARK, _BANKRUPTCY, _ORACLE, _CLAMPED_ORACLE = range(5)


class Deleveraging:
    """Closes losers against winners and accounts for it in their liquidations.

    Args:
        state: The state.
        rule: How winners are ranked, priced and charged.
        rows: Receives the rows.
        episodes: The open liquidations.
    """

    def __init__(self, state: State, rule: Adl, rows: Rows, episodes: Episodes) -> None:
        self._state = state
        self._rule = rule
        self._rows = rows
        self._episodes = episodes
        self._policy = None if rule.method == QUEUE else named_policy(rule.method)
        self._is_plain_queue = self._policy is None and rule.winner_cap == RATE_ONE
        self._price = _PRICES.index(rule.price)

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
        side = 2 * losing["market"] + losing["is_short"]
        losing = losing[np.lexsort((losing["position"], losing["pool"], losing["episode"] < 0, side))]
        side.sort()
        starts = np.flatnonzero(np.diff(side, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(side)], strict=True):
            self._close_side(ts, funds, losing[start:end])

    def _close_side(self, ts: int, funds: Funds, losing: Array) -> None:
        market, need = int(losing["market"][0]), int(losing["quantity"].sum())
        ranking = rank_winners(
            self._state,
            market,
            self._rule,
            losers_are_long=not losing["is_short"][0],
            need=need if self._is_plain_queue else None,
        )
        self._rows.reserve(adl=len(losing) + len(ranking.position), stages=1 + len(funds.rule))
        close_side(
            self._state.arrays,
            funds,
            self._episodes.arrays,
            self._rows.arrays,
            ts,
            losing,
            self._offered(market, need, ranking),
            ranking.position,
            ranking.score,
            ranking.lights,
            ranking.candidates,
            self._price,
            self._rule.loser_fee_rate,
            self._rule.winner_fee_rate,
        )

    def _offered(self, market: int, need: int, ranking: Ranking) -> Array:
        """Return what each winner gives: in a queue the whole position up to the cap, else what the policy says.

        A cap is rounded down to lots, and to one lot at least.
        """
        if self._is_plain_queue:
            return ranking.size
        lot = self._state.markets[market].lot
        if self._policy is None:
            capped = [size * self._rule.winner_cap // RATE_ONE // lot * lot for size in ranking.size.tolist()]
            return np.minimum(np.maximum(np.array(capped, np.int64), lot), ranking.size)
        return taken_by(self._policy, need, lot, ranking.winners, self._rule.method)


@kernel
def _rule_price(s: Arrays, market: int, price: int) -> int:
    """Return the price of the rules in the scale of marks; the mark before a market's first oracle."""
    m = s.markets[market]
    if price == _PREVIOUS_MARK:
        return i64(m.previous_mark)
    if price in (_ORACLE, _CLAMPED_ORACLE) and m.oracle:
        return i64(m.oracle)
    return i64(m.mark)


@kernel
def _value_pieces(s: Arrays, losing: Array, loser: Array, pieces: Array, price: int, values: Array) -> None:
    """Fill the signed value of the part of the loser that each piece closes.

    No price is below zero: where a bankruptcy value has the other sign, because the position's share of the
    pool's deficit is larger than its notional, it is closed for nothing and the rest is bad debt. The piece that
    closes a loser takes what rounding left of its value. A clamped price is never worse for the loser.
    """
    market, is_long = i64(losing[0].market), losing[0].is_short == 0
    is_positive = is_long != (s.markets[market].inverse != 0)
    at = _rule_price(s, market, price)
    closed, given, before = i64(0), i64(0), i64(-1)
    for i in range(len(pieces)):
        order = losing[loser[i]]
        if loser[i] != before:
            closed, given, before = i64(0), i64(0), loser[i]
        values[i] = value_at(s, market, pieces[i] if is_long else -pieces[i], at)
        if not order.has_value:
            continue
        whole = min(max(order.value, 0), BOUND) if is_positive else min(max(order.value, -BOUND), 0)
        closed += pieces[i]
        part = part_of_value(whole, pieces[i], order.quantity)
        if closed == order.quantity:
            part = whole - given
        given += part
        is_clamped = price == _CLAMPED_ORACLE and order.episode >= 0
        values[i] = max(values[i], part) if is_clamped else part


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
    offered: Array,
    winners: Array,
    scores: Array,
    lights: Array,
    candidates: int,
    price: int,
    loser_rate: int,
    winner_rate: int,
) -> None:
    """Close the losers of one market and side against winners, in the order of both.

    Args:
        s: The state.
        funds: The absorbers.
        c: The open liquidations.
        r: Receives the rows.
        ts: The step.
        losing: LOSING records of one market and side.
        offered: What each winner gives, unsigned.
        winners: Position slots in order of rank.
        scores: Their scores.
        lights: Their lit lights.
        candidates: How many were ranked.
        price: Place in the list of prices.
        loser_rate: Fee of the loser, in 1e-12 of value.
        winner_rate: Fee of the winner.
    """
    loser, winner, pieces = pair_queue(losing["quantity"].copy(), offered)
    count, market = len(pieces), i64(losing[0].market)
    m = s.markets[market]
    values = np.empty(count, np.int64)
    _value_pieces(s, losing, loser, pieces, price, values)
    first = r.counts[of.ADL_ROWS]
    rows = r.adl[first : first + count]
    r.counts[of.ADL_ROWS] += count
    loser_slots, winner_slots = np.empty(count, np.int64), np.empty(count, np.int64)
    gains = np.zeros(len(funds.rule), np.int64)
    is_own = np.zeros(len(funds.rule), np.uint8)
    for i in range(count):
        order, row = losing[loser[i]], rows[i]
        loser_slots[i], winner_slots[i] = order.position, winners[winner[i]]
        p, q = s.positions[order.position], s.positions[winners[winner[i]]]
        row.ts, row.liquidation, row.market, row.ledger = ts, order.episode, market, m.ledger
        row.loser, row.winner = s.pools[order.pool].account, s.pools[q.pool].account
        row.origin, row.rank, row.candidates = order.origin, winner[i] + 1, candidates
        row.score, row.lights = scores[winner[i]], lights[winner[i]]
        row.quantity, row.value, row.mark = pieces[i], values[i], m.mark
        row.loser_size_before, row.winner_size_before = p.size, q.size
        row.loser_equity_before, _ = _equity_and_notional(s, order.position)
        row.winner_equity_before, row.winner_notional_before = _equity_and_notional(s, winners[winner[i]])
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
