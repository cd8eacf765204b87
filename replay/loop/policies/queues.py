"""Queues: candidates are closed whole, one after the other (axis ``adl.method``)."""

from __future__ import annotations

import numpy as np

from replay.loop.policies.allocate import greedy
from replay.loop.policies.scores import in_order, score
from replay.loop.policies.winners import Lots, Winners


def score_queue(
    need: int,
    winners: Winners,
    *,
    profit_term: str = "profit_on_entry",
    leverage_term: str = "notional_on_equity",
    loss_rule: str = "exclude",
) -> Lots:
    """Close the highest scores first; equal scores go to the lower account.

    Source: the rankings of venue-rules.md sections 1 to 22; the terms are in ``scores.py``.
    """
    scores = score(winners, profit_term=profit_term, leverage_term=leverage_term, loss_rule=loss_rule)
    return greedy(need, winners.lots, in_order(scores, winners.account))


def lexicographic(need: int, winners: Winners) -> Lots:
    """Close the highest leverage first, then the largest profit, the smallest wallet, the newest account.

    Source: Ethereal's page on auto-deleveraging (venue-rules.md section 23).
    """
    leverage = winners.notional / winners.equity
    order = in_order(leverage, -winners.profit, winners.wallet, -winners.account)
    return greedy(need, winners.lots, order)


def random_walk(need: int, winners: Winners, *, seed: int = 0, limit: int = 500) -> Lots:
    """Close candidates in a circle from a random start, at most ``limit`` of them; nobody is ranked.

    The draw depends on the seed, the need and the number of candidates alone, so that a run can be repeated.
    Source: dYdX v4's deleveraging (venue-rules.md section 7.4), which draws the start from block data: a
    replay is one draw of a band, named by its seed.
    """
    count = len(winners)
    if count == 0:
        return np.zeros(0, np.int64)
    start = int(np.random.default_rng([seed, need, count]).integers(count))
    return greedy(need, winners.lots, np.roll(np.arange(count), -start)[:limit])
