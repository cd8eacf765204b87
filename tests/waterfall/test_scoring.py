"""The compiled score of one candidate is that of the columns, whatever the terms; and what comes before what."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from replay.loop.candidates import BOUNDED, SETTLED
from replay.loop.policies.scores import BY_MAINTENANCE, LEVERAGE_TERMS, LOSS_RULES, PROFIT_TERMS, score
from replay.loop.policies.wiring import winners_of
from replay.loop.scoring import TIE_BREAKS, comes_before, scoring_of
from replay.loop.state import CANDIDATE
from replay.rules.plan import Adl
from tests.waterfall.small import Array, candidate, scores_of

CROWD = 200


@pytest.fixture(scope="module")
def crowd() -> Array:
    """Long and short, in profit and not, with and without equity or cash, at all sizes of money."""
    rng = np.random.default_rng(1)
    made = np.zeros(CROWD, CANDIDATE)
    made["known"], made["standing"] = 1, SETTLED
    for name in ("size", "equity", "notional", "share", "maintenance", "pool_maintenance", "wallet"):
        made[name] = (10 ** rng.uniform(0, 17, CROWD)).astype(np.int64)
    side = rng.choice([-1, 1], CROWD)
    for name in ("cost", "value"):
        made[name] = side * (10 ** rng.uniform(9, 15, CROWD)).astype(np.int64)
    made["wallet"][:50] *= -1
    made["equity"][50:60] = 0
    made["value"][60:70] = made["cost"][60:70]
    return made


@pytest.mark.parametrize(
    ("profit_term", "leverage_term", "loss_rule"), list(product(PROFIT_TERMS, LEVERAGE_TERMS, LOSS_RULES))
)
def test_one_candidate_scores_what_the_column_does(
    crowd: Array, profit_term: str, leverage_term: str, loss_rule: str
) -> None:
    rule = Adl(profit_term, leverage_term, "account", loss_rule, "mark", 0, 0, lights=5)
    terms = {"profit_term": profit_term, "leverage_term": leverage_term, "loss_rule": loss_rule}
    with np.errstate(divide="ignore", invalid="ignore"):
        column = score(winners_of(crowd, 1), **terms).astype(np.float64)
    assert np.array_equal(scores_of(rule, crowd), column, equal_nan=True), "bit by bit"


@pytest.mark.parametrize("leverage_term", LEVERAGE_TERMS)
def test_only_terms_that_say_so_take_the_maintenance_of_the_pool(crowd: Array, leverage_term: str) -> None:
    """Of the others it is never reckoned."""
    rule = Adl("profit_on_entry", leverage_term, "account", "divide", "mark", 0, 0, lights=5)
    other = crowd.copy()
    other["pool_maintenance"] //= 2
    takes = not np.array_equal(scores_of(rule, crowd), scores_of(rule, other), equal_nan=True)
    assert takes == (leverage_term in BY_MAINTENANCE)
    if takes:
        assert scoring_of(rule).of_maintenance


def first(a: Array, b: Array, *ties: str) -> bool:
    numbers = np.array([TIE_BREAKS.index(tie) for tie in ties], np.int64)
    before, after = bool(comes_before(a[0], b[0], numbers)), bool(comes_before(b[0], a[0], numbers))
    assert before != after, "one of two comes first"
    return before


def test_known_equity_then_the_larger_score_then_the_older_pool_then_the_older_position() -> None:
    assert first(candidate(score=1), candidate(score=9, known=0))
    assert first(candidate(score=2, pool=7), candidate(score=1, pool=3))
    assert first(candidate(score=2, pool=3, position=9), candidate(score=2, pool=7, position=1))
    assert first(candidate(score=2, pool=3, position=1), candidate(score=2, pool=3, position=9))


def test_a_bound_is_looked_at_before_an_equal_score_is_closed() -> None:
    assert first(candidate(score=2, pool=7, standing=BOUNDED), candidate(score=2, pool=3))
    assert first(candidate(score=3, pool=7), candidate(score=2, pool=3, standing=BOUNDED))


@pytest.mark.parametrize(
    ("tie", "goes", "waits"),
    [
        ("larger_profit", {"cost": 100, "value": 150}, {"cost": 100, "value": 120}),
        ("larger_profit", {"cost": -100, "value": -50}, {"cost": 100, "value": 120}),
        ("larger_value", {"value": -150}, {"value": 120}),
        ("smaller_wallet", {"wallet": -5}, {"wallet": 3}),
        ("newer", {}, {}),
    ],
)
def test_ties_are_broken_as_the_rules_say(tie: str, goes: dict[str, int], waits: dict[str, int]) -> None:
    """Without a rule the older pool, 3, would go first."""
    assert first(candidate(pool=7, **goes), candidate(pool=3, **waits), tie)
    assert first(candidate(pool=3), candidate(pool=7), *(word for word in TIE_BREAKS if word != "newer"))
