"""Published bankruptcy prices and fund results as days: what the rules make of the case's own numbers."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.waterfall.days import BYBIT, Day, account, depth, fund, marks, replayed

CASES = Path(__file__).parents[2] / "../shared/cases/cases.json"


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    if not CASES.exists():
        pytest.skip(f"the published cases are not there: {CASES}")
    return {case["id"]: case for case in json.loads(CASES.read_text(encoding="utf-8"))}


def test_a_linear_long_is_bankrupt_where_its_margin_is_spent(cases: dict[str, Any], tmp_path: Path) -> None:
    """R146: isolated margin of 1/50 of the entry value; found in breach one tick above, closed at 9,800."""
    given, expected = cases["R146"]["inputs"], cases["R146"]["expected"]
    entry, size = given["entry"], given["size"]
    margin = Decimal(entry * size) / given["leverage"]
    day = replayed(
        tmp_path,
        'markets = [{ name = "BTC", tick = 0.5, lot = 0.001 }]\n'
        + account("long", 0, ("BTC", size, entry), margin=margin)
        + account("short", 10**6, ("BTC", -size, entry))
        + fund("@fund:insurance", 1_000_000)
        + marks("BTC", ("+0s", entry), ("+1s", expected["bankruptcy_price"] + 5)),
        BYBIT,
    )
    [[size_left, value]] = day.rows("SELECT size, bankruptcy_value FROM liquidations")
    assert value / size_left == expected["bankruptcy_price"]


def test_an_inverse_bankruptcy_price_is_rounded_to_the_tick_for_the_fund(
    cases: dict[str, Any], tmp_path: Path
) -> None:
    """R148: 5,000 contracts of a dollar from 7,890.08 at 50x; the order goes at 7,735.50, raw 7,735.37."""
    given, expected = cases["R148"]["inputs"], cases["R148"]["expected"]
    entry, contracts = Decimal(str(given["entry"])), given["qty_usd"]
    margin = (contracts / entry / given["leverage"]).quantize(Decimal("1e-8"))
    day = replayed(
        tmp_path,
        'markets = [{ name = "BTCUSD", payoff = "inverse", settle = "BTC", lot = 1, '
        f"tick = {given['tick']} }}]\n"
        + account("long", 0, ("BTCUSD", contracts, entry), margin=f'"{margin}"')
        + account("short", 100, ("BTCUSD", -contracts, entry))
        + fund("@fund:insurance", 100)
        + marks("BTCUSD", ("+0s", entry), ("+1s", 7_740))
        + depth("+0s", "BTCUSD", bids=[(7_735, 10_000)]),
        BYBIT,
    )
    [[value, limit]] = day.rows(
        "SELECT l.bankruptcy_value, f.limit_price FROM liquidations AS l JOIN forced_orders AS f "
        "USING (liquidation) WHERE f.limit_price IS NOT NULL ORDER BY f.seq DESC LIMIT 1"
    )
    assert float(contracts / abs(value)) == pytest.approx(expected["bankruptcy_price_raw"], abs=1e-4)
    assert limit == Decimal(str(expected["bankruptcy_price_used"]))


@pytest.mark.parametrize("number", [0, 1])
def test_the_fund_gains_or_loses_what_the_fill_is_from_bankruptcy(
    cases: dict[str, Any], tmp_path: Path, number: int
) -> None:
    """R174: bankrupt at 6,950. A fill at 6,980 gives the fund 30; taken over and sold at 6,930: -20."""
    given, expected = cases["R174"]["inputs"], cases["R174"]["expected"]
    bankrupt, price = given["bankruptcy"], given["fills"][number]
    entry = 7_000
    day = replayed(
        tmp_path,
        'markets = [{ name = "BTC", tick = 1, lot = 1 }]\n'
        + account("long", 0, ("BTC", 1, entry), margin=entry - bankrupt)
        + account("short", 10**6, ("BTC", -1, entry))
        + fund("@fund:insurance", 1_000_000)
        + marks("BTC", ("+0s", entry), ("+1s", 6_960))
        + depth("+0s", "BTC", bids=[(price, 1)]),
        BYBIT,
        overrides=["ladder.1.fee=0"],
    )
    balance = fund_balance(day)
    sign = "gain" if balance > 1_000_000 else "loss"
    assert sign == expected["sign"][number]
    assert balance - 1_000_000 == price - bankrupt


def fund_balance(day: Day) -> Decimal:
    balance: Decimal = day.one("SELECT arg_max(balance, seq) FROM absorber_ledger")
    return balance
