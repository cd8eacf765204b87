"""Worked vectors of the deleveraging literature (adl-paper.md sections 2 and 5.3), name by name."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from replay.analysis.adl_metrics import fund_cost, shocked_deficit, static_fund, undo_fraction, wave_numbers
from replay.loop.policies import proportional, wealth
from replay.loop.policies.allocate import largest_remainder
from replay.loop.policies.leverage import cut_to_equal_leverage
from replay.loop.policies.scores import in_order, score
from replay.loop.policies.winners import candidates
from replay.rules.formulas import bankruptcy, insurance, liquidation_price, partial
from replay.rules.formulas.contract import profit

F = Fraction

# The toy venue of the paper: quantity, collateral, side; opened at 1.
TOY = {
    "A": (1, F(2), 1),
    "B": (1, F(2, 3), 1),
    "C": (4, F(8, 3), -1),
    "D": (1, F(2, 19), 1),
    "E": (1, F(10, 99), -1),
}
MARK = [F(1), F(7, 5), F(13, 10)]
FUNDING = [F(-1, 3), F(-44, 100)]
"""X1: what the paper's funding pays to a long per unit of price; for the replay funding is data."""


def close(found: Any, expected: list[float], digits: float = 6) -> None:
    assert [float(value) for value in found] == pytest.approx(expected, abs=0.51 * 10**-digits)


def equities(step: int) -> list[F]:
    found = []
    for quantity, collateral, side in TOY.values():
        size = side * quantity
        funding = sum(FUNDING[t] * MARK[t + 1] * size for t in range(step))
        found.append(collateral + profit("linear", size, MARK[0], MARK[step]) + funding)
    return found


def notionals(step: int) -> list[F]:
    return [MARK[step] * quantity for quantity, _, _ in TOY.values()]


def test_x2_x3_equities() -> None:
    close(equities(1), [1.933333, 0.6, 2.933333, 0.038596, 0.167677])
    close(equities(2), [1.261333, -0.072, 5.621333, -0.633404, 0.839677])


def winners_at_2() -> tuple[list[F], list[F]]:
    rows = [row for row, equity in enumerate(equities(2)) if equity > 0]
    return [notionals(2)[row] for row in rows], [equities(2)[row] for row in rows]


def test_x4_wealth_deficit_and_the_rate_of_the_haircut() -> None:
    endowments = [max(F(0), e) for e in equities(2)]
    deficit = sum(max(F(0), -e) for e in equities(2))
    seized = wealth.pro_rata(deficit, endowments)
    close([sum(endowments), deficit, seized.amounts[0] / endowments[0]], [7.722343, 0.705404, 0.0913458])
    assert sum(seized.amounts) == deficit


def test_x5_x6_leverages() -> None:
    at_1 = [n / e for n, e in zip(notionals(1), equities(1), strict=True)]
    close([*at_1, sum(at_1)], [0.724138, 2.333333, 1.909091, 36.272727, 8.349398, 49.588687], 5.9)
    n, e = winners_at_2()
    ratios = [a / b for a, b in zip(n, e, strict=True)]
    close([*ratios, sum(ratios)], [1.030655, 0.925047, 1.548215, 3.503918], 5.9)


@pytest.mark.parametrize(
    ("policy", "options", "expected"),
    [
        (proportional.equity_pro_rata, {}, (0.163336, 0.727931, 0.108733)),
        (proportional.risk_linear, {}, (0.164142, 0.589290, 0.246568)),
        (proportional.risk_power, {"exponent": 2}, (0.154350, 0.497358, 0.348292)),
        (proportional.risk_cvar, {"cutoff": F(9, 10)}, (0.148631, 0.113974, 0.737395)),
    ],
)
def test_x7_shares_of_the_winners(policy: Any, options: dict[str, Any], expected: tuple[float, ...]) -> None:
    """A million lots are shared; each has as many, so that no cap binds."""
    n, e = winners_at_2()
    winners = candidates([10**6] * 3, notional=n, equity=e, profit=[F(1)] * 3)
    assert policy(10**6, winners, **options) / 1e6 == pytest.approx(expected, abs=1e-6)


def test_x8_next_deficit_after_pro_rata() -> None:
    n, e = winners_at_2()
    kept = 1 - wealth.pro_rata(sum(max(F(0), -x) for x in equities(2)), e).amounts[0] / e[0]
    shock = F(6, 5) * sum(a / b for a, b in zip(n, e, strict=True)) / 3
    close([shocked_deficit([a * kept for a in n], [b * kept for b in e], shock)], [1.458335])


def test_x9_x10_bankruptcy_and_liquidation_prices() -> None:
    """Prices below zero, where A cannot go, are shown as zero."""
    ruin, liquidation = [], []
    for quantity, collateral, side in TOY.values():
        ruined = bankruptcy.isolated("linear", side * quantity, 1, collateral)
        hit = liquidation_price.at_mark("linear", side * quantity, 1, collateral, F(1, 10))
        assert ruined is not None
        assert hit is not None
        ruin.append(max(F(0), ruined))
        liquidation.append(max(F(0), hit))
    close(ruin, [0, 1 / 3, 5 / 3, 0.894737, 1.101010])
    close(liquidation, [0, 0.370370, 1.515152, 0.994152, 1.000918])


def test_x11_the_least_slice_that_restores_a_ratio_is_clipped_to_the_position() -> None:
    equity = F(10, 99) + profit("linear", -1, 1, F(11, 2))
    options = {"ratio": F(1, 10), "side": -1, "exec_price": F(111, 20), "mark_fee_rate": F(3, 1000)}
    assert partial.restoring_slice(F(11, 2), 1, equity, **options) == 1
    # A position a hundred times as large with as much missing, 4.94899, at 0.4835 freed a unit.
    missing = F(1, 10) * F(11, 2) - equity
    wanted = partial.restoring_slice(F(11, 2), 100, F(1, 10) * F(11, 2) * 100 - missing, **options)
    close([wanted], [10.23576], 5)


def test_x12_fees_of_half_a_contract() -> None:
    half, mark, price = F(1, 2), F(13, 10), F(33, 25)
    assert insurance.notional_fee(half * mark, F(40, 10_000)) == F(26, 10_000)
    both = insurance.notional_fee(half * mark, F(20, 10_000))
    assert both + insurance.notional_fee(half * price, F(10, 10_000)) == F(196, 100_000)


def test_x13_the_correct_bankruptcy_price_beside_the_published_wrong_one() -> None:
    """E is closed at 1.55 while the mark is 1.05: the price moves with the equity, not with the mark.

    The paper takes the present mark and the collateral of the open, which is right only at the open; its
    shortfall of 0.399 must not come back.
    """
    quantity, collateral, side = TOY["E"]
    mark, price = F(105, 100), F(155, 100)
    right = bankruptcy.isolated("linear", side * quantity, 1, collateral)
    equity = collateral + profit("linear", side * quantity, 1, mark)
    assert right is not None
    assert bankruptcy.all_equity("linear", side * quantity, mark, equity) == right
    wrong = mark - collateral / (side * quantity)
    close([-insurance.surplus(side, quantity, right, price)], [0.448990])
    close([-insurance.surplus(side, quantity, wrong, price)], [0.398990])


def test_a_slice_that_the_published_price_calls_solvent_is_bad_debt() -> None:
    """D sells a fifth at 0.84 while the mark is 0.94: 0.0109 below 0.8947, and not above 0.8347."""
    quantity, collateral, side = TOY["D"]
    right = bankruptcy.isolated("linear", side * quantity, 1, collateral)
    assert right is not None
    assert right == F(17, 19)
    assert float(insurance.surplus(side, F(1, 5), right, F(84, 100))) == pytest.approx(-0.0109, abs=5e-5)
    wrong = F(94, 100) - collateral
    assert insurance.surplus(side, F(1, 5), wrong, F(84, 100)) > 0


# --- allocations -----------------------------------------------------------------------------------


def test_y1_queue_in_money() -> None:
    seized = wealth.in_turn(F(15, 2), [8, 4, F(1, 2)], [1, 0, 2])
    assert seized.amounts == [F(7, 2), 4, 0]
    assert [e - x for e, x in zip([10, 5, 1], seized.amounts, strict=True)] == [F(13, 2), 1, 1]


def test_y2_pro_rata_in_money() -> None:
    seized = wealth.pro_rata(F(15, 2), [8, 4, F(1, 2)])
    assert seized.amounts == [F(24, 5), F(12, 5), F(3, 10)]
    assert [e - x for e, x in zip([10, 5, 1], seized.amounts, strict=True)] == [F(26, 5), F(13, 5), F(7, 10)]


@pytest.mark.parametrize(
    ("budget", "eta"), [(20, F(1, 10)), (60, F(19, 40)), (80, F(43, 50))], ids=["20", "60", "80"]
)
def test_y3_capped_pro_rata(budget: int, eta: F) -> None:
    w, caps = [100, 50, 30, 20], [F(1, 5), F(1), F(1, 2), F(1, 10)]
    seized = wealth.capped(budget, w, caps)
    assert seized.amounts == [min(eta, cap) * x for cap, x in zip(caps, w, strict=True)]
    assert seized.residual == 0


def test_y3_beyond_the_capacity_the_residual_is_reported() -> None:
    seized = wealth.capped(95, [100, 50, 30, 20], [F(1, 5), F(1), F(1, 2), F(1, 10)])
    assert (sum(seized.amounts), seized.residual) == (87, 8)


@pytest.mark.parametrize(
    ("sizes", "need", "lots"),
    [((7, 5, 3), 5, (2, 2, 1)), ((10, 10, 10), 10, (4, 3, 3)), ((1, 1, 98), 50, (1, 0, 49))],
)
def test_y4_largest_remainder(sizes: tuple[int, ...], need: int, lots: tuple[int, ...]) -> None:
    """4.2 contracts are 5 lots; equal remainders go to the earlier row."""
    assert tuple(proportional.contract_pro_rata(need, candidates(list(sizes)))) == lots


def test_in_lots_of_a_tenth_small_accounts_take_part() -> None:
    """Ten accounts of 0.5 and one of 3.0, 4 to close: in whole coins only 3 could be closed."""
    taken = proportional.contract_pro_rata(40, candidates([5] * 10 + [30]))
    assert taken.tolist() == [3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 15]


def test_what_caps_cut_off_is_shared_again() -> None:
    """Three of 1.9 and 5 to close: whole coins in one pass close 3 and stop."""
    assert int(proportional.contract_pro_rata(50, candidates([19, 19, 19])).sum()) == 50
    assert largest_remainder(10, [8, 1, 1], [2, 9, 9]).tolist() == [2, 4, 4]


@pytest.mark.parametrize(
    ("need", "equity", "level", "cuts"),
    [
        (100, (100, 100, 100, 100), 9, (100, 0, 0, 0)),
        (300, (100, 100, 100, 100), 7, (300, 0, 0, 0)),
        (700, (100, 100, 100, 100), F(9, 2), (550, 150, 0, 0)),
        (700, (100, 20, 100, 10), F(100, 13), (230.769, 446.154, 0, 23.077)),
    ],
)
def test_y5_minimax_leverage(need: int, equity: tuple[int, ...], level: Any, cuts: tuple[float, ...]) -> None:
    n = [1000, 600, 300, 100]
    found_level, found = cut_to_equal_leverage(need, n, equity)
    assert found_level == level
    assert sum(found) == need
    close(found, list(cuts), 3)
    lots = proportional.minimax_leverage(need, candidates(n, equity=list(equity)))
    assert int(lots.sum()) == need
    assert np.abs(lots - np.array(cuts)).max() <= 1


def test_y6_profit_is_junior_to_principal() -> None:
    assert wealth.junior_profit(1000, 700, 100, [300, 150, 50, -80]) == ([120, 60, 20, 0], 0)
    assert wealth.junior_profit(1003, 700, 100, [300, 151, 49, -80]) == ([121, 61, 19, 0], 2)


def test_y7_leveraged_return_divides_losses() -> None:
    """2.5 and 2.5 tie: the lower account first."""
    winners = candidates(
        [1] * 5,
        profit=[F(3, 10), F(1, 2), F(1, 10), F(-1, 20), F(-1, 20)],
        entry=[F(1)] * 5,
        notional=[F(10), F(5), F(25), F(20), F(2)],
        equity=[F(1)] * 5,
    )
    scores = score(
        winners, profit_term="profit_on_entry", leverage_term="notional_on_equity", loss_rule="divide"
    )
    assert list(scores) == [3, F(5, 2), F(5, 2), F(-1, 400), F(-1, 40)]
    assert in_order(scores, winners.account).tolist() == [0, 1, 2, 3, 4]


def test_y8_waves_split_where_the_gap_is_exceeded() -> None:
    assert wave_numbers([0, 0, 5000, 10001, 10001, 20000], 5000) == [1, 1, 1, 2, 2, 3]
    assert wave_numbers([], 5000) == []


def test_y9_undone_share() -> None:
    assert undo_fraction(10, 3 + 4) == F(7, 10)
    assert undo_fraction(10, 8 + 9) == 1


def test_y10_fees_first_then_the_deficit() -> None:
    fund, paid, left, ends = F(10), [], [], []
    for deficit, fee in ((4, 1), (12, 2), (0, 3)):
        step = insurance.credit_and_cover(deficit, fund, fee, credit_first=True)
        fund = step.fund_after
        paid.append(step.paid)
        left.append(step.left)
        ends.append(fund)
    assert (paid, left, ends) == ([4, 9, 0], [0, 3, 0], [7, 0, 3])
    late = insurance.credit_and_cover(12, 7, 2, credit_first=False)
    assert (late.paid, late.left, late.fund_after) == (7, 5, 2)


def test_y11_the_fund_that_costs_least() -> None:
    deficits = [0] * 90 + [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]
    best = static_fund(deficits, F(1, 20))
    assert (best, fund_cost(best, deficits, F(1, 20))) == (8, F(212, 100))
    assert all(fund_cost(fund, deficits, F(1, 20)) >= F(212, 100) for fund in range(90))


def test_y12_slice_under_linear_impact() -> None:
    found = partial.restoring_slice_with_impact(100, 10, 40, F(1, 20), F(1, 5))
    assert found is not None
    close([found], [2.08712153], 8)


@pytest.mark.parametrize(
    ("budget", "amounts"),
    [
        (60, (43.478261, 10.869565, 3.913043, 1.739130)),
        (150, (100, 0.65789474 * 50, 0.39473684 * 30, 0.26315789 * 20)),
    ],
)
def test_y13_the_projection_weighs_large_accounts_twice(budget: int, amounts: tuple[float, ...]) -> None:
    c = [100, 50, 30, 20]
    rates = wealth.projected(budget, c)
    close([rate * x for rate, x in zip(rates, c, strict=True)], list(amounts), 5.9)
    assert sum(rate * x for rate, x in zip(rates, c, strict=True)) == budget


def test_a_haircut_of_margin_gains_is_profit_pro_rata() -> None:
    gains = [300, 150, 50]
    seized = wealth.pro_rata(200, gains).amounts
    assert seized == [120, 60, 20]
    assert wealth.capped(200, gains, [1, 1, 1]).amounts == seized
