import hashlib
import json
from datetime import date
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from replay.errors import RulesError
from replay.rules.axes import AXES, LATER_KEYS
from replay.rules.explain import FREE, ROWS, explain
from replay.rules.margin import FlatMargin
from replay.rules.model import Rules
from replay.rules.numbers import Section
from replay.rules.problems import CHOICES, SECTIONS
from tests.rules.books import BRACKETS, FLAT, LEVELS, STATIC, TEXT, VOLUME, WHOLE, changed, load_text

RESOLVED = {
    "venue": "somewhere",
    "title": "Rules for tests",
    "valid_from": "2024-01-01",
    "valid_to": "2024-12-31",
    "status": "final",
    "assumptions": ["The sun rises."],
    "step": {"kind": "per_timestamp"},
    "price": {"risk_price": "mark", "mark_source": "tape"},
    "margin": {
        "shape": "flat",
        "rate": "0.01",
        "size_basis": "notional_mark",
        "hedge_basis": "net",
        "scope": "cross_account",
    },
    "trigger": {"when": "equity < maintenance"},
    "ladder": [
        {
            "action": "takeover",
            "level": "1",
            "size": "full",
            "absorber": "keeper",
            "price": "bankruptcy",
            "margin_forfeited": "all_collateral",
        }
    ],
    "bankruptcy": {"allocation": "maintenance_proportional", "fee_in_price": "none"},
    "absorbers": [
        {
            "name": "keeper",
            "kind": "vault",
            "scope": "ledger",
            "balance": "tape",
            "inventory": "holds",
            "work_out": "hold",
            "outflow_cap": "none",
            "insolvent_below_zero": False,
            "stops_at_zero": False,
        }
    ],
    "adl": {"enabled": False},
    "depth": {"provider": "none"},
    "socialise": {"method": "none"},
}


def test_a_file_resolves_to_what_it_says(tmp_path):
    assert load_text(tmp_path, TEXT).resolved == RESOLVED


def test_the_hash_is_sha256_of_canonical_json(tmp_path):
    canonical = json.dumps(RESOLVED, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert load_text(tmp_path, TEXT).sha256 == hashlib.sha256(canonical.encode()).hexdigest()


def test_the_hash_of_a_book_with_tiers_is_sha256_of_canonical_json(tmp_path):
    margin = {
        "shape": "bracket_deduction",
        "size_basis": "notional_mark",
        "hedge_basis": "net",
        "scope": "cross_account",
        "tables": [
            {
                "currencies": ["USDC"],
                "tiers": [
                    {"from": "0", "rate": "0.01", "deduction": "0"},
                    {"from": "50000", "rate": "0.02", "deduction": "500"},
                    {"from": "250000.5", "rate": "0.05", "deduction": "8000.015"},
                ],
            }
        ],
    }
    book = load_text(tmp_path, changed(FLAT, BRACKETS))
    assert book.resolved == {**RESOLVED, "margin": margin}
    canonical = json.dumps(book.resolved, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert book.sha256 == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize("written", ['"0.01"', "0.01", '"0.010"', "1e-2", '"1E-2"', "0.0_1", '"+0.01"'])
def test_the_way_a_number_is_written_does_not_change_value_or_hash(tmp_path, written):
    book = load_text(tmp_path, changed('rate = "0.01"', f"rate = {written}  # a comment"))
    assert isinstance(book.rules.margin, FlatMargin)
    assert book.rules.margin.rate == 10_000_000_000
    assert book.sha256 == load_text(tmp_path, TEXT).sha256


def test_rates_are_exact_where_binary_floats_are_not(tmp_path):
    book = load_text(tmp_path, changed('rate = "0.01"', "rate = 0.123456789012"))
    assert isinstance(book.rules.margin, FlatMargin)
    assert book.rules.margin.rate == 123_456_789_012


def test_the_order_of_keys_and_line_ends_do_not_change_the_hash(tmp_path):
    reordered = changed(
        'risk_price = "mark"\nmark_source = "tape"', 'mark_source = "tape"\nrisk_price = "mark"'
    )
    assert load_text(tmp_path, reordered.replace("\n", "\r\n")).sha256 == load_text(tmp_path, TEXT).sha256


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('rate = "0.01"', 'rate = "0.010000000001"'),
        ("valid_to = 2024-12-31\n", ""),
        ("The sun rises.", "The sun sets."),
        ('kind = "vault"', 'kind = "insurance"'),
        ("equity < maintenance", "equity <= maintenance"),
    ],
)
def test_every_changed_value_changes_the_hash(tmp_path, old, new):
    assert load_text(tmp_path, changed(old, new)).sha256 != load_text(tmp_path, TEXT).sha256


def test_a_given_deduction_and_a_computed_one_are_the_same_book(tmp_path):
    computed = changed(FLAT, BRACKETS)
    given = changed('from = 50000\nrate = "0.02"', 'from = 50000\nrate = "0.02"\ndeduction = 500.0', computed)
    assert load_text(tmp_path, given).sha256 == load_text(tmp_path, computed).sha256


def test_both_days_of_validity_count(tmp_path):
    book = load_text(tmp_path, TEXT)
    days = [date(2023, 12, 31), date(2024, 1, 1), date(2024, 12, 31), date(2025, 1, 1)]
    assert [book.holds_on(day) for day in days] == [False, True, True, False]
    assert load_text(tmp_path, changed("valid_to = 2024-12-31\n", "")).holds_on(date(2090, 1, 1))


def test_nothing_of_a_book_can_be_changed(tmp_path):
    book = load_text(tmp_path, TEXT)
    with pytest.raises(ValidationError, match="frozen"):
        book.rules.status = "draft"
    with pytest.raises(AttributeError):
        book.name = "other"


def test_python_floats_are_no_numbers_of_a_book(tmp_path):
    content = {**RESOLVED, "valid_from": date(2024, 1, 1), "valid_to": None}
    Rules.model_validate(content)
    with pytest.raises(ValidationError, match="must be a number"):
        Rules.model_validate({**content, "margin": {**RESOLVED["margin"], "rate": 0.01}})


# The tables that describe the model beside the model: they must say the same.


def models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, tuple, UnionType, Union):
        return [found for part in get_args(annotation) for found in models(part)]
    return []


def is_list(annotation: object) -> bool:
    origin = get_origin(annotation)
    optional = origin in (Annotated, UnionType, Union) and any(map(is_list, get_args(annotation)))
    return origin is tuple or optional


def literals(annotation: object) -> list[object]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in literals(part)]


def walk(section: type[BaseModel], prefix: str = ""):
    """Yield (pattern of a table, its model) and (pattern of a key, its Literal values) of the format."""
    yield prefix.removesuffix("."), section, None
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        inner = models(field.annotation)
        many = is_list(field.annotation)
        for model in inner:
            yield from walk(model, f"{key}.*." if many else f"{key}.")
        if not inner:
            yield (
                key,
                None,
                [str(v).lower() if isinstance(v, bool) else v for v in literals(field.annotation)],
            )


def test_the_tables_of_the_messages_are_those_of_the_model():
    found: dict[str, set[type[BaseModel]]] = {}
    for pattern, section, _ in walk(Rules):
        if section is not None:
            found.setdefault(pattern, set()).add(section)
    assert found == {pattern: set(sections) for pattern, sections in SECTIONS.items()}
    assert {pattern for pattern, sections in found.items() if len(sections) > 1} == set(CHOICES)
    for pattern, choice in CHOICES.items():
        for tag, section in choice.tables.items():
            assert literals(section.model_fields[choice.key].annotation) == [
                {"true": True, "false": False}.get(tag, tag)
            ], pattern
    assert all(issubclass(section, Section) for sections in found.values() for section in sections)


def test_axes_and_sentences_cover_exactly_the_keys_of_the_model():
    values: dict[str, set[str]] = {}
    free = set()
    for key, section, allowed in walk(Rules):
        if section is None and allowed:
            values.setdefault(key, set()).update(allowed)
        elif section is None and key != "assumptions":
            free.add(key)
    assert values == {key: set(axis.now) for key, axis in AXES.items()}
    rows = {key for key in free if key.rpartition(".")[0] in ROWS}
    assert {key.rpartition(".")[0] for key in rows} == set(ROWS)
    assert free - rows == set(FREE)


def test_what_is_to_come_is_not_there_already():
    for axis in AXES.values():
        assert not set(axis.now) & set(axis.later)
    for pattern, keys in LATER_KEYS.items():
        for section in SECTIONS[pattern]:
            assert not set(keys) & {field.alias or name for name, field in section.model_fields.items()}


def test_free_keys_say_what_to_write():
    for _, section, _ in walk(Rules):
        if section is not None:
            for name, field in section.model_fields.items():
                assert literals(field.annotation) or field.description, (section, name)


def explained(folder, text, *overrides):
    return {key: (value, text) for key, value, text in explain(load_text(folder, text, *overrides))}


@pytest.mark.parametrize("depth", [LEVELS, VOLUME, STATIC])
def test_every_value_is_explained(tmp_path, depth):
    text = changed(LEVELS, depth, WHOLE)
    sentences = explained(tmp_path, text)
    assert not [key for key in sentences if key.startswith("assumptions")]
    assert all(text.endswith((".", ",", ";")) for _, text in sentences.values())
    for line in text.splitlines():
        key, equals, value = line.partition(" = ")
        if equals and key not in ("from", "rate", "bp", "notional", "assumptions"):
            found = [shown for dotted, (shown, _) in sentences.items() if dotted.split(".")[-1] == key]
            assert value.strip('"[]') in found, line


def test_sentences_of_numbers(tmp_path):
    sentences = explained(tmp_path, WHOLE)
    assert sentences["margin.tables.0.tiers.2"] == (
        "250000.5, 0.05, 8000.015",
        "From 250000.5 on maintenance is 5 % of the whole notional, less 8000.015.",
    )
    assert sentences["margin.tables.0.tiers.0"][1] == "From 0 on maintenance is 1 % of the whole notional."
    assert sentences["margin.tables.0.markets"] == (
        "(left out)",
        "This table is for the markets that no other names.",
    )
    assert sentences["ladder.0.level"][1] == "It acts on every pool in breach that no lower level takes."
    assert sentences["ladder.2.level"][1] == "It acts on a pool whose equity is below 2/3 of its maintenance."
    assert sentences["ladder.3.level"][1] == "It acts on a pool whose equity is below zero."
    assert sentences["ladder.1.slice_share"] == ("0.2", "which is 20 % of it;")
    assert sentences["ladder.1.fee"] == ("0.0005", "The fee is 0.05 % of what is traded.")
    assert sentences["absorbers.0.window"] == ("8h", "both measured against the peaks of the last 8h,")
    assert sentences["adl.enabled"][0] == "true"
    assert sentences["depth.half_life"] == ("10s", "Half of what forced orders took is back after 10s.")
    sentences = explained(
        tmp_path,
        changed(LEVELS, STATIC, WHOLE),
        "depth.half_life=0",
        'margin.tables.0.markets=["A", "B", "C", "D", "E"]',
    )
    assert sentences["depth.half_life"] == ("0s", "What forced orders took is back at the next step.")
    assert sentences["depth.static.1"] == (
        "20, 1000000.5",
        "20 basis points behind the mark it holds a notional of 1000000.5.",
    )
    assert sentences["margin.tables.0.markets"] == ("A, B, ... (5)", "This table is for A, B, C, D, E.")


@pytest.mark.parametrize(
    ("key", "forms", "resolved"),
    [
        ("ladder.2.level", ['"2/3"', "4/6", '"2.0/3"', "0.2/0.3"], "2/3"),
        ("ladder.2.level", ['"0.5"', "0.5", "1/2", "5e-1"], "1/2"),
        ("ladder.3.level", ["0", '"0.0"', "0/7"], "0"),
        ("ladder.1.cooldown", ["30", '"30s"', "30.0", "0.5m", "30000ms", '"30 s"', "3e1"], "30s"),
        ("absorbers.0.window", ["8h", "28800", "480m", "28_800"], "8h"),
        ("depth.half_life", ["0", "0s", "0h"], "0s"),
        ("depth.half_life", ["1500ms", "1.5s", "1.5"], "1500ms"),
        ("depth.half_life", ["24h", "1d"], "1d"),
        ("depth.half_life", ["1ns", "0.001us", "0.000000001"], "1ns"),
        ("ladder.1.slice_above", ["100000", '"1e5"', "100_000", "100000.0"], "100000"),
        ("adl.lights", ["5", '"5"', "5.0"], "5"),
        ("adl.winner_fee", ["0", "0.0", '"0"'], "0"),
    ],
)
def test_one_way_of_writing_for_each_value(tmp_path, key, forms, resolved):
    hashes = set()
    for form in forms:
        book = load_text(tmp_path, WHOLE, f"{key}={form}")
        hashes.add(book.sha256)
        node = book.resolved
        for part in key.split("."):
            node = node[int(part)] if isinstance(node, list) else node[part]
        assert node == resolved, form
    assert len(hashes) == 1


def test_the_whole_file_resolves_to_what_it_says(tmp_path):
    resolved = load_text(tmp_path, WHOLE).resolved
    assert resolved["ladder"][1] == {
        "action": "book_order",
        "level": "1",
        "size": "full",
        "slice_above": "100000",
        "slice_share": "0.2",
        "cooldown": "30s",
        "limit": "none",
        "tif": "ioc",
        "surplus_to": "trader",
        "fee": "0.0005",
    }
    assert resolved["ladder"][3] == {"action": "adl", "level": "0", "size": "full"}
    assert "slice_above" not in resolved["ladder"][0]
    assert resolved["absorbers"][0] == {
        "name": "keeper",
        "kind": "insurance",
        "scope": "ledger",
        "balance": "tape",
        "inventory": "holds",
        "work_out": "book",
        "outflow_cap": "none",
        "insolvent_below_zero": True,
        "drawdown_start": "0.3",
        "drawdown_stop": "0.25",
        "window": "8h",
        "least_balance": "10000",
        "stops_at_zero": True,
    }
    assert resolved["adl"] == {
        "enabled": True,
        "score": "leveraged_return",
        "loss_rule": "exclude",
        "price": "bankruptcy",
        "winner_fee": "0.0002",
        "loser_fee": "0.0006",
        "lights": "5",
    }
    assert resolved["depth"] == {"provider": "levels", "haircut": "0.3", "half_life": "10s"}
    assert load_text(tmp_path, changed(LEVELS, STATIC, WHOLE)).resolved["depth"] == {
        "provider": "static",
        "haircut": "0.3",
        "half_life": "10s",
        "currencies": ["USDC"],
        "static": [{"bp": "5", "notional": "250000"}, {"bp": "20", "notional": "1000000.5"}],
    }


def test_rules_errors_are_raised_not_validation_errors(tmp_path):
    with pytest.raises(RulesError):
        load_text(tmp_path, "")
