"""A small valid rule file, a large one, and ways to change them, for the tests of this folder."""

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
size_basis = "notional_mark"
hedge_basis = "net"
scope = "cross_account"

[[margin.tables]]
currencies = ["USDC"]

[[margin.tables.tiers]]
from = 0
rate = "0.01"

[[margin.tables.tiers]]
from = 50000
rate = "0.02"

[[margin.tables.tiers]]
from = "250000.5"
rate = 0.05
"""

TAKEOVER = """
[[ladder]]
action = "takeover"
level = "1"
size = "full"
absorber = "keeper"
price = "bankruptcy"
margin_forfeited = "all_collateral"
"""

KEEPER = """
[[absorbers]]
name = "keeper"
kind = "vault"
scope = "ledger"
balance = "tape"
inventory = "holds"
work_out = "hold"
outflow_cap = "none"
insolvent_below_zero = false
stops_at_zero = false
"""

ADL_OFF = """
[adl]
enabled = false
"""

NO_DEPTH = """
[depth]
provider = "none"
"""

LADDER = """
[[ladder]]
action = "book_order"
level = "1"
size = "step_down"
limit = "bankruptcy"
tif = "fok"
surplus_to = "absorber"
fee = "0.0005"

[[ladder]]
action = "book_order"
level = "1"
size = "full"
slice_above = 100000
slice_share = "0.2"
cooldown = "30s"
limit = "none"
tif = "ioc"
surplus_to = "trader"
fee = "0.0005"

[[ladder]]
action = "takeover"
level = "2/3"
size = "full"
absorber = "keeper"
price = "bankruptcy"
margin_forfeited = "all_collateral"

[[ladder]]
action = "adl"
level = "0"
size = "full"
"""

FUND = """
[[absorbers]]
name = "keeper"
kind = "insurance"
scope = "ledger"
balance = "tape"
inventory = "holds"
work_out = "book"
outflow_cap = "none"
insolvent_below_zero = true
drawdown_start = "0.3"
drawdown_stop = "0.25"
window = "8h"
least_balance = 10000
stops_at_zero = true
"""

ADL = """
[adl]
enabled = true
score = "leveraged_return"
loss_rule = "exclude"
price = "bankruptcy"
winner_fee = "0.0002"
loser_fee = "0.0006"
lights = 5
"""

LEVELS = """
[depth]
provider = "levels"
haircut = "0.3"
half_life = "10s"
"""

VOLUME = """
[depth]
provider = "volume"
haircut = "0.3"
half_life = "10s"
participation = "0.1"
window = "1m"
slippage_bp = 5
"""

STATIC = """
[depth]
provider = "static"
haircut = "0.3"
half_life = "10s"
currencies = ["USDC"]

[[depth.static]]
bp = 5
notional = 250000

[[depth.static]]
bp = 20
notional = "1000000.5"
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

[bankruptcy]
allocation = "maintenance_proportional"
fee_in_price = "none"

[socialise]
method = "none"
"""
    + TAKEOVER
    + KEEPER
    + ADL_OFF
    + NO_DEPTH
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


WHOLE = TEXT
for _old, _new in (
    (FLAT, BRACKETS),
    (TAKEOVER, LADDER),
    (KEEPER, FUND),
    (ADL_OFF, ADL),
    (NO_DEPTH, LEVELS),
):
    WHOLE = changed(_old, _new, WHOLE)

TERMS = changed(
    'score = "leveraged_return"',
    """score = "terms"
profit_term = "profit_on_entry"
leverage_term = "notional_on_equity"
equity_scope = "account"
""",
    WHOLE,
)

ORDERED = changed(
    'surplus_to = "absorber"\nfee = "0.0005"',
    'surplus_to = "absorber"\nfee = "0.0005"\nposition_order = "largest_loss"',
    WHOLE,
)

FEES = changed(
    'surplus_to = "absorber"\nfee = "0.0005"',
    'surplus_to = "absorber"\nfee = "0.0005"\nfee_from = "improvement"\nfee_to = "absorber"',
    WHOLE,
)

NEEDY = changed(
    'price = "bankruptcy"\nwinner_fee',
    """price = "mark"
fallback_price = "bankruptcy"
fallback_below = "0.1"
residual_to = "loser"
must_not_worsen_counterparty = "always"
tie_break = ["newer"]
suspends_book_liquidation = true
winner_fee""",
    WHOLE,
)
