"""The numeric details that implementers get wrong (venue-rules.md section 27), each with its number.

A test where the product computes it; where it cannot occur, a sentence in ``CANNOT_OCCUR`` says why.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction as Exact
from pathlib import Path

import numpy as np
import pytest

import replay
from replay.errors import ReplayError
from replay.loop.policies.registry import policy
from replay.loop.policies.scores import in_order, score
from replay.loop.policies.winners import Winners, candidates
from replay.rules.formulas import (
    bankruptcy,
    insurance,
    liquidation_price,
    maintenance,
    order_price,
    partial,
    socialise,
    triggers,
)
from replay.rules.formulas.account import Account, Holding, quote_at_bankruptcy
from replay.rules.formulas.contract import (
    average_entry,
    profit,
    return_on_entry,
    value_at,
)
from tests.waterfall.days import HYPERLIQUID, account, depth, fund, marks, replayed

CANNOT_OCCUR = {
    16: "A hedged pair needs two legs of a market in one pool; a tape has one net position per account, "
    "market and margin mode, and any other margin.hedge_basis is refused.",
    28: "Open interest is the sum of the accounts' positions, never summed from trades; importers book "
    "deleveraging as fills of both sides.",
    29: "An importer says which source it reads, and the tape has the side of the position and the kind of "
    "the price in columns of their own; prints of two sources are never mixed in one tape.",
    30: "A tape of fills has no open orders, so there is nothing whose cancelling could cure an account; "
    "rule books say so among their assumptions.",
}


def test_every_trap_has_a_test_or_a_sentence() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    tested = {int(n) for n in re.findall(r"^def test_trap_(\d\d)_", text, re.MULTILINE)}
    assert sorted(tested | set(CANNOT_OCCUR)) == list(range(1, 35))
    assert not tested & set(CANNOT_OCCUR)


def test_trap_01_the_exit_fee_in_the_bankruptcy_price() -> None:
    """100 at 10x loses 10: 90/(1 - f), 110/(1 + f); inverse 100 at 8,000 with half a coin: 1.00075 of it."""
    f = Exact(75, 100_000)
    assert bankruptcy.isolated("linear", 1, 100, 10, exit_fee_rate=f) == 90 / (1 - f)
    assert bankruptcy.isolated("linear", -1, 100, 10, exit_fee_rate=f) == 110 / (1 + f)
    long = bankruptcy.isolated("inverse", 10_000, 8_000, Exact(1, 2), exit_fee_rate=f)
    assert long == Exact("1.00075") * 10_000 / (Exact(10_000, 8_000) + Exact(1, 2))
    short = bankruptcy.isolated("inverse", -10_000, 8_000, Exact(1, 2), exit_fee_rate=f)
    assert short == Exact("0.99925") * 10_000 / (Exact(10_000, 8_000) - Exact(1, 2))


def test_trap_02_inverse_contracts() -> None:
    """Entry is harmonic, a long at 1x lives until half its entry, and a fall moves it up a tier in coins."""
    assert average_entry("inverse", [(100, 10_000), (100, 20_000)]) == Exact(200) / (
        Exact(1, 100) + Exact(1, 200)
    )
    assert average_entry("linear", [(1, 10_000), (1, 20_000)]) == 15_000
    assert bankruptcy.by_leverage("inverse", 1, 8_000, 1) == 4_000
    tiers = [(0, Exact(1, 100)), (1, Exact(2, 100))]
    coins = [abs(value_at("inverse", 10_000, price)) for price in (12_500, 10_000, 8_000)]
    assert coins == [Exact(8, 10), 1, Exact(5, 4)]
    assert [maintenance.tier_of(value, tiers) for value in coins] == [0, 1, 1]
    # The liquidation price is linear in 1/P: 10,000 (1 + 1 %) / P = 1.25 + 0.5 + deduction, in coins.
    deduction = maintenance.deductions(tiers)[1]
    assert deduction == Exact(1, 100)
    price = liquidation_price.at_mark(
        "inverse", 10_000, 8_000, Exact(1, 2), Exact(2, 100), deduction=deduction
    )
    assert price == 10_000 * Exact("1.02") / (Exact("1.25") + Exact("0.5") + deduction)


def test_trap_03_quanto_profit_is_points_times_a_fixed_amount() -> None:
    """20 points of 5 contracts of 0.000001 coin; no rate of exchange is anywhere."""
    assert profit("quanto", 5, 100, 120, Exact(1, 10**6)) == Exact(100, 10**6)
    assert profit("quanto", -5, 100, 120, Exact(1, 10**6)) == Exact(-100, 10**6)


def test_trap_04_brackets_at_their_very_edge() -> None:
    """At 100,000 the deduction makes no jump, the whole bracket does; the edge is in the upper tier."""
    tiers = [(0, Exact(1, 200)), (100_000, Exact(1, 100)), (1_000_000, Exact(1, 40))]
    at = [99_999, 100_000, 100_001]
    assert [maintenance.bracket_marginal(n, tiers) for n in at] == [Exact("499.995"), 500, Exact("500.01")]
    assert [maintenance.bracket_whole(n, tiers) for n in at] == [Exact("499.995"), 1000, Exact("1000.01")]
    assert [maintenance.tier_of(n, tiers) for n in at] == [0, 1, 1]
    assert maintenance.bracket_marginal(200_000, tiers) == 1_500
    assert maintenance.bracket_whole(200_000, tiers) == 2_000


def test_trap_05_the_fee_is_part_of_the_requirement_and_ratios_are_never_formed() -> None:
    """A breach is equity against maintenance in money; with a fee of 0.06 % on top it comes earlier."""
    bare = liquidation_price.at_mark("linear", 1, 10, 2, Exact(1, 100))
    with_fee = liquidation_price.at_mark("linear", 1, 10, 2, Exact(1, 100) + Exact(6, 10_000))
    assert bare == Exact(8) / Exact("0.99")
    assert with_fee == Exact(8) / Exact("0.9894")
    assert with_fee > bare
    assert partial.below_level(99, 100, 1)
    assert not partial.below_level(100, 100, 1)


def test_trap_06_with_two_positions_each_loses_its_share_from_the_mark() -> None:
    """Equity 10, maintenance 30 and 20: 6 and 4. Entries do not matter; below zero B is beyond the mark."""
    positions = (Holding(Exact(1, 10), 3_000, Exact(1, 10)), Holding(Exact(4, 1000), 50_000, Exact(1, 10)))
    account = Account(-490, positions)
    assert quote_at_bankruptcy(account, 0, Exact(-1, 10)) == 294
    alone = bankruptcy.all_equity("linear", Exact(1, 10), 3_000, account.equity)
    shared = bankruptcy.maintenance_proportional("linear", Exact(1, 10), 3_000, account.equity, 30, 50)
    assert (alone, shared) == (2_900, 2_940)
    negative = bankruptcy.maintenance_proportional("linear", Exact(1, 10), 3_000, -10, 30, 50)
    assert negative is not None
    assert negative == 3_060
    short = bankruptcy.maintenance_proportional("linear", Exact(-1, 10), 3_000, -10, 30, 50)
    assert short == 2_940


def test_trap_07_rounding_against_the_bankrupt_and_twice_up() -> None:
    """Sizes down to a step but at least one, quotes so that no insurance is needed, maintenance up twice."""
    long = Account(-13, (Holding(1, 50_000, Exact(1, 10)),))
    short = Account(13, (Holding(-1, 50_000, Exact(1, 10)),))
    change, micro = Exact(21_347, 10**8), Exact(1, 10**6)
    assert quote_at_bankruptcy(long, 0, -change, quantum=micro) == 2_776 * micro
    assert quote_at_bankruptcy(short, 0, change, quantum=micro) == -2_775 * micro
    assert partial.capped_portion(10, 100, max_notional=399, step=1) == 3
    assert partial.capped_portion(10, 100, max_notional=50, step=1) == 1
    assert (
        order_price.fillable(100, 1, 50, 100, Exact(1, 10), adjustment=1, spread=Exact(1, 3), tick=1) == 99
    )  # 98.33 rounds up for a sale
    assert maintenance.ceil_twice(1_001, Exact(1, 10), Exact(1, 2)) == 51  # 100.1 -> 101, 50.5 -> 51


def test_trap_08_sizes_and_losses_round_up() -> None:
    tenth = Exact(1, 10)
    assert partial.minimal_to_exit(10, 100, tenth, step=Exact(3, 10)) == Exact(12, 10)  # 1 exactly
    assert socialise.per_unit_both_sides(100, 7, -4, quantum=Exact(1, 10**6)) == Exact("9.090910")


def test_trap_09_a_reduction_must_end_above_the_floor() -> None:
    """20 % of the pool is open profit; closing half of it leaves 11.1 %, closing all of it nothing."""
    claim = triggers.profit_to_pool(1_000, 2_000_000, 5_000, 10_000)
    assert claim.factor == Exact(1, 5)
    start, floor = Exact(1, 10), Exact(2, 100)
    half = triggers.allowed_reduction(claim, 2_000_000, 1_000_000, start=start, floor=floor)
    whole = triggers.allowed_reduction(claim, 2_000_000, 2_000_000, start=start, floor=floor)
    assert (half, whole) == (1_000_000, 0)


def test_trap_10_strictness_is_stated_and_tested_at_equality() -> None:
    assert not triggers.equity_negative(0)
    assert not partial.below_level(2, 3, Exact(2, 3))
    line = Exact(-3, 10)
    assert triggers.drawdown_starts(line, line, balance=2, least_balance=1)
    assert not triggers.drawdown_starts(line, line, balance=1, least_balance=1)
    assert triggers.balance_drawdown(700_000, 1_000_000, Exact(3, 10))
    assert not triggers.balance_drawdown(700_001, 1_000_000, Exact(3, 10))
    assert triggers.fund_covers(10, -10)
    assert not triggers.loss_beyond_share(Exact(5, 100), Exact(5, 100))


LOSER = (
    'markets = [{ name = "BTC", tick = 0.1, lot = 0.001 }]\n'
    + account("long", 10_000, ("BTC", 1, 100_000))
    + account("short", 50_000, ("BTC", -1, 110_000))
    + fund("@vault:liquidator", 0)
)


@pytest.mark.parametrize(
    ("price", "paid"),
    [("previous_mark", 95_000), ("mark", 85_000), ("bankruptcy", 90_000)],
)
def test_trap_11_previous_mark_mark_and_bankruptcy_price(tmp_path: Path, price: str, paid: int) -> None:
    """A long of 1 from 100,000 with 10,000 has nothing at 90,000; the mark goes from 95,000 to 85,000."""
    day = replayed(
        tmp_path,
        LOSER + marks("BTC", ("+0s", 100_000), ("+10s", 95_000), ("+20s", 85_000)),
        HYPERLIQUID,
        [f"adl.price={price}"],
    )
    assert day.rows("SELECT value FROM adl_fills") == [(paid,)]


def test_trap_12_signs_of_rankings() -> None:
    """In values both payoffs rank alike, a short's ratio is inverted, a safety ratio divides."""
    for payoff in ("linear", "inverse"):
        gains = [return_on_entry(payoff, side, 100, mark) for side, mark in ((1, 125), (-1, 80))]  # type: ignore[arg-type]
        assert all(gain > 0 for gain in gains)
    short = candidates([1], entry=[100], value=[80], profit=[20])
    ratio = score(short, profit_term="price_ratio", leverage_term="one", loss_rule="exclude")
    assert ratio.tolist() == [1.25]  # entry over mark
    # Over the safety ratio 2 or times the risk ratio 1/2: who is less safe stands first either way.
    two = candidates(
        [1, 1],
        profit=[Exact(1)] * 2,
        entry=[Exact(2)] * 2,
        maintenance=[Exact(5), Exact(2)],
        equity=[Exact(10)] * 2,
        notional=[Exact(10)] * 2,
    )
    by_risk = score(
        two, profit_term="profit_on_entry", leverage_term="maintenance_on_equity", loss_rule="exclude"
    )
    assert list(by_risk) == [Exact(1, 2) / Exact(10, 5), Exact(1, 2) / Exact(10, 2)]


def losers() -> Winners:
    return candidates(
        [1] * 4,
        profit=[Exact(3, 10), Exact(1, 10), Exact(-1, 20), Exact(-1, 20)],
        entry=[Exact(1)] * 4,
        notional=[Exact(2), Exact(5), Exact(20), Exact(2)],
        equity=[Exact(1)] * 4,
    )


@pytest.mark.parametrize(
    ("rule", "order"),
    [("divide", [0, 1, 2, 3]), ("product", [0, 1, 3, 2]), ("zero", [0, 1, 2, 3]), ("exclude", [0, 1])],
)
def test_trap_13_what_becomes_of_losers(rule: str, order: list[int]) -> None:
    """Divided by leverage the 20x loser stands before the 2x one, multiplied behind; with zero they tie."""
    winners = losers()
    scores = score(winners, profit_term="profit_on_entry", leverage_term="notional_on_equity", loss_rule=rule)
    assert in_order(scores, winners.account).tolist() == order
    if rule == "zero":
        assert scores[2] == scores[3] == 0


def test_trap_14_a_floor_of_one_unit_depends_on_the_unit() -> None:
    """Wallets of 0.1 and 2: in dollars the first counts as 1; in cents it does not, and the order turns."""

    def order(unit: int) -> list[int]:
        rows = candidates(
            [1, 1],
            profit=np.array([0.4, 0.9]) * unit,
            wallet=np.array([0.1, 2.0]) * unit,
        )
        scores = score(rows, profit_term="profit_on_wallet", leverage_term="one", loss_rule="zero")
        return in_order(scores).tolist()

    assert order(1) == [1, 0]
    assert order(100) == [0, 1]


def test_trap_15_the_whole_account_or_the_position() -> None:
    """A hedged account of 10x on two legs: by its position alone it has 50x and comes first."""

    def first(equity: list[int], notional: list[int]) -> int:
        rows = candidates([1, 1], profit=[10, 10], entry=[100, 100], notional=notional, equity=equity)
        return int(policy("score_queue")(1, rows).argmax())

    assert first(equity=[20, 10], notional=[200, 110]) == 1
    assert first(equity=[2, 10], notional=[100, 110]) == 0


def test_trap_17_adding_to_a_winner_lowers_its_rank() -> None:
    """Bought at 100, the mark at 150: 50 %. As much again at 150 makes the entry 125 and the return 20 %."""
    assert return_on_entry("linear", 1, 100, 150) == Exact(1, 2)
    entry = average_entry("linear", [(1, 100), (1, 150)])
    assert return_on_entry("linear", 2, entry, 150) == Exact(1, 5)


def test_trap_18_the_drawdown_is_the_markets_and_its_yardstick_the_pools() -> None:
    """-350 k of a market on a pool that had 1 M: 50 k lie beyond 30 %; its own balance does not matter."""
    ratio = triggers.drawdown_of_profit(-350_000, 0, 1_000_000)
    assert ratio == Exact(-35, 100)
    assert triggers.beyond_drawdown(-350_000, 0, 1_000_000, Exact(-3, 10)) == 50_000
    assert triggers.drawdown_continues(Exact(-25, 100), Exact(-25, 100))
    assert not triggers.drawdown_continues(Exact(-2499, 10_000), Exact(-25, 100))
    peak = triggers.RollingPeak(window=8)
    assert [peak.add(at, value) for at, value in ((0, 5), (4, 3), (8, 1), (9, 1), (13, 0))] == [5, 5, 5, 3, 1]


def refused(key: str) -> None:
    with pytest.raises(ReplayError, match="not yet"):
        replay.load_rules(HYPERLIQUID, overrides=[key])


def test_trap_19_no_orders_into_the_book_while_adl_is_on(tmp_path: Path) -> None:
    """The fund is empty: the one BTC is closed once, against the winner, although the book would take it."""
    day = replayed(
        tmp_path,
        LOSER + depth("+9s", "BTC", bids=[(95_500, 5)]) + marks("BTC", ("+0s", 100_000), ("+10s", 89_000)),
        "bybit@2025-09-23",
        ["adl.suspends_book_liquidation=true"],
    )
    assert day.rows("SELECT book, adl FROM liquidations") == [(0, 1)]


@pytest.mark.parametrize(
    ("limit", "closed"), [(None, "0"), ("per_trade=2000", "0.6"), ("per_day=0.004", "0.2")]
)
def test_trap_20_a_rich_fund_at_its_cap_deleverages(tmp_path: Path, limit: str | None, closed: str) -> None:
    """The long of 10,000 owes 5,000 at 85,000; a fund of a million may pay all, 2,000 of it, or 4,000."""
    text = LOSER + fund("@fund:insurance", 1_000_000) + marks("BTC", ("+0s", 100_000), ("+10s", 85_000))
    overrides = ["absorbers.0.scope=ledger", "absorbers.0.work_out=hold", 'depth={provider="none"}']
    if limit is not None:
        overrides += ["absorbers.0.outflow_cap=limits", f"absorbers.0.{limit}"]
    day = replayed(tmp_path, text, "kucoin@2025-12-31", overrides)
    assert day.one("SELECT adl FROM liquidations") == Decimal(closed)


def test_trap_21_the_vault_itself_is_deleveraged(tmp_path: Path) -> None:
    """The vault takes a long of 1 over at 97,000, where 500 are left of 3,500, and fails at 90,000."""
    text = LOSER.replace("cash = 10000", "cash = 3_500")
    path = marks("BTC", ("+0s", 100_000), ("+10s", 97_000), ("+20s", 90_000))
    day = replayed(tmp_path, text + path, HYPERLIQUID)
    assert day.rows("SELECT loser, origin FROM adl_fills") == [("@vault:liquidator", "@vault:liquidator")]


def test_trap_22_with_and_without_the_fund_in_the_total() -> None:
    """Three users of 1,000 each and a fund of 1,000; 2,000 are missing."""
    assert socialise.withdrawal_factor(2_000, 1_000, 3_000) == Exact(1, 4)
    assert socialise.withdrawal_factor(2_000, 1_000, 4_000) == Exact(1, 5)


def test_trap_23_both_sides_or_one_side_halved() -> None:
    """The same where longs are as many as shorts; not where a pool holds the rest."""
    assert socialise.per_unit_both_sides(100, 5, -5) == socialise.per_unit_one_sided(100, 5) == 10
    assert socialise.per_unit_both_sides(100, 7, -4) != socialise.per_unit_one_sided(100, 7)


def test_trap_24_what_a_liquidation_fee_is_a_share_of() -> None:
    """1 BTC at 50,000, bankruptcy at 49,800: of the notional, of the improvement, of maintenance."""
    whole = insurance.notional_fee(50_000, Exact(1, 100))
    better = insurance.improvement_fee(50_000, 49_800, Exact(1, 100))
    of_margin = insurance.notional_fee(250, Exact(7, 10))
    assert (whole, better, of_margin) == (500, 200, 175)
    assert whole > 250  # more than the maintenance: bankrupt as soon as liquidated


@pytest.mark.parametrize("surplus_to", ["trader", "absorber"])
def test_trap_25_who_gets_what_a_fill_is_better(tmp_path: Path, surplus_to: str) -> None:
    """A long of 1 from 100,000 with 3,000 has 1,000 of 1,225 needed at 98,000, and is bankrupt at 97,000.

    Sold at 98,500 that is 1,500 better than bankruptcy; the fee of 0.045 % is 44.325 of it.
    """
    text = LOSER.replace("cash = 10000", "cash = 3_000")
    path = marks("BTC", ("+0s", 100_000), ("+10s", 98_000))
    book = depth("+5s", "BTC", bids=[(98_500, 5)])
    day = replayed(
        tmp_path,
        text + book + path,
        HYPERLIQUID,
        ["ladder.0.limit=bankruptcy", f"ladder.0.surplus_to={surplus_to}"],
    )
    got = {"trader": day.cash("long"), "absorber": day.cash("@vault:liquidator")}
    assert got.pop(surplus_to) == Decimal("1455.675")
    assert list(got.values()) == [0]


def test_trap_26_what_an_order_leaves_is_asked_for_whole_next_time(tmp_path: Path) -> None:
    """A position above 100,000 sends a fifth; for 30 seconds after a fill all that is left."""
    text = LOSER.replace('("BTC", 1,', "").replace("cash = 10000", "cash = 3_000")
    text = text.replace("size = 1,", "size = 2,").replace("size = -1,", "size = -2,")
    path = marks("BTC", ("+0s", 100_000), ("+10s", 99_500), ("+20s", 99_490))
    book = depth("+5s", "BTC", bids=[(99_400, 5)])
    day = replayed(tmp_path, text + book + path, HYPERLIQUID)
    asked = [row[0] for row in day.rows("SELECT asked FROM forced_orders ORDER BY seq")]
    assert [abs(size) for size in asked] == [Decimal("0.4"), Decimal("1.6")]


def test_trap_27_lots_never_add_up_to_more_than_the_need() -> None:
    """In lots of 10 a need of 25 is two lots to share and a rest of 5 for the first in rank."""
    from replay.loop.policies.wiring import taken_by
    from replay.loop.state import CANDIDATE

    ranked = np.zeros(3, CANDIDATE)
    for name in CANDIDATE.names or ():
        ranked[name] = 1 if name == "known" else 30
    taken = taken_by(policy("contract_pro_rata"), 25, 10, ranked, "contract_pro_rata")
    assert taken.tolist() == [15, 10, 0]


def test_trap_31_funding_of_the_step_counts_before_the_check(tmp_path: Path) -> None:
    """1,300 of equity and 1,250 needed; funding of 0.1 % of 100,000 at the same second takes 100."""
    text = LOSER.replace("cash = 10000", "cash = 1_300")
    paid = '[[funding]]\nat = "+10s"\nmarket = "BTC"\nrate = {rate}\n'
    path = marks("BTC", ("+0s", 100_000), ("+10s", 100_000))
    for folder in ("hit", "spared"):
        (tmp_path / folder).mkdir()
    hit = replayed(tmp_path / "hit", text + paid.format(rate="0.001") + path, HYPERLIQUID)
    spared = replayed(tmp_path / "spared", text + paid.format(rate="0.0004") + path, HYPERLIQUID)
    assert hit.one("SELECT count(*) FROM liquidations") == 1
    assert spared.one("SELECT count(*) FROM liquidations") == 0


def test_trap_32_a_random_choice_is_a_seed_and_its_band_can_be_shown() -> None:
    many = candidates(np.full(50, 3, np.int64))
    draws = [policy("random_walk", seed=seed)(30, many).tolist() for seed in range(8)]
    assert draws[0] == policy("random_walk", seed=0)(30, many).tolist()
    assert len({tuple(draw) for draw in draws}) > 1


@pytest.mark.parametrize(("until", "closed"), [("12:00:10", 0), ("12:00:11", 1)])
def test_trap_33_an_overlay_holds_for_its_markets_and_its_time(
    tmp_path: Path, until: str, closed: int
) -> None:
    """A fund that is off until a moment leaves what falls before it to deleveraging; the fall is at 12:00:10."""
    text = LOSER + fund("@fund:insurance", 1_000_000) + marks("BTC", ("+0s", 100_000), ("+10s", 85_000))
    window = f"window={{from=2025-10-10T11:00:00Z, until=2025-10-10T{until}Z}}"
    overrides = [
        "absorbers.0.scope=ledger",
        "absorbers.0.work_out=hold",
        'depth={provider="none"}',
        f'overlays=[{{markets=["BTC"], {window}, absorbers="off"}}]',
    ]
    day = replayed(tmp_path, text, "kucoin@2025-12-31", overrides)
    assert day.one("SELECT adl FROM liquidations") == closed


def test_trap_34_a_vault_may_fall_below_zero_and_a_fund_that_only_pays_does_not(tmp_path: Path) -> None:
    assert insurance.cover(500, 300).fund_after == 0
    assert insurance.cover(500, -20) == insurance.Cover(Exact(0), Exact(-20), Exact(500))
    day = replayed(
        tmp_path,
        LOSER.replace("cash = 10000", "cash = 3_500")
        + marks("BTC", ("+0s", 100_000), ("+10s", 97_000), ("+20s", 90_000)),
        HYPERLIQUID,
        ["absorbers.0.insolvent_below_zero=false"],
    )
    assert day.one("SELECT equity FROM accounts_end WHERE account = '@vault:liquidator'") == 500 - 7_000
