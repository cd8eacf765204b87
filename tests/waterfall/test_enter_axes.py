"""One day, one changed value: whether a rung acts on what the one before it left, or on the whole pool.

A pool of 10 BTC from 100,000 and 400 ETH from 2,500 has 49,000 of cash. At 95,000 and 2,540 it is worth 15,000, and 1 %
of 950,000 and 1,016,000 is needed: 9,500 and 10,160. BTC may lose 15,000 x 9,500 / 19,660 = 7,248.22: its bankruptcy
price is 94,275.2, and 5 % below that is 89,561.5. Nobody bids for ETH.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from replay.errors import RulesError
from replay.rules import compile_rules, load_rules
from tests.waterfall.days import account, depth, fund, marks, replayed

D = Decimal
RULES = "extended@2026-04-06"
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
ENTERS = "enter='previous_unfilled', "


def order(keys: str) -> str:
    return f"{{action='book_order', level='1', tif='fok', surplus_to='trader', fee='0', {keys}}}"


FIFTH = order("size='fraction_of_original', share='0.2', position_order='largest_loss', limit='bankruptcy'")


def rest(enter: str = ENTERS, size: str = "full") -> str:
    return order(f"{enter}size='{size}', limit='bankruptcy_band', limit_bp=500")


def vault(enter: str = ENTERS) -> str:
    return (
        f"{{action='takeover', level='1', {enter}size='full', absorber='vault', price='bankruptcy', "
        "margin_forfeited='all_collateral'}"
    )


def adl(enter: str = ENTERS) -> str:
    return f"{{action='adl', level='1', {enter}size='full'}}"


def ladder(*rungs: str) -> str:
    return f"ladder=[{', '.join(rungs)}]"


def forced(folder: Path, bids: list[tuple[object, object]], *overrides: str) -> list[tuple[Any, ...]]:
    """Return stage, market, and what was asked and filled in the first step, and what ADL closed."""
    made = replayed(
        folder,
        MARKETS
        + account("pool", 49_000, ("BTC", 10, 100_000), ("ETH", 400, 2_500))
        + account("short", 900_000, ("BTC", -10, 100_000), ("ETH", -400, 2_500))
        + fund("@vault:vault", 1_000_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 95_000))
        + marks("ETH", ("+0s", 2_500), ("+10s", 2_540))
        + depth("+5s", "BTC", bids=bids, asks=[(100_100, 1)]),
        RULES,
        ["absorbers.0.stops_at_zero=false", *overrides],
    )
    assert made.run.manifest["conservation"]
    return made.rows("SELECT stage, market, -asked, -filled FROM forced_orders ORDER BY seq") + made.rows(
        "SELECT 'adl' AS stage, market, adl, adl AS closed FROM liquidations WHERE adl > 0 ORDER BY market"
    )


A_FIFTH = ("book", "BTC", D(2), D(2))
NO_FIFTH = ("book", "BTC", D(2), D(0))


def test_what_is_filled_stops_the_rungs_that_follow(tmp_path: Path) -> None:
    """A fifth at 94,500 fills; the pool is in breach still."""
    assert forced(tmp_path, [(94_500, 2)]) == [A_FIFTH]


def test_what_is_not_filled_goes_whole_and_5_percent_beyond(tmp_path: Path) -> None:
    """At 90,000 no fifth fills, and all ten do. ETH is left alone, though the pool owes now."""
    assert forced(tmp_path, [(90_000, 10)]) == [NO_FIFTH, ("book", "BTC", D(10), D(10))]


def test_what_is_not_filled_then_either_the_vault_has(tmp_path: Path) -> None:
    """Five bids at 90,000 are too few for ten."""
    assert forced(tmp_path, [(90_000, 5)]) == [
        NO_FIFTH,
        ("book", "BTC", D(10), D(0)),
        ("takeover", "BTC", D(10), D(10)),
    ]


@pytest.mark.parametrize(
    ("rungs", "rows"),
    [
        ((FIFTH, rest(), vault()), []),
        (
            (FIFTH, rest(""), vault()),
            [
                ("book", "BTC", 8, 0),
                ("book", "ETH", 400, 0),
                ("takeover", "BTC", 8, 8),
                ("takeover", "ETH", 400, 400),
            ],
        ),
        ((FIFTH, rest(), vault("")), [("takeover", "BTC", 8, 8), ("takeover", "ETH", 400, 400)]),
        ((FIFTH, vault()), []),
        ((FIFTH, adl()), []),
        ((FIFTH, adl("")), [("adl", "BTC", 8, 8), ("adl", "ETH", 400, 400)]),
    ],
)
def test_the_condition_alone_decides_what_is_forced_beside_a_fill(
    tmp_path: Path, rungs: tuple[str, ...], rows: list[tuple[Any, ...]]
) -> None:
    """A fifth fills. Without a condition 8 BTC and 400 ETH follow, to the vault also what the book leaves of them."""
    found = forced(tmp_path, [(94_500, 2)], ladder(*rungs))
    assert found == [A_FIFTH, *((*row[:2], D(row[2]), D(row[3])) for row in rows)]


@pytest.mark.parametrize(
    ("rungs", "rows"),
    [
        ((FIFTH, vault()), [("takeover", "BTC", 10, 10)]),
        ((FIFTH, vault("")), [("takeover", "BTC", 10, 10), ("takeover", "ETH", 400, 400)]),
        ((FIFTH, adl()), [("adl", "BTC", 10, 10)]),
        ((FIFTH, adl("")), [("adl", "BTC", 10, 10), ("adl", "ETH", 400, 400)]),
        (
            (FIFTH, rest(size="fraction_of_remaining', share='0.5"), vault()),
            [("book", "BTC", 5, 0), ("takeover", "BTC", 10, 10)],
        ),
    ],
)
def test_a_position_that_was_not_asked_for_is_left_alone(
    tmp_path: Path, rungs: tuple[str, ...], rows: list[tuple[Any, ...]]
) -> None:
    """Nobody bids above 80,000. A rung that acts on a position has all of it, not what was asked for before."""
    found = forced(tmp_path, [(80_000, 1)], ladder(*rungs))
    assert found == [NO_FIFTH, *((*row[:2], D(row[2]), D(row[3])) for row in rows)]


MINIMAL = order(f"{ENTERS}size='minimal_to_exit', limit='none'")
SHARE = (
    f"{{action='takeover', level='1', {ENTERS}size='fraction_of_all_positions', share='0.2', absorber='vault', "
    "price='mark', margin_forfeited='none'}"
)
LOWER = vault().replace("level='1'", "level='0.5'")
CANCEL = "{action='cancel_orders', level='1', size='full'}"
NET = "{action='net_own_hedge', level='1', size='full'}"


@pytest.mark.parametrize(
    ("rungs", "key", "problem"),
    [
        ((rest(), vault("")), "ladder.0.enter", "no rung before it"),
        ((CANCEL, rest(), vault("")), "ladder.1.enter", "no rung before it"),
        ((NET, rest(), vault("")), "ladder.1.enter", "no rung before it"),
        ((FIFTH, LOWER), "ladder.1.enter", "no rung before it"),
        ((FIFTH, MINIMAL, vault("")), "ladder.1.enter", "over all positions"),
        ((FIFTH, SHARE), "ladder.1.enter", "over all positions"),
    ],
)
def test_what_cannot_be_is_refused(rungs: tuple[str, ...], key: str, problem: str) -> None:
    with pytest.raises(RulesError, match=problem) as caught:
        compile_rules(load_rules(RULES, overrides=[ladder(*rungs)]), (), ())
    assert caught.value.key == key


def test_a_rung_that_cancels_orders_stands_between() -> None:
    rules = load_rules(RULES, overrides=[ladder(FIFTH, CANCEL, vault())])
    assert [rung.action for rung in compile_rules(rules, (), ()).ladder] == ["book", "takeover"]


@pytest.mark.parametrize("action", ["cancel_orders", "net_own_hedge"])
def test_other_rungs_have_no_condition(action: str) -> None:
    rung = f"{{action='{action}', level='1', {ENTERS}size='full'}}"
    with pytest.raises(RulesError, match="`enter` belongs to action"):
        load_rules(RULES, overrides=[ladder(FIFTH, rung, vault())])
