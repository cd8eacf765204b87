from datetime import date
from pathlib import Path

import pytest

import replay.rules.load as load
from replay.errors import RulesError
from replay.rules import compile_rules, list_rules, load_file, load_rules
from replay.rules.margin import FlatMargin
from tests.rules.books import TEXT, changed, load_text

WANTED_DATE = "must be a date such as 2023-02-01, without quotes and time of day, found"


def refused(name, **options) -> RulesError:
    with pytest.raises(RulesError) as caught:
        load_rules(name, **options)
    return caught.value


def rate_of(book) -> int:
    assert isinstance(book.rules.margin, FlatMargin)
    return book.rules.margin.rate


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A shelf of three files of one venue; the oldest has no end."""
    folder = tmp_path / "venues" / "somewhere"
    folder.mkdir(parents=True)
    for version, days in {
        "oldest": "valid_from = 2020-01-01\nvalid_to = 2021-05-31\n",
        "middle": "valid_from = 2021-06-01\nvalid_to = 2021-06-30\n",
        "latest": "valid_from = 2022-01-01\nvalid_to = 2022-12-31\n",
    }.items():
        text = changed("valid_from = 2024-01-01\nvalid_to = 2024-12-31\n", days)
        (folder / f"{version}.toml").write_text(text)
    (folder / "notes.md").write_text("not a rule file")
    (tmp_path / "venues" / "empty").mkdir()
    monkeypatch.setattr(load, "files", lambda package: tmp_path)
    return folder


def test_a_venue_is_the_file_that_holds_on_the_day(shelf):
    chosen = {
        day: load_rules("somewhere", on=date.fromisoformat(day)).name
        for day in [
            "2020-01-01",
            "2021-05-31",
            "2021-06-01",
            "2021-06-30",
            "2022-01-01",
        ]
    }
    assert chosen == {
        "2020-01-01": "somewhere@oldest",
        "2021-05-31": "somewhere@oldest",
        "2021-06-01": "somewhere@middle",
        "2021-06-30": "somewhere@middle",
        "2022-01-01": "somewhere@latest",
    }


def test_two_files_that_hold_on_the_day_are_named(shelf):
    text = changed("valid_from = 2024-01-01\nvalid_to = 2024-12-31\n", "valid_from = 2022-12-01\n")
    (shelf / "newest.toml").write_text(text)
    assert load_rules("somewhere", on=date(2022, 11, 30)).name == "somewhere@latest"
    assert load_rules("somewhere", on=date(2023, 1, 1)).name == "somewhere@newest"
    error = refused("somewhere", on=date(2022, 12, 1))
    assert error.problem == (
        "somewhere@latest (2022-01-01 to 2022-12-31) and somewhere@newest (from 2022-12-01) "
        "both hold on 2022-12-01: their dates overlap"
    )
    assert error.mend == "end the first with valid_to before the second begins, or name one of them"


def test_a_folder_of_ones_own_goes_by_the_day_too(shelf):
    folder = str(shelf)
    assert load_rules(folder, on=date(2021, 6, 30)).name == "middle"
    assert refused(folder).problem == "has several rule files"
    assert refused(folder, on=date(2021, 7, 1)).problem == f"no rules of {folder} hold on 2021-07-01"
    (shelf / "other.toml").write_text(changed('venue = "', 'venue = "else'))
    assert "rules of several venues" in refused(folder, on=date(2021, 6, 30)).problem


def test_no_file_holds_on_the_day(shelf):
    error = refused("somewhere", on=date(2019, 12, 31))
    assert error.problem == "no rules of somewhere hold on 2019-12-31"
    assert error.mend == (
        "name one to use it all the same; there are: somewhere@oldest (2020-01-01 to 2021-05-31); "
        "somewhere@middle (2021-06-01 to 2021-06-30); somewhere@latest (2022-01-01 to 2022-12-31)"
    )


def test_several_files_and_no_day(shelf):
    error = refused("somewhere")
    assert error.problem == "somewhere has several rule files"
    assert error.mend.startswith("name one; there are: somewhere@oldest (2020-01-01 to 2021-05-31); ")


def test_a_version_is_taken_whatever_the_day(shelf):
    assert load_rules("somewhere@middle", on=date(1999, 1, 1)).rules.valid_from == date(2021, 6, 1)


def test_an_unknown_version_lists_the_known(shelf):
    error = refused("somewhere@newest")
    assert error.problem == "somewhere has no rules called newest"
    assert error.mend == "there are: somewhere@latest, somewhere@middle, somewhere@oldest"
    assert refused("somewhere@").problem == "somewhere has no rules called "


def test_an_unknown_venue_lists_the_known(shelf):
    error = refused("Somwhere@oldest")
    assert error.problem == "there are no rules called Somwhere@oldest"
    assert error.mend == (
        "did you mean somewhere? there are: somewhere@latest, somewhere@middle, somewhere@oldest; "
        "your own file is given by its path, ending in .toml"
    )


def test_the_list_is_by_venue_and_first_day(shelf):
    assert [found.name for found in list_rules()] == [
        "somewhere@oldest",
        "somewhere@middle",
        "somewhere@latest",
    ]
    first = list_rules()[0]
    assert (first.venue, first.version, first.title) == ("somewhere", "oldest", "Rules for tests")
    assert (first.valid_from, first.valid_to, first.status) == (
        date(2020, 1, 1),
        date(2021, 5, 31),
        "final",
    )


def test_a_path_names_any_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    book = load_rules(str(path))
    assert (book.name, book.file, book.text) == ("mine", str(path), TEXT)
    assert refused(str(tmp_path / "missing.toml")).problem == "no such rule file"


@pytest.mark.parametrize(
    ("content", "problem", "row"),
    [
        (b"venue = \n", "is not TOML: Invalid value", 1),
        (b"a = 1\nb = 2\nc 3\n", "is not TOML: Expected '=' after a key in a key/value pair", 3),
        (b"a = 1\na = 2\n", "is not TOML: Cannot overwrite a value", 2),
        (b"a = 2023-02-30\n", "is not TOML: Invalid date or datetime", 1),
        (b"a = " + b"[" * 100_000, "is not TOML: it is nested too deeply", None),
        (b"a = \xff\n", "is not UTF-8 text: byte 4 is not", None),
        (bytes(range(256)), "is not UTF-8 text: byte 128 is not", None),
        (b"#" * (1 << 20) + b"\n", "is larger than 1048576 bytes", None),
    ],
)
def test_what_is_not_a_rule_file(tmp_path, content, problem, row):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    error = refused(str(path))
    assert (error.problem, error.row, error.file) == (problem, row, str(path))
    assert error.mend


def test_an_integer_beyond_the_reader(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("a = " + "1" * 5000)
    assert refused(str(path)).problem.startswith("is not TOML: Exceeds the limit")


def test_a_folder_and_an_impossible_name(tmp_path):
    assert refused(f"{tmp_path}/").problem == "has no rule files"
    assert refused("a\0b.toml").problem == "cannot be read: embedded null byte"


@pytest.mark.parametrize(
    ("override", "rate"),
    [
        ("margin.rate=0.02", 20_000_000_000),
        ('margin.rate="0.02"', 20_000_000_000),
        (" margin.rate = 2e-2 ", 20_000_000_000),
        ("margin.rate=1", 1_000_000_000_000),
    ],
)
def test_an_override_sets_one_leaf(tmp_path, override, rate):
    plain, book = load_text(tmp_path, TEXT), load_text(tmp_path, TEXT, override)
    assert rate_of(book) == rate
    assert book.overrides == (override,)
    assert book.sha256 != plain.sha256
    assert book.resolved["ladder"] == plain.resolved["ladder"]


def test_an_override_equals_the_same_change_of_the_file(tmp_path):
    in_file = load_text(tmp_path, changed('rate = "0.01"', 'rate = "0.02"'))
    assert load_text(tmp_path, TEXT, "margin.rate=0.02").sha256 == in_file.sha256
    assert load_text(tmp_path, TEXT, "margin.rate=0.5", "margin.rate=0.02").sha256 == in_file.sha256


def test_overrides_of_text_lists_dates_and_tables(tmp_path):
    book = load_text(
        tmp_path,
        TEXT,
        "trigger.when=equity <= maintenance",
        "absorbers.0.name=other",
        "ladder.0.absorber=other",
        "valid_to=2025-01-31",
        'assumptions=["One.", "Two."]',
        "assumptions.1=Three.",
        "socialise={method='none'}",
    )
    assert book.rules.trigger.when == "equity <= maintenance"
    absorber = compile_rules(book, (), ()).absorber
    assert absorber is not None
    assert absorber.account == "@vault:other"
    assert book.rules.valid_to == date(2025, 1, 31)
    assert book.rules.assumptions == ("One.", "Three.")


def test_an_override_can_replace_a_whole_table(tmp_path):
    tables = 'tables=[{currencies=["USDC"], tiers=[{from=0, rate="0.01"}, {from=50000, rate=0.02}]}]'
    rest = 'size_basis="notional_mark", hedge_basis="net", scope="cross_account"'
    book = load_text(tmp_path, TEXT, f'margin={{shape="bracket_deduction", {rest}, {tables}}}')
    assert [tier["deduction"] for tier in book.resolved["margin"]["tables"][0]["tiers"]] == ["0", "500"]


def refused_override(folder, *overrides) -> RulesError:
    with pytest.raises(RulesError) as caught:
        load_text(folder, TEXT, *overrides)
    return caught.value


@pytest.mark.parametrize(
    ("override", "key", "problem"),
    [
        ("margin.rate=abc", "margin.rate", "'abc' is not a decimal number"),
        ("margin.rate=-1", "margin.rate", "-1 is negative"),
        ("margin.rate=", "margin.rate", "'' is not a decimal number"),
        ("margin.rat=0.1", "margin.rat", "unknown key `rat` in [margin]"),
        ("margin.rat.e=0.1", "margin.rat", "unknown key `rat` in [margin]"),
        ("margn.rate=0.1", "margn", "unknown key `margn` in the file"),
        ("adl.enabled=true", "adl.score", "`score` is missing in [adl] (and 5 more problems)"),
        ("adl.price=mark", "adl.price", "`price` belongs to enabled = true, the enabled here is false"),
        (
            "adl.start=[]",
            "adl.start",
            "not yet: `start` in [adl] (when it begins) is not supported in this version",
        ),
        ("price.risk_price=fair", "price.risk_price", 'not yet: "fair" is not supported in this version'),
        ("ladder.0.price=0.5", "ladder.0.price", "0.5 is not a value of it"),
        ("ladder.1.price=mark", "ladder.1.price", "ladder has no item 1"),
        ("ladder.first.price=mark", "ladder.first.price", "ladder has no item first"),
        ("ladder.0.price.x=mark", "ladder.0.price.x", "ladder.0.price is a value, not a table"),
        ("ladder=[]", "ladder", "must not be empty"),
        ("step=5", "step", "must be a table, found 5"),
        ("margin={}", "margin.shape", "`shape` is missing in [margin]"),
        ("valid_to=2023-01-01", "valid_to", "2023-01-01 is before valid_from, 2024-01-01"),
        ("valid_to=[[[", "valid_to", f'{WANTED_DATE} "[[["'),
        ("margin.rate", None, "is not of the form key=value"),
        ("=5", None, "is not of the form key=value"),
        ("margin..rate=5", None, "is not of the form key=value"),
        ("margin rate=5", None, "is not of the form key=value"),
    ],
)
def test_a_wrong_override_is_named(tmp_path, override, key, problem):
    error = refused_override(tmp_path, override)
    assert (error.key, error.problem) == (key, problem)
    assert error.file == f"--set {override}"
    assert error.mend is not None or "found" in error.problem


def test_an_override_of_several_lines(tmp_path):
    error = refused_override(tmp_path, "margin.rate=0.1\nx = 1")
    assert error.problem == "is not one line of printable text"
    assert error.file == "'--set margin.rate=0.1\\nx = 1'"


def test_the_one_wrong_override_of_several_is_named(tmp_path):
    error = refused_override(tmp_path, "margin.rate=0.02", "step.kind=continuous", "adl.enabled=false")
    assert error.file == "--set step.kind=continuous"


def test_of_two_overrides_of_one_key_the_last_is_named(tmp_path):
    error = refused_override(tmp_path, "margin.rate=x", "margin.rate=y")
    assert error.problem == "'y' is not a decimal number"
    assert error.file == "--set margin.rate=y"


def test_an_override_below_a_wrong_key_is_named(tmp_path):
    error = refused_override(tmp_path, "margin.rate=0.02", "margn.rate=0.02")
    assert (error.key, error.file) == ("margn", "--set margn.rate=0.02")


def test_a_fault_between_overrides_and_the_file_names_the_overrides(tmp_path):
    error = refused_override(tmp_path, "valid_from=2030-01-01", "margin.rate=0.5")
    assert error.key == "valid_to"
    assert error.file == "--set valid_from=2030-01-01 --set margin.rate=0.5"


def test_a_wrong_file_is_not_laid_on_an_override(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(changed('rate = "0.01"', 'rate = "x"'))
    with pytest.raises(RulesError) as caught:
        load_file(path, overrides=["margin.rate=0.02"])
    assert caught.value.file == str(path)


def test_a_wrong_mix_made_by_an_override_names_it(tmp_path):
    book = load_text(tmp_path, TEXT, "ladder.0.absorber=nobody")
    with pytest.raises(RulesError) as caught:
        compile_rules(book, (), ())
    assert caught.value.file == "--set ladder.0.absorber=nobody"
    assert caught.value.mend == "the [[absorbers]] of the file are: keeper"


def test_files_are_not_changed_by_loading(tmp_path):
    load_text(tmp_path, TEXT, "margin.rate=0.02")
    assert Path(tmp_path / "mine.toml").read_text() == TEXT
