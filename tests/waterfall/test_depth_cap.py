"""How much of a side one step may take at most (``depth.cap_per_step``), whoever sends the orders."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.waterfall.days import HYPERLIQUID, account, depth, marks, replayed

D = Decimal
WHOLE = [("first", "-1", "-1"), ("second", "-1", "-1")]


@pytest.mark.parametrize(
    ("overrides", "filled"),
    [
        ([], WHOLE),
        (["depth.cap_per_step=1"], WHOLE),
        (
            ["depth.cap_per_step=0.1"],
            [("first", "-1", "-0.4"), ("second", "-1", "0"), ("second", "-1", "-0.4")],
        ),
        (
            ["depth.cap_per_step=0.1", "depth.haircut=0.5"],
            [("first", "-1", "-0.2"), ("second", "-1", "0"), ("second", "-1", "-0.2")],
        ),
    ],
)
def test_a_step_takes_at_most_a_share_of_a_side(
    tmp_path: Path, overrides: list[str], filled: list[tuple[str, str, str]]
) -> None:
    """Of 4 BTC a tenth is 0.4, of half of them 0.2; with so much less to hold the first is restored."""
    made = replayed(
        tmp_path,
        'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'
        + account("first", 1_300, ("BTC", 1, 100_000))
        + account("second", 1_300, ("BTC", 1, 100_000))
        + account("short", 50_000, ("BTC", -2, 100_000))
        + marks("BTC", ("+0s", 100_000), ("+10s", 99_900), ("+20s", 99_899.9))
        + depth("+9s", "BTC", bids=[(99_900, 4)]),
        HYPERLIQUID,
        overrides,
    )
    assert made.rows("SELECT account, asked, filled FROM forced_orders ORDER BY seq") == [
        (name, D(asked), D(taken)) for name, asked, taken in filled
    ]
