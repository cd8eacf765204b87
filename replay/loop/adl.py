"""Auto-deleveraging: who among the winners is closed, how much, and against whom.

One ranking per (market, side, step); losers in canonical order meet winners in rank order by two cumulative
sums. Scores are floating point for order only; equal scores fall back to the pool, then the position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.exact import HALF_EVEN, OVERFLOW, muldiv, signed_value
from replay.kernels import allocating_kernel, i64, kernel
from replay.loop.ledger import add_cash, book
from replay.loop.margin import maintenance_of, notional_at, valued_pool
from replay.loop.policies.scores import score
from replay.loop.policies.winners import Winners as Candidates
from replay.loop.state import Arrays, State
from replay.rules.plan import Adl
from replay.tape.schema import Grade
from replay.units import ATOM, BOUND, RATE_ONE

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_UNKNOWN = int(Grade.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Winners:
    """Candidates of one market and side, in order of slots, money in atoms.

    ``share`` is the part of the pool's equity that the position's own bankruptcy price would use up,
    ``maintenance`` that of the position, ``pool_maintenance`` and ``wallet`` (cash) those of the pool.
    """

    position: Array
    pool: Array
    size: Array
    cost: Array
    value: Array
    equity: Array
    notional: Array
    share: Array
    maintenance: Array
    pool_maintenance: Array
    wallet: Array
    known: Array

    def rows(self, index: Array) -> Winners:
        """Return some of the rows, in the order of the index."""
        return Winners(*(getattr(self, column)[index] for column in self.__slots__))

    def of_account(self, lot: int = 1) -> Candidates:
        """Return them as candidates of a policy: whole lots, leverage and risk of the account."""
        return Candidates(
            lots=self.size // lot,
            entry=np.abs(self.cost),
            value=np.abs(self.value),
            profit=self.value - self.cost,
            notional=self.notional,
            equity=self.equity,
            maintenance=self.pool_maintenance,
            wallet=self.wallet,
            margin=self.share,
            account=self.pool,
            unit=ATOM,
        )

    def of_position(self) -> Candidates:
        """Return them with leverage and risk of the position on its share of the equity."""
        return replace(
            self.of_account(),
            notional=np.abs(self.value),
            equity=self.share,
            maintenance=self.maintenance,
        )

    def of_position_on_account(self) -> Candidates:
        """Return them with the maintenance of the position on the equity of the account."""
        return replace(self.of_account(), maintenance=self.maintenance)


SCOPES: Mapping[str, Callable[[Winners], Candidates]] = {
    "account": Winners.of_account,
    "position": Winners.of_position,
    "position_on_account": Winners.of_position_on_account,
}
"""Whose equity, notional and maintenance a score takes, by the name rule files use."""


def scores_of(rule: Adl, winners: Winners) -> Floats:
    """Return the score of each candidate under the rules; the largest is closed first."""
    joined = score(
        SCOPES[rule.equity_scope](winners),
        profit_term=rule.profit_term,
        leverage_term=rule.leverage_term,
        loss_rule=rule.loss_rule,
    )
    return joined.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Winners of one market and side in the order in which a queue closes them.

    ``candidates`` is how many there are; where only what a queue needs was asked for, the first of them.
    """

    winners: Winners
    score: Floats
    lights: Array
    candidates: int

    @property
    def position(self) -> Array:
        """Return the position slots."""
        return self.winners.position

    @property
    def pool(self) -> Array:
        """Return the pools."""
        return self.winners.pool

    @property
    def size(self) -> Array:
        """Return the unsigned sizes."""
        return self.winners.size


@kernel
def _candidates(
    s: Arrays,
    slots: Array,
    with_losers: bool,
    kept: Array,
    cost: Array,
    value: Array,
    equity: Array,
    notional: Array,
    share: Array,
    maintenance: Array,
    pool_maintenances: Array,
    wallet: Array,
    known: Array,
) -> int:
    """Keep the positions that may be deleveraged and value them; return how many."""
    count = 0
    for slot in slots:
        p = s.positions[slot]
        pool, m = s.pools[p.pool], s.markets[p.market]
        if m.has_mark == 0:
            continue
        size_notional = notional_at(m, p.size, m.mark)
        at_mark = signed_value(p.size, size_notional, m.inverse != 0)
        if (at_mark - p.cost <= 0 and not with_losers) or p.cost == 0 or size_notional == 0:
            continue
        if pool.special or pool.in_breach or not valued_pool(s, i64(p.pool)):
            continue
        row = s.valuations[p.pool]
        pool_equity, pool_maintenance, pool_notional = row[0], row[1], row[2]
        is_known = pool.grade != _UNKNOWN
        if is_known and pool_equity <= 0:
            continue
        own = 0
        own_maintenance = maintenance_of(s.tiers, m, p.size, p.cost, size_notional)
        if is_known and pool_maintenance > 0:
            own = muldiv(pool_equity, own_maintenance, pool_maintenance, HALF_EVEN)
        kept[count] = slot
        cost[count] = p.cost
        value[count] = at_mark
        equity[count] = pool_equity if is_known else size_notional
        notional[count] = pool_notional if is_known else size_notional
        share[count] = max(own, 1) if is_known else size_notional
        maintenance[count] = own_maintenance
        pool_maintenances[count] = pool_maintenance if is_known else own_maintenance
        wallet[count] = pool.cash if is_known else size_notional
        known[count] = is_known
        count += 1
    return count


def rank_winners(
    state: State, market: int, rule: Adl, *, losers_are_long: bool, need: int | None = None
) -> Ranking:
    """Rank the positions on the other side of a market.

    Pools in breach, pseudo accounts and pools without equity are no candidates; positions without profit
    only where the loss rule has them. Pools of unknown equity come last, as if their equity were the
    position's own value.

    Args:
        state: The state at the end of the step.
        market: The market.
        rule: How they are scored, and how many steps the indicator has.
        losers_are_long: Side of the losers; winners are on the other.
        need: Quantity that a queue is to close, so that those behind need no order; None ranks all.
    """
    positions = state.positions
    slots = state.slots_of(market)
    sizes = positions["size"][slots]
    slots = slots[sizes < 0 if losers_are_long else sizes > 0]
    rows = len(slots)
    kept, cost, value, equity, notional, share = (np.zeros(rows, np.int64) for _ in range(6))
    maintenance, pool_maintenance, wallet = (np.zeros(rows, np.int64) for _ in range(3))
    known = np.zeros(rows, np.uint8)
    count = _candidates(
        state.arrays,
        slots,
        rule.loss_rule != "exclude",
        kept,
        cost,
        value,
        equity,
        notional,
        share,
        maintenance,
        pool_maintenance,
        wallet,
        known,
    )
    position = kept[:count]
    winners = Winners(
        position,
        positions["pool"][position].astype(np.int64),
        np.abs(positions["size"][position]),
        cost[:count],
        value[:count],
        equity[:count],
        notional[:count],
        share[:count],
        maintenance[:count],
        pool_maintenance[:count],
        wallet[:count],
        known[:count],
    )
    scores = scores_of(rule, winners)
    first = _first_of(winners, scores, need)
    chosen = winners if first is None else winners.rows(first)
    score_of = scores if first is None else scores[first]
    order = np.lexsort((chosen.position, chosen.pool, -score_of, 1 - chosen.known.astype(np.int8)))
    total = int(winners.size.sum())
    ranked = chosen.rows(order)
    return Ranking(ranked, score_of[order], indicator(ranked.size, rule.lights, total), count)


_FEW = 64


def _first_of(winners: Winners, scores: Floats, need: int | None) -> Array | None:
    """Return rows that surely hold the first of the order up to a quantity, or None for all of them."""
    count = len(scores)
    if need is None or not winners.known.all():
        return None
    few = _FEW
    while few < count:
        least = -np.partition(-scores, few)[few]
        rows = np.flatnonzero(scores >= least)
        if int(winners.size[rows].sum()) >= need:
            return rows
        few *= 8
    return None


def indicator(sizes: Array, lights: int, total: int | None = None) -> Array:
    """Return how many of ``lights`` are lit per rank: all for the first n-th, one for the last.

    Source: BitMEX's steps of 20 % of cumulative quantity, the last contract of a position deciding.

    Args:
        sizes: Quantities in order of rank, of all or of the first of them.
        lights: How many steps there are.
        total: Quantity of all ranks, if ``sizes`` are only the first.
    """
    total = int(sizes.sum()) if total is None else total
    if total == 0:
        return np.zeros(len(sizes), np.int64)
    reached = np.cumsum(sizes)
    if total < BOUND // lights:
        return lights + 1 - -(-lights * reached // total)
    return np.array([lights + 1 - -(-lights * x // total) for x in reached.tolist()], np.int64)


@allocating_kernel
def pair_queue(losers: Array, winners: Array) -> tuple[Array, Array, Array]:
    """Pair quantities of losers, in order, with quantities of winners, in order: a queue.

    Args:
        losers: Unsigned quantities to close.
        winners: Unsigned quantities available.

    Returns:
        For each piece the index of the loser, the index of the winner, and its quantity. The pieces sum to
        the smaller of both totals.
    """
    most = len(losers) + len(winners)
    loser, winner, pieces = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    count, i, j = 0, 0, 0
    need = losers[0] if len(losers) else 0
    there = winners[0] if len(winners) else 0
    while i < len(losers) and j < len(winners):
        piece = min(need, there)
        if piece > 0:
            loser[count], winner[count], pieces[count] = i, j, piece
            count += 1
        need -= piece
        there -= piece
        if need == 0:
            i += 1
            need = losers[i] if i < len(losers) else 0
        if there == 0:
            j += 1
            there = winners[j] if j < len(winners) else 0
    return loser[:count], winner[:count], pieces[:count]


@kernel
def book_pairs(
    s: Arrays,
    losers: Array,
    winners: Array,
    quantities: Array,
    values: Array,
    loser_rate: int,
    winner_rate: int,
    loser_fees: Array,
    winner_fees: Array,
    realised: Array,
) -> None:
    """Close pieces of losing positions against winning ones.

    Args:
        s: The state.
        losers: Position slots that lose; each piece closes part of them.
        winners: Position slots on the other side.
        quantities: Unsigned quantities of the pieces.
        values: Unsigned contract values of the pieces in atoms.
        loser_rate: Fee of the loser, in 1e-12 of value.
        winner_rate: Fee of the winner.
        loser_fees: Filled with the fees of the losers.
        winner_fees: Filled with the fees of the winners.
        realised: Filled with the changes of the winners' cash, fees included.
    """
    for i in range(len(losers)):
        loser, winner = s.positions[losers[i]], s.positions[winners[i]]
        inverse = s.markets[loser.market].inverse != 0
        quantity = -quantities[i] if loser.size > 0 else quantities[i]
        value = signed_value(quantity, values[i], inverse)
        cash = s.pools[winner.pool].cash
        book(s, losers[i], quantity, value, value)
        book(s, winners[i], -quantity, -value, -value)
        ledger = s.markets[loser.market].ledger
        # A loser closed at its bankruptcy price has nothing left to pay a fee with.
        loser_fees[i] = 0
        if s.pools[loser.pool].special == 0:
            loser_fees[i] = min(_fee(values[i], loser_rate), max(0, s.pools[loser.pool].cash))
        winner_fees[i] = _fee(values[i], winner_rate)
        add_cash(s, loser.pool, -loser_fees[i])
        add_cash(s, winner.pool, -winner_fees[i])
        realised[i] = s.pools[winner.pool].cash - cash
        add_cash(s, s.ledgers[ledger].fees_pool, loser_fees[i] + winner_fees[i])


@kernel
def _fee(value: int, rate: int) -> int:
    fee = muldiv(value, rate, RATE_ONE, HALF_EVEN)
    return 0 if fee == OVERFLOW else fee
