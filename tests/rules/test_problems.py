"""Every way a rule file can be wrong, and the one message it gets."""

import pytest

from replay.errors import RulesError
from replay.rules.axes import AXES, LATER_KEYS
from replay.rules.problems import SECTIONS, fields_of
from tests.rules.books import (
    ADL_OFF,
    BRACKETS,
    FEES,
    FLAT,
    LEVELS,
    NEEDY,
    NO_DEPTH,
    ORDERED,
    STATIC,
    TAKEOVER,
    TERMS,
    TEXT,
    VOLUME,
    WHOLE,
    changed,
    load_text,
)

WANTED_DATE = "must be a date such as 2023-02-01, without quotes and time of day, found"


def refused(folder, text, *overrides) -> RulesError:
    with pytest.raises(RulesError) as caught:
        load_text(folder, text, *overrides)
    return caught.value


def check(error, *, key, problem, mend=None, file="mine.toml"):
    assert error.key == key
    assert error.problem == problem
    if mend is not None:
        assert error.mend == mend
    assert (error.file or "").endswith(file)


MARGIN_KEYS = "allowed in [margin] now: shape, size_basis, hedge_basis, scope, exit_fee, least, rate"


def test_a_misspelt_key(tmp_path):
    error = refused(tmp_path, changed('rate = "0.01"', 'rat = "0.01"'))
    check(
        error,
        key="margin.rat",
        problem="unknown key `rat` in [margin]",
        mend=f"did you mean `rate`? {MARGIN_KEYS}",
    )
    assert str(error) == f"{tmp_path}/mine.toml: margin.rat: {error.problem}\n  {error.mend}"


def test_a_key_in_capitals(tmp_path):
    error = refused(tmp_path, changed('rate = "0.01"', 'RATE = "0.01"'))
    check(
        error,
        key="margin.RATE",
        problem="unknown key `RATE` in [margin]",
        mend=f"did you mean `rate`? {MARGIN_KEYS}",
    )


def test_a_key_like_no_other(tmp_path):
    error = refused(tmp_path, changed('rate = "0.01"', 'rate = "0.01"\nxyzzy = 1'))
    check(error, key="margin.xyzzy", problem="unknown key `xyzzy` in [margin]", mend=MARGIN_KEYS)


def test_a_misspelt_section(tmp_path):
    error = refused(tmp_path, changed("[bankruptcy]", "[bankrupcy]"))
    assert error.key == "bankrupcy"
    assert error.problem == "unknown key `bankrupcy` in the file"
    assert error.mend.startswith(
        "did you mean `bankruptcy`? allowed in the file now: venue, title, valid_from"
    )


def test_a_misspelt_key_of_a_list_item(tmp_path):
    error = refused(tmp_path, changed("absorber = ", "absorbr = "))
    check(error, key="ladder.0.absorbr", problem="unknown key `absorbr` in [[ladder]]")
    assert error.mend.startswith("did you mean `absorber`? ")


def test_a_key_of_the_other_shape(tmp_path):
    error = refused(
        tmp_path,
        changed('scope = "cross_account"', 'scope = "cross_account"\nrate = "0.01"', changed(FLAT, BRACKETS)),
    )
    check(
        error,
        key="margin.rate",
        problem='`rate` belongs to shape = "flat", the shape here is "bracket_deduction"',
    )


def test_control_characters_of_a_key_do_not_reach_the_terminal(tmp_path):
    error = refused(tmp_path, changed('rate = "0.01"', 'rate = "0.01"\n"\\u001b[31m" = 1'))
    assert "\x1b" not in str(error)
    assert "\\x1b[31m" in error.problem


def test_several_problems_name_the_first_and_count_the_rest(tmp_path):
    text = changed('rate = "0.01"', 'rate = "one"', changed('kind = "per_timestamp"', 'kind = "sometimes"'))
    text = changed('name = "keeper"\n', "", text)
    check(
        refused(tmp_path, text),
        key="step.kind",
        problem='"sometimes" is not a value of it (and 2 more problems)',
    )
    check(
        refused(tmp_path, changed('name = "keeper"\n', "", changed('rate = "0.01"', "rate = true"))),
        key="margin.rate",
        problem="must be a number (and 1 more problem)",
    )


@pytest.mark.parametrize(
    ("old", "key", "problem", "mend"),
    [
        (
            'rate = "0.01"\n',
            "margin.rate",
            "`rate` is missing in [margin]",
            'write maintenance as a share of notional, such as "0.01"',
        ),
        (
            'shape = "flat"\n',
            "margin.shape",
            "`shape` is missing in [margin]",
            'write one of "flat", "bracket_deduction", "bracket_whole", "im_fraction", "risk_steps", '
            '"linear_size", "sqrt_size", "adjustment_factor", "weights"',
        ),
        (
            'venue = "somewhere"\n',
            "venue",
            "`venue` is missing in the file",
            'write the exchange, such as "hyperliquid"',
        ),
        (
            'price = "bankruptcy"\n',
            "ladder.0.price",
            "`price` is missing in [[ladder]]",
            'write one of "bankruptcy", "mark"',
        ),
        ("[adl]\nenabled = false\n", "adl", "`adl` is missing in the file", "write a table [adl]"),
        ("enabled = false\n", "adl.enabled", "`enabled` is missing in [adl]", "write one of false, true"),
    ],
)
def test_a_missing_key(tmp_path, old, key, problem, mend):
    check(refused(tmp_path, changed(old, "")), key=key, problem=problem, mend=mend)


DEBTS = changed('outflow_cap = "none"', 'outflow_cap = "none"\npays_debts = true')
OWED = changed(
    'price = "bankruptcy"\nmargin_forfeited = "all_collateral"',
    'price = "mark"\nmargin_forfeited = "none"\nowed = "stays"',
)
ENTERED = changed('action = "takeover"\n', 'action = "takeover"\nenter = "previous_unfilled"\n')
LIMITED = changed(
    'action = "takeover"\n',
    'action = "takeover"\nrate_limit = { kind = "time_ramp", initial = 0, full_after = "60s" }\n',
)
OVERLAY = TEXT + '\n[[overlays]]\nmarkets = ["BTC"]\nabsorbers = "off"\n'

AXIS_LINES = {
    "status": (TEXT, 'status = "final"'),
    "margin.shape": (TEXT, 'shape = "flat"'),
    "trigger.when": (TEXT, 'when = "equity < maintenance"'),
    "bankruptcy.fee_in_price": (TEXT, 'fee_in_price = "none"'),
    "absorbers.*.kind": (TEXT, 'kind = "vault"'),
    "absorbers.*.outflow_cap": (TEXT, 'outflow_cap = "none"'),
    "absorbers.*.work_out": (TEXT, 'work_out = "hold"'),
    "absorbers.*.insolvent_below_zero": (TEXT, "insolvent_below_zero = false"),
    "absorbers.*.stops_at_zero": (TEXT, "stops_at_zero = false"),
    "adl.enabled": (TEXT, "enabled = false"),
    "adl.score": (WHOLE, 'score = "leveraged_return"'),
    "adl.profit_term": (TERMS, 'profit_term = "profit_on_entry"'),
    "adl.leverage_term": (TERMS, 'leverage_term = "notional_on_equity"'),
    "adl.equity_scope": (TERMS, 'equity_scope = "account"'),
    "adl.loss_rule": (WHOLE, 'loss_rule = "exclude"'),
    "adl.price": (WHOLE, 'loss_rule = "exclude"\nprice = "bankruptcy"'),
    "adl.fallback_price": (NEEDY, 'fallback_price = "bankruptcy"'),
    "adl.residual_to": (NEEDY, 'residual_to = "loser"'),
    "adl.must_not_worsen_counterparty": (NEEDY, 'must_not_worsen_counterparty = "always"'),
    "adl.suspends_book_liquidation": (NEEDY, "suspends_book_liquidation = true"),
    "depth.provider": (WHOLE, 'provider = "levels"'),
    "socialise.method": (TEXT, 'method = "none"'),
    "step.kind": (TEXT, 'kind = "per_timestamp"'),
    "price.risk_price": (TEXT, 'risk_price = "mark"'),
    "price.mark_source": (TEXT, 'mark_source = "tape"'),
    "margin.size_basis": (TEXT, 'size_basis = "notional_mark"'),
    "margin.hedge_basis": (TEXT, 'hedge_basis = "net"'),
    "margin.scope": (TEXT, 'scope = "cross_account"'),
    "ladder.*.action": (TEXT, 'action = "takeover"'),
    "ladder.*.enter": (ENTERED, 'enter = "previous_unfilled"'),
    "ladder.*.size": (TEXT, 'size = "full"'),
    "ladder.*.price": (TEXT, '\nprice = "bankruptcy"'),
    "ladder.*.margin_forfeited": (TEXT, 'margin_forfeited = "all_collateral"'),
    "ladder.*.owed": (OWED, 'owed = "stays"'),
    "ladder.*.limit": (WHOLE, 'limit = "bankruptcy"'),
    "ladder.*.rate_limit.kind": (LIMITED, 'rate_limit = { kind = "time_ramp"'),
    "ladder.*.position_order": (ORDERED, 'position_order = "largest_loss"'),
    "ladder.*.fee_from": (FEES, 'fee_from = "improvement"'),
    "ladder.*.fee_to": (FEES, 'fee_to = "absorber"'),
    "ladder.*.tif": (WHOLE, 'tif = "fok"'),
    "ladder.*.surplus_to": (WHOLE, 'surplus_to = "absorber"'),
    "bankruptcy.allocation": (TEXT, 'allocation = "maintenance_proportional"'),
    "absorbers.*.scope": (TEXT, 'scope = "ledger"'),
    "absorbers.*.balance": (TEXT, 'balance = "tape"'),
    "absorbers.*.inventory": (TEXT, 'inventory = "holds"'),
    "absorbers.*.pays_debts": (DEBTS, "pays_debts = true"),
    "overlays.*.absorbers": (OVERLAY, 'absorbers = "off"'),
}
"""For each axis a file and the place of its key there, the key last."""


def with_value(pattern, value):
    text, place = AXIS_LINES[pattern]
    written = value if value in ("true", "false") else f'"{value}"'
    return changed(place, f"{place.rpartition(' = ')[0]} = {written}", text)


def test_every_axis_has_a_line_in_the_test_files():
    assert set(AXIS_LINES) == set(AXES)


@pytest.mark.parametrize(
    ("pattern", "value"), [(pattern, value) for pattern, axis in AXES.items() for value in axis.later]
)
def test_a_known_value_that_is_to_come(tmp_path, pattern, value):
    error = refused(tmp_path, with_value(pattern, value))
    assert error.key == pattern.replace("*", "0")
    assert error.problem == f'not yet: "{value}" is not supported in this version'
    assert error.mend.startswith("available now: ")
    if pattern not in ("ladder.*.size", "margin.size_basis"):  # a takeover and a flat margin know one of them
        assert all(now in error.mend for now in AXES[pattern].now)


@pytest.mark.parametrize("pattern", sorted(AXES))
def test_a_value_nobody_knows(tmp_path, pattern):
    error = refused(tmp_path, with_value(pattern, "qqqq"))
    assert error.key == pattern.replace("*", "0")
    if set(AXES[pattern].now) == {"true", "false"}:
        assert error.problem == "must be true or false"
        return
    assert error.problem == '"qqqq" is not a value of it'
    assert error.mend.startswith("allowed now: ")
    assert all(value in error.mend for value in AXES[pattern].later)
    if pattern not in ("ladder.*.size", "margin.size_basis"):
        assert all(value in error.mend for value in AXES[pattern].now)


def test_a_value_of_another_action(tmp_path):
    check(
        refused(tmp_path, changed('size = "full"', 'size = "step_down"')),
        key="ladder.0.size",
        problem='"step_down" does not go with action = "takeover"',
        mend='allowed there: "full", "fraction_of_all_positions"',
    )
    check(
        refused(tmp_path, changed('size = "full"', 'size = "step_up"')),
        key="ladder.0.size",
        problem='"step_up" is not a value of it',
        mend='allowed now: "full", "fraction_of_all_positions"; not yet: "window_capacity"',
    )


def test_a_misspelt_value(tmp_path):
    check(
        refused(tmp_path, changed('risk_price = "mark"', 'risk_price = "Mrak"')),
        key="price.risk_price",
        problem='"Mrak" is not a value of it',
        mend='did you mean "mark"? allowed now: "mark", "oracle", "index"; not yet: "fair"',
    )
    check(
        refused(tmp_path, changed('"equity < maintenance"', '"equity<maintenance"')),
        key="trigger.when",
        problem='"equity<maintenance" is not a value of it',
        mend='did you mean "equity < maintenance"? '
        'allowed now: "equity < maintenance", "equity <= maintenance"',
    )
    check(
        refused(tmp_path, changed('shape = "flat"', 'shape = "brackets_deduction"')),
        key="margin.shape",
        problem='"brackets_deduction" is not a value of it',
    )


SECTION_HEADS = {
    "": "\nvenue = ",
    "step": "[step]\n",
    "price": "[price]\n",
    "margin": "[margin]\n",
    "margin.tables.*": "[[margin.tables]]\n",
    "ladder.*": "[[ladder]]\n",
    "bankruptcy": "[bankruptcy]\n",
    "absorbers.*": "[[absorbers]]\n",
    "adl": "[adl]\n",
    "depth": "[depth]\n",
    "socialise": "[socialise]\n",
}


@pytest.mark.parametrize(("pattern", "key"), [(p, key) for p, keys in LATER_KEYS.items() for key in keys])
def test_a_known_key_that_is_to_come(tmp_path, pattern, key):
    head = SECTION_HEADS[pattern]
    line = f"{key} = 1\n"
    text = changed(FLAT, BRACKETS) if pattern == "margin.tables.*" else TEXT
    error = refused(tmp_path, changed(head, line + head if pattern == "" else head + line, text))
    assert error.key == ".".join(filter(None, (pattern.replace("*", "0"), key)))
    assert error.problem.startswith(f"not yet: `{key}` in ")
    allowed = {", ".join(fields_of(section)) for section in SECTIONS[pattern]}
    assert error.mend.rpartition("now: ")[2] in allowed


LATER_KEY_ANYWHERE = [
    ("[[ladder]]", "ladder.0.scope"),
    ("[adl]", "adl.start"),
    ("[depth]", "depth.forced_share"),
]


@pytest.mark.parametrize(("head", "key"), LATER_KEY_ANYWHERE)
def test_a_known_key_that_is_to_come_in_each_kind_of_table(tmp_path, head, key):
    text = WHOLE.replace(f"{head}\n", f"{head}\n{key.rpartition('.')[2]} = 1\n", 1)
    error = refused(tmp_path, text)
    assert error.key == key
    assert error.problem.startswith("not yet: ")


@pytest.mark.parametrize(
    ("text", "old", "new", "key", "problem"),
    [
        (
            TEXT,
            'level = "1"\n',
            'level = "1"\ntif = "ioc"\n',
            "ladder.0.tif",
            '`tif` belongs to action = "book_order", the action here is "takeover"',
        ),
        (
            WHOLE,
            'level = "0"\n',
            'level = "0"\nabsorber = "keeper"\n',
            "ladder.3.absorber",
            '`absorber` belongs to action = "takeover", the action here is "adl"',
        ),
        (
            TEXT,
            "enabled = false",
            "enabled = false\nlights = 5",
            "adl.lights",
            "`lights` belongs to enabled = true, the enabled here is false",
        ),
        (
            TEXT,
            'provider = "none"',
            'provider = "none"\nhaircut = 0',
            "depth.haircut",
            '`haircut` belongs to provider = "levels", the provider here is "none"',
        ),
        (
            WHOLE,
            'haircut = "0.3"',
            'haircut = "0.3"\nparticipation = "0.1"',
            "depth.participation",
            '`participation` belongs to provider = "volume", the provider here is "levels"',
        ),
        (
            TEXT,
            'action = "takeover"\n',
            "",
            "ladder.0.action",
            "`action` is missing in [[ladder]]",
        ),
        (
            TEXT,
            'kind = "per_timestamp"',
            'kind = "periodic"',
            "step.period",
            'kind = "periodic" stands without `period`',
        ),
        (
            TEXT,
            'kind = "per_timestamp"',
            'kind = "per_timestamp"\nperiod = "1s"',
            "step.period",
            'kind = "per_timestamp" stands beside `period`',
        ),
        (
            TEXT,
            'kind = "per_timestamp"',
            'kind = "periodic"\nperiod = "0s"',
            "step.period",
            "a duration of 0 is no time at all",
        ),
        (
            TEXT,
            'kind = "per_timestamp"',
            'kind = "per_timestamp"\nmax_liquidations = 0',
            "step.max_liquidations",
            "0 is not from 1 to a million",
        ),
        (
            TEXT,
            'kind = "per_timestamp"',
            'kind = "per_timestamp"\nmax_deleveragings = 0',
            "step.max_deleveragings",
            "0 is not from 1 to a million",
        ),
        (
            LIMITED,
            "initial = 0, ",
            "",
            "ladder.0.rate_limit.initial",
            "`initial` is missing in [ladder.rate_limit]",
        ),
        (
            LIMITED,
            "initial = 0, ",
            'initial = 0, notional = "1", ',
            "ladder.0.rate_limit.notional",
            '`notional` belongs to kind = "notional_per_step", the kind here is "time_ramp"',
        ),
        (
            TEXT,
            'risk_price = "mark"',
            'risk_price = "mark"\nstale_guard = { divergence = "0.5", window = "100us" }',
            "price.stale_guard.window",
            "time counts in whole milliseconds here",
        ),
        (
            TEXT,
            'risk_price = "mark"',
            'risk_price = "mark"\nstale_guard = { divergence = "0.5", window = "5m", clamp = "0.1" }',
            "price.stale_guard.clamp_window",
            "`clamp` stands without `clamp_window`",
        ),
        (
            TEXT,
            'risk_price = "mark"',
            'risk_price = "mark"\nstale_guard = { divergence = "0.5" }',
            "price.stale_guard.window",
            "`window` is missing in [price.stale_guard]",
        ),
        (TEXT, 'provider = "none"', "", "depth.provider", "`provider` is missing in [depth]"),
        (TEXT, 'level = "1"\n', "", "ladder.0.level", "`level` is missing in [[ladder]]"),
        (WHOLE, 'tif = "fok"\n', "", "ladder.0.tif", "`tif` is missing in [[ladder]]"),
        (
            WHOLE,
            'slice_share = "0.2"\n',
            "",
            "ladder.1.slice_share",
            "`slice_above` stands without `slice_share`",
        ),
        (
            WHOLE,
            "slice_above = 100000\n",
            "",
            "ladder.1.slice_above",
            "`slice_share` stands without `slice_above`",
        ),
        (
            WHOLE,
            'cooldown = "30s"\n',
            "",
            "ladder.1.cooldown",
            "`slice_above` stands without `cooldown`",
        ),
        (
            WHOLE,
            'drawdown_start = "0.3"\n',
            "",
            "absorbers.0.drawdown_start",
            "`drawdown_stop` stands without `drawdown_start`",
        ),
        (WHOLE, 'window = "8h"\n', "", "absorbers.0.window", "`drawdown_start` stands without `window`"),
        (
            WHOLE,
            "least_balance = 10000\n",
            "",
            "absorbers.0.least_balance",
            "`drawdown_start` stands without `least_balance`",
        ),
        (
            WHOLE,
            'drawdown_stop = "0.25"',
            'drawdown_stop = "0.31"',
            "absorbers.0.drawdown_stop",
            "a drop of 0.31 would end what begins at 0.3",
        ),
        (
            WHOLE,
            'level = "2/3"',
            'level = "4/3"',
            "ladder.2.level",
            "4/3 is above 1: such a pool is not in breach yet",
        ),
        (WHOLE, 'level = "2/3"', 'level = "2/0"', "ladder.2.level", "2/0 divides by 0"),
        (WHOLE, 'level = "2/3"', 'level = "-2/3"', "ladder.2.level", "-2/3 is negative"),
        (WHOLE, 'level = "2/3"', 'level = "2/3/4"', "ladder.2.level", "'3/4' is not a decimal number"),
        (
            WHOLE,
            'level = "2/3"',
            'level = "two thirds"',
            "ladder.2.level",
            "'two thirds' is not a decimal number",
        ),
        (WHOLE, 'level = "2/3"', "level = true", "ladder.2.level", "must be a number"),
        (
            WHOLE,
            'level = "2/3"',
            "level = 0.6666667",
            "ladder.2.level",
            "0.6666667 is too fine: as a fraction its denominator is above 1000000",
        ),
        (WHOLE, 'cooldown = "30s"', 'cooldown = "30x"', "ladder.1.cooldown", '"30x" is not a duration'),
        (WHOLE, 'cooldown = "30s"', 'cooldown = ""', "ladder.1.cooldown", '"" is not a duration'),
        (WHOLE, 'cooldown = "30s"', 'cooldown = "s"', "ladder.1.cooldown", '"s" is not a duration'),
        (WHOLE, 'cooldown = "30s"', 'cooldown = "-1s"', "ladder.1.cooldown", "-1s is negative"),
        (
            WHOLE,
            'cooldown = "30s"',
            'cooldown = "0.1ns"',
            "ladder.1.cooldown",
            "0.1ns is finer than a nanosecond",
        ),
        (WHOLE, 'cooldown = "30s"', 'cooldown = "400d"', "ladder.1.cooldown", "400d is longer than a year"),
        (WHOLE, 'cooldown = "30s"', "cooldown = true", "ladder.1.cooldown", "must be a duration"),
        (WHOLE, 'window = "8h"', "window = 0", "absorbers.0.window", "a duration of 0 is no time at all"),
        (
            WHOLE,
            'slice_share = "0.2"',
            "slice_share = 1.2",
            "ladder.1.slice_share",
            "a share of 1.2 is above 1",
        ),
        (WHOLE, 'slice_share = "0.2"', "slice_share = 0", "ladder.1.slice_share", "a share of 0 is nothing"),
        (
            WHOLE,
            "slice_above = 100000",
            "slice_above = 0",
            "ladder.1.slice_above",
            "an amount of 0 is nothing",
        ),
        (WHOLE, 'haircut = "0.3"', "haircut = 1.01", "depth.haircut", "a share of 1.01 is above 1"),
        (WHOLE, 'winner_fee = "0.0002"', "winner_fee = 2", "adl.winner_fee", "a fee of 2 is above 1"),
        (WHOLE, 'winner_fee = "0.0002"', "winner_fee = -0.0001", "adl.winner_fee", "-0.0001 is negative"),
        (WHOLE, "lights = 5", "lights = 0", "adl.lights", "0 is not a number of steps"),
        (WHOLE, "lights = 5", "lights = 101", "adl.lights", "101 is not a number of steps"),
        (WHOLE, "lights = 5", "lights = 5.5", "adl.lights", "5.5 is not whole"),
        (WHOLE, "least_balance = 10000", "least_balance = -1", "absorbers.0.least_balance", "-1 is negative"),
        (WHOLE, "enabled = true", 'enabled = "true"', "adl.enabled", "must be true or false"),
        (
            WHOLE,
            "enabled = true",
            "enabled = false",
            "adl.score",
            "`score` belongs to enabled = true, the enabled here is false (and 5 more problems)",
        ),
        (
            changed(LEVELS, STATIC, WHOLE),
            "bp = 20",
            "bp = 5",
            "depth.static.1.bp",
            "level 1 at 5 basis points is not behind level 0 at 5",
        ),
        (
            changed(LEVELS, STATIC, WHOLE),
            "bp = 20",
            "bp = 10000",
            "depth.static.1.bp",
            "10000 basis points are the whole price",
        ),
        (
            changed(LEVELS, STATIC, WHOLE),
            'notional = "1000000.5"',
            "notional = 0",
            "depth.static.1.notional",
            "an amount of 0 is nothing",
        ),
        (
            changed(LEVELS, VOLUME, WHOLE),
            'participation = "0.1"',
            "participation = 0",
            "depth.participation",
            "a share of 0 is nothing",
        ),
        (
            changed(LEVELS, VOLUME, WHOLE),
            'window = "1m"',
            'window = "0s"',
            "depth.window",
            "a duration of 0 is no time at all",
        ),
        (TEXT, ADL_OFF, "[[adl]]\nenabled = false\n", "adl", "must be a table, found a list"),
        (TEXT, NO_DEPTH, '[[depth]]\nprovider = "none"\n', "depth", "must be a table, found a list"),
        (TEXT, NO_DEPTH, "", "depth", "`depth` is missing in the file"),
    ],
)
def test_what_the_waterfall_cannot_be(tmp_path, text, old, new, key, problem):
    error = refused(tmp_path, changed(old, new, text))
    assert (error.key, error.problem) == (key, problem)
    assert error.mend or "found" in problem


@pytest.mark.parametrize("item", ["5", '"takeover"', "[]"])
def test_a_rung_that_is_no_table(tmp_path, item):
    text = f"ladder = [{item}]\n" + changed(TAKEOVER, "")
    error = refused(tmp_path, text)
    assert error.key == "ladder.0"
    assert error.problem.startswith("must be a table, found ")


SECOND_TABLE = """
[[margin.tables]]
{markets}currencies = [{currencies}]
tiers = [{{ from = 0, rate = "0.1" }}]
"""


@pytest.mark.parametrize(
    ("first", "second", "key", "problem"),
    [
        (
            "",
            ("", '"BTC", "USDC"'),
            "margin.tables.1.currencies",
            "tables 0 and 1 are both for all other markets settled in USDC",
        ),
        (
            'markets = ["A", "B"]\n',
            ('markets = ["C", "B"]\n', '"USDC"'),
            "margin.tables.1.markets",
            "tables 0 and 1 are both for B settled in USDC",
        ),
        ("", ("markets = []\n", '"USDC"'), "margin.tables.1.markets", "must not be empty"),
        ("", ("", ""), "margin.tables.1.currencies", "must not be empty"),
        ("", ('markets = "A"\n', '"USDC"'), "margin.tables.1.markets", 'must be a list, found "A"'),
        ("", ("", "5"), "margin.tables.1.currencies.0", "must be text in quotes, found 5"),
    ],
)
def test_tables_that_overlap(tmp_path, first, second, key, problem):
    markets, currencies = second
    more = BRACKETS.replace("currencies", f"{first}currencies")
    more += SECOND_TABLE.format(markets=markets, currencies=currencies)
    error = refused(tmp_path, changed(FLAT, more))
    assert (error.key, error.problem) == (key, problem)


@pytest.mark.parametrize(
    ("markets", "currencies"),
    [("", '"BTC"'), ('markets = ["A"]\n', '"USDC"'), ('markets = ["A"]\n', '"BTC"')],
)
def test_tables_that_do_not_overlap(tmp_path, markets, currencies):
    more = BRACKETS + SECOND_TABLE.format(markets=markets, currencies=currencies)
    assert len(load_text(tmp_path, changed(FLAT, more)).resolved["margin"]["tables"]) == 2


@pytest.mark.parametrize(
    ("old", "new", "key", "problem"),
    [
        ('venue = "somewhere"', "venue = 5", "venue", "must be text in quotes, found 5"),
        ('venue = "somewhere"', "venue = 0.5", "venue", "must be text in quotes, found 0.5"),
        ('venue = "somewhere"', 'venue = "Some Where"', "venue", '"Some Where" is not a name'),
        ('venue = "somewhere"', 'venue = ""', "venue", '"" is not a name'),
        ('title = "Rules for tests"', 'title = " "', "title", "must be one line of printable text"),
        ('title = "Rules for tests"', r'title = "a\nb"', "title", "must be one line of printable text"),
        ('title = "Rules for tests"', r'title = "\u001b[0m"', "title", "must be one line of printable text"),
        ("valid_from = 2024-01-01", 'valid_from = "2024-01-01"', "valid_from", f'{WANTED_DATE} "2024-01-01"'),
        (
            "valid_from = 2024-01-01",
            "valid_from = 2024-01-01T00:00:00Z",
            "valid_from",
            f"{WANTED_DATE} the moment 2024-01-01T00:00:00+00:00",
        ),
        ("valid_to = 2024-12-31", "valid_to = 10:00:00", "valid_to", f"{WANTED_DATE} 10:00:00"),
        (
            "valid_to = 2024-12-31",
            "valid_to = 2023-12-31",
            "valid_to",
            "2023-12-31 is before valid_from, 2024-01-01",
        ),
        ('["The sun rises."]', '"The sun rises."', "assumptions", 'must be a list, found "The sun rises."'),
        (
            '["The sun rises."]',
            "[2024-01-01]",
            "assumptions.0",
            "must be text in quotes, found the date 2024-01-01",
        ),
        ('["The sun rises."]', '[""]', "assumptions.0", "must be one line of printable text"),
        (
            '[step]\nkind = "per_timestamp"',
            '[[step]]\nkind = "per_timestamp"',
            "step",
            "must be a table, found a list",
        ),
        ("[margin]", "[[margin]]", "margin", "must be a table, found a list"),
        ("[[ladder]]", "[ladder]", "ladder", "must be a list, found a table"),
        ('shape = "flat"', "shape = [1]", "margin.shape", "a list is not a value of it"),
        ('shape = "flat"', "shape = true", "margin.shape", "true is not a value of it"),
        ('kind = "vault"', "kind = 5", "absorbers.0.kind", "5 is not a value of it"),
        (
            'kind = "vault"',
            f"kind = 0x{'f' * 5000}",
            "absorbers.0.kind",
            "a huge number is not a value of it",
        ),
        (
            'kind = "vault"',
            f'kind = "{"x" * 500}"',
            "absorbers.0.kind",
            f'"{"x" * 56}... is not a value of it',
        ),
        ("enabled = false", "enabled = 0", "adl.enabled", "must be true or false"),
        ("enabled = false", 'enabled = "false"', "adl.enabled", "must be true or false"),
        ('rate = "0.01"', "rate = true", "margin.rate", "must be a number"),
        ('rate = "0.01"', "rate = []", "margin.rate", "must be a number"),
        ('rate = "0.01"', "rate = nan", "margin.rate", "'nan' is not a decimal number"),
        ('rate = "0.01"', "rate = -inf", "margin.rate", "'-inf' is not a decimal number"),
        ('rate = "0.01"', 'rate = "1 %"', "margin.rate", "'1 %' is not a decimal number"),
        ('rate = "0.01"', 'rate = "0x1"', "margin.rate", "'0x1' is not a decimal number"),
        ('rate = "0.01"', 'rate = ""', "margin.rate", "'' is not a decimal number"),
        ('rate = "0.01"', "rate = -0.01", "margin.rate", "-0.01 is negative"),
        ('rate = "0.01"', "rate = 0.0", "margin.rate", "a rate of 0 asks for no margin at all"),
        (
            'rate = "0.01"',
            "rate = 0.0000000000001",
            "margin.rate",
            "0.0000000000001 has more than 12 decimals",
        ),
        (
            'rate = "0.01"',
            "rate = 1e400",
            "margin.rate",
            f"1e400 does not fit: at a scale of 12 digits the limit is {2**62}",
        ),
        ('rate = "0.01"', f"rate = 0x{'f' * 5000}", "margin.rate", "the number is too large"),
        ('rate = "0.01"', f'rate = "{"1" * 5000}"', "margin.rate", "the number is too long"),
        ('name = "keeper"', 'name = "@keeper"', "absorbers.0.name", '"@keeper" is not a name'),
        ('name = "keeper"', 'name = "Keeper"', "absorbers.0.name", '"Keeper" is not a name'),
    ],
)
def test_a_value_of_the_wrong_kind(tmp_path, old, new, key, problem):
    error = refused(tmp_path, changed(old, new))
    assert (error.key, error.problem) == (key, problem)
    assert error.mend is not None or "found" in error.problem


def test_an_empty_ladder(tmp_path):
    check(
        refused(tmp_path, "ladder = []\n" + changed(TAKEOVER, "")),
        key="ladder",
        problem="must not be empty",
        mend="write at least one",
    )


TIERS = changed(FLAT, BRACKETS)


@pytest.mark.parametrize(
    ("old", "new", "key", "problem", "mend"),
    [
        (
            "from = 0\n",
            "from = 10\n",
            "margin.tables.0.tiers.0.from",
            "the first tier begins at 10: below it is a gap",
            "the first tier begins at 0",
        ),
        (
            'from = "250000.5"',
            "from = 50000",
            "margin.tables.0.tiers.2.from",
            "tier 2 begins at 50000, inside or below tier 1 (from 50000): they overlap",
            "write the tiers in rising order, each from a larger notional",
        ),
        (
            'from = "250000.5"',
            "from = 40000.25",
            "margin.tables.0.tiers.2.from",
            "tier 2 begins at 40000.25, inside or below tier 1 (from 50000): they overlap",
            None,
        ),
        (
            'rate = "0.02"',
            'rate = "0.009"',
            "margin.tables.0.tiers.1.rate",
            "the rate falls from 0.01 to 0.009 in tier 1",
            "a tier's rate is at least that of the tier below",
        ),
        (
            'rate = "0.02"',
            'rate = "0.02"\ndeduction = 500.01',
            "margin.tables.0.tiers.1.deduction",
            "a deduction of 500.01 makes maintenance jump at 50000",
            "the continuous one is 500; leave it out to have it computed",
        ),
        (
            "from = 0\n",
            "from = 0\ndeduction = 1\n",
            "margin.tables.0.tiers.0.deduction",
            "a deduction of 1 makes maintenance jump at 0",
            None,
        ),
        (
            "from = 50000",
            'from = "50000.000000001"',
            "margin.tables.0.tiers.1.from",
            "50000.000000001 has more than 8 decimals",
            None,
        ),
        ("from = 50000", "from = -1", "margin.tables.0.tiers.1.from", "-1 is negative", None),
        (
            'currencies = ["USDC"]\n',
            "",
            "margin.tables.0.currencies",
            "`currencies` is missing in [[margin.tables]]",
            'write the settle currencies its notional may be in, such as ["USDC"]; ["*"]: all others',
        ),
        (
            "from = 50000\n",
            "",
            "margin.tables.0.tiers.1.from",
            "`from` is missing in [[margin.tables.tiers]]",
            'write the notional it begins at, such as "50000"',
        ),
        (
            "from = 50000",
            "form = 50000",
            "margin.tables.0.tiers.1.form",
            "unknown key `form` in [[margin.tables.tiers]]",
            "did you mean `from`? allowed in [[margin.tables.tiers]] now: from, rate, deduction",
        ),
        (
            "from = 50000",
            "start = 50000",
            "margin.tables.0.tiers.1.start",
            "unknown key `start` in [[margin.tables.tiers]] (and 1 more problem)",
            "allowed in [[margin.tables.tiers]] now: from, rate, deduction",
        ),
    ],
)
def test_wrong_tiers(tmp_path, old, new, key, problem, mend):
    check(refused(tmp_path, changed(old, new, TIERS)), key=key, problem=problem, mend=mend)


def test_a_deduction_one_atom_off(tmp_path):
    text = changed('rate = "0.02"', 'rate = "0.02"\ndeduction = "500.00000001"', TIERS)
    assert refused(tmp_path, text).problem == "a deduction of 500.00000001 makes maintenance jump at 50000"


def test_a_deduction_between_two_atoms_may_be_rounded_either_way(tmp_path):
    # 0.00000150 * 1 % = 0.000000015: one and a half atoms
    text = changed("from = 50000", "from = 0.0000015", TIERS)
    hashes = set()
    for written in ("", "deduction = 0.00000001", "deduction = 0.00000002"):
        book = load_text(tmp_path, changed('rate = "0.02"', f'rate = "0.02"\n{written}', text))
        assert book.resolved["margin"]["tables"][0]["tiers"][1]["deduction"] == "0.00000001"
        hashes.add(book.sha256)
    assert len(hashes) == 1


def test_the_least_negative_number(tmp_path):
    assert refused(tmp_path, changed('rate = "0.01"', "rate = -0.000000000001")).problem.endswith(
        " is negative"
    )


def test_rules_of_one_day(tmp_path):
    assert load_text(tmp_path, changed("valid_to = 2024-12-31", "valid_to = 2024-01-01")).resolved


def test_no_tiers(tmp_path):
    text = TEXT.replace(FLAT, BRACKETS[: BRACKETS.index("[[margin.tables.tiers")] + "tiers = []\n")
    check(refused(tmp_path, text), key="margin.tables.0.tiers", problem="must not be empty")


def test_no_tables(tmp_path):
    text = TEXT.replace(FLAT, BRACKETS[: BRACKETS.index("[[")] + "tables = []\n")
    check(refused(tmp_path, text), key="margin.tables", problem="must not be empty")
