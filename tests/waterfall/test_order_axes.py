"""One forced order, one changed value: how far it goes into the book, and who has its fee.

A long of 10 BTC from 100,000 with 50,000 of cash stands at 96,000 with 10,000 of equity, of 12,000 it needs: its
bankruptcy price is 95,000. Bids: 4 at 95,900, 3 at 95,000, 3 at 94,000.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from replay.errors import RulesError
from replay.rules import compile_rules, load_rules
from tests.waterfall.days import HYPERLIQUID, Day, account, depth, fund, marks, replayed

D = Decimal
RUNG = "ladder.0={{action='book_order', level='1', size='full', tif='ioc', surplus_to='trader', {}}}"


def sold(folder: Path, keys: str) -> Day:
    return replayed(
        folder,
        'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'
        + account("long", 50_000, ("BTC", 10, 100_000))
        + account("short", 500_000, ("BTC", -10, 100_000))
        + fund("@vault:liquidator", 1_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 96_000))
        + depth("+5s", "BTC", bids=[(95_900, 4), (95_000, 3), (94_000, 3)], asks=[(100_100, 1)]),
        HYPERLIQUID,
        [RUNG.format(keys)],
    )


@pytest.mark.parametrize(
    ("limit", "worst", "filled"),
    [
        ("limit='none'", None, 10),
        ("limit='bankruptcy'", 95_000, 7),
        ("limit='bankruptcy_band', limit_bp=100", 94_050, 7),
        ("limit='bankruptcy_band', limit_bp=106", 93_993, 10),
        ("limit='mark_band', limit_bp=100", 95_040, 4),
        ("limit='mark_band', limit_bp=105", 94_992, 7),
    ],
)
def test_the_limit_alone_decides_how_much_is_sold(
    tmp_path: Path, limit: str, worst: int | None, filled: int
) -> None:
    """1 % and 1.06 % below 95,000; 1 % and 1.05 % below 96,000."""
    made = sold(tmp_path, f"{limit}, fee='0'")
    assert made.rows("SELECT limit_price, -filled FROM forced_orders LIMIT 1") == [
        (None if worst is None else D(worst), D(filled))
    ]


@pytest.mark.parametrize(
    ("keys", "exchange", "vault"),
    [
        ("fee='0.001'", 668.6, 0),
        ("fee='0.001', fee_to='absorber'", 0, 668.6),
        ("fee='0.001', fee_from='improvement'", 668.6, 0),
        ("fee='0.02', fee_from='improvement'", 3_600, 0),
        ("fee='0.02', fee_from='improvement', fee_to='absorber'", 0, 3_600),
    ],
)
def test_who_has_which_fee(tmp_path: Path, keys: str, exchange: float, vault: float) -> None:
    """4 x 95,900 + 3 x 95,000 = 668,600; that is 4 x 900 = 3,600 better than 7 x 95,000.

    0.1 % of 668,600 is 668.60, below the improvement; 2 % is 13,372, above it.
    """
    made = sold(tmp_path, f"limit='bankruptcy', {keys}")
    assert made.cash("@fees") == D(str(exchange))
    rows = made.rows("SELECT amount FROM absorber_ledger WHERE kind = 'fee'")
    assert sum((row[0] for row in rows), D(0)) == D(str(vault))


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["ladder.0.limit=mark_band"], "without `limit_bp`"),
        (["ladder.0.limit_bp=5"], "beside `limit_bp`"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(RulesError, match=problem):
        compile_rules(load_rules(HYPERLIQUID, overrides=overrides), (), ())
