"""Worksheets in words: each figure with the numbers it comes from, to be worked again by hand."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from replay.analysis.bench import Bench, Need
from replay.analysis.worksheet import Leg, Untold, Worksheet, mark_of, payoff_of, size_of, sought_value
from replay.rules.plan import BY_NOTIONAL, BY_SIZE
from replay.tape.read import Market
from replay.units import ATOM, MONEY_SCALE, RATE_SCALE, divide_half_even, format_time, format_units

_DIGITS = 8
"""Decimals of a price that does not end."""


def lines(bench: Bench, sheet: Worksheet | Untold) -> list[str]:
    """Return a worksheet as lines of text, indented by what they belong to, not yet wrapped."""
    if isinstance(sheet, Untold):
        where = ", ".join(sheet.markets)
        return [f"At {format_time(sheet.ts)}, {where}: no arithmetic, because {sheet.reason}."]
    pool = "isolated position" if sheet.isolated else "cross pool"
    what = "in breach" if sheet.what == "breach" else "sampled"
    found = [f"At {format_time(sheet.ts)}, {what}: {pool} in {sheet.currency}"]
    found += _equity(sheet)
    found += _maintenance(bench, sheet)
    for leg in sheet.legs:
        found += _liquidation(sheet, leg)
        found += _bankruptcy(sheet, leg)
        if leg.rank is not None and leg.candidates is not None:
            found.append(f"  rank of {_name(leg)}: {leg.rank:,} of {leg.candidates:,}, {leg.lights} lights")
    return found


def _equity(sheet: Worksheet) -> Iterator[str]:
    yield "  equity"
    if sheet.entries_known:
        yield f"    cash {_money(sheet.cash)}"
    else:
        yield f"    cash less the entry values of the positions {_money(sheet.cash)}"
    for leg in sheet.legs:
        text = f"    {_name(leg)}: value {_worth(leg)} = {_money(leg.value)}"
        if leg.cost is not None:
            profit = f"{_money(leg.value)} - {_signed(leg.cost)} = {_money(leg.value - leg.cost)}"
            text += f"; profit over its entry value {profit}"
        yield text
    yield f"    together {_money(sheet.equity)} {sheet.currency}"


def _worth(leg: Leg) -> str:
    """Return the value of a position as a product or, of an inverse contract, a quotient."""
    market = leg.market
    size = _number(size_of(market, leg.size))
    contracts = size if market.multiplier == 1 else f"{size} x {_number(market.multiplier)}"
    mark = _number(mark_of(market, leg.mark))
    return f"-({contracts}) / {mark}" if payoff_of(market) == "inverse" else f"{contracts} x {mark}"


def _maintenance(bench: Bench, sheet: Worksheet) -> Iterator[str]:
    yield "  maintenance"
    for leg in sheet.legs:
        need = leg.need
        yield f"    {_name(leg)}: {_tier(bench, leg.market, need)}"
        yield from (f"      {text}" for text in _rate(need))
        deduction = f" - {_money(need.deduction)}" if need.deduction else ""
        product = f"{_money(need.notional)} x {_percent(need.rate)}{deduction}"
        if need.least and need.result == need.least:
            yield f"      the larger of {product} and the least, {_money(need.least)}: {_money(need.result)}"
        else:
            yield f"      {product} = {_money(need.result)}"
    yield f"    together {_money(sheet.maintenance)} {sheet.currency}"
    if sheet.maintenance > 0:
        ratio = _number(Fraction(100 * sheet.equity, sheet.maintenance), 2)
        sign = "<" if sheet.equity < sheet.maintenance else ">" if sheet.equity > sheet.maintenance else "="
        yield f"    equity {_money(sheet.equity)} {sign} {_money(sheet.maintenance)}: {ratio} % of it"


def _tier(bench: Bench, market: Market, need: Need) -> str:
    if need.tiers == 1:
        return "one table rate for every size"
    margin = bench.margins[market.id]
    if margin.basis == BY_SIZE:
        start = _number(Fraction(need.start * margin.unit[1], margin.unit[0]))
        unit = "contracts" if bench.rules.margin.size_basis == "contracts" else "units of the underlying"
        return f"tier {need.tier + 1} of {need.tiers}, from {start} {unit}"
    by = "notional" if margin.basis == BY_NOTIONAL else "entry value"
    return f"tier {need.tier + 1} of {need.tiers}, from {by} {_money(need.start)}"


def _rate(need: Need) -> Iterator[str]:
    """Yield how a rate follows from more than the table: growth by size, or by its root."""
    if need.units is None:
        return
    base, size, rate = _percent(need.table_rate), _number(need.units), _percent(need.rate)
    if need.root is None:
        yield f"rate {base} + {_percent(need.growth)} x {size}, up to 100 %: {rate}"
    else:
        grown = f"4/5 x {base} + {_percent(need.factor)} x {_number(need.root)}"
        yield f"root of (10 x {size} + 1), to five decimals: {_number(need.root)}"
        yield f"rate: the larger of {base} and {grown}, up to 100 %: {rate}"


def _liquidation(sheet: Worksheet, leg: Leg) -> Iterator[str]:
    found = leg.liquidation
    yield f"  liquidation price of {_name(leg)}, all other marks still"
    others = sheet.maintenance - leg.need.result
    if len(sheet.legs) > 1:
        yield (
            f"    equity less maintenance of the others: {_money(sheet.equity)} - {_money(others)} = "
            f"{_money(found.collateral)}"
        )
    if found.mark is None:
        yield f"    no mark above zero {'ends' if sheet.breached else 'is'} a breach"
        return
    value = sought_value(leg)
    if found.jump:
        yield (
            "    maintenance jumps where another tier begins, from below what is left of equity there to "
            "above it: they are equal at no price"
        )
    elif value is not None and found.exact is not None:
        sign = "-" if leg.value > 0 else "+"
        yield (
            f"    equal at a value of ({_signed(leg.value)} - {_signed(found.collateral)} - "
            f"{_signed(found.deduction)}) / (1 {sign} {_percent(found.rate)}) = {_number(value, MONEY_SCALE)}"
        )
        yield f"    at a price of {_over_size(leg, _number(value, MONEY_SCALE))} = {_number(found.exact)}"
    mark = _number(mark_of(leg.market, found.mark))
    which = "last" if sheet.breached else "first"
    yield f"    {which} mark in breach: {mark} (now {_number(mark_of(leg.market, leg.mark))})"


def _bankruptcy(sheet: Worksheet, leg: Leg) -> Iterator[str]:
    yield f"  bankruptcy price of {_name(leg)}"
    if len(sheet.legs) == 1:
        yield f"    it may lose the whole equity, {_money(leg.share)}"
    elif sheet.allocation == "isolated":
        yield f"    its own profit and its part of the cash, by entry value: {_money(leg.share)}"
    elif sheet.allocation == "all":
        yield (
            f"    it has the largest loss and may lose the whole equity, {_money(leg.share)}"
            if leg.share
            else "    the equity is borne by the position with the largest loss"
        )
    elif sheet.maintenance:
        yield (
            f"    its share of equity by maintenance: {_money(sheet.equity)} x {_money(leg.need.result)} / "
            f"{_money(sheet.maintenance)} = {_money(leg.share)}"
        )
    else:
        yield f"    without maintenance equity is shared evenly: {_money(leg.share)}"
    fee = f" + {_money(leg.exit_fee)} for the fee to close" if leg.exit_fee else ""
    worth = f"{_money(leg.value)} - {_signed(leg.share)}{fee} = {_money(leg.bankruptcy_value)}"
    if leg.bankruptcy_price is None:
        yield f"    closed for {worth}: no price is worth that"
    else:
        price = _number(leg.bankruptcy_price)
        yield f"    closed for {worth}, at a price of {_over_size(leg, _money(leg.bankruptcy_value))} = {price}"


def _over_size(leg: Leg, value: str) -> str:
    """Return the quotient that turns a value into a price."""
    size = _number(size_of(leg.market, leg.size))
    multiplier = leg.market.multiplier
    contracts = size if multiplier == 1 else f"({size} x {_number(multiplier)})"
    return f"-({contracts}) / {value}" if payoff_of(leg.market) == "inverse" else f"{value} / {contracts}"


def as_json(sheet: Worksheet | Untold) -> dict[str, Any]:
    """Return a worksheet as plain values: amounts, prices and rates are decimal text, never floats."""
    if isinstance(sheet, Untold):
        return {"ts": format_time(sheet.ts), "markets": list(sheet.markets), "untold": sheet.reason}
    return {
        "ts": format_time(sheet.ts),
        "what": sheet.what,
        "breached": sheet.breached,
        "mode": "isolated" if sheet.isolated else "cross",
        "currency": sheet.currency,
        "cash" if sheet.entries_known else "cash_less_entry_values": format_units(sheet.cash, MONEY_SCALE),
        "equity": format_units(sheet.equity, MONEY_SCALE),
        "maintenance": format_units(sheet.maintenance, MONEY_SCALE),
        "positions": [_leg_json(leg) for leg in sheet.legs],
    }


def _leg_json(leg: Leg) -> dict[str, Any]:
    market, need, found = leg.market, leg.need, leg.liquidation
    value = sought_value(leg)
    return {
        "market": market.name,
        "payoff": payoff_of(market),
        "multiplier": str(market.multiplier),
        "size": format_units(leg.size, market.qty_scale),
        "mark": format_units(leg.mark, market.mark_scale),
        "value": format_units(leg.value, MONEY_SCALE),
        "entry_value": None if leg.cost is None else format_units(leg.cost, MONEY_SCALE),
        "profit": None if leg.cost is None else format_units(leg.value - leg.cost, MONEY_SCALE),
        "maintenance": {
            "notional": format_units(need.notional, MONEY_SCALE),
            "tier": need.tier + 1,
            "tiers": need.tiers,
            "table_rate": format_units(need.table_rate, RATE_SCALE),
            "rate_per_unit": format_units(need.growth, RATE_SCALE),
            "root_factor": format_units(need.factor, RATE_SCALE),
            "units": None if need.units is None else str(need.units),
            "root": None if need.root is None else _plain(need.root, _DIGITS),
            "rate": format_units(need.rate, RATE_SCALE),
            "deduction": format_units(need.deduction, MONEY_SCALE),
            "least": format_units(need.least, MONEY_SCALE),
            "result": format_units(need.result, MONEY_SCALE),
        },
        "liquidation": {
            "collateral": format_units(found.collateral, MONEY_SCALE),
            "rate": format_units(found.rate, RATE_SCALE),
            "deduction": format_units(found.deduction, MONEY_SCALE),
            "jump": found.jump,
            "value": None if value is None or found.jump else _plain(value, MONEY_SCALE),
            "price": None if found.exact is None or found.jump else _plain(found.exact, _DIGITS),
            "mark_in_breach": None if found.mark is None else format_units(found.mark, market.mark_scale),
        },
        "bankruptcy": {
            "share": format_units(leg.share, MONEY_SCALE),
            "exit_fee": format_units(leg.exit_fee, MONEY_SCALE),
            "value": format_units(leg.bankruptcy_value, MONEY_SCALE),
            "price": None if leg.bankruptcy_price is None else _plain(leg.bankruptcy_price, _DIGITS),
        },
        "rank": leg.rank,
        "candidates": leg.candidates,
        "lights": leg.lights,
    }


def _name(leg: Leg) -> str:
    return f"{leg.market.name} {'long' if leg.size > 0 else 'short'}"


def _money(atoms: int) -> str:
    return _number(Fraction(atoms, ATOM), MONEY_SCALE)


def _signed(atoms: int) -> str:
    """Return an amount inside a sum: one below zero in brackets."""
    return _money(atoms) if atoms >= 0 else f"({_money(atoms)})"


def _percent(rate: int) -> str:
    return f"{format_units(rate * 100, RATE_SCALE)} %"


def _plain(value: Fraction, digits: int) -> str:
    scaled = value * 10**digits
    return format_units(divide_half_even(scaled.numerator, scaled.denominator), digits)


def _number(value: Fraction, digits: int = _DIGITS) -> str:
    """Return a number with marks of thousands, rounded to some decimals without trailing zeros."""
    text = _plain(value, digits)
    whole, dot, rest = text.removeprefix("-").partition(".")
    return f"{'-' if text.startswith('-') else ''}{int(whole):,}{dot}{rest}"
