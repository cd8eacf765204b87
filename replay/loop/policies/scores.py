"""Scores of the queue: profit term x leverage term, and what becomes of losers.

Axes ``adl.profit_term``, ``adl.leverage_term``, ``adl.loss_rule`` of venue-rules.md section 25 (I2 to I6). A
larger score is closed earlier. The functions are plain arithmetic, so they serve floats and exact fractions, columns
of candidates and, compiled in :mod:`replay.loop.scoring`, one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from replay.loop.policies.winners import Array, Winners

Term = Callable[[Winners], Array]
LossRule = Callable[[Array, Array], Array]


def choose(condition: Array, then: Any, otherwise: Any) -> Array:
    """Return one or the other row by row; compiled for one row in :mod:`replay.loop.scoring`."""
    chosen: Array = np.where(condition, then, otherwise)
    return chosen


def profit_on_entry(winners: Winners) -> Array:
    """Profit over entry value. Sources: BitMEX, Bybit, OKX, Extended, KuCoin."""
    return winners.profit / winners.entry


def price_ratio(winners: Winners) -> Array:
    """Mark over entry, inverted for shorts and inverse payoffs: one and more for whoever is in profit.

    Larger over smaller of the values at mark and at entry. Source: Hyperliquid's page on
    auto-deleveraging; for shorts in the natural reading.
    """
    larger, smaller = np.maximum(winners.value, winners.entry), np.minimum(winners.value, winners.entry)
    return choose(winners.profit < 0, smaller, larger) / choose(winners.profit < 0, larger, smaller)


def profit_on_wallet(winners: Winners) -> Array:
    """Profit over the wallet, which counts as one unit of the currency at least.

    Sources: Binance, Aster, Aevo; scale-dependent by design (venue-rules.md 27.14).
    """
    return winners.profit / np.maximum(winners.wallet, winners.unit)


def profit_on_margin(winners: Winners) -> Array:
    """Profit over the margin posted at the open. Source: KuCoin (isolated), Bitget's return on investment."""
    return winners.profit / winners.margin


def profit_on_equity(winners: Winners) -> Array:
    """Profit over equity. Source: a ranking of FLOX."""
    return winners.profit / winners.equity


def profit(winners: Winners) -> Array:
    """Profit itself. Source: a ranking of FLOX, with notional over equity."""
    return winners.profit


def entry_value(winners: Winners) -> Array:
    """Entry value per lot: the highest entry first. Source: Dango, for shorts."""
    return winners.entry / winners.lots


def one(winners: Winners) -> Array:
    """No leverage term. Source: KuCoin (cross, older)."""
    return winners.equity * 0 + 1


def notional_on_equity(winners: Winners) -> Array:
    """Notional over equity: effective leverage on the scope of both. Source: Hyperliquid, BitMEX, OKX.

    ``|V| / (V - V_bankruptcy)`` is the same where the equity is what the bankruptcy price would use up.
    """
    return winners.notional / winners.equity


def maintenance_on_equity(winners: Winners) -> Array:
    """Maintenance over equity, 0 where the equity is not above zero. Sources: Binance, Aster, Aevo, Gate."""
    safe = choose(winners.equity > 0, winners.equity, 1)
    return choose(winners.equity > 0, winners.maintenance, 0) / safe


def maintenance_on_equity_of_one(winners: Winners) -> Array:
    """Maintenance over equity, which counts as one unit at least. Source: Extended."""
    return winners.maintenance / np.maximum(winners.equity, winners.unit)


def entry_on_margin(winners: Winners) -> Array:
    """Entry value over posted margin: set or opening leverage. Source: KuCoin (isolated)."""
    return winners.entry / winners.margin


def divide(profits: Array, leverage: Array) -> Array:
    """Profit times leverage; a loss is divided by it. Sources: BitMEX, MEXC, KuCoin, Extended, Bitget."""
    safe = choose(leverage == 0, 1, leverage)
    return choose(profits > 0, profits * leverage, profits / safe)


def product(profits: Array, leverage: Array) -> Array:
    """Profit or loss times leverage. Sources: HTX, older OKX (stated with the inverse, a safety ratio)."""
    return profits * leverage


def zero(profits: Array, leverage: Array) -> Array:
    """Profit times leverage; a loser scores zero, so losers tie. Sources: Binance, Aster, Aevo."""
    return choose(profits > 0, profits, 0) * leverage


def exclude(profits: Array, leverage: Array) -> Array:
    """Profit times leverage; a loser is no candidate. Source: Hyperliquid."""
    return choose(profits > 0, profits * leverage, -np.inf)


PROFIT_TERMS: Mapping[str, Term] = {
    "profit_on_entry": profit_on_entry,
    "price_ratio": price_ratio,
    "profit_on_wallet": profit_on_wallet,
    "profit_on_margin": profit_on_margin,
    "profit_on_equity": profit_on_equity,
    "profit": profit,
    "entry_value": entry_value,
}
LEVERAGE_TERMS: Mapping[str, Term] = {
    "one": one,
    "notional_on_equity": notional_on_equity,
    "maintenance_on_equity": maintenance_on_equity,
    "maintenance_on_equity_of_one": maintenance_on_equity_of_one,
    "entry_on_margin": entry_on_margin,
}

BY_MAINTENANCE = ("maintenance_on_equity", "maintenance_on_equity_of_one")
"""Leverage terms that take the maintenance."""


def smaller_abs_first(profits: Array, leverage: Array) -> Array:
    """Profit times leverage; losers come behind, the smaller loss first. Source: axis I5."""
    return choose(profits > 0, profits * leverage, profits)


LOSS_RULES: Mapping[str, LossRule] = {
    "divide": divide,
    "product": product,
    "zero": zero,
    "exclude": exclude,
    "smaller_abs_first": smaller_abs_first,
}
"""Registered terms and rules, by the name rule files use."""

RATIOS = ("price_ratio", "entry_value")
"""Profit terms that are above zero also for a loss, so that it is the profit that tells winners from losers."""


def losses_behind(winners: Winners, joined: Array) -> Array:
    """Put losers behind all winners, by their loss over entry: ``smaller_abs_first`` of a ratio."""
    return choose(winners.profit > 0, joined, winners.profit / winners.entry)


def losses_out(winners: Winners, joined: Array) -> Array:
    """Let no loser be a candidate: ``exclude`` of a ratio."""
    return choose(winners.profit > 0, joined, -np.inf)


def score(winners: Winners, *, profit_term: str, leverage_term: str, loss_rule: str) -> Array:
    """Return the score of each candidate: its terms joined under the loss rule."""
    profits, leverage = PROFIT_TERMS[profit_term](winners), LEVERAGE_TERMS[leverage_term](winners)
    if profit_term not in RATIOS:
        return LOSS_RULES[loss_rule](profits, leverage)
    joined = profits * leverage
    if loss_rule == "smaller_abs_first":
        return losses_behind(winners, joined)
    return losses_out(winners, joined) if loss_rule == "exclude" else joined


def in_order(scores: Array, *tie_breaks: Array) -> Array:
    """Return the order of closing: largest score first, ties by further keys, ascending, last by row.

    Only equal scores are ties; a score of minus infinity is no candidate and is left out.
    """
    keys = [np.asarray(key) for key in reversed(tie_breaks)]
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], *(key[row] for key in reversed(keys))))
    return np.array([row for row in order if scores[row] != -np.inf], np.int64)
