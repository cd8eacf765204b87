"""Funds and vaults: the drawdown rule, the empty pool, rolling peaks, capacity."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.loop.absorbers import AbsorberBook
from replay.loop.ledger import add_cash, book
from replay.loop.state import State
from replay.rules.formulas.triggers import RollingPeak
from replay.rules.plan import Absorber
from tests.waterfall.small import ATOMS, RATE_ONE, SECOND, inverse, linear, set_mark, state_of, value_of

CASES = Path(__file__).parents[2] / "../shared/cases/cases.json"
HOUR = 3_600 * SECOND
M = 1_000_000 * ATOMS


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    if not CASES.exists():
        pytest.skip(f"the published cases are not there: {CASES}")
    return {case["id"]: case for case in json.loads(CASES.read_text(encoding="utf-8"))}


def rule(**changes: Any) -> Absorber:
    """Bybit's: -30 % until above -25 %, eight hours, above 10,000, and a pool at zero."""
    known: dict[str, Any] = {
        "account": "@fund:insurance",
        "work_out": "hold",
        "insolvent_below": False,
        "drawdown": (3 * RATE_ONE // 10, RATE_ONE // 4),
        "window_ns": 8 * HOUR,
        "least_balance": 10_000 * ATOMS,
        "stops_at_zero": True,
    }
    return Absorber(**(known | changes))


def fund(balance: int, *, state: State | None = None, **changes: Any) -> tuple[State, AbsorberBook]:
    """A fund with a balance in atoms, in a state of two markets at a mark of 100."""
    if state is None:
        state = state_of(linear(), linear(1, "ETH"))
        set_mark(state, 100)
        set_mark(state, 100, market=1)
    add_cash(state.arrays, state.pseudo_pool("@fund:insurance", 0), balance)
    return state, AbsorberBook(state, rule(**changes), 0)


def lose(absorber: AbsorberBook, amount: int, market: int = 0) -> None:
    """Let a market cost the fund money, in atoms, all of it realised."""
    absorber.book(market, -amount)
    add_cash(absorber._state.arrays, absorber.pool(0), -amount)


# --- the published cases ---------------------------------------------------------------------------


def test_a_loss_of_350_thousand_of_a_pool_of_a_million(cases: dict[str, Any]) -> None:
    """R149: 35 % of the peak is beyond 30 %; 50,000 go to ADL, and the ratio is -30 % again."""
    case = cases["R149"]
    inputs, expected = case["inputs"], case["expected"]
    # The pool still has its million: other symbols brought in what this one lost.
    _, absorber = fund(inputs["pool_balance"] * ATOMS)
    assert absorber.profit_peak(0, 0) == inputs["symbol_pnl_8h_max"]
    absorber.book(0, inputs["symbol_pnl_now"] * ATOMS)
    verdict = absorber.judge(0, HOUR)
    assert verdict is not None
    assert verdict.active == expected["adl"]
    assert verdict.measured == inputs["symbol_pnl_now"] * ATOMS
    assert verdict.threshold == inputs["trigger_ratio"] * inputs["pool_8h_max"] * ATOMS
    beyond = -(absorber.headroom(0, HOUR) or 0)
    assert beyond == expected["loss_moved_to_adl"] * ATOMS == 50_000 * ATOMS
    absorber.book(0, beyond)
    assert Fraction(absorber.profit(0), M) == Fraction(str(expected["ratio_after"]))
    assert absorber.headroom(0, HOUR) == 0
    assert absorber.judge(0, HOUR) is None, "on until above -25 %"


def test_a_pool_at_zero_deleverages_whatever_the_ratios(cases: dict[str, Any]) -> None:
    """R151: all symbols above -30 %, four of them at -25 % each."""
    case = cases["R151"]
    state = state_of(*(linear(number, f"M{number}") for number in range(4)))
    _, absorber = fund(case["inputs"]["pool_start"] * ATOMS, state=state)
    for market in range(4):
        lose(absorber, M // 4, market)
    assert absorber.balance(0) == case["inputs"]["pool_balance"] == 0
    for market in range(4):
        assert Fraction(absorber.profit(market), M) > Fraction(str(case["inputs"]["pnl_ratios_above"]))
        verdict = absorber.judge(market, HOUR)
        assert verdict is not None
        assert verdict.active == case["expected"]["adl"]
        assert verdict.reason == "the balance is not above zero"
        assert absorber.capacity(market, HOUR) == 0


def test_a_pool_at_zero_stops_above_zero_where_that_is_the_only_rule(cases: dict[str, Any]) -> None:
    assert cases["R151"]["expected"]["stop_when_balance_above"] == 0
    state, absorber = fund(0, drawdown=None)
    assert absorber.judge(0, 0).active  # type: ignore[union-attr]
    assert absorber.judge(0, 1) is None
    add_cash(state.arrays, absorber.pool(0), 1)
    verdict = absorber.judge(0, 2)
    assert verdict is not None
    assert not verdict.active
    assert absorber.capacity(0, 2) == 1


def test_the_published_sample_of_the_api(cases: dict[str, Any]) -> None:
    """R152, all amounts divided by a thousand so that they fit a cell: a ratio of -0.560973."""
    inputs = cases["R152"]["inputs"]

    def atoms(text: float) -> int:
        return round(Fraction(str(text)) * ATOMS / 1_000)

    peak, balance = atoms(inputs["max_balance"]), atoms(inputs["balance"])
    least = atoms(inputs["adl_trigger_threshold"])
    _, absorber = fund(peak, least_balance=least)
    absorber.profit_peak(0, 0)
    lose(absorber, peak - balance)
    absorber.book(0, peak - balance - round(Fraction(str(inputs["pnl_ratio"])) * -peak))
    assert float(Fraction(absorber.profit(0), peak)) == pytest.approx(inputs["pnl_ratio"], abs=1e-12)
    verdict = absorber.judge(0, HOUR)
    assert verdict is not None
    assert verdict.active == cases["R152"]["expected"]["adl"]


# --- start and stop --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "starts"), [(M * 3 // 10 - 1, False), (M * 3 // 10, True), (M * 3 // 10 + 1, True)]
)
def test_minus_30_percent_itself_starts(loss: int, starts: bool) -> None:
    _, absorber = fund(M)
    absorber.profit_peak(0, 0)
    lose(absorber, loss)
    assert (absorber.judge(0, 1) is not None) == starts


def test_it_runs_until_above_minus_25_percent() -> None:
    _, absorber = fund(M)
    absorber.profit_peak(0, 0)
    lose(absorber, M * 3 // 10)
    assert absorber.judge(0, 1).active  # type: ignore[union-attr]
    lose(absorber, -M * 5 // 100)
    assert absorber.profit(0) == -M // 4
    assert absorber.judge(0, 2) is None, "-25 % itself does not stop"
    lose(absorber, -1)
    verdict = absorber.judge(0, 3)
    assert verdict is not None
    assert not verdict.active
    assert (verdict.measured, verdict.threshold) == (-M // 4 + 1, -M // 4)
    lose(absorber, 1)
    assert absorber.judge(0, 4) is None, "-25 % does not start"


def test_a_market_starts_for_itself_alone() -> None:
    _, absorber = fund(M)
    for market in (0, 1):
        absorber.profit_peak(market, 0)
    lose(absorber, M * 35 // 100, market=1)
    assert absorber.judge(0, 1) is None
    assert absorber.judge(1, 1).active  # type: ignore[union-attr]
    assert (absorber.is_active(0), absorber.is_active(1)) == (False, True)


def test_the_drop_counts_from_the_best_profit_of_the_window() -> None:
    """A market that had brought 200,000 starts at a profit of -160,000: 360,000 of a peak of 1.2 million."""
    _, absorber = fund(M)
    absorber.profit_peak(0, 0)
    lose(absorber, -M // 5)
    assert absorber.judge(0, 1) is None
    lose(absorber, M * 36 // 100 - 1)
    assert absorber.judge(0, 2) is None
    lose(absorber, 1)
    assert absorber.judge(0, 3).active  # type: ignore[union-attr]


def test_peaks_are_forgotten_after_the_window() -> None:
    """The same drop, but the profit was eight hours and a nanosecond ago: -160,000 of a million since."""
    _, absorber = fund(M)
    absorber.profit_peak(0, 0)
    lose(absorber, -M // 5)
    absorber.judge(0, HOUR)
    lose(absorber, M // 5)
    absorber.judge(0, 2 * HOUR)
    lose(absorber, M * 16 // 100)
    assert absorber.headroom(0, 9 * HOUR) == M * 36 // 100 - M * 36 // 100
    assert absorber.headroom(0, 9 * HOUR + 1) == M * 30 // 100 - M * 16 // 100


def test_a_small_balance_does_not_start() -> None:
    """At 10,000 or less of balance the drawdown rule is silent; there is no room beyond the line either."""
    _, absorber = fund(14_285 * ATOMS)
    absorber.profit_peak(0, 0)
    lose(absorber, 4_285 * ATOMS + ATOMS)
    assert absorber.balance(0) < 10_000 * ATOMS
    assert absorber.judge(0, 1) is None


# --- capacity --------------------------------------------------------------------------------------


def test_capacity_is_the_way_to_the_line_but_no_more_than_the_balance() -> None:
    _, absorber = fund(M)
    assert absorber.capacity(0, 0) == M * 3 // 10
    lose(absorber, M // 10)
    assert absorber.capacity(0, 1) == M * 2 // 10
    lose(absorber, M * 85 // 100, market=1)
    assert absorber.balance(0) == M // 20
    assert absorber.capacity(0, 1) == M // 20


def test_a_vault_without_rules_has_no_bound() -> None:
    _, absorber = fund(0, drawdown=None, stops_at_zero=False, account="@vault:liquidator")
    assert absorber.capacity(0, 0) is None
    assert absorber.judge(0, 0) is None


@pytest.mark.parametrize("market", [linear(), inverse()], ids=["linear", "inverse"])
@pytest.mark.parametrize("size", [7, -7])
def test_profit_counts_inventory_at_the_mark(market: Any, size: int) -> None:
    """Taken at 100, now 80: the value changed by what the contract says, and the balance by the same."""
    state = state_of(market)
    set_mark(state, 100)
    _, absorber = fund(M, state=state)
    bought = value_of(state, size, 100)
    book(state.arrays, absorber.position(0), size, bought, bought)
    absorber.book(0, -bought)
    assert (absorber.profit(0), absorber.balance(0)) == (0, M)
    set_mark(state, 80)
    gain = value_of(state, size, 80) - bought
    assert gain != 0
    assert (absorber.profit(0), absorber.balance(0)) == (gain, M + gain)
    assert absorber.holdings() == [0]


# --- the rolling maximum ---------------------------------------------------------------------------

samples = st.lists(st.tuples(st.integers(0, 5), st.integers(-20, 20)), min_size=1, max_size=60)


@given(samples, st.integers(0, 15))
def test_the_rolling_maximum_is_that_of_the_samples_in_the_window(
    steps: list[tuple[int, int]], window: int
) -> None:
    """A sample exactly one window old still counts; several samples may share a moment."""
    rolling, seen, now = RollingPeak(window), [], 0
    for wait, value in steps:
        now += wait
        seen.append((now, value))
        assert rolling.add(now, value) == max(v for ts, v in seen if ts >= now - window)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-50, 50)), min_size=1, max_size=300),
    st.integers(0, 200),
)
def test_the_fund_keeps_its_peaks_in_rings_that_grow(steps: list[tuple[int, int]], window: int) -> None:
    """A falling balance keeps all samples of the window: more than a ring has room for at first."""
    state, absorber = fund(0, window_ns=window)
    pool, now, cash = absorber.pool(0), 0, 0
    seen = [(0, 0)]
    for wait, change in [*steps, *((1, -1) for _ in range(100))]:
        now, cash = now + wait, cash + change
        add_cash(state.arrays, pool, change)
        seen.append((now, cash))
        assert absorber.balance_peak(0, now) == max(value for ts, value in seen if ts >= now - window)
