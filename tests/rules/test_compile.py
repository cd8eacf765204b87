from datetime import date
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.errors import RulesError
from replay.loop.policies.scores import LEVERAGE_TERMS, LOSS_RULES, PROFIT_TERMS
from replay.loop.scoring import SCOPES, TIE_BREAKS
from replay.rules import BookOrder, Deleverage, RuleBook, Takeover, compile_rules
from replay.rules.axes import AXES
from replay.rules.compile import NAMED_SCORES
from replay.rules.model import Rules
from replay.rules.plan import Absorber, Adl, DepthRule
from replay.rules.waterfall import TIES
from replay.tape.read import Market
from replay.tape.schema import Payoff
from tests.rules.books import (
    ADL,
    ADL_OFF,
    BRACKETS,
    FLAT,
    KEEPER,
    LEVELS,
    NO_DEPTH,
    STATIC,
    TAKEOVER,
    TEXT,
    VOLUME,
    WHOLE,
    changed,
    load_text,
)
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
    assert plan.ladder == (Takeover(level=(1, 1), price="bankruptcy"),)
    assert plan.absorber == Absorber(
        account="@vault:keeper",
        work_out="hold",
        insolvent_below=False,
        drawdown=None,
        window_ns=0,
        least_balance=0,
        stops_at_zero=False,
    )
    assert (plan.breach_at_equal, plan.depth, plan.adl) == (False, None, None)
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
    assert plan.absorber is not None
    assert plan.absorber.account == "@fund:keeper"


def test_a_rate_of_one_is_the_limit(tmp_path):
    assert compile_rules(load_text(tmp_path, TEXT, "margin.rate=1"), [PERP], LEDGERS).tier_rate.tolist() == [
        10**12
    ]
    error = refused(load_text(tmp_path, TEXT, "margin.rate=1.000000000001"))
    assert error.problem == "a maintenance rate of 1.000000000001 is above 1"
    assert (error.key, error.file) == ("margin.rate", "--set margin.rate=1.000000000001")
    error = refused(load_text(tmp_path, changed("rate = 0.05", "rate = 5", changed(FLAT, BRACKETS))))
    assert error.problem == "a maintenance rate of 5 is above 1"
    assert error.key == "margin.tables.0.tiers.2.rate"
    assert error.file.endswith("mine.toml")


INVERSE = market(1, "XBTUSD", Payoff.INVERSE, 1)
MORE_TABLES = """
[[margin.tables]]
markets = ["ETH", "SOL"]
currencies = ["USDC", "USDT"]
tiers = [{ from = 0, rate = "0.1" }, { from = 10, rate = "0.2" }]

[[margin.tables]]
currencies = ["BTC"]
tiers = [{ from = 0, rate = "0.3" }]

[[margin.tables]]
markets = ["XBTUSD"]
currencies = ["ETH"]
tiers = [{ from = 0, rate = "0.4" }]
"""


def test_a_market_without_a_table_in_its_currency(tmp_path):
    book = load_text(tmp_path, changed(FLAT, BRACKETS))
    error = refused(book, [PERP, INVERSE])
    assert error.problem == "no table is for market XBTUSD of the tape, which settles in BTC"
    assert error.key == "margin.tables"
    assert error.mend == (
        'write a [[margin.tables]] with currencies = ["BTC"], with or without markets; '
        "the tables there are: all others in USDC"
    )
    compile_rules(load_text(tmp_path, TEXT), [PERP, INVERSE], LEDGERS)


def test_each_market_has_the_table_that_names_it_else_the_one_for_all_others(tmp_path):
    book = load_text(tmp_path, changed(FLAT, BRACKETS + MORE_TABLES))
    spot = market(3, "ETH/USDC", Payoff.SPOT, 2)
    plan = compile_rules(book, [market(0, "ETH"), PERP, INVERSE, spot, market(4, "SOL")], LEDGERS)
    assert plan.tier_first.tolist() == [0, 2, 5, 6, 6, 8]
    tenth = 10**11
    named, others = [tenth, 2 * tenth], [10**10, 2 * 10**10, 5 * 10**10]
    assert plan.tier_rate.tolist() == [*named, *others, 3 * tenth, *named]
    assert plan.tier_from.tolist()[:2] == [0, 10 * 10**8]
    assert plan.tier_deduction.tolist()[:2] == [0, 10**8]


def test_a_table_in_another_currency_is_no_table(tmp_path):
    named = BRACKETS.replace("currencies", 'markets = ["BTC"]\ncurrencies')
    book = load_text(tmp_path, changed(FLAT, named))
    compile_rules(book, [PERP], LEDGERS)
    error = refused(book, [PERP, market(1, "BTC", Payoff.INVERSE, 1)])
    assert error.problem == "no table is for market BTC of the tape, which settles in BTC"
    assert error.mend.endswith("the tables there are: BTC in USDC")
    assert refused(book, [market(0, "ETH")]).problem.startswith("no table is for market ETH ")


FLAT_OVERRIDE = (
    "margin={shape='flat', rate='0.01', size_basis='notional_mark', hedge_basis='net', scope='cross_account'}"
)
SECOND = 1_000_000_000


def test_the_whole_waterfall(tmp_path):
    plan = compile_rules(load_text(tmp_path, WHOLE), [PERP], LEDGERS)
    assert plan.ladder == (
        BookOrder(
            level=(1, 1),
            size="step_down",
            slice_above=0,
            slice_rate=10**12,
            cooldown_ns=0,
            limit="bankruptcy",
            all_or_nothing=True,
            surplus_to="absorber",
            fee_rate=500_000_000,
        ),
        BookOrder(
            level=(1, 1),
            size="full",
            slice_above=100_000 * 10**8,
            slice_rate=2 * 10**11,
            cooldown_ns=30 * SECOND,
            limit="none",
            all_or_nothing=False,
            surplus_to="trader",
            fee_rate=500_000_000,
        ),
        Takeover(level=(2, 3), price="bankruptcy"),
        Deleverage(level=(0, 1)),
    )
    assert [rung.action for rung in plan.ladder] == ["book", "book", "takeover", "adl"]
    assert plan.absorber == Absorber(
        account="@fund:keeper",
        work_out="book",
        insolvent_below=True,
        drawdown=(3 * 10**11, 25 * 10**10),
        window_ns=8 * 3600 * SECOND,
        least_balance=10_000 * 10**8,
        stops_at_zero=True,
    )
    assert plan.adl == Adl(
        profit_term="profit_on_entry",
        leverage_term="notional_on_equity",
        equity_scope="position",
        loss_rule="exclude",
        price="bankruptcy",
        winner_fee_rate=200_000_000,
        loser_fee_rate=600_000_000,
        lights=5,
    )
    assert plan.depth == DepthRule(
        provider="levels",
        haircut_rate=3 * 10**11,
        half_life_ns=10 * SECOND,
        participation_rate=0,
        window_ns=0,
        slippage_bp=0,
        static=(),
    )


def test_depth_from_volume_and_from_a_table(tmp_path):
    volume = compile_rules(load_text(tmp_path, changed(LEVELS, VOLUME, WHOLE)), [PERP], LEDGERS).depth
    assert volume is not None
    assert (volume.provider, volume.static) == ("volume", ())
    assert (volume.participation_rate, volume.window_ns, volume.slippage_bp) == (10**11, 60 * SECOND, 5)
    static = compile_rules(load_text(tmp_path, changed(LEVELS, STATIC, WHOLE)), [PERP], LEDGERS).depth
    assert static is not None
    assert (static.provider, static.participation_rate, static.window_ns) == ("static", 0, 0)
    assert static.static == ((5, 250_000 * 10**8), (20, 1_000_000_5 * 10**7))


def test_a_table_of_depth_in_another_currency(tmp_path):
    text = changed(LEVELS, STATIC, WHOLE)
    text = changed('currencies = ["USDC"]\n\n[[margin', 'currencies = ["USDC", "BTC"]\n\n[[margin', text)
    error = refused(load_text(tmp_path, text), [PERP, INVERSE])
    assert error.problem == "the table is in USDC, market XBTUSD of the tape settles in BTC"
    assert error.key == "depth.currencies"
    spot = market(1, "PURR/USDC", Payoff.SPOT, 2)
    compile_rules(load_text(tmp_path, text), [PERP, spot], LEDGERS)


def test_the_registered_scores_are_those_of_the_format():
    assert {*NAMED_SCORES, "terms"} == set(AXES["adl.score"].now)
    assert set(LOSS_RULES) == set(AXES["adl.loss_rule"].now)
    assert set(AXES["adl.profit_term"].now) <= set(PROFIT_TERMS)
    assert set(AXES["adl.leverage_term"].now) <= set(LEVERAGE_TERMS)
    assert set(SCOPES) == set(AXES["adl.equity_scope"].now)
    assert set(TIE_BREAKS) == set(TIES)


ABSORBER_ONLY_SURPLUS = changed(
    TAKEOVER,
    """
[[ladder]]
action = "book_order"
level = "1"
size = "full"
limit = "bankruptcy"
tif = "ioc"
surplus_to = "absorber"
fee = 0
""",
    changed(NO_DEPTH, LEVELS),
)


def test_a_surplus_alone_needs_an_absorber(tmp_path):
    plan = compile_rules(load_text(tmp_path, ABSORBER_ONLY_SURPLUS), (), ())
    assert plan.absorber is not None
    assert plan.absorber.account == "@vault:keeper"
    without = "absorbers = []\n" + changed(KEEPER, "", ABSORBER_ONLY_SURPLUS)
    error = refused(load_text(tmp_path, without))
    assert error.problem == "there is no absorber to take the surplus"
    assert error.key == "ladder.0.surplus_to"
    plan = compile_rules(load_text(tmp_path, without, "ladder.0.surplus_to=trader"), (), ())
    assert (plan.absorber, plan.adl) == (None, None)
    assert plan.depth is not None


@pytest.mark.parametrize("key", ["work_out", "insolvent_below_zero", "stops_at_zero"])
def test_an_absorber_that_takes_nothing_over_starts_nothing(tmp_path, key):
    on = changed(ADL_OFF, ADL, ABSORBER_ONLY_SURPLUS)
    error = refused(load_text(tmp_path, on, f"absorbers.0.{key}={'book' if key == 'work_out' else 'true'}"))
    assert error.problem == "keeper never takes a position over: it is only handed what fills are better"
    assert error.key == f"absorbers.0.{key}"


@pytest.mark.parametrize(
    ("overrides", "key", "problem"),
    [
        (
            ["ladder.0.level=1/2", "ladder.1.level=1/2"],
            "ladder.0.level",
            "nothing acts on a pool between 1/2 of maintenance and maintenance",
        ),
        (
            ["ladder.3.level=3/4"],
            "ladder.3.level",
            "a level of 3/4 stands below one of 2/3",
        ),
        (
            ["ladder.3.level=2/3"],
            "ladder.3",
            "this rung is never reached: rung 2 takes the whole pool at the same level",
        ),
        (
            [FLAT_OVERRIDE],
            "ladder.0.size",
            "there are no tiers to step down: the margin is flat",
        ),
        (
            ["adl={enabled=false}"],
            "ladder.3",
            "it starts auto-deleveraging, which is off: adl.enabled is false",
        ),
        (
            ["depth={provider='none'}"],
            "depth.provider",
            "ladder.0 sends orders into a book without depth",
        ),
        (
            ["absorbers=[]"],
            "ladder.0.surplus_to",
            "there is no absorber to take the surplus",
        ),
    ],
)
def test_a_waterfall_that_does_not_fit(tmp_path, overrides, key, problem):
    error = refused(load_text(tmp_path, WHOLE, *overrides))
    assert (error.key, error.problem) == (key, problem)
    assert error.file == f"--set {overrides[0]}"
    assert error.mend


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (
            changed("insolvent_below_zero = false", "insolvent_below_zero = true"),
            "absorbers.0.insolvent_below_zero",
            "it starts auto-deleveraging, which is off: adl.enabled is false",
        ),
        (
            changed("stops_at_zero = false", "stops_at_zero = true"),
            "absorbers.0.stops_at_zero",
            "it starts auto-deleveraging, which is off: adl.enabled is false",
        ),
        (
            changed('kind = "per_timestamp"', 'kind = "per_timestamp"\nmax_deleveragings = 10'),
            "step.max_deleveragings",
            "nothing is tried at auto-deleveraging, which is off: adl.enabled is false",
        ),
        (changed(ADL_OFF, ADL), "adl.enabled", "nothing starts auto-deleveraging"),
        (changed(NO_DEPTH, LEVELS), "depth.provider", "nothing is sent into the book"),
        (
            changed('work_out = "hold"', 'work_out = "book"'),
            "depth.provider",
            "absorbers.0.work_out sends orders into a book without depth",
        ),
    ],
)
def test_parts_that_need_each_other(tmp_path, text, key, problem):
    error = refused(load_text(tmp_path, text))
    assert (error.key, error.problem) == (key, problem)


@pytest.mark.parametrize(
    "edit",
    [
        ("insolvent_below_zero = false", "insolvent_below_zero = true"),
        ("stops_at_zero = false", "stops_at_zero = true"),
        (
            "stops_at_zero = false",
            "stops_at_zero = false\ndrawdown_start = 1\ndrawdown_stop = 1\nwindow = 1\nleast_balance = 0",
        ),
        (TAKEOVER, TAKEOVER + '\n[[ladder]]\naction = "adl"\nlevel = 0\nsize = "full"\n'),
    ],
)
def test_each_start_of_auto_deleveraging_is_enough(tmp_path, edit):
    plan = compile_rules(load_text(tmp_path, changed(*edit, changed(ADL_OFF, ADL))), (), ())
    assert plan.adl is not None


def test_a_rung_that_is_never_reached(tmp_path):
    error = refused(load_text(tmp_path, changed(TAKEOVER, TAKEOVER + TAKEOVER)))
    assert error.problem == "this rung is never reached: rung 0 takes the whole pool at the same level"
    assert error.key == "ladder.1"


def test_a_rung_without_its_absorber(tmp_path):
    error = refused(load_text(tmp_path, changed('absorber = "keeper"', 'absorber = "kepper"')))
    assert error.problem == "there is no absorber called kepper"
    assert (error.key, error.mend) == ("ladder.0.absorber", "the [[absorbers]] of the file are: keeper")
    error = refused(load_text(tmp_path, "absorbers = []\n" + changed(KEEPER, "")))
    assert error.problem == "there is no absorber called keeper"
    assert error.mend == "the [[absorbers]] of the file are: none"


def test_two_absorbers_of_one_name(tmp_path):
    error = refused(load_text(tmp_path, changed(KEEPER, KEEPER + KEEPER)))
    assert error.problem == "two absorbers are called keeper"
    assert error.key == "absorbers.1.name"


def test_an_absorber_without_work(tmp_path):
    idle = changed('name = "keeper"', 'name = "idle"', KEEPER)
    error = refused(load_text(tmp_path, changed(KEEPER, KEEPER + idle)))
    assert error.problem == "no rung of the ladder hands anything to idle"
    assert error.key == "absorbers.1"


@pytest.mark.parametrize("level", ["1", "1/2"])
def test_two_absorbers_of_two_rungs(tmp_path, level):
    second = changed('name = "keeper"', 'name = "second"', KEEPER)
    rung = changed('absorber = "keeper"', 'absorber = "second"', TAKEOVER)
    rung = changed('level = "1"', f'level = "{level}"', rung)
    text = changed(KEEPER, KEEPER + second, changed(TAKEOVER, TAKEOVER + rung))
    plan = compile_rules(load_text(tmp_path, text), (), ())
    assert [absorber.account for absorber in plan.absorbers] == ["@vault:keeper", "@vault:second"]
    assert [rung.absorber for rung in plan.ladder] == [0, 1]


def test_an_absorber_is_asked_once_at_a_level(tmp_path):
    error = refused(load_text(tmp_path, changed(TAKEOVER, TAKEOVER + TAKEOVER)))
    assert error.key == "ladder.1"
    assert error.problem.startswith("this rung is never reached")


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
    margin |= {"shape": "bracket_deduction", "tables": [{"currencies": ["USDC"], "tiers": tiers}]}
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
