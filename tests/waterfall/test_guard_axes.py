"""One day, one changed value: nothing is liquidated in a market while its price is far from its average.

A long of 10 BTC from 100,000 with 50,000 of cash stands at 96,000, from +10s on, with 10,000 of equity; maintenance is
1.25 %, 12,000. The average of 100 seconds is then 100,000 - 40 x the seconds since +10s. No mark moves after that; in
the steps that follow others trade.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from replay.errors import RulesError
from replay.rules import compile_rules, load_rules
from tests.waterfall.days import HYPERLIQUID, Day, account, depth, marks, replayed

D = Decimal
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
LONG = account("long", 50_000, ("BTC", 10, 100_000))
WHOLE = "ladder.0={action='book_order', level='1', size='full', limit='none', tif='ioc', surplus_to='trader', fee='0'}"
FLAT = "margin={shape='flat', rate='0.0125', size_basis='notional_mark', hedge_basis='net', scope='cross_account'}"
AT = "date_diff('second', TIMESTAMP '2025-10-10 12:00:00', ts)"
ORDERS = f"SELECT {AT}, account, market FROM forced_orders ORDER BY seq"
ENGAGED = f"SELECT {AT}, scope, state, quantity FROM engagements WHERE stage = 'guard' ORDER BY seq"


def guard(divergence: str, window: str = "100s", more: str = "") -> list[str]:
    return [f"price.stale_guard={{divergence='{divergence}', window='{window}'{more}}}"]


def day(
    folder: Path,
    overrides: list[str],
    *,
    accounts: str = LONG,
    path: tuple[tuple[str, object], ...] = (("+10s", 96_000),),
    batch_rows: int = 65_536,
) -> Day:
    trades = "".join(
        f'[[trades]]\nat = "+{at}s"\nmarket = "BTC"\nbuyer = "other"\nseller = "short"\nqty = 1\nprice = 96000\n'
        for at in (11, 35, 36, 200)
    )
    return replayed(
        folder,
        MARKETS
        + accounts
        + account("short", 5_000_000, ("BTC", -10, 100_000), ("ETH", -100, 2_500))
        + account("other", 500_000)
        + marks("BTC", ("+0s", 100_000), *path)
        + marks("ETH", ("+0s", 2_500), ("+10s", 2_490))
        + depth("+5s", "BTC", bids=[(96_000, 100)])
        + depth("+5s", "ETH", bids=[(2_490, 1_000)])
        + trades,
        HYPERLIQUID,
        [WHOLE, *overrides],
        batch_rows=batch_rows,
    )


@pytest.mark.parametrize("batch_rows", [65_536, 1])
@pytest.mark.parametrize(
    ("overrides", "ordered", "engaged"),
    [
        ([], 10, []),
        # 3 % of it is more than 4,000 - 40 x once it is below 96,000 / 0.97 = 98,969.07..., after 25.77 seconds.
        (guard("0.03"), 36, [(10, "start", D(10)), (36, "stop", None)]),
        (guard("0.04"), 11, [(10, "start", D(10)), (11, "stop", None)]),  # at the line it holds
        (guard("0.040001"), 10, []),
        (
            guard("0.03", "101s"),
            200,
            [(10, "start", D(10)), (200, "stop", None)],
        ),  # 26 s: 2,970.3 of 98,970.3
        # A price counts as 99,000 at least, of which 3 % are 2,970: the average never comes near enough.
        (guard("0.03", more=", clamp='0.01', clamp_window='1h'"), None, [(10, "start", D(10))]),
        # With 98,000 at least the average passes 98,969.07 after 51.5 seconds.
        (
            guard("0.03", more=", clamp='0.02', clamp_window='1h'"),
            200,
            [(10, "start", D(10)), (200, "stop", None)],
        ),
        (
            guard("0.03", more=", clamp='0.9', clamp_window='1h'"),
            36,
            [(10, "start", D(10)), (36, "stop", None)],
        ),
    ],
)
def test_the_guard_alone_decides_when_orders_are_sent(
    tmp_path: Path,
    overrides: list[str],
    ordered: int | None,
    engaged: list[tuple[int, str, D | None]],
    batch_rows: int,
) -> None:
    made = day(tmp_path, overrides, batch_rows=batch_rows)
    assert made.rows(ORDERS) == ([] if ordered is None else [(ordered, "long", "BTC")])
    assert made.rows(ENGAGED) == [(at, "BTC", state, quantity) for at, state, quantity in engaged]
    found = made.rows(f"SELECT {AT}, {AT.replace('ts', 'ts_end')}, asked FROM liquidations")
    assert found == [(10, ordered, D(0 if ordered is None else 10))]


@pytest.mark.parametrize(("line", "ordered"), [("0.03884", 11), ("0.03885", 10)])
def test_an_average_is_made_of_what_stood_before_each_change(tmp_path: Path, line: str, ordered: int) -> None:
    """98,000 stands for six seconds and moves 100,000 by 6 % of 2,000, to 99,880: 96,000 is 3.8846... % from that."""
    made = day(tmp_path, guard(line), path=(("+4s", 98_000), ("+10s", 96_000)))
    assert made.rows(ORDERS)[0] == (ordered, "long", "BTC")


@pytest.mark.parametrize(("overrides", "sent"), [([], ["BTC", "ETH"]), (guard("0.03"), ["ETH"])])
def test_other_markets_of_the_pool_go_on(tmp_path: Path, overrides: list[str], sent: list[str]) -> None:
    """It lost 4,000 and 1,000 of 8,000 and needs 1.25 % of 96,000 and 249,000."""
    accounts = account("long", 8_000, ("BTC", 1, 100_000), ("ETH", 100, 2_500))
    made = day(tmp_path, [*overrides, FLAT], accounts=accounts)
    assert [market for at, _, market in made.rows(ORDERS) if at == 10] == sent


def test_who_recovers_meanwhile_is_not_liquidated(tmp_path: Path) -> None:
    made = day(tmp_path, guard("0.03"), path=(("+10s", 96_000), ("+30s", 99_000)))
    assert made.rows(ORDERS) == []
    assert made.rows(ENGAGED) == [(10, "BTC", "start", D(10)), (30, "BTC", "stop", None)]
    assert made.rows("SELECT asked FROM liquidations") == [(D(0),)]


def test_who_is_passed_over_takes_nobodys_turn(tmp_path: Path) -> None:
    accounts = LONG + account("next", 4_000, ("ETH", 100, 2_500))
    made = day(tmp_path, [*guard("0.03"), "step.max_liquidations=1", FLAT], accounts=accounts)
    assert made.rows(ORDERS)[0] == (10, "next", "ETH")


def test_a_guard_does_not_go_with_what_is_reckoned_over_all_positions() -> None:
    rung = "ladder.0={action='book_order', level='1', size='minimal_to_exit', limit='none', tif='ioc', "
    book = load_rules(HYPERLIQUID, overrides=[*guard("0.03"), rung + "surplus_to='trader', fee='0'}"])
    with pytest.raises(RulesError, match="reckoned over all positions, and a guard leaves some of them out"):
        compile_rules(book, [], [])
