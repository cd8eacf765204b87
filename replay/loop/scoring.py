"""The score of one candidate, compiled: the terms of :mod:`replay.loop.policies.scores` on a row instead of on columns.

And what comes before what in a queue: known before unknown equity, the larger score, the tie-breaks of the rules, the
older pool, the older position.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.extending import overload

from replay.kernels import i64, kernel
from replay.loop.candidates import BOUNDED
from replay.loop.policies.scores import (
    BY_MAINTENANCE,
    LEVERAGE_TERMS,
    LOSS_RULES,
    PROFIT_TERMS,
    RATIOS,
    choose,
    losses_behind,
    losses_out,
)
from replay.rules.plan import Adl
from replay.units import ATOM

Array = npt.NDArray[Any]

SCOPES = ("account", "position", "position_on_account")
"""Whose equity, notional and maintenance a score takes, by the name rule files use.

The ``account``; the ``position`` with its share of the equity; ``position_on_account``, the maintenance of the position
on the equity of the account.
"""
_ACCOUNT, _POSITION, _POSITION_ON_ACCOUNT = range(3)

TIE_BREAKS = ("larger_profit", "larger_value", "smaller_wallet", "newer")
"""What decides among equal scores, by the name rule files use.

Source: Ethereal's page on auto-deleveraging, which names profit, balance and the newest account.
"""
_LARGER_PROFIT, _LARGER_VALUE, _SMALLER_WALLET, _NEWER = range(4)


_ROUNDING = 1e-12


class Scoring(NamedTuple):
    """How the rules score candidates, as compiled code sees it; numbers are places in the tables of names."""

    profit_term: int
    leverage_term: int
    loss_rule: int
    is_ratio: bool  # the profit term is above zero also for a loss
    scope: int
    ties: Array  # int64, in their order
    with_losers: bool  # candidates without profit are winners, too
    of_position: bool  # maintenance and share of the position count
    of_maintenance: bool  # maintenance of the pool counts, as it does for a share


def scoring_of(rule: Adl) -> Scoring:
    """Return how a rule scores candidates."""
    of_share = rule.profit_term == "profit_on_margin" or rule.leverage_term == "entry_on_margin"
    of_position = of_share or rule.equity_scope != "account"
    return Scoring(
        tuple(PROFIT_TERMS).index(rule.profit_term),
        tuple(LEVERAGE_TERMS).index(rule.leverage_term),
        tuple(LOSS_RULES).index(rule.loss_rule),
        rule.profit_term in RATIOS,
        SCOPES.index(rule.equity_scope),
        np.array([TIE_BREAKS.index(word) for word in rule.tie_break], np.int64),
        rule.loss_rule != "exclude",
        of_position,
        of_position or rule.leverage_term in BY_MAINTENANCE,
    )


class Winner(NamedTuple):
    """One row of :class:`replay.loop.policies.winners.Winners`."""

    lots: int
    entry: int
    value: int
    profit: int
    notional: int
    equity: int
    maintenance: int
    wallet: int
    margin: int
    account: int
    unit: int


@overload(choose)
def _choose_one(condition, then, otherwise):  # type: ignore[no-untyped-def]  # numba compares the arguments as written
    """Compile the choice in a term for one candidate, for which NumPy would make arrays."""
    return lambda condition, then, otherwise: then if condition else otherwise


def _kernels(functions: Any) -> Any:
    return tuple(kernel(function) for function in functions.values())


# Compiled code calls functions by name, not by place.
_on_entry, _ratio, _on_wallet, _on_margin, _on_equity, _itself, _entry_value = _kernels(PROFIT_TERMS)
_one, _notional, _maintenance, _maintenance_of_one, _set_leverage = _kernels(LEVERAGE_TERMS)
_divide, _product, _zero, _exclude, _smaller_first = _kernels(LOSS_RULES)
_losses_behind: Any = kernel(losses_behind)
_losses_out: Any = kernel(losses_out)
_EXCLUDE, _SMALLER_FIRST = (tuple(LOSS_RULES).index(word) for word in ("exclude", "smaller_abs_first"))


@kernel
def _seen(c: Any, scope: int) -> Winner:
    """Return a CANDIDATE record as the terms of a score see it, with leverage and risk of the scope."""
    notional, equity, maintenance = i64(c.notional), i64(c.equity), i64(c.pool_maintenance)
    if scope == _POSITION:
        notional, equity = i64(abs(c.value)), i64(c.share)
    if scope != _ACCOUNT:
        maintenance = i64(c.maintenance)
    entry, value, profit = i64(abs(c.cost)), i64(abs(c.value)), i64(c.value - c.cost)
    return Winner(
        i64(c.size),
        entry,
        value,
        profit,
        notional,
        equity,
        maintenance,
        i64(c.wallet),
        i64(c.share),
        i64(c.pool),
        i64(ATOM),
    )


@kernel
def _profit_of(term: int, w: Winner) -> float:
    if term == 0:
        return float(_on_entry(w))
    if term == 1:
        return float(_ratio(w))
    if term == 2:
        return float(_on_wallet(w))
    if term == 3:
        return float(_on_margin(w))
    if term == 4:
        return float(_on_equity(w))
    if term == 5:
        return float(_itself(w))
    return float(_entry_value(w))


@kernel
def _leverage_of(term: int, w: Winner) -> float:
    if term == 0:
        return float(_one(w))
    if term == 1:
        return float(_notional(w))
    if term == 2:
        return float(_maintenance(w))
    if term == 3:
        return float(_maintenance_of_one(w))
    return float(_set_leverage(w))


@kernel
def _joined(rule: int, profit: float, leverage: float) -> float:
    if rule == 0:
        return float(_divide(profit, leverage))
    if rule == 1:
        return float(_product(profit, leverage))
    if rule == 2:
        return float(_zero(profit, leverage))
    if rule == 3:
        return float(_exclude(profit, leverage))
    return float(_smaller_first(profit, leverage))


@kernel
def score_of(c: Any, rules: Scoring) -> float:
    """Return the score of a CANDIDATE record, see :func:`replay.loop.policies.scores.score`."""
    w = _seen(c, rules.scope)
    profit, leverage = _profit_of(rules.profit_term, w), _leverage_of(rules.leverage_term, w)
    if not rules.is_ratio:
        return _joined(rules.loss_rule, profit, leverage)
    joined = profit * leverage
    if rules.loss_rule == _SMALLER_FIRST:
        return float(_losses_behind(w, joined))
    if rules.loss_rule == _EXCLUDE:
        return float(_losses_out(w, joined))
    return joined


@kernel
def _tie_key(tie: int, c: Any) -> int:
    """Return the number of which the smaller is closed first."""
    if tie == _LARGER_PROFIT:
        return i64(c.cost - c.value)
    if tie == _LARGER_VALUE:
        return i64(-abs(c.value))
    if tie == _SMALLER_WALLET:
        return i64(c.wallet)
    return i64(-c.pool)


@kernel
def comes_before(a: Any, b: Any, ties: Array) -> bool:
    """Tell whether one CANDIDATE record comes before another in the queue.

    Of equal scores a bounded one comes first: what it scores can only be less.
    """
    if a.known != b.known:
        return bool(a.known > b.known)
    if a.score != b.score:
        return bool(a.score > b.score)
    if (a.standing == BOUNDED) != (b.standing == BOUNDED):
        return bool(a.standing == BOUNDED)
    for tie in ties:
        key, other = _tie_key(tie, a), _tie_key(tie, b)
        if key != other:
            return bool(key < other)
    if a.pool != b.pool:
        return bool(a.pool < b.pool)
    return bool(a.position < b.position)


@kernel
def fill_scores(candidates: Array, rows: Array, rules: Scoring) -> None:
    """Fill the scores of rows that are settled, and what those of bounded ones cannot exceed.

    A loss may count for more than its bounds say, by whatever rule, but for no more than nothing.

    Args:
        candidates: CANDIDATE records.
        rows: int64, some of them.
        rules: How they are scored.
    """
    for row in rows:
        c = candidates[row]
        c.score = score_of(c, rules)
        if c.standing == BOUNDED:
            c.score += abs(c.score) * _ROUNDING
            if c.value <= c.cost:
                c.score = max(c.score, 0.0)
