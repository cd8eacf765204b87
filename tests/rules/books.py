"""A small valid rule file, and ways to change it, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

from replay.rules import RuleBook, load_file

FLAT = """
[margin]
shape = "flat"
rate = "0.01"
size_basis = "notional_mark"
hedge_basis = "net"
scope = "cross_account"
"""

BRACKETS = """
[margin]
shape = "bracket_deduction"
currency = "USDC"
size_basis = "notional_mark"
hedge_basis = "net"
scope = "cross_account"

[[margin.tiers]]
from = 0
rate = "0.01"

[[margin.tiers]]
from = 50000
rate = "0.02"

[[margin.tiers]]
from = "250000.5"
rate = 0.05
"""

TEXT = (
    """
venue = "somewhere"
title = "Rules for tests"
valid_from = 2024-01-01
valid_to = 2024-12-31
status = "final"
assumptions = ["The sun rises."]

[step]
kind = "per_timestamp"

[price]
risk_price = "mark"
mark_source = "tape"
"""
    + FLAT
    + """
[trigger]
when = "equity < maintenance"

[[ladder]]
action = "takeover"
size = "full"
absorber = "keeper"
price = "bankruptcy"
margin_forfeited = "all_collateral"

[bankruptcy]
allocation = "maintenance_proportional"
fee_in_price = "none"

[[absorbers]]
name = "keeper"
kind = "vault"
scope = "ledger"
balance = "tape"
inventory = "holds"
outflow_cap = "none"

[adl]
enabled = false

[socialise]
method = "none"
"""
)


def changed(old: str, new: str, text: str = TEXT) -> str:
    """Replace one piece of a rule file that stands there exactly once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def load_text(folder: Path, text: str, *overrides: str) -> RuleBook:
    """Write a rule file and load it."""
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_file(path, overrides=overrides)
