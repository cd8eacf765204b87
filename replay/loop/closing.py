"""Losers of one market and side are closed against winners: values, fees, what is left over, and the rows."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from replay.kernels import i64, kernel
from replay.loop import rows as of
from replay.loop.adl import book_pairs
from replay.loop.adl_prices import value_pieces
from replay.loop.episodes import Cases
from replay.loop.fund import EXISTS, IS_VAULT, Fund, Funds, balance, fund_at, note
from replay.loop.ledger import add_cash
from replay.loop.margin import fault, valued_pool
from replay.loop.rows import Buffers, add_movement, write_movements
from replay.loop.state import CELL_OVERFLOW, Arrays
from replay.loop.waterfall import value_at
from replay.units import BOUND

Array = npt.NDArray[Any]


@kernel
def _equity_and_notional(s: Arrays, slot: int) -> tuple[int, int]:
    """Return equity and notional of a position's pool at the marks, in atoms; 0 without a value."""
    pool = i64(s.positions[slot].pool)
    if not valued_pool(s, pool, False):
        return 0, 0
    return s.valuations[pool][0], s.valuations[pool][2]


@kernel
def stages_to_close(funds: Funds) -> int:
    """Return how many stages write rows when one side is closed: the closing, what it leaves, each absorber's own."""
    return 2 + len(funds.rule)


CLOSING_COLUMNS = 7
"""Numbers that :func:`close_side` keeps of a piece while it works; it makes no arrays, so as to count no references."""


@kernel
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
    columns: Array,
    own: Array,
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
        columns: int64[CLOSING_COLUMNS, pieces] to work in.
        own: int64[2, absorbers], zeros to work in.
    """
    count, market = len(pieces), i64(losing[0].market)
    m = s.markets[market]
    values, parts, loser_slots, winner_slots = columns[0], columns[1], columns[2], columns[3]
    loser_fees, winner_fees, realised = columns[4], columns[5], columns[6]
    gains, is_own = own[0], own[1]
    value_pieces(s, losing, loser, pieces, price, values, parts)
    first = r.counts[of.ADL_ROWS]
    rows = r.adl[first : first + count]
    r.counts[of.ADL_ROWS] += count
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
        parts[i] -= values[i]
        values[i] = abs(values[i])
    book_pairs(
        s,
        loser_slots,
        winner_slots,
        pieces,
        values,
        loser_rate,
        winner_rate,
        loser_fees,
        winner_fees,
        realised,
    )
    if residual_to_absorber:
        _settle_residuals(s, fund_at(funds, 0), c, r, ts, losing, loser, loser_slots, parts)
    for i in range(count):
        order, row = losing[loser[i]], rows[i]
        p, q = s.positions[loser_slots[i]], s.positions[winner_slots[i]]
        row.realised, row.loser_fee, row.winner_fee = realised[i], loser_fees[i], winner_fees[i]
        row.loser_size_after, row.winner_size_after = p.size, q.size
        row.loser_equity_after, _ = _equity_and_notional(s, loser_slots[i])
        row.winner_equity_after, _ = _equity_and_notional(s, winner_slots[i])
        s.pools[q.pool].touched = 1
        if order.episode < 0:
            note(s, fund_at(funds, order.absorber), market, row.value)
        else:
            leg = c.legs[c.leg_of[loser_slots[i]]]
            leg.adl += pieces[i]
            leg.left -= pieces[i]
    _write_needed(s, funds, r, ts, losing)
    for number in range(len(is_own)):
        if is_own[number]:
            add_movement(r, market, gains[number])
            write_movements(s, fund_at(funds, number), r, ts, of.DELEVERAGED)


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
