"""One day, one changed value: how much of which position a forced order asks for, and the worst price it takes.

A long of 10 BTC from 100,000 with 50,000 of cash stands at 96,000 with 10,000 of equity; maintenance is 1.25 %, 12,000.
Whatever is sold fetches 95,000.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from replay.errors import RulesError
from replay.rules import compile_rules, load_rules
from tests.waterfall.days import HYPERLIQUID, Day, account, depth, fund, marks, replayed

D = Decimal
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
RUNG = "ladder.0={{action='book_order', level='1', tif='ioc', surplus_to='trader', fee='0', {}, {}}}"  # size, limit
ASKED = "SELECT -asked FROM forced_orders WHERE stage = 'book' ORDER BY seq"


def sold(folder: Path, size: str, *overrides: str, limit: str = "limit='none'", oracle: int = 96_500) -> Day:
    return replayed(
        folder,
        MARKETS
        + account("long", 50_000, ("BTC", 10, 100_000))
        + account("short", 500_000, ("BTC", -10, 100_000))
        + fund("@vault:liquidator", 1_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 96_000), ("+20s", 95_900))
        + marks("BTC", ("+0s", 99_000), ("+10s", oracle)).replace("path", 'kind = "oracle"\npath')
        + marks("ETH", ("+0s", 2_500))
        + marks("ETH", ("+0s", 2_500)).replace("path", 'kind = "oracle"\npath')
        + depth("+5s", "BTC", bids=[(95_000, 100)], asks=[(100_100, 1)]),
        HYPERLIQUID,
        [RUNG.format(size, limit), *overrides],
    )


@pytest.mark.parametrize(
    ("size", "asked"),
    [
        ("size='full'", "10"),
        ("size='fraction_of_remaining', share='0.3'", "3"),
        ("size='fraction_of_original', share='0.3'", "3"),
        ("size='notional_cap', cap='300000'", "3.125"),  # 300,000 / 96,000
        ("size='notional_cap', cap='960000'", "10"),
        ("size='notional_cap', cap='1'", "0.001"),  # one lot at least
        ("size='minimal_to_exit'", "1.667"),  # 10,000 / 1.25 % / 96,000 = 8.333... may stay
        ("size='minimal_to_exit', exit='3/2'", "4.445"),  # 10,000 / 1.5 / 1.25 % / 96,000 = 5.555...
    ],
)
def test_the_size_alone_decides_how_much_is_asked(tmp_path: Path, size: str, asked: str) -> None:
    assert sold(tmp_path, size).rows(ASKED)[0] == (D(asked),)


@pytest.mark.parametrize(
    ("size", "second"), [("fraction_of_remaining", "2.1"), ("fraction_of_original", "3")]
)
def test_the_second_share_is_of_what_is_left_or_of_what_was(tmp_path: Path, size: str, second: str) -> None:
    """3 sold at 95,000 leave 7,000 of equity, of 8,400 needed; a step later 6,300 of 8,391.25."""
    assert sold(tmp_path, f"size='{size}', share='0.3'").rows(ASKED)[:2] == [(D(3),), (D(second),)]


TIERS = (
    "margin.tables.0.tiers=[{from=0, rate='0.01'}, {from=300000, rate='0.012'}, {from=600000, rate='0.0125'}]"
)


@pytest.mark.parametrize(
    ("size", "asked"),
    [
        ("size='step_down'", "3.75"),  # 600,000 / 96,000 = 6.25 may stay
        ("size='step_down', tiers=2", "6.875"),  # 300,000 / 96,000 = 3.125
        ("size='step_down', tiers=100", "6.875"),
        ("size='smallest_fix'", "3.75"),  # 1.2 % of 600,000 less 600 is 6,600 of the 10,000 there are
        ("size='smallest_fix', exit='2'", "6.875"),  # twice that is too much; 1 % of 300,000 is not
    ],
)
def test_how_many_tiers_are_stepped_down(tmp_path: Path, size: str, asked: str) -> None:
    assert sold(tmp_path, size, TIERS).rows(ASKED)[0] == (D(asked),)


@pytest.mark.parametrize(
    ("limit", "worst"),
    [
        ("limit='none'", None),
        ("limit='bankruptcy'", "95000"),
        ("limit='mark_band', limit_bp=100", "95040"),
        ("limit='oracle_band', limit_bp=100", "95535"),  # of 96,500
        ("limit='fillable', spread='1.5'", "95700"),  # 1.5 x 12,000 x (1 - 10/12) = 3,000 for 10
        ("limit='fillable', spread='6'", "94800"),  # 12,000
    ],
)
def test_the_limit_alone_decides_the_worst_price(tmp_path: Path, limit: str, worst: str | None) -> None:
    made = sold(tmp_path, "size='full'", limit=limit)
    assert made.one("SELECT limit_price FROM forced_orders ORDER BY seq LIMIT 1") == (
        None if worst is None else D(worst)
    )


# --- several positions -------------------------------------------------------------------------------


def two(folder: Path, size: str, limit: str = "limit='none'") -> list[tuple[Any, ...]]:
    """10 BTC at 95,000 of 100,000, 400 ETH at 2,540 of 2,500; equity is 62,000 - 50,000 + 16,000 = 28,000.

    Maintenance is 1.25 % of 950,000 and 2 % of 1,016,000: 11,875 and 20,320.
    """
    made = replayed(
        folder,
        MARKETS
        + account("two", 62_000, ("BTC", 10, 100_000), ("ETH", 400, 2_500))
        + account("short", 900_000, ("BTC", -10, 100_000), ("ETH", -400, 2_500))
        + fund("@vault:liquidator", 1_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 95_000))
        + marks("ETH", ("+0s", 2_500), ("+10s", 2_540))
        + depth("+5s", "BTC", bids=[(90_000, 1)])
        + depth("+5s", "ETH", bids=[(2_000, 1)]),
        HYPERLIQUID,
        [RUNG.format(size, limit)],
    )
    return made.rows(
        "SELECT market, -asked, limit_price FROM forced_orders WHERE stage = 'book' ORDER BY seq"
    )


@pytest.mark.parametrize(
    ("size", "asked"),
    [
        ("size='full'", [("BTC", 10), ("ETH", 400)]),
        ("size='full', position_order='largest_loss'", [("BTC", 10)]),
        ("size='full', position_order='largest_maintenance'", [("ETH", 400)]),
        # beside 20,320 for ETH 7,680 may be needed: 1.25 % of 614,400, which is 6.467... BTC
        ("size='minimal_to_exit', position_order='largest_loss'", [("BTC", D("3.533"))]),
        # beside 11,875 for BTC 16,125: 2 % of 806,250, which is 317.421... ETH
        ("size='minimal_to_exit', position_order='largest_maintenance'", [("ETH", D("82.58"))]),
        # twice the maintenance: 14,000; without BTC, 2 % of 700,000 is 275.59... ETH
        ("size='minimal_to_exit', exit=2", [("BTC", 10), ("ETH", D("124.41"))]),
    ],
)
def test_which_position_goes_first(tmp_path: Path, size: str, asked: list[tuple[str, Any]]) -> None:
    assert [row[:2] for row in two(tmp_path, size)] == asked


WEIGHTS = (
    "margin={{shape='weights', size_basis='notional_mark', hedge_basis='net', scope='cross_account', "
    "weights=[{{currencies=['*'], long='{}', short='1.2'}}]}}"
)


@pytest.mark.parametrize("long", ["0.95", "0.8", "0.5"])
def test_what_is_left_of_a_short_needs_what_a_short_needs(tmp_path: Path, long: str) -> None:
    """A short of 10 at 110,000 from 100,000 has 200,000 left of 300,000: a fifth of 9.0909... coins' value."""
    made = replayed(
        tmp_path,
        MARKETS
        + account("short", 300_000, ("BTC", -10, 100_000))
        + account("long", 5_000_000, ("BTC", 10, 100_000))
        + fund("@vault:liquidator", 1_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 110_000))
        + depth("+5s", "BTC", asks=[(110_000, 100)]),
        HYPERLIQUID,
        [RUNG.format("size='minimal_to_exit'", "limit='none'"), WEIGHTS.format(long)],
    )
    assert made.rows("SELECT asked FROM forced_orders") == [(D("0.91"),)]


@pytest.mark.parametrize(
    ("limit", "btc"),
    [("limit='bankruptcy'", "93967.3"), ("limit='zero_equity'", "92200")],
)
def test_one_position_alone_may_use_the_whole_equity_up(tmp_path: Path, limit: str, btc: str) -> None:
    """28,000 x 11,875 / 32,195 = 10,327.8 is the share of BTC; alone it may lose 28,000: 2,800 a coin."""
    assert two(tmp_path, "size='full'", limit)[0] == ("BTC", D(10), D(btc))


@pytest.mark.parametrize(
    ("keys", "key", "problem"),
    [
        ("size='full', tiers=2, limit='none'", "tiers", "beside `tiers`"),
        ("size='fraction_of_original', limit='none'", "share", "without `share`"),
        ("size='full', share='0.2', limit='none'", "share", "beside `share`"),
        ("size='notional_cap', limit='none'", "cap", "without `cap`"),
        ("size='minimal_to_exit', exit='0.9', limit='none'", "exit", "a breach still"),
        ("size='full', exit='1.1', limit='none'", "exit", "beside `exit`"),
        ("size='full', limit='fillable'", "spread", "without `spread`"),
        ("size='full', limit='none', spread=1", "spread", "beside `spread`"),
        (
            "size='minimal_to_exit', limit='none', slice_above=1, slice_share='0.5', cooldown='1s'",
            "slice_above",
            "beside `slice_above`",
        ),
    ],
)
def test_what_cannot_be_is_refused(keys: str, key: str, problem: str) -> None:
    rung = f"ladder.0={{action='book_order', level='1', tif='ioc', surplus_to='trader', fee='0', {keys}}}"
    with pytest.raises(RulesError, match=problem) as caught:
        compile_rules(load_rules(HYPERLIQUID, overrides=[rung]), (), ())
    assert caught.value.key == f"ladder.0.{key}"


def test_what_a_part_needs_cannot_be_told_where_entry_values_pick_the_tier() -> None:
    rung = RUNG.format("size='minimal_to_exit'", "limit='none'")
    with pytest.raises(RulesError, match="not brought down by closing a part"):
        compile_rules(
            load_rules(
                HYPERLIQUID,
                overrides=[rung, "margin.shape=bracket_whole", "margin.size_basis=notional_entry"],
            ),
            (),
            (),
        )
