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
from replay.kernels import allocating_kernel, kernel
from replay.loop.candidates import BOUNDED, OPEN, OUT, SETTLED, list_candidates, room_for, settle
from replay.loop.candidates import Candidates as Listed
from replay.loop.holders import holders_in_profit
from replay.loop.ledger import add_cash, book
from replay.loop.policies.scores import score
from replay.loop.policies.winners import Winners as Candidates
from replay.loop.state import SNAPSHOTS, Arrays, State
from replay.rules.plan import Adl
from replay.units import ATOM, BOUND, RATE_ONE

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


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


def winners_of(listed: Listed) -> Winners:
    """Return listed candidates as winners, without a copy."""
    return Winners(*listed[:-1])


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


TIE_BREAKS: Mapping[str, Callable[[Winners], Array]] = {
    "larger_profit": lambda winners: winners.cost - winners.value,
    "larger_value": lambda winners: -np.abs(winners.value),
    "smaller_wallet": lambda winners: winners.wallet,
    "newer": lambda winners: -winners.pool,
}
"""What decides among equal scores, by the name rule files use; the smaller number is closed first.

Source: Ethereal's page on auto-deleveraging, which names profit, balance and the newest account.
"""


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


def rank_winners(
    state: State, market: int, rule: Adl, *, losers_are_long: bool, need: int | None = None
) -> Ranking:
    """Rank the positions on the other side of a market.

    Pools in breach, pseudo accounts, pools without equity, and accounts and markets that the rules spare are no
    candidates; positions without profit only where the loss rule has them. Pools of unknown equity come last, as
    if their equity were the position's own value.

    Args:
        state: The state at the end of the step.
        market: The market.
        rule: How they are scored, and how many steps the indicator has.
        losers_are_long: Side of the losers; winners are on the other.
        need: Quantity that a queue is to close, so that those behind need no order; None ranks all.
    """
    listed = _listed(state, market, losers_are_long=losers_are_long, with_losers=rule.loss_rule != "exclude")
    if rule.exempt_markets or rule.exempt_accounts:
        listed = _not_spared(state, market, rule, listed)
    is_whole = need is None or len(listed.pool) <= _SMALL or not listed.known.all()
    listed = _settled(state, listed, listed.standing != SETTLED if is_whole else listed.standing == OPEN)
    if need is None or is_whole:
        chosen = winners_of(listed)
        scores = scores_of(rule, chosen)
    else:
        first, scores = _first_of(state, listed, rule, need)
        chosen = winners_of(listed.rows(first))
    ties = [TIE_BREAKS[word](chosen) for word in reversed(rule.tie_break)]
    unknown = 1 - chosen.known.astype(np.int8)
    order = np.lexsort((chosen.position, chosen.pool, *ties, -scores, unknown))
    total = int(listed.size.sum())
    ranked = chosen.rows(order)
    return Ranking(ranked, scores[order], indicator(ranked.size, rule.lights, total), len(listed.size))


def _listed(state: State, market: int, *, losers_are_long: bool, with_losers: bool) -> Listed:
    """Return the candidates of a market and side, bounded where they can be."""
    if not state.arrays.markets[market]["has_mark"]:
        return room_for(0)
    slots = holders_in_profit(state, market, is_long=not losers_are_long, with_losers=with_losers)
    listed = room_for(len(slots) + 1)
    count, _ = list_candidates(state.arrays, slots, with_losers, np.zeros(SNAPSHOTS), listed)
    return listed.rows(slice(count))


def _settled(state: State, listed: Listed, which: Array) -> Listed:
    """Return candidates with some of them settled, without those that are out."""
    settle(state.arrays, listed, np.flatnonzero(which))
    is_in = listed.standing != OUT
    return listed if is_in.all() else listed.rows(is_in)


def _not_spared(state: State, market: int, rule: Adl, listed: Listed) -> Listed:
    """Return the candidates that the rules do not spare."""
    if market in rule.exempt_markets:
        return listed.rows(slice(0))
    accounts = [state.account(name) for name in rule.exempt_accounts]
    return listed.rows(~np.isin(state.pools["account"][listed.pool], accounts))


_FEW = 64
_SMALL = 8 * _FEW  # so few are valued sooner than bounded


def _first_of(state: State, listed: Listed, rule: Adl, need: int) -> tuple[Array, Floats]:
    """Return the rows that surely hold the first of the order up to a quantity, and their scores.

    The bounded among the first are settled until all of the first are exact: whoever is behind them has a
    bound that is.
    """
    scores = _highest_scores(rule, listed)
    few = _FEW
    while True:
        first = np.arange(len(scores))
        if few < len(scores):
            least = -np.partition(-scores, few)[few]
            first = np.flatnonzero(scores >= least)
        bounded = first[listed.standing[first] == BOUNDED]
        if len(bounded):
            settle(state.arrays, listed, bounded)
            scores[bounded] = _highest_scores(rule, listed.rows(bounded))
        elif few >= len(scores) or int(listed.size[first].sum()) >= need:
            return first, scores[first]
        else:
            few *= 8


def _highest_scores(rule: Adl, listed: Listed) -> Floats:
    """Return the scores of settled rows, and what the scores of bounded rows cannot exceed.

    A loss may count for more than its bounds say, by whatever rule, but for no more than nothing.
    """
    scores = scores_of(rule, winners_of(listed))
    is_bounded = listed.standing == BOUNDED
    is_loss = listed.value <= listed.cost
    raised = scores + np.abs(scores) * _ROUNDING
    return np.where(is_bounded, np.where(is_loss, np.maximum(raised, 0), raised), scores)


_ROUNDING = 1e-12


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
            loser_fees[i] = min(fee_of(values[i], loser_rate), max(0, s.pools[loser.pool].cash))
        winner_fees[i] = fee_of(values[i], winner_rate)
        add_cash(s, loser.pool, -loser_fees[i])
        add_cash(s, winner.pool, -winner_fees[i])
        realised[i] = s.pools[winner.pool].cash - cash
        add_cash(s, s.ledgers[ledger].fees_pool, loser_fees[i] + winner_fees[i])


@kernel
def fee_of(value: int, rate: int) -> int:
    """Return the fee of a value at a rate in 1e-12, half to even; none of a value beyond all bounds."""
    fee = muldiv(value, rate, RATE_ONE, HALF_EVEN)
    return 0 if fee == OVERFLOW else fee
