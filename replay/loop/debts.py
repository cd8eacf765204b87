"""What flat pools owe: an absorber pays it, others share it, and the rest is bad debt.

Source: venue-rules.md sections 6, 8.5 and 25 (G, K).
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from replay.kernels import i64, kernel
from replay.loop.episodes import Cases
from replay.loop.fund import IS_VAULT, UNBOUNDED, Fund, balance, note
from replay.loop.ledger import add_cash
from replay.loop.limits import allowance, count_paid, is_off
from replay.loop.rows import LOSS_ROWS, Buffers, add_movement
from replay.loop.state import Arrays

Array = npt.NDArray[Any]


@kernel
def pay_debt(
    s: Arrays, f: Fund, c: Cases, r: Buffers, pool: int, markets: Array, parts: Array, ts: int
) -> None:
    """Let the absorber pay parts of a flat pool's debt, each out of the balance that answers for its market.

    A balance pays at most what it has, and what its limits allow.

    Args:
        s: The state.
        f: The absorber.
        c: The open liquidations.
        r: Receives what moved; :func:`replay.loop.rows.write_movements` has to be called.
        pool: A flat pool in liquidation that owes.
        markets: int64, markets in which the debt was made.
        parts: int64, what of the debt each has, in atoms.
        ts: The step.
    """
    for i in range(len(markets)):
        market, paid = i64(markets[i]), i64(parts[i])
        if paid == 0 or is_off(f, market, ts):
            continue
        purse = i64(f.markets[market].purse)
        paid = min(paid, max(0, balance(s, f, purse)))
        allowed = allowance(s, f, market, pool, ts)
        if allowed != UNBOUNDED:
            paid = min(paid, allowed)
        if paid == 0:
            continue
        count_paid(f, market, pool, ts, paid)
        add_cash(s, i64(f.pools[purse]), -paid)
        add_cash(s, pool, paid)
        note(s, f, market, -paid)
        add_movement(r, market, -paid)
        leg = c.episodes[s.pools[pool].episode].first
        while c.legs[leg].market != market:
            leg = c.legs[leg].next
        c.legs[leg].shortfall += paid
        if f.rule[IS_VAULT]:
            c.legs[leg].vault += paid


@kernel
def write_off(s: Arrays, c: Cases, r: Buffers, pools: Array, bad_debt: Array, ts: int) -> None:
    """Bring flat pools in liquidation that owe to zero: what nobody pays is bad debt.

    Args:
        s: The state.
        c: The open liquidations.
        r: Receives a row for each.
        pools: int64, the pools.
        bad_debt: int64 by ledger, the pools that pay.
        ts: The step.
    """
    for number in pools:
        pool = s.pools[number]
        episode, left = c.episodes[pool.episode], -pool.cash
        add_cash(s, i64(bad_debt[pool.ledger]), -left)
        add_cash(s, number, left)
        episode.bad_debt += left
        row = r.losses[r.counts[LOSS_ROWS]]
        r.counts[LOSS_ROWS] += 1
        row.ts, row.liquidation, row.account, row.ledger = ts, episode.id, pool.account, pool.ledger
        row.amount = left
