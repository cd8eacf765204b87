import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

import replay.cli.rules as rules_module
from replay.cli.rules import rules
from replay.errors import RulesError
from replay.rules import load_file, load_rules
from replay.rules.axes import AXES
from tests.rules.books import TEXT, WHOLE, changed


def call(*arguments):
    return CliRunner().invoke(rules, [str(argument) for argument in arguments])


def words(text):
    return " ".join(text.split())


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return path


def test_list_names_every_file_with_its_days():
    result = call("list")
    assert result.exit_code == 0
    assert "hyperliquid@2023-02" in result.stdout
    assert "2023-02-01" in result.stdout
    assert "2023-05-31" in result.stdout
    assert "final" in result.stdout


def test_diff_prints_what_differs_side_by_side(mine, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(changed('when = "equity < maintenance"', 'when = "equity <= maintenance"'))
    result = call("diff", mine, other)
    assert result.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines()]
    assert ["", "trigger.when", "equity < maintenance", "equity <= maintenance", ""] in rows
    assert result.stdout.endswith("1 difference\n")
    assert call("diff", mine, mine).stdout == "mine and mine say the same\n"


def test_diff_of_ladders_and_tables_for_programs():
    result = call("diff", "bybit@2025-09-23", "hyperliquid@2025-10-10", "--format", "json")
    found = {row["key"]: (row["first"], row["second"]) for row in json.loads(result.stdout)}
    assert found["adl.price"] == ("bankruptcy", "previous_mark")
    assert found["ladder.0.cooldown"] == ("-", "30s")
    assert found["margin.tables for all others in BTC"][1] == "0.0125 from 0; 0.025 from 1500"
    assert "title" not in found
    keys = list(found)
    assert keys.index("ladder.0.cooldown") < keys.index("ladder.1.action")


def test_the_schema_has_every_value_and_takes_numbers_as_text():
    schema = json.loads(call("schema").stdout)
    found = json.dumps(schema)
    for pattern, axis in AXES.items():
        if set(axis.now) != {"true", "false"}:
            assert all(f'"{value}"' in found for value in axis.now), pattern
    assert schema["$defs"]["FlatMargin"]["properties"]["rate"]["type"] == ["number", "string"]
    assert schema["$defs"]["AdlOn"]["properties"]["price"]["description"].startswith(
        "previous_mark: Both sides"
    )
    assert set(schema["required"]) >= {"venue", "margin", "ladder", "adl"}


def test_show_explains_each_value_and_the_assumptions():
    result = call("show", "hyperliquid@2023-02")
    assert result.exit_code == 0
    text = words(result.stdout)
    book = load_rules("hyperliquid@2023-02")
    assert "rate = 0.01 Maintenance is 1 % of notional, rounded up" in text
    assert "[bankruptcy]" in text
    assert "allocation = maintenance_proportional" in text
    for assumption in book.rules.assumptions:
        assert f"- {assumption}" in text
    assert book.sha256 in text


def test_show_prints_every_key_whole(mine, tmp_path):
    mine.write_text(WHOLE)
    text = words(call("show", mine).stdout)
    for line in (
        "[margin.tables.0.tiers]",
        "2 = 250000.5, 0.05, 8000.015",
        "[ladder.2]",
        "level = 2/3",
        "margin_forfeited = all_collateral",
        "drawdown_start = 0.3",
        "[depth]",
    ):
        assert line in text


def test_show_does_not_take_a_title_for_markup(mine):
    mine.write_text(
        changed("Rules for tests", "[red]Rules :tada: [/red]", changed('["The sun rises."]', "[]"))
    )
    text = call("show", mine).stdout
    assert "[red]Rules :tada: [/red]" in text
    assert "nothing is assumed" in text


def test_show_json_is_what_it_resolves_to(mine):
    content = json.loads(call("show", mine, "--format", "json").stdout)
    book = load_file(mine)
    assert content == {"name": "mine", "sha256": book.sha256, "rules": book.resolved}


def test_show_toml_is_the_file_and_loads_again(tmp_path):
    shown = call("show", "hyperliquid@2023-02", "--format", "toml").stdout
    assert "# Observed" in shown
    copy = tmp_path / "copy.toml"
    copy.write_text(shown)
    assert load_file(copy).sha256 == load_rules("hyperliquid@2023-02").sha256


def test_check_says_what_a_file_resolves_to(mine):
    result = call("check", mine)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"ok: {mine} is a valid rule file of somewhere",
        "  holds        from 2024-01-01 to 2024-12-31 (UTC, both days included)",
        "  status       final",
        "  breach       equity < maintenance",
        "  margin       flat, rate 0.01",
        "  ladder       takeover below maintenance",
        "  absorber     @vault:keeper",
        "  adl          none",
        "  depth        none",
        "  assumptions  1",
        f"  sha256       {load_file(mine).sha256}",
    ]


def test_check_of_tiers_and_of_a_draft(mine):
    mine.write_text(
        changed('status = "final"', 'status = "draft"', changed("valid_to = 2024-12-31\n", "", WHOLE))
    )
    lines = call("check", mine).stdout.splitlines()
    assert "  holds        from 2024-01-01 (UTC)" in lines
    assert "  margin       bracket_deduction, 1 table, 3 tiers" in lines
    assert (
        "  ladder       book, step down, below maintenance; book below maintenance; "
        "takeover below 2/3 of maintenance; adl below zero"
    ) in lines
    assert "  absorber     @fund:keeper" in lines
    assert "  adl          leveraged_return at bankruptcy" in lines
    assert "  depth        levels" in lines
    assert "  status       draft: a run needs --accept-assumptions" in lines


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('rate = "0.01"', 'rat = "0.01"', "margin.rat"),
        ('absorber = "keeper"', 'absorber = "nobody"', "ladder.0.absorber"),
    ],
)
def test_check_refuses_what_does_not_validate_or_compile(mine, old, new, key):
    mine.write_text(changed(old, new))
    result = call("check", mine)
    assert result.exit_code == 1
    assert isinstance(result.exception, RulesError)
    assert result.exception.key == key
    assert result.stdout == ""


def test_check_of_a_missing_file(tmp_path):
    result = call("check", tmp_path / "nowhere")
    assert isinstance(result.exception, RulesError)
    assert result.exception.problem == "no such rule file"


@pytest.mark.parametrize("arguments", [[], ["list"], ["show"], ["check"]])
def test_help_has_an_example(arguments):
    for flag in ("-h", "--help"):
        result = call(*arguments, flag)
        assert result.exit_code == 0
        assert "  replay rules " in result.stdout


def test_wrong_usage_is_two():
    assert call("show").exit_code == 2
    assert call("show", "x", "--format", "xml").exit_code == 2
    assert call("burn").exit_code == 2


def test_help_does_not_load_what_it_does_not_need():
    heavy = "{'pydantic', 'rich', 'numpy', 'pyarrow', 'duckdb', 'numba'}"
    code = f"import runpy, sys; runpy.run_path({rules_module.__file__!r}); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
