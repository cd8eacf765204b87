import hashlib
import json
from datetime import date
from types import UnionType
from typing import Annotated, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from replay.errors import RulesError
from replay.rules.axes import AXES, LATER_KEYS
from replay.rules.explain import FREE, explain
from replay.rules.model import FlatMargin, Rules, Section
from replay.rules.problems import SECTIONS
from tests.rules.books import BRACKETS, FLAT, TEXT, changed, load_text

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
            "outflow_cap": "none",
        }
    ],
    "adl": {"enabled": False},
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
        "currency": "USDC",
        "size_basis": "notional_mark",
        "hedge_basis": "net",
        "scope": "cross_account",
        "tiers": [
            {"from": "0", "rate": "0.01", "deduction": "0"},
            {"from": "50000", "rate": "0.02", "deduction": "500"},
            {"from": "250000.5", "rate": "0.05", "deduction": "8000.015"},
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
    if get_origin(annotation) in (Annotated, tuple, UnionType) or isinstance(annotation, UnionType):
        return [found for part in get_args(annotation) for found in models(part)]
    return []


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
        many = get_origin(field.annotation) is tuple
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
    assert free == set(FREE)


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
                assert literals(field.annotation) or name == "shape" or field.description, (section, name)


def test_every_value_is_explained(tmp_path):
    sentences = {
        key: (value, text) for key, value, text in explain(load_text(tmp_path, changed(FLAT, BRACKETS)))
    }
    assert sentences["margin.tiers.2.rate"] == ("0.05", "In it maintenance is 5 % of the whole notional,")
    assert sentences["margin.tiers.1.deduction"][0] == "500"
    assert sentences["adl.enabled"][0] == "false"
    assert sentences["absorbers.0.name"] == ("keeper", "The ladder calls it keeper.")
    assert "assumptions.0" not in sentences
    assert all(text.endswith((".", ",")) for _, text in sentences.values())


def test_rules_errors_are_raised_not_validation_errors(tmp_path):
    with pytest.raises(RulesError):
        load_text(tmp_path, "")
