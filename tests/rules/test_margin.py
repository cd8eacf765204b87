"""Shapes of margin: from the text of a rule file to the maintenance of a position in the loop.

What is expected comes from the formulas of the venues in ``replay.rules.formulas`` or from arithmetic beside it.
"""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.errors import RulesError
from replay.loop.margin import maintenance_of
from replay.loop.state import State
from replay.loop.watch import floor_on
from replay.rules import compile_rules
from replay.rules.formulas import maintenance
from replay.tape.read import Market
from replay.tape.schema import Grade, Payoff
from tests.rules.books import FLAT, changed, load_text

ATOM = 10**8
# A contract of a thousandth of a coin, quantities of three decimals, whole prices.
COIN = Market(0, "BTC-PERP", "", Payoff.LINEAR, 0, Fraction(1, 1000), 0, 0, 3, 1, 1)
INVERSE = Market(0, "BTCUSD", "", Payoff.INVERSE, 0, Fraction(1), 0, 0, 0, 1, 1)

HEAD = 'size_basis = "{basis}"\nhedge_basis = "net"\nscope = "cross_account"\n'


def state_of(tmp_path, margin, *, basis="notional_mark", extra="", market=COIN):
    """Return a state with one market under a rule file with this margin."""
    shape, _, tables = margin.partition("\n")
    text = changed(FLAT, f"[margin]\n{shape}\n{HEAD.format(basis=basis)}{extra}\n{tables}")
    plan = compile_rules(load_text(tmp_path, text), [market], [("", "USDC")])
    return State(
        [market],
        [("", "USDC")],
        [],
        mark_kinds=[1],
        fills_set_mark=[False],
        plan=plan,
        watching=True,
        anchoring=False,
        grade=Grade.KNOWN,
    )


def due(state, *, contracts=1, entry=0, notional):
    """Return the maintenance in whole dollars, of thousandths of contracts and amounts in dollars."""
    size = int(contracts * 1000)
    found = maintenance_of(
        state.arrays.tiers, state.arrays.markets[0], size, int(entry * ATOM), int(notional * ATOM)
    )
    return Fraction(int(found), ATOM)


TIERS = """
[[margin.tables]]
currencies = ["USDC"]
tiers = [{ from = 0, rate = "0.01" }, { from = 1000, rate = "0.02" }, { from = 5000, rate = "0.05" }]
"""
GROWN = """shape = "linear_size"
[[margin.sizes]]
currencies = ["USDC"]
base_rate = "0.01"
rate_per_unit = "0.00005"
"""
TABLE = [(0, Fraction(1, 100)), (1000, Fraction(1, 50)), (5000, Fraction(1, 20))]


@pytest.mark.parametrize("notional", [0, 999, 1000, 4999, 5000, 80_000])
def test_only_the_shape_differs(tmp_path, notional):
    """The same table continuous, whole, and as initial rates of which half is due."""
    continuous = state_of(tmp_path, 'shape = "bracket_deduction"\n' + TIERS)
    assert due(continuous, notional=notional) == maintenance.bracket_marginal(notional, TABLE)
    whole = state_of(tmp_path, 'shape = "bracket_whole"\n' + TIERS)
    assert due(whole, notional=notional) == maintenance.bracket_whole(notional, TABLE)
    half = state_of(tmp_path, 'shape = "im_fraction"\nshare = "0.5"\n' + TIERS)
    assert due(half, notional=notional) == maintenance.bracket_marginal(notional, TABLE) / 2


@pytest.mark.parametrize(
    ("notional", "steps"), [(200, 0), ("200.00000001", 1), (300, 1), (301, 2), (5000, 10)]
)
def test_a_begun_step_counts_whole(tmp_path, notional, steps):
    """0.4 % up to 200, 0.4 % more for each 100 above, ten times at most."""
    state = state_of(
        tmp_path,
        """shape = "risk_steps"
[[margin.steps]]
currencies = ["USDC"]
base_limit = 200
base_rate = "0.004"
step = 100
step_rate = "0.004"
steps = 10
""",
    )
    exact = Fraction(str(notional))
    expected = ceil((1 + steps) * Fraction(4, 1000) * exact * ATOM)
    assert due(state, notional=exact) * ATOM == expected
    if steps < 10:
        formula = maintenance.risk_steps(exact, Fraction(4, 1000), Fraction(4, 1000), 200, 100)
        assert expected == ceil(formula * ATOM)


@given(size=st.integers(1, 10**7), notional=st.integers(1, 10**6))
def test_the_rate_grows_evenly_with_the_size(tmp_path_factory, size, notional):
    """1 % and 0.005 % for each coin, as in the table of the options exchange."""
    state = grown(tmp_path_factory.getbasetemp())
    coins = Fraction(size, 1000) / 1000
    rate = min(Fraction(1), Fraction(ceil((Fraction(1, 100) + coins * Fraction(5, 10**5)) * 10**12), 10**12))
    assert due(state, contracts=Fraction(size, 1000), notional=notional) == Fraction(
        ceil(rate * notional * ATOM), ATOM
    )
    exact = maintenance.linear_size(notional, coins, Fraction(1, 100), Fraction(5, 10**5))
    assert abs(
        due(state, contracts=Fraction(size, 1000), notional=notional) - min(exact, notional)
    ) < Fraction(notional, 10**12) + Fraction(2, ATOM)


def grown(folder):
    (folder / "grown").mkdir(exist_ok=True)
    return state_of(
        folder / "grown",
        GROWN,
        basis="base_size",
    )


@pytest.mark.parametrize(
    ("coins", "rate"), [(0, "0.05"), (1, "0.05"), (1000, "0.0500004999"), (10**5, "0.140")]
)
def test_the_rate_grows_with_the_root(tmp_path, coins, rate):
    """5 % at least; 4 % + 0.0001 x root of (10 x size + 1): root of 10,001 is 100.00499, of 1,000,001 1,000.00."""
    state = state_of(
        tmp_path,
        """shape = "sqrt_size"
[[margin.roots]]
currencies = ["USDC"]
base_rate = "0.05"
factor = "0.0001"
""",
        basis="base_size",
    )
    found = due(state, contracts=coins * 1000, notional=10**6)
    exact = maintenance.sqrt_size(10**6, coins, Fraction(1, 20), Fraction(1, 10**4))
    assert abs(found - exact) < Fraction(1, 100)
    assert found == pytest.approx(float(rate) * 10**6, rel=1e-5)


def test_a_factor_of_the_margin_that_a_position_occupies(tmp_path):
    """At 20x a position of 4,000 occupies 200, of which 30 % is due; one of 80,000 occupies 4,000: 50 %."""
    factors = """shape = "adjustment_factor"
leverage = {leverage}
[[margin.tables]]
currencies = ["USDC"]
tiers = [{{ from = 0, rate = "0.2" }}, {{ from = 1000, rate = "0.3" }}, {{ from = 5000, rate = "0.5" }}]
"""
    state = state_of(tmp_path, factors.format(leverage=20))
    assert due(state, notional=4_000) == 60
    assert due(state, notional=80_000) == 2_000
    assert due(state_of(tmp_path, factors.format(leverage=10)), notional=4_000) == 120


def test_weights_by_side(tmp_path):
    """Of a long of 10,000 at a weight of 0.95 lacks 500, of a short at 1.08 lack 800; a fee of 0.1 % adds 10."""
    weights = 'shape = "weights"\n[[margin.weights]]\ncurrencies = ["USDC"]\nlong = "0.95"\nshort = "1.08"\n'
    state = state_of(tmp_path, weights)
    assert due(state, contracts=1, notional=10_000) == 500
    assert due(state, contracts=-1, notional=10_000) == 800
    with_fee = state_of(tmp_path, weights, extra='exit_fee = "0.001"')
    assert due(with_fee, contracts=-1, notional=10_000) == 810


@pytest.mark.parametrize(
    ("basis", "rate"),
    [
        ("notional_mark", "0.1"),
        ("notional_entry", "0.01"),
        ("base_size", "0.02"),
        ("contracts", "0.05"),
    ],
)
def test_only_the_size_basis_differs(tmp_path, basis, rate):
    """100,000 at mark, 2 at entry, 4 coins, 4,000 contracts of a thousandth: each in another tier."""
    tiers = """shape = "bracket_whole"
[[margin.tables]]
currencies = ["USDC"]
tiers = [
    { from = 0, rate = "0.01" },
    { from = 3, rate = "0.02" },
    { from = 3500, rate = "0.05" },
    { from = 90000, rate = "0.1" },
]
"""
    state = state_of(tmp_path, tiers, basis=basis)
    assert due(state, contracts=4000, entry=2, notional=100_000) == Fraction(rate) * 100_000


def test_the_exit_fee_and_the_least_are_added(tmp_path):
    """1 % and a fee of 0.05 % of 10,000 are 105; of 100 it is 1.05, and 10 at least."""
    flat = 'shape = "flat"\nrate = "0.01"\n'
    plain = state_of(tmp_path, flat)
    assert due(plain, notional=10_000) == 100
    with_fee = state_of(tmp_path, flat, extra='exit_fee = "0.0005"')
    assert due(with_fee, notional=10_000) == 105
    with_least = state_of(tmp_path, flat, extra='exit_fee = "0.0005"\nleast = 10')
    assert due(with_least, notional=10_000) == 105
    assert due(with_least, notional=100) == 10


@given(
    size=st.integers(-5000, 5000).filter(bool),
    cost=st.integers(-(10**6), 10**6),
    low=st.integers(1, 3000),
    width=st.integers(0, 300),
    shape=st.sampled_from(["whole", "steps", "grown", "least"]),
)
def test_the_floor_of_a_band_is_the_least_of_all_its_marks(tmp_path_factory, size, cost, low, width, shape):
    """By trying every mark: slack is equity less maintenance at each."""
    folder = tmp_path_factory.getbasetemp() / shape
    folder.mkdir(exist_ok=True)
    state = {
        "whole": lambda: state_of(folder, 'shape = "bracket_whole"\n' + TIERS),
        "steps": lambda: state_of(
            folder,
            'shape = "risk_steps"\n[[margin.steps]]\ncurrencies = ["USDC"]\nbase_limit = 2\n'
            'base_rate = "0.01"\nstep = 1\nstep_rate = "0.02"\nsteps = 10\n',
        ),
        "grown": lambda: grown(folder),
        "least": lambda: state_of(folder, 'shape = "flat"\nrate = "0.5"\n', extra="least = 1"),
    }[shape]()
    market = state.arrays.markets[0]

    def slack(mark):
        value = size * mark * ATOM // 10**6
        return value - cost - int(maintenance_of(state.arrays.tiers, market, size, cost, abs(value)))

    marks = range(low, low + width + 1)
    found = floor_on(state.arrays.tiers, market, np.int64(size), np.int64(cost), low, low + width)
    assert found == min(slack(mark) for mark in marks)


@given(
    size=st.integers(-5000, 5000).filter(bool),
    cost=st.integers(-(10**12), 10**12),
    low=st.integers(1, 3000),
    width=st.integers(0, 300),
)
def test_the_floor_of_a_band_of_an_inverse_contract_is_the_least_of_all_its_marks(
    tmp_path_factory, size, cost, low, width
):
    """A short is worth coins, fewer the higher the mark; a long owes them."""
    folder = tmp_path_factory.getbasetemp() / "inverse"
    folder.mkdir(exist_ok=True)
    state = state_of(folder, 'shape = "bracket_whole"\n' + TIERS, market=INVERSE)
    market = state.arrays.markets[0]

    def slack(mark):
        value = round(Fraction(-size * ATOM, mark))
        return value - cost - int(maintenance_of(state.arrays.tiers, market, size, cost, abs(value)))

    marks = range(low, low + width + 1)
    found = floor_on(state.arrays.tiers, market, np.int64(size), np.int64(cost), low, low + width)
    assert found == min(slack(mark) for mark in marks)


@pytest.mark.parametrize(
    ("margin", "basis", "extra", "problem"),
    [
        ('shape = "flat"\nrate = "0.9999"\n', "notional_mark", 'exit_fee = "0.0005"', "is above 1"),
        ('shape = "flat"\nrate = "0.01"\n', "contracts", "", "contracts"),
        ('shape = "bracket_deduction"\n' + TIERS, "contracts", "", "contracts"),
        (
            'shape = "bracket_whole"\n' + TIERS.replace('"0.02"', '"0.02", deduction = 10'),
            "notional_mark",
            "",
            "tier 1 has a deduction",
        ),
        (
            'shape = "sqrt_size"\n[[margin.roots]]\ncurrencies = ["USDC"]\nbase_rate = "0.05"\nfactor = "0.1"\n',
            "base_size",
            'exit_fee = "0.0005"',
            "not to hold a fee",
        ),
        (
            'shape = "weights"\n[[margin.weights]]\ncurrencies = ["USDC"]\nlong = "1"\nshort = "1.1"\n',
            "notional_mark",
            "",
            "a long of weight 1",
        ),
        (
            'shape = "weights"\n[[margin.weights]]\ncurrencies = ["USDC"]\nlong = "0.9"\nshort = "2.1"\n',
            "notional_mark",
            "",
            "a short of weight 2.1",
        ),
        (
            'shape = "adjustment_factor"\nleverage = 0\n' + TIERS,
            "notional_mark",
            "",
            "leverage",
        ),
        (
            'shape = "risk_steps"\n[[margin.steps]]\ncurrencies = ["BTC"]\nbase_limit = 200\n'
            'base_rate = "0.004"\nstep = 100\nstep_rate = "0.004"\nsteps = 10\n',
            "notional_mark",
            "",
            "no table is for market BTC-PERP",
        ),
    ],
)
def test_what_cannot_be_is_one_clear_error(tmp_path, margin, basis, extra, problem):
    with pytest.raises(RulesError, match=problem):
        state_of(tmp_path, margin, basis=basis, extra=extra)


def test_the_quantity_of_an_inverse_contract_is_its_entry_value_in_coins(tmp_path):
    """1 % and 0.005 % for each coin: 20 coins at entry are 1.1 % of the 25 at mark."""
    state = state_of(
        tmp_path,
        GROWN,
        basis="base_size",
        market=INVERSE,
    )
    assert due(state, contracts=1000, entry=-20, notional=25) == Fraction(11, 1000) * 25
