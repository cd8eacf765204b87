"""What a rule book says, value by value, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from replay.rules.axes import AXES
from replay.rules.compile import NAMED_SCORES
from replay.rules.margin import FlatMargin, MarginTable, tables_of
from replay.rules.model import RuleBook
from replay.rules.plan import Adl, BookOrder, Plan, Rung
from replay.rules.problems import pattern_of
from replay.rules.waterfall import TIES
from replay.units import RATE_SCALE, format_units, parse_decimal


class Explained(NamedTuple):
    """One value of a rule book: its dotted key, the value as text, and what it means."""

    key: str
    value: str
    sentence: str


def _percent(rate: str) -> str:
    mantissa, digits = parse_decimal(rate)
    return f"{format_units(mantissa * 100, digits)} %"


_OTHERS = "(left out)"
TABLES = ("margin.tables.*", "margin.steps.*", "margin.sizes.*", "margin.roots.*", "margin.weights.*")
"""The tables of margins, each for some markets or for all others."""
_LISTED = 4


def _level(level: str) -> str:
    if level == "1":
        return "It acts on every pool in breach that no lower level takes."
    if level == "0":
        return "It acts on a pool whose equity is below zero."
    return f"It acts on a pool whose equity is below {level} of its maintenance."


def _markets(value: str) -> str:
    others = "This table is for the markets that no other names."
    return others if value == _OTHERS else f"This table is for {value}."


def _currencies(value: str) -> str:
    return f"Its notional is in the market's settle currency: {value}."


def _then(words: str) -> str:
    return ", then ".join(TIES[word] for word in words.split(", "))


FREE: Mapping[str, Callable[[str], str]] = {
    "venue": lambda value: f"The exchange is {value}.",
    "title": lambda _value: "What the file describes.",
    "valid_from": lambda value: f"The rules hold from the beginning of {value}, UTC.",
    "valid_to": lambda value: f"They hold until the end of {value}, UTC.",
    "step.period": lambda value: f"a period is {value}, and between the rounds everything else is booked.",
    "step.max_liquidations": lambda value: (
        f"Of the pools in breach at most {value} are liquidated in a step, those longest in breach first."
    ),
    "step.max_deleveragings": lambda value: (
        f"At most {value} of their positions are tried at auto-deleveraging in a step, in the same order."
    ),
    "price.stale_guard.divergence": lambda value: (
        f"Nothing is liquidated in a market while its price is {_percent(value)} or more from its average"
    ),
    "price.stale_guard.window": lambda value: f"of {value},",
    "price.stale_guard.clamp": lambda value: (
        f"in which a price counts as at most {_percent(value)} from another,"
    ),
    "price.stale_guard.clamp_window": lambda value: f"of {value}.",
    "margin.rate": lambda value: f"Maintenance is {_percent(value)} of notional, rounded up to the atom.",
    "margin.exit_fee": lambda value: (
        f"Maintenance also holds a fee of closing of {_percent(value)} of notional."
    ),
    "margin.least": lambda value: f"No position needs less than {value} of its currency.",
    **{f"{table}.markets": _markets for table in TABLES},
    **{f"{table}.currencies": _currencies for table in TABLES},
    "margin.steps.*.base_limit": lambda value: f"Up to a notional of {value}",
    "margin.steps.*.base_rate": lambda value: f"maintenance is {_percent(value)} of the whole;",
    "margin.steps.*.step": lambda value: f"each full or begun {value} above it",
    "margin.steps.*.step_rate": lambda value: f"adds {_percent(value)},",
    "margin.steps.*.steps": lambda value: f"{value} times at most.",
    "margin.sizes.*.base_rate": lambda value: f"Maintenance is {_percent(value)} of the whole,",
    "margin.sizes.*.rate_per_unit": lambda value: f"and {_percent(value)} more for each unit of size.",
    "margin.roots.*.base_rate": lambda value: f"Maintenance is {_percent(value)} of the whole at least; or",
    "margin.roots.*.factor": lambda value: (
        f"four fifths of that and {_percent(value)} x root of (10 x size + 1)."
    ),
    "margin.leverage": lambda value: (
        f"A position occupies its value over {value}; the rates of the tiers are shares of that."
    ),
    "margin.weights.*.long": lambda value: f"Of its value a long counts {value},",
    "margin.weights.*.short": lambda value: f"and a short {value}; the difference to 1 is its maintenance.",
    "margin.share": lambda value: f"Maintenance is {_percent(value)} of the initial margin.",
    "ladder.*.level": _level,
    "ladder.*.slice_above": lambda value: f"Of a position of more than {value} only a slice is sent,",
    "ladder.*.slice_share": lambda value: f"which is {_percent(value)} of it;",
    "ladder.*.cooldown": lambda value: f"for {value} after a slice was filled, orders are whole.",
    "ladder.*.fee": lambda value: f"The fee is {_percent(value)} of what is traded.",
    "ladder.*.absorber": lambda value: f"The taker is the absorber called {value}.",
    "ladder.*.limit_bp": lambda value: f"The band is {value} basis points wide.",
    "ladder.*.tiers": lambda value: f"It goes down by {value} tiers, at most to the lowest.",
    "ladder.*.share": lambda value: f"The share, or the step of a grid of shares, is {_percent(value)}.",
    "ladder.*.cap": lambda value: f"That is {value}, one lot at least.",
    "ladder.*.exit": lambda value: f"Restored is a pool whose equity is {value} x maintenance.",
    "ladder.*.spread": lambda value: f"At most that is {value} x the maintenance of the position.",
    "ladder.*.rate_limit.notional": lambda value: f"that is {value}, at least one lot of the first position.",
    "ladder.*.rate_limit.initial": lambda value: f"it is {_percent(value)} at first,",
    "ladder.*.rate_limit.full_after": lambda value: (
        f"and grows by as much as takes {value} from nothing to all."
    ),
    "ladder.*.rate_limit.whole_below": lambda value: (
        f"Positions worth {value} at most, and pools that lack less for their maintenance, do not wait for that."
    ),
    "bankruptcy.fee_rate": lambda value: f"That fee is {_percent(value)} of the value.",
    "ladder.*.penalty": lambda value: f"At most {_percent(value)} of maintenance goes along.",
    "absorbers.*.amount": lambda value: f"The amount is {value}",
    "absorbers.*.currencies": lambda value: (
        f"of each of {value}; in others it opens with what the tape gives it."
    ),
    "absorbers.*.groups.*.name": lambda value: f"The balance called {value}",
    "absorbers.*.groups.*.markets": lambda value: f"serves {value}.",
    "absorbers.*.per_trade": lambda value: f"It pays at most {value} for one forced order,",
    "absorbers.*.per_account_and_step": lambda value: f"at most {value} for an account at one step,",
    "absorbers.*.per_market_and_day": lambda value: (
        f"for a market in a day at most {_percent(value)} of what it had when the day first asked for something,"
    ),
    "absorbers.*.per_day": lambda value: f"for all of its markets at most {_percent(value)} of that,",
    "absorbers.*.lifetime": lambda value: f"and at most {value} for a market ever.",
    "absorbers.*.inventory_cap": lambda value: f"What it holds is worth {value} x its balance at most.",
    "absorbers.*.active_windows.*.from": lambda value: f"It acts from {value}",
    "absorbers.*.active_windows.*.until": lambda value: f"until {value}.",
    "overlays.*.markets": lambda value: f"What follows holds for {value} only.",
    "overlays.*.window.from": lambda value: f"It holds from {value}",
    "overlays.*.window.until": lambda value: f"until {value}.",
    "absorbers.*.name": lambda value: f"The ladder calls it {value}.",
    "absorbers.*.drawdown_start": lambda value: (
        f"A market deleverages once its profit fell by {_percent(value)} of the highest balance,"
    ),
    "absorbers.*.drawdown_stop": lambda value: f"until the fall is less than {_percent(value)},",
    "absorbers.*.window": lambda value: f"both measured against the peaks of the last {value},",
    "absorbers.*.least_balance": lambda value: f"if the balance is above {value}.",
    "socialise.session_start": lambda value: f"A session is a day that begins {value} after midnight UTC.",
    "adl.method": lambda value: f"The winners that are closed are chosen by {value}.",
    "adl.winner_cap": lambda value: f"A step closes at most {_percent(value)} of a position.",
    "adl.winner_fee": lambda value: f"A winner pays {_percent(value)} of the value.",
    "adl.loser_fee": lambda value: f"A loser pays {_percent(value)} of the value.",
    "adl.lights": lambda value: f"Ranks are shown in {value} steps.",
    "adl.fallback_below": lambda value: f"that is {_percent(value)} of what it opened with, or less.",
    "adl.tie_break": lambda value: f"Of equal scores the first is {_then(value)}.",
    "adl.exempt.markets": lambda value: f"There is none in the markets {value}.",
    "adl.exempt.accounts": lambda value: f"No position of the accounts {value} is closed by it.",
    "depth.haircut": lambda value: f"{_percent(value)} of it is not there in need.",
    "depth.half_life": lambda value: (
        "What forced orders took is back at the next step."
        if value == "0s"
        else f"Half of what forced orders took is back after {value}."
    ),
    "depth.cap_per_step": lambda value: f"Forced orders take at most {_percent(value)} of it in a step.",
    "depth.participation": lambda value: f"{_percent(value)} of the traded volume is offered,",
    "depth.window": lambda value: f"counted over the last {value},",
    "depth.slippage_bp": lambda value: f"at {value} basis points behind the mark.",
    "depth.currencies": lambda value: f"Its notional is in the market's settle currency: {value}.",
}
"""The sentence of every key without a closed list of values, but for those of :data:`ROWS`."""


def _tier(row: Mapping[str, str]) -> str:
    whole = f"From {row['from']} on maintenance is {_percent(row['rate'])} of the whole notional"
    return f"{whole}." if row["deduction"] == "0" else f"{whole}, less {row['deduction']}."


def _static_level(row: Mapping[str, str]) -> str:
    return f"{row['bp']} basis points behind the mark it holds a notional of {row['notional']}."


ROWS: Mapping[str, Callable[[Mapping[str, str]], str]] = {
    "margin.tables.*.tiers.*": _tier,
    "depth.static.*": _static_level,
}
"""The one sentence of every table that is explained as a row of its values."""


def explain(book: RuleBook) -> list[Explained]:
    """Return every value of a rule book with a sentence, in the order of the file format.

    The assumptions are left out: they are sentences themselves.
    """
    found = []
    for parts, value in _leaves(book.resolved, ()):
        if parts[0] == "assumptions":
            continue
        pattern, key = pattern_of(parts), ".".join(map(str, parts))
        if isinstance(value, dict):
            found.append(Explained(key, ", ".join(value.values()), ROWS[pattern](value)))
            continue
        if isinstance(value, list):
            found.append(Explained(key, _shortened(value), FREE[pattern](", ".join(value))))
            continue
        text = str(value).lower() if isinstance(value, bool) else value
        axis = AXES.get(pattern)
        found.append(Explained(key, text, axis.now[text] if axis else FREE[pattern](text)))
    return found


def summary(book: RuleBook, plan: Plan) -> dict[str, str]:
    """Return what a rule book compiles to in a few short lines, each with its label."""
    margin = book.rules.margin
    if isinstance(margin, FlatMargin):
        shape = f"flat, rate {format_units(margin.rate, RATE_SCALE)}"
    else:
        tables = tables_of(margin)[1]
        shape = f"{margin.shape}, {_counted(len(tables), 'table')}"
        tiers = sum(len(table.tiers) for table in tables if isinstance(table, MarginTable))
        shape += f", {_counted(tiers, 'tier')}" if tiers else ""
    return {
        "margin": shape,
        "ladder": "; ".join(_rung(rung) for rung in plan.ladder),
        "absorber": ", ".join(absorber.account for absorber in plan.absorbers) or "none",
        "adl": _adl(plan.adl) if plan.adl else "none",
        "depth": plan.depth.provider if plan.depth else "none",
    }


def _adl(adl: Adl) -> str:
    score = next(
        (name for name, terms in NAMED_SCORES.items() if terms == _terms(adl)), " x ".join(_terms(adl))
    )
    who = score if adl.method == "queue" else f"{adl.method}, ranked by {score},"
    need = f", at {adl.fallback_price} while the absorber is low" if adl.fallback_price else ""
    return f"{who} at {adl.price}{need}"


def _terms(adl: Adl) -> tuple[str, str, str]:
    return adl.profit_term, adl.leverage_term, adl.equity_scope


def _rung(rung: Rung) -> str:
    action = "book, step down," if isinstance(rung, BookOrder) and rung.size == "step_down" else rung.action
    return f"{action} below {_share(rung.level)}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _share(level: tuple[int, int]) -> str:
    if level[0] == 0:
        return "zero"
    return "maintenance" if level == (1, 1) else f"{level[0]}/{level[1]} of maintenance"


def _shortened(names: list[str]) -> str:
    """Return a list that fits beside its sentence, which has it whole."""
    return ", ".join(names) if len(names) <= _LISTED else f"{', '.join(names[:2])}, ... ({len(names)})"


def _leaves(value: Any, parts: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    pattern = pattern_of(parts)
    if pattern in ROWS:
        yield parts, value
    elif isinstance(value, dict):
        if pattern in TABLES and "markets" not in value:
            yield (*parts, "markets"), _OTHERS
        for key, inner in value.items():
            yield from _leaves(inner, (*parts, key))
    elif isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        yield parts, value
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*parts, index))
    else:
        yield parts, value
