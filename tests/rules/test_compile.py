from datetime import date
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.errors import RulesError
from replay.rules import RuleBook, Takeover, compile_rules
from replay.rules.model import Rules
from replay.tape.read import Market
from replay.tape.schema import Payoff
from tests.rules.books import BRACKETS, FLAT, TEXT, changed, load_text
from tests.rules.test_model import RESOLVED

LEDGERS = [("", "USDC"), ("", "BTC"), ("spot", "PURR")]


def market(number, name, payoff=Payoff.LINEAR, ledger=0) -> Market:
    return Market(number, name, "", payoff, ledger, Fraction(1), 2, 2, 3, 1, 1)


PERP = market(0, "BTC")
TWO_PERPS_ROUND_A_SPOT = [PERP, market(1, "PURR/USDC", Payoff.SPOT, 2), market(2, "ETH")]


def refused(book, markets=(), **options) -> RulesError:
    with pytest.raises(RulesError) as caught:
        compile_rules(book, markets, LEDGERS, **options)
    return caught.value


def test_a_flat_rate_is_one_tier_a_market(tmp_path):
    book = load_text(tmp_path, TEXT)
    plan = compile_rules(book, TWO_PERPS_ROUND_A_SPOT, LEDGERS)
    assert plan.tier_first.tolist() == [0, 1, 1, 2]
    assert plan.tier_from.tolist() == [0, 0]
    assert plan.tier_rate.tolist() == [10_000_000_000, 10_000_000_000]
    assert plan.tier_deduction.tolist() == [0, 0]
    for column in (plan.tier_first, plan.tier_from, plan.tier_rate, plan.tier_deduction):
        assert column.dtype == np.int64
        assert column.flags.c_contiguous
    assert (plan.name, plan.sha256) == ("mine", book.sha256)
    assert plan.ladder == (Takeover(absorber="@vault:keeper", price="bankruptcy"),)
    assert (plan.breach_at_equal, plan.adl_enabled) == (False, False)
    assert plan.allocation == "maintenance_proportional"
    assert plan.assumptions == ("The sun rises.",)


def test_tiers_are_atoms_by_market(tmp_path):
    plan = compile_rules(load_text(tmp_path, changed(FLAT, BRACKETS)), TWO_PERPS_ROUND_A_SPOT, LEDGERS)
    assert plan.tier_first.tolist() == [0, 3, 3, 6]
    assert plan.tier_from.tolist() == [0, 50_000 * 10**8, 250_000_5 * 10**7] * 2
    assert plan.tier_rate.tolist() == [10**10, 2 * 10**10, 5 * 10**10] * 2
    # 50000 * 1 % = 500, and 250000.5 * 3 % = 7500.015 more
    assert plan.tier_deduction.tolist() == [0, 500 * 10**8, 8000_015 * 10**5] * 2


def test_no_markets(tmp_path):
    plan = compile_rules(load_text(tmp_path, TEXT), (), ())
    assert plan.tier_first.tolist() == [0]
    assert plan.tier_rate.tolist() == []
    assert plan.tier_rate.dtype == np.int64


def test_a_breach_at_equality_and_an_insurance_fund(tmp_path):
    text = changed(
        "equity < maintenance", "equity <= maintenance", changed('kind = "vault"', 'kind = "insurance"')
    )
    plan = compile_rules(load_text(tmp_path, text), (), ())
    assert plan.breach_at_equal is True
    assert plan.ladder[0].absorber == "@fund:keeper"


def test_a_rate_of_one_is_the_limit(tmp_path):
    assert compile_rules(load_text(tmp_path, TEXT, "margin.rate=1"), [PERP], LEDGERS).tier_rate.tolist() == [
        10**12
    ]
    error = refused(load_text(tmp_path, TEXT, "margin.rate=1.000000000001"))
    assert error.problem == "a maintenance rate of 1.000000000001 is above 1"
    assert (error.key, error.file) == ("margin.rate", "--set margin.rate=1.000000000001")
    error = refused(load_text(tmp_path, changed("rate = 0.05", "rate = 5", changed(FLAT, BRACKETS))))
    assert error.problem == "a maintenance rate of 5 is above 1"
    assert error.key == "margin.tiers.2.rate"
    assert error.file.endswith("mine.toml")


def test_tiers_in_another_currency(tmp_path):
    book = load_text(tmp_path, changed(FLAT, BRACKETS))
    inverse = market(1, "XBTUSD", Payoff.INVERSE, 1)
    error = refused(book, [PERP, inverse])
    assert error.problem == "the tiers are in USDC, market XBTUSD of the tape settles in BTC"
    assert error.key == "margin.currency"
    assert "not yet" in error.mend
    compile_rules(load_text(tmp_path, TEXT), [PERP, inverse], LEDGERS)


STAGE = TEXT[TEXT.index("[[ladder]]") : TEXT.index("[bankruptcy]")]
ABSORBER = TEXT[TEXT.index("[[absorbers]]") : TEXT.index("[adl]")]


def test_a_stage_that_is_never_reached(tmp_path):
    error = refused(load_text(tmp_path, changed(STAGE, STAGE + STAGE)))
    assert error.problem == "this stage is never reached: stage 0 always takes the whole pool"
    assert error.key == "ladder.1"


def test_a_stage_without_its_absorber(tmp_path):
    error = refused(load_text(tmp_path, changed('absorber = "keeper"', 'absorber = "kepper"')))
    assert error.problem == "there is no absorber called kepper"
    assert (error.key, error.mend) == ("ladder.0.absorber", "the [[absorbers]] of the file are: keeper")


def test_two_absorbers_of_one_name(tmp_path):
    error = refused(load_text(tmp_path, changed(ABSORBER, ABSORBER + ABSORBER)))
    assert error.problem == "two absorbers are called keeper"
    assert error.key == "absorbers.1.name"


def test_an_absorber_without_work(tmp_path):
    idle = changed('name = "keeper"', 'name = "idle"', ABSORBER)
    error = refused(load_text(tmp_path, changed(ABSORBER, ABSORBER + idle)))
    assert error.problem == "no stage of the ladder hands anything to idle"
    assert error.key == "absorbers.1"


def test_a_draft_runs_only_when_its_assumptions_are_accepted(tmp_path):
    book = load_text(tmp_path, TEXT, "status=draft")
    error = refused(book)
    assert error.problem == "mine is a draft: it assumes what the venue does not publish"
    assert "--accept-assumptions" in error.mend
    assert compile_rules(book, (), (), accept_assumptions=True).sha256 == book.sha256


# Continuity of maintenance, from the formulas and the compiled integers alone.

MONEY = 10**8
ONE = 10**12


@st.composite
def tables(draw):
    """Tiers as (from in atoms, rate in 1e-12): from 0, rising notionals, rates that do not fall."""
    count = draw(st.integers(1, 8))
    starts = draw(st.lists(st.integers(1, 10**16), min_size=count - 1, max_size=count - 1, unique=True))
    rates = draw(st.lists(st.integers(1, ONE), min_size=count, max_size=count))
    return list(zip([0, *sorted(starts)], sorted(rates), strict=True))


def decimal(value, scale):
    whole, fraction = divmod(value, 10**scale)
    return f"{whole}.{fraction:0{scale}d}"


def bracket_book(table) -> RuleBook:
    tiers = [{"from": decimal(start, 8), "rate": decimal(rate, 12)} for start, rate in table]
    margin = {key: RESOLVED["margin"][key] for key in ("size_basis", "hedge_basis", "scope")}
    margin |= {"shape": "bracket_deduction", "currency": "USDC", "tiers": tiers}
    content = {key: value for key, value in RESOLVED.items() if not key.startswith("valid_")}
    rules = Rules.model_validate({**content, "valid_from": date(2024, 1, 1), "margin": margin})
    return RuleBook("drawn", "drawn.toml", "", rules)


def maintenance(plan, tier, value):
    return -(-int(plan.tier_rate[tier]) * value // ONE) - int(plan.tier_deduction[tier])


def exact(table, value):
    """Maintenance as the area under the rates, worked out without any deduction."""
    total = Fraction(0)
    for (start, rate), end in zip(table, [start for start, _ in table[1:]] + [value], strict=True):
        if value > start:
            total += Fraction(min(value, end if end > start else value) - start) * rate / ONE
    return total


@settings(deadline=None)
@given(tables(), st.data())
def test_maintenance_is_the_area_under_the_rates(table, data):
    plan = compile_rules(bracket_book(table), [PERP], LEDGERS)
    assert plan.tier_from.tolist() == [start for start, _ in table]
    assert plan.tier_rate.tolist() == [rate for _, rate in table]
    edges = [start for start, _ in table[1:]]
    near = st.sampled_from([0, *edges]).flatmap(lambda edge: st.integers(max(0, edge - 2), edge + 2))
    value = data.draw(st.integers(0, 2 * 10**16) | near)
    tier = max(number for number, (start, _) in enumerate(table) if start <= value)
    found = maintenance(plan, tier, value)
    assert 0 <= found - exact(table, value) < 2  # a ceiling, and a deduction rounded down


@settings(deadline=None)
@given(tables())
def test_maintenance_does_not_jump_at_a_tier(table):
    plan = compile_rules(bracket_book(table), [PERP], LEDGERS)
    for tier, (edge, _) in enumerate(table[1:], start=1):
        assert abs(maintenance(plan, tier, edge) - maintenance(plan, tier - 1, edge)) <= 1


@settings(deadline=None)
@given(tables())
def test_maintenance_does_not_jump_at_all_where_deductions_are_whole_atoms(table):
    whole = [(start * ONE, rate) for start, rate in table if start * ONE < 2**62]
    plan = compile_rules(bracket_book(whole), [PERP], LEDGERS)
    for tier, (edge, _) in enumerate(whole[1:], start=1):
        assert maintenance(plan, tier, edge) == maintenance(plan, tier - 1, edge)
