"""Every way a rule file can be wrong, and the one message it gets."""

import pytest

from replay.errors import RulesError
from replay.rules.axes import AXES, LATER_KEYS
from replay.rules.problems import SECTIONS, fields_of
from tests.rules.books import BRACKETS, FLAT, TEXT, changed, load_text

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


MARGIN_KEYS = "allowed in [margin] now: shape, size_basis, hedge_basis, scope, rate"


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
        tmp_path, changed('currency = "USDC"', 'rate = "0.01"\ncurrency = "USDC"', changed(FLAT, BRACKETS))
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
            'write one of "flat", "bracket_deduction"',
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
            'write "bankruptcy"',
        ),
        ("[adl]\nenabled = false\n", "adl", "`adl` is missing in the file", "write a table [adl]"),
        ("enabled = false\n", "adl.enabled", "`enabled` is missing in [adl]", "write false"),
    ],
)
def test_a_missing_key(tmp_path, old, key, problem, mend):
    check(refused(tmp_path, changed(old, "")), key=key, problem=problem, mend=mend)


AXIS_LINES = {
    "status": 'status = "final"',
    "margin.shape": 'shape = "flat"',
    "trigger.when": 'when = "equity < maintenance"',
    "bankruptcy.fee_in_price": 'fee_in_price = "none"',
    "absorbers.*.kind": 'kind = "vault"',
    "absorbers.*.outflow_cap": 'outflow_cap = "none"',
    "adl.enabled": "enabled = false",
    "socialise.method": 'method = "none"',
    "step.kind": 'kind = "per_timestamp"',
    "price.risk_price": 'risk_price = "mark"',
    "price.mark_source": 'mark_source = "tape"',
    "margin.size_basis": 'size_basis = "notional_mark"',
    "margin.hedge_basis": 'hedge_basis = "net"',
    "margin.scope": 'scope = "cross_account"',
    "ladder.*.action": 'action = "takeover"',
    "ladder.*.size": 'size = "full"',
    "ladder.*.price": '\nprice = "bankruptcy"',
    "ladder.*.margin_forfeited": 'margin_forfeited = "all_collateral"',
    "bankruptcy.allocation": 'allocation = "maintenance_proportional"',
    "absorbers.*.scope": 'scope = "ledger"',
    "absorbers.*.balance": 'balance = "tape"',
    "absorbers.*.inventory": 'inventory = "holds"',
}


def with_value(pattern, value):
    line = AXIS_LINES[pattern]
    written = value if value in ("true", "false") else f'"{value}"'
    return changed(line, f"{line.partition(' = ')[0]} = {written}")


def test_every_axis_has_a_line_in_the_test_file():
    assert set(AXIS_LINES) == set(AXES)


@pytest.mark.parametrize(
    ("pattern", "value"), [(pattern, value) for pattern, axis in AXES.items() for value in axis.later]
)
def test_a_known_value_that_is_to_come(tmp_path, pattern, value):
    error = refused(tmp_path, with_value(pattern, value))
    assert error.key == pattern.replace("*", "0")
    shown = value if value == "true" else f'"{value}"'
    assert error.problem == f"not yet: {shown} is not supported in this version"
    assert error.mend.startswith("available now: ")
    assert all(now in error.mend for now in AXES[pattern].now)


@pytest.mark.parametrize("pattern", sorted(AXES))
def test_a_value_nobody_knows(tmp_path, pattern):
    error = refused(tmp_path, with_value(pattern, "qqqq"))
    assert error.key == pattern.replace("*", "0")
    if pattern == "adl.enabled":
        assert error.problem == "must be true or false"
        return
    assert error.problem == '"qqqq" is not a value of it'
    assert error.mend.startswith("allowed now: ")
    assert all(value in error.mend for value in AXES[pattern].now)
    assert all(value in error.mend for value in AXES[pattern].later)


def test_a_misspelt_value(tmp_path):
    check(
        refused(tmp_path, changed('risk_price = "mark"', 'risk_price = "Mrak"')),
        key="price.risk_price",
        problem='"Mrak" is not a value of it',
        mend='did you mean "mark"? allowed now: "mark"; not yet: "oracle", "index", "fair"',
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
    "trigger": "[trigger]\n",
    "ladder.*": "[[ladder]]\n",
    "bankruptcy": "[bankruptcy]\n",
    "absorbers.*": "[[absorbers]]\n",
    "adl": "[adl]\n",
    "socialise": "[socialise]\n",
}


@pytest.mark.parametrize(
    ("pattern", "key"), [(p, key) for p, keys in LATER_KEYS.items() for key in keys if p != "margin.tiers.*"]
)
def test_a_known_key_that_is_to_come(tmp_path, pattern, key):
    head = SECTION_HEADS[pattern]
    line = f"{key} = 1\n"
    error = refused(tmp_path, changed(head, line + head if pattern == "" else head + line))
    assert error.key == ".".join(filter(None, (pattern.replace("*", "0"), key)))
    assert error.problem.startswith(f"not yet: `{key}` in ")
    section = next(s for s in SECTIONS[pattern])
    assert error.mend.endswith(", ".join(fields_of(section)))


@pytest.mark.parametrize("key", list(LATER_KEYS["margin.tiers.*"]))
def test_a_tier_of_some_markets_is_to_come(tmp_path, key):
    error = refused(tmp_path, changed("from = 0\n", f'from = 0\n{key} = "BTC"\n', changed(FLAT, BRACKETS)))
    assert error.key == f"margin.tiers.0.{key}"
    assert error.problem.startswith(f"not yet: `{key}` in [[margin.tiers]] ")


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


def test_an_empty_ladder_and_no_absorbers(tmp_path):
    start, end = TEXT.index("[[ladder]]"), TEXT.index("[bankruptcy]")
    text = "ladder = []\n" + TEXT[:start] + TEXT[end:]
    check(
        refused(tmp_path, text),
        key="ladder",
        problem="must not be empty",
        mend="write at least one",
    )
    start, end = TEXT.index("[[absorbers]]"), TEXT.index("[adl]")
    error = refused(tmp_path, "absorbers = []\n" + TEXT[:start] + TEXT[end:])
    check(error, key="absorbers", problem="must not be empty")


TIERS = changed(FLAT, BRACKETS)


@pytest.mark.parametrize(
    ("old", "new", "key", "problem", "mend"),
    [
        (
            "from = 0\n",
            "from = 10\n",
            "margin.tiers.0.from",
            "the first tier begins at 10: below it is a gap",
            "the first tier begins at 0",
        ),
        (
            'from = "250000.5"',
            "from = 50000",
            "margin.tiers.2.from",
            "tier 2 begins at 50000, inside or below tier 1 (from 50000): they overlap",
            "write the tiers in rising order, each from a larger notional",
        ),
        (
            'from = "250000.5"',
            "from = 40000.25",
            "margin.tiers.2.from",
            "tier 2 begins at 40000.25, inside or below tier 1 (from 50000): they overlap",
            None,
        ),
        (
            'rate = "0.02"',
            'rate = "0.009"',
            "margin.tiers.1.rate",
            "the rate falls from 0.01 to 0.009 in tier 1",
            "a tier's rate is at least that of the tier below",
        ),
        (
            'rate = "0.02"',
            'rate = "0.02"\ndeduction = 500.01',
            "margin.tiers.1.deduction",
            "a deduction of 500.01 makes maintenance jump at 50000",
            "the continuous one is 500; leave it out to have it computed",
        ),
        (
            "from = 0\n",
            "from = 0\ndeduction = 1\n",
            "margin.tiers.0.deduction",
            "a deduction of 1 makes maintenance jump at 0",
            None,
        ),
        (
            "from = 50000",
            'from = "50000.000000001"',
            "margin.tiers.1.from",
            "50000.000000001 has more than 8 decimals",
            None,
        ),
        ("from = 50000", "from = -1", "margin.tiers.1.from", "-1 is negative", None),
        ('currency = "USDC"\n', "", "margin.currency", "`currency` is missing in [margin]", None),
        (
            "from = 50000\n",
            "",
            "margin.tiers.1.from",
            "`from` is missing in [[margin.tiers]]",
            'write the notional it begins at, such as "50000"',
        ),
        (
            "from = 50000",
            "form = 50000",
            "margin.tiers.1.form",
            "unknown key `form` in [[margin.tiers]]",
            "did you mean `from`? allowed in [[margin.tiers]] now: from, rate, deduction",
        ),
        (
            "from = 50000",
            "start = 50000",
            "margin.tiers.1.start",
            "unknown key `start` in [[margin.tiers]] (and 1 more problem)",
            "allowed in [[margin.tiers]] now: from, rate, deduction",
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
        assert book.resolved["margin"]["tiers"][1]["deduction"] == "0.00000001"
        hashes.add(book.sha256)
    assert len(hashes) == 1


def test_the_least_negative_number(tmp_path):
    assert refused(tmp_path, changed('rate = "0.01"', "rate = -0.000000000001")).problem.endswith(
        " is negative"
    )


def test_rules_of_one_day(tmp_path):
    assert load_text(tmp_path, changed("valid_to = 2024-12-31", "valid_to = 2024-01-01")).resolved


def test_no_tiers(tmp_path):
    text = TEXT.replace(FLAT, BRACKETS[: BRACKETS.index("[[")] + "tiers = []\n")
    check(refused(tmp_path, text), key="margin.tiers", problem="must not be empty")
