"""One day, one changed value: which balance of a fund answers, and how much of it.

A long of 1 BTC from 100,000 with 5,000 of cash falls to 80,000: it owes 15,000 at the mark, and nothing is sold
before the fund takes it over at its bankruptcy price of 95,000.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from replay.errors import RulesError
from replay.rules import compile_rules, load_rules
from tests.waterfall.days import Day, account, fund, marks, replayed

D = Decimal
MARKETS = 'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }, { name = "ETH", tick = 0.01, lot = 0.01 }]\n'
RULES = "kucoin@2025-12-31"
TAKEN = "SELECT absorbed, adl, fund FROM liquidations ORDER BY liquidation"


def fallen(folder: Path, funds: str, *overrides: str) -> Day:
    """The day, with funds on the tape."""
    return replayed(
        folder,
        MARKETS
        + account("long", 5_000, ("BTC", 1, 100_000))
        + account("short", 500_000, ("BTC", -1, 100_000))
        + funds
        + marks("BTC", ("+0s", 100_000), ("+10s", 80_000))
        + marks("ETH", ("+0s", 100)),
        RULES,
        ["absorbers.0.work_out=hold", 'depth={provider="none"}', *overrides],
    )


# --- what a balance serves ---------------------------------------------------------------------------


def test_one_balance_of_the_ledger_answers_for_every_market(tmp_path: Path) -> None:
    """The whole 20,000 stand behind BTC: they pay the 15,000."""
    made = fallen(tmp_path, fund("@fund:insurance", 20_000), "absorbers.0.scope=ledger")
    assert made.rows(TAKEN) == [(D(1), D(0), D(15_000))]


def test_a_balance_of_each_contract_answers_for_its_own(tmp_path: Path) -> None:
    """Of 20,000 shared over two contracts 10,000 stand behind BTC: two thirds of 1 BTC, in lots of 0.001."""
    made = fallen(tmp_path, fund("@fund:insurance", 20_000), "absorbers.0.scope=contract")
    assert made.rows(TAKEN) == [(D("0.666"), D("0.334"), D(9_990))]
    opening = "SELECT account, amount FROM absorber_ledger WHERE kind = 'opening' ORDER BY seq"
    assert made.rows(opening) == [("@fund:insurance:BTC", D(10_000)), ("@fund:insurance:ETH", D(10_000))]
    assert made.size("@fund:insurance:BTC") == D("0.666")
    assert made.one("SELECT scope FROM engagements WHERE stage = 'takeover'") == "@fund:insurance:BTC"
    assert made.one("SELECT reason FROM forced_orders") == "the absorber's capacity is used up"
    assert made.run.manifest["conservation"]


def test_a_tape_may_name_the_balance_of_a_contract(tmp_path: Path) -> None:
    """All 16,000 of BTC's own are there, the 20,000 of ETH are not asked."""
    funds = fund("@fund:insurance:BTC", 16_000) + fund("@fund:insurance:ETH", 20_000)
    made = fallen(tmp_path, funds, "absorbers.0.scope=contract")
    assert made.rows(TAKEN) == [(D(1), D(0), D(15_000))]
    assert made.one("SELECT reason FROM forced_orders") == "taken over by @fund:insurance:BTC"


@pytest.mark.parametrize(("markets", "absorbed"), [('["BTC"]', "0.4"), ('["ETH"]', "0.8")])
def test_a_balance_of_a_group_answers_for_its_markets(tmp_path: Path, markets: str, absorbed: str) -> None:
    """6,000 behind the group, 12,000 behind all other markets: of a loss of 15,000 that is 40 % or 80 %."""
    made = fallen(
        tmp_path,
        fund("@fund:insurance:few", 6_000) + fund("@fund:insurance", 12_000),
        "absorbers.0.scope=group",
        f'absorbers.0.groups=[{{name="few", markets={markets}}}]',
    )
    assert made.rows("SELECT absorbed FROM liquidations") == [(D(absorbed),)]


# --- limits of what it pays and holds -------------------------------------------------------------------

PAIR = account("pair", 10_000, ("BTC", 1, 100_000), ("ETH", 10, 10_000))
SINGLE = account("single", 5_000, ("BTC", 1, 100_000))
BY_MARKET = "SELECT account, market, absorbed FROM liquidations ORDER BY liquidation, market"


def limited(folder: Path, *overrides: str) -> list[tuple[Any, ...]]:
    """BTC and ETH fall by a fifth: each of three positions of 100,000 owes 15,000, two of them of one account.

    The fund has 100,000.
    """
    made = replayed(
        folder,
        MARKETS
        + PAIR
        + SINGLE
        + account("short", 900_000, ("BTC", -2, 100_000), ("ETH", -10, 10_000))
        + fund("@fund:insurance", 100_000)
        + marks("BTC", ("+0s", 100_000), ("+10s", 80_000))
        + marks("ETH", ("+0s", 10_000), ("+10s", 8_000)),
        RULES,
        [
            "absorbers.0.work_out=hold",
            'depth={provider="none"}',
            "absorbers.0.scope=ledger",
            "bankruptcy.allocation=maintenance_proportional",
            *overrides,
        ],
    )
    assert made.run.manifest["conservation"]
    return [row[2] for row in made.rows(BY_MARKET)]


LIMITS = "absorbers.0.outflow_cap=limits"


@pytest.mark.parametrize(
    ("overrides", "absorbed"),
    [
        ([], ["1", "10", "1"]),
        ([LIMITS, "absorbers.0.per_trade=6000"], ["0.4", "4", "0.4"]),
        ([LIMITS, "absorbers.0.per_account_and_step=6000"], ["0.4", "0", "0.4"]),
        ([LIMITS, "absorbers.0.per_market_and_day=0.09"], ["0.6", "6", "0"]),
        ([LIMITS, "absorbers.0.per_day=0.09"], ["0.6", "0", "0"]),
        ([LIMITS, "absorbers.0.lifetime=9000"], ["0.6", "6", "0"]),
        ([LIMITS, "absorbers.0.per_trade=6000", "absorbers.0.lifetime=9000"], ["0.4", "4", "0.2"]),
        (["absorbers.0.inventory_cap=0.5"], ["0.625", "0", "0"]),
        (["absorbers.0.inventory_cap=1.8"], ["1", "10", "0.25"]),
    ],
)
def test_what_the_limits_let_it_take(tmp_path: Path, overrides: list[str], absorbed: list[str]) -> None:
    """A cap on payments cuts losses of 15,000; half of 100,000 is 0.625 BTC at 80,000, 180,000 are 2.25 positions."""
    assert limited(tmp_path, *overrides) == [D(text) for text in absorbed]


@pytest.mark.parametrize(
    ("limit", "second"),
    [("lifetime=9000", "0"), ("per_day=0.09", "0.474"), ("per_market_and_day=0.09", "0.474")],
)
def test_a_day_begins_at_midnight(tmp_path: Path, limit: str, second: str) -> None:
    """After 0.6 BTC taken at 95,000 the fund has 79,000 at 60,000: 9 % of it are 7,110 of the next 15,000."""
    made = replayed(
        tmp_path,
        MARKETS
        + account("early", 5_000, ("BTC", 1, 100_000))
        + account("late", 25_000, ("BTC", 1, 100_000))
        + account("short", 900_000, ("BTC", -2, 100_000))
        + fund("@fund:insurance", 100_000)
        + marks("BTC", ("+0s", 100_000), ("+5s", 80_000), ("+15s", 60_000)),
        RULES,
        [
            "absorbers.0.work_out=hold",
            'depth={provider="none"}',
            "absorbers.0.scope=ledger",
            LIMITS,
            f"absorbers.0.{limit}",
        ],
        start="2025-10-10T23:59:50Z",
    )
    absorbed = made.rows("SELECT account, absorbed FROM liquidations ORDER BY liquidation")
    assert absorbed == [("early", D("0.6")), ("late", D(second))]


# --- debts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "cash", "vault"),
    [
        ([], 100_000, 0),
        (["absorbers.0.pays_debts=false"], 100_000, 0),
        (["absorbers.0.pays_debts=true"], 100_000, 10_000),
        (["absorbers.0.pays_debts=true"], 4_000, 4_000),
        (["absorbers.0.pays_debts=true", LIMITS, "absorbers.0.per_trade=2500"], 100_000, 2_500),
    ],
)
def test_it_pays_what_a_flat_pool_owes(tmp_path: Path, overrides: list[str], cash: int, vault: int) -> None:
    """At 94,000 the long owes 10,000, is deleveraged at the mark, and cannot pay."""
    made = replayed(
        tmp_path,
        MARKETS
        + account("long", 50_000, ("BTC", 10, 100_000))
        + account("winner", 120_000, ("BTC", -10, 100_000))
        + fund("@vault:liquidator", cash)
        + marks("BTC", ("+0s", 100_000), ("+10s", 94_000)),
        "hyperliquid@2025-10-10",
        ["adl.price=mark", *overrides],
    )
    left = D(10_000 - vault)
    assert made.rows("SELECT shortfall, vault, bad_debt FROM liquidations") == [(D(10_000), D(vault), left)]
    assert made.cash("@vault:liquidator") == cash - vault
    debts = made.rows("SELECT amount, balance, market FROM absorber_ledger WHERE kind = 'debt'")
    assert debts == ([(D(-vault), D(cash - vault), "BTC")] if vault else [])


# --- several of them ------------------------------------------------------------------------------------


def absorber(name: str, **changes: str) -> str:
    keys = {
        "kind": "'insurance'",
        "scope": "'ledger'",
        "balance": "'tape'",
        "inventory": "'holds'",
        "work_out": "'hold'",
        "outflow_cap": "'none'",
        "insolvent_below_zero": "false",
        "stops_at_zero": "true",
    }
    return f"{{name='{name}', {', '.join(f'{key}={value}' for key, value in (keys | changes).items())}}}"


def takeover(name: str) -> str:
    """A rung that hands all to an absorber at the bankruptcy price."""
    return (
        f"{{action='takeover', level='1', size='full', absorber='{name}', price='bankruptcy', "
        "margin_forfeited='all_collateral'}"
    )


@pytest.mark.parametrize(
    ("order", "parts", "adl"),
    [
        (["insurance"], {"insurance": "0.4"}, "0.6"),
        (["insurance", "second"], {"insurance": "0.4", "second": "0.6"}, "0"),
        (["second", "insurance"], {"second": "1"}, "0"),
    ],
)
def test_several_are_tried_in_the_order_of_the_ladder(
    tmp_path: Path, order: list[str], parts: dict[str, str], adl: str
) -> None:
    """6,000 of the one pay for 0.4 BTC; the 9,000 that the rest owes are the other's, who has 20,000."""
    made = fallen(
        tmp_path,
        fund("@fund:insurance", 6_000) + fund("@vault:second", 20_000),
        f"ladder=[{', '.join(map(takeover, order))}]",
        f"absorbers=[{', '.join(absorber(name, **({'kind': KIND} if name == 'second' else {})) for name in order)}]",
    )
    held = {"insurance": made.size("@fund:insurance"), "second": made.size("@vault:second")}
    assert {name: size for name, size in held.items() if size} == {n: D(size) for n, size in parts.items()}
    paid = {name: 15_000 * D(part) for name, part in parts.items()}
    assert made.rows("SELECT absorbed, adl, fund, vault FROM liquidations") == [
        (sum(map(D, parts.values())), D(adl), paid.get("insurance", D(0)), paid.get("second", D(0)))
    ]
    assert made.run.manifest["conservation"]


KIND = "'vault'"


# --- what a pool owes when it is taken over --------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "who"),
    [
        ([], (15_000, 0)),
        (["ladder.0.owed=goes_along"], (15_000, 0)),
        (["ladder.0.owed=stays"], (0, 15_000)),
        (["ladder.0.owed=stays", "absorbers.0.pays_debts=true"], (15_000, 0)),
        (
            ["ladder.0.owed=stays", "absorbers.0.pays_debts=true", LIMITS, "absorbers.0.per_trade=1"],
            (1, 14_999),
        ),
    ],
)
def test_what_is_owed_may_stay(tmp_path: Path, overrides: list[str], who: tuple[int, int]) -> None:
    """Taken over at the mark the long owes 15,000 still: the fund pays them as a debt, or nobody does."""
    made = fallen(
        tmp_path,
        fund("@fund:insurance", 20_000),
        "absorbers.0.scope=ledger",
        "ladder.0.price=mark",
        "ladder.0.margin_forfeited=none",
        *overrides,
    )
    assert made.rows("SELECT absorbed, fund, bad_debt FROM liquidations") == [(D(1), D(who[0]), D(who[1]))]
    assert made.cash("long") == 0


# --- when it does nothing -------------------------------------------------------------------------------


def window(start: str, until: str) -> str:
    return f"from=2025-10-10T{start}Z, until=2025-10-10T{until}Z"


@pytest.mark.parametrize(
    ("override", "absorbed"),
    [
        (f"absorbers.0.active_windows=[{{{window('12:00:00', '12:00:11')}}}]", 1),
        (f"absorbers.0.active_windows=[{{{window('12:00:00', '12:00:10')}}}]", 0),
        (f"absorbers.0.active_windows=[{{{window('12:00:10', '13:00:00')}}}]", 1),
        ('overlays=[{absorbers="off"}]', 0),
        ('overlays=[{markets=["ETH"], absorbers="off"}]', 1),
        (f'overlays=[{{markets=["BTC"], window={{{window("12:00:10", "13:00:00")}}}, absorbers="off"}}]', 0),
        (f'overlays=[{{markets=["BTC"], window={{{window("11:00:00", "12:00:10")}}}, absorbers="off"}}]', 1),
    ],
)
def test_it_takes_nothing_while_it_is_off(tmp_path: Path, override: str, absorbed: int) -> None:
    """The fall is at 12:00:10; a span has its first moment and not its last."""
    made = fallen(tmp_path, fund("@fund:insurance", 20_000), "absorbers.0.scope=ledger", override)
    assert made.rows("SELECT absorbed, adl FROM liquidations") == [(D(absorbed), D(1 - absorbed))]
    if not absorbed:
        assert made.one("SELECT reason FROM forced_orders") == "the absorber does nothing for the market now"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["absorbers.0.scope=group"], "without `groups`"),
        (['absorbers.0.groups=[{name="few", markets=["BTC"]}]'], "beside `groups`"),
        (
            [
                "absorbers.0.scope=group",
                'absorbers.0.groups=[{name="a", markets=["BTC"]}, {name="b", markets=["BTC"]}]',
            ],
            "BTC stands in two groups",
        ),
        (
            [
                "absorbers.0.scope=group",
                'absorbers.0.groups=[{name="a", markets=["BTC"]}, {name="a", markets=["ETH"]}]',
            ],
            "two groups are called a",
        ),
        (["absorbers.0.scope=coin"], "not yet"),
        (["absorbers.0.per_trade=5"], "beside `per_trade`"),
        ([LIMITS], "without any"),
        (["absorbers.0.inventory_cap=0"], "not above 0"),
        (["ladder.0.owed=stays"], "does not go with price"),
        ([f'overlays=[{{window={{{window("12:00:10", "12:00:10")}}}, absorbers="off"}}]'], "ends before"),
        (['overlays=[{window={from="noon", until="night"}, absorbers="off"}]'], "is not a moment"),
        (
            [
                f"absorbers.0.active_windows=[{{{window('12:00:00', '12:30:00')}}}, "
                f"{{{window('12:15:00', '13:00:00')}}}]"
            ],
            "before that of 2025-10-10T12:00:00Z has ended",
        ),
    ],
)
def test_what_cannot_go_together_is_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(RulesError, match=problem):
        compile_rules(load_rules(RULES, overrides=overrides), (), ())
