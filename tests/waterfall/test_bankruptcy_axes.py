"""One day, one changed value: at which price each position of a pool is bankrupt, and what it holds for a fee.

A long of 10 BTC from 100,000 and one of 100 ETH from 2,500, with 60,000 of cash. BTC falls to 94,200, ETH rises to
2,540: equity is 60,000 - 58,000 + 4,000 = 6,000, below 2/3 of a maintenance of 1.25 % and 2 %. The vault takes all.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import replay
from replay.errors import RulesError
from replay.rules import compile_rules, load_rules
from tests.scenario_tape import scenario_tape
from tests.waterfall.days import BYBIT, HYPERLIQUID, account, depth, fund, marks, replayed

D = Decimal
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
TWO = (
    account("two", 60_000, ("BTC", 10, 100_000), ("ETH", 100, 2_500))
    + account("short", 500_000, ("BTC", -10, 100_000), ("ETH", -100, 2_500))
    + fund("@vault:liquidator", 100_000)
    + marks("BTC", ("+0s", 100_000), ("+10s", 94_200))
    + marks("ETH", ("+0s", 2_500), ("+10s", 2_540))
)
ALLOCATED = [
    # 1.25 % of 942,000 and 2 % of 254,000 are 11,775 and 5,080: BTC loses 6,000 x 11,775 / 16,855
    ("maintenance_proportional", "937808.36547019", "252191.63452981"),
    # entry values of 1,000,000 and 250,000: margins of 48,000 and 12,000 off these
    ("isolated", "952000", "238000"),
    # BTC has the largest loss: 942,000 - 6,000
    ("all", "936000", "254000"),
]


@pytest.mark.parametrize(("allocation", "btc", "eth"), ALLOCATED)
def test_who_of_two_positions_may_lose_what(tmp_path: Path, allocation: str, btc: str, eth: str) -> None:
    made = replayed(tmp_path, MARKETS + TWO, HYPERLIQUID, [f"bankruptcy.allocation={allocation}"])
    rows = made.run.table("liquidations").to_pylist()
    values = {row["market"]: row["bankruptcy_value"] for row in rows}
    assert values == {0: int(D(btc) * 10**8), 1: int(D(eth) * 10**8)}
    assert made.cash("two") == 0, "whatever each may lose, together it is all"
    balance = made.one("SELECT balance FROM absorber_ledger ORDER BY seq DESC LIMIT 1")
    assert balance == 106_000, "and the vault has it"


@pytest.mark.parametrize(("allocation", "btc", "eth"), ALLOCATED)
def test_a_recorded_liquidation_is_judged_by_the_same_price(
    tmp_path: Path, allocation: str, btc: str, eth: str
) -> None:
    """To the atom: the audit rounds each share half to even by itself."""
    forced = "".join(
        f'[[trades]]\nat = "+11s"\nkind = "liquidation"\nvictim = "two"\nmarket = "{market}"\n'
        f'buyer = "short"\nseller = "two"\nqty = {qty}\nprice = {price}\n'
        for market, qty, price in (("BTC", 10, 94_000), ("ETH", 100, 2_530))
    )
    head = 'venue = "example"\nstart = "2025-10-10T12:00:00Z"\n'
    tape = scenario_tape(tmp_path, head + MARKETS + TWO + forced)
    book = replay.load_rules(HYPERLIQUID, overrides=[f"bankruptcy.allocation={allocation}"])
    run = replay.run_replay(tape, book, tmp_path / "run", liquidations="recorded")
    found = {row["market"]: row["bankruptcy_value"] for row in run.table("audit").to_pylist()}
    assert abs(found[0] - int(D(btc) * 10**8)) <= 1


# --- a fee in the price ------------------------------------------------------------------------------

ONE = (
    account("long", 50_000, ("BTC", 10, 100_000))
    + account("short", 500_000, ("BTC", -10, 100_000))
    + fund("@vault:liquidator", 100_000)
)
FEE = ["bankruptcy.fee_in_price=taker", "bankruptcy.fee_rate=0.001"]


@pytest.mark.parametrize(
    ("overrides", "fees", "surplus"),
    [([], "0", "6000"), (FEE, "950.95095096", "5049.04904904")],
)
def test_a_takeover_pays_the_fee_that_its_price_holds(
    tmp_path: Path, overrides: list[str], fees: str, surplus: str
) -> None:
    """At 95,600: 956,000 - 6,000 = 950,000 must be left after 0.1 %: 950,000 / 0.999 = 950,950.950950..."""
    day = MARKETS + ONE + marks("BTC", ("+0s", 100_000), ("+10s", 95_600))
    made = replayed(tmp_path, day, HYPERLIQUID, overrides)
    assert made.cash("@fees") == D(fees)
    assert made.one("SELECT surplus FROM liquidations") == D(surplus)
    assert made.cash("long") == 0


@pytest.mark.parametrize(("overrides", "worst", "filled"), [([], "95000", 7), (FEE, "95095.1", 4)])
def test_the_limit_of_an_order_leaves_room_for_the_fee(
    tmp_path: Path, overrides: list[str], worst: str, filled: int
) -> None:
    """At 96,000: 950,000 / 0.999 / 10 = 95,095.09..., up to the tick; bids of 4 at 95,900 and 3 at 95,000."""
    rung = (
        "ladder.0={action='book_order', level='1', size='full', tif='ioc', surplus_to='trader', "
        "limit='bankruptcy', fee='0.001'}"
    )
    book = depth("+5s", "BTC", bids=[(95_900, 4), (95_000, 3)])
    day = MARKETS + ONE + marks("BTC", ("+0s", 100_000), ("+10s", 96_000)) + book
    made = replayed(tmp_path, day, HYPERLIQUID, [rung, *overrides])
    assert made.rows("SELECT limit_price, -filled FROM forced_orders LIMIT 1") == [(D(worst), D(filled))]


@pytest.mark.parametrize(("overrides", "filled", "fees"), [([], 10, "100"), (FEE, 0, "950.95095096")])
def test_a_fill_that_could_not_pay_its_fee_is_left_to_the_fund(
    tmp_path: Path, overrides: list[str], filled: int, fees: str
) -> None:
    """A bid of 10 at 95,010 brings 100 more than the 950,000 at which nothing is left; the fee would be 950.10.

    Without a fee in the price the order takes it and pays what there is. With one its limit is 95,095.1, and the
    fund takes over at 950,950.95, of which the fee is paid.
    """
    rung = (
        "ladder.1={action='book_order', level='1', size='full', tif='ioc', surplus_to='absorber', "
        "limit='bankruptcy', fee='0.001'}"
    )
    book = depth("+5s", "BTC", bids=[(95_010, 10)])
    text = ONE.replace("@vault:liquidator", "@fund:insurance")
    day = MARKETS + text + marks("BTC", ("+0s", 100_000), ("+10s", 95_200)) + book
    made = replayed(tmp_path, day, BYBIT, [rung, *overrides])
    assert made.one("SELECT sum(-filled) FROM forced_orders WHERE stage = 'book'") == filled
    assert made.cash("@fees") == D(fees)
    assert made.cash("long") == 0


@pytest.mark.parametrize(
    ("overrides", "key", "problem"),
    [
        (["bankruptcy.fee_in_price=taker"], "bankruptcy.fee_rate", "without `fee_rate`"),
        (["bankruptcy.fee_rate=0.001"], "bankruptcy.fee_rate", "beside `fee_rate`"),
        ([FEE[0], "bankruptcy.fee_rate=1"], "bankruptcy.fee_rate", "the whole value"),
        (
            [
                "bankruptcy.allocation=isolated",
                "ladder.1.price=mark",
                "ladder.1.margin_forfeited=remaining_maintenance",
                "ladder.1.penalty=0.2",
            ],
            "ladder.1.penalty",
            "shared over positions by maintenance",
        ),
        (
            [*FEE, "ladder.0.limit=bankruptcy", "ladder.0.fee_from=improvement"],
            "ladder.0.fee_from",
            "holds the fee already",
        ),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], key: str, problem: str) -> None:
    with pytest.raises(RulesError, match=problem) as caught:
        compile_rules(load_rules(HYPERLIQUID, overrides=overrides), (), ())
    error: Any = caught.value
    assert error.key == key
