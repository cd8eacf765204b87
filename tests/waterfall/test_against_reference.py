"""The whole waterfall against the reference engine: random days under random plans, no cell may differ.

``REPLAY_RANDOM_DAYS=5000`` sets how many; ``python -m tests.campaign`` runs many more on several processes.
"""

from __future__ import annotations

import os

from tests.waterfall.campaign import STAGES, Tally, compare

DAYS = int(os.environ.get("REPLAY_RANDOM_DAYS", "300"))


def test_random_days_under_random_plans() -> None:
    tally = Tally()
    for seed in range(DAYS):
        tally.add(compare(seed, steps=30))
        assert tally.differences == [], f"seed {seed}"
    assert {stage for stage in STAGES if not tally.hits[stage]} == set(), "the days must reach every stage"


def test_a_pool_in_liquidation_waits_through_funding_of_nothing() -> None:
    """Funding of 0.35 atoms on a waiting pool in breach books nothing, so it is not asked again before a mark."""
    assert compare(5_010_781, steps=20, ladder=False).differences == []


def test_a_pool_that_waits_for_a_guard_cannot_be_judged_meanwhile() -> None:
    """It opens a position in a market without a mark, while the absorber has to act: it still waits for the guard."""
    assert compare(50_003_183, steps=37, accounts=7).differences == []


def test_a_long_crowded_day() -> None:
    """200 steps of 50 accounts."""
    tally = compare(1, steps=200, accounts=50)
    assert tally.differences == []
    assert tally.cells > 10_000
