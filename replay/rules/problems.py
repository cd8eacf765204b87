"""From the validator's findings to one message a person can act on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from replay.errors import RulesError
from replay.rules import absorbers, margin, model, waterfall
from replay.rules.axes import AXES, LATER_KEYS
from replay.rules.numbers import FloatText, Section


@dataclass(frozen=True, slots=True)
class Choice:
    """A table that is one of several, by the value of one of its keys."""

    key: str
    tables: Mapping[str, type[Section]]


CHOICES: Mapping[str, Choice] = {
    "margin": Choice(
        "shape",
        {
            "flat": margin.FlatMargin,
            "bracket_deduction": margin.BracketMargin,
            "bracket_whole": margin.WholeMargin,
            "im_fraction": margin.ShareMargin,
            "adjustment_factor": margin.FactorMargin,
            "risk_steps": margin.StepsMargin,
            "linear_size": margin.SizesMargin,
            "sqrt_size": margin.RootsMargin,
            "weights": margin.WeightsMargin,
        },
    ),
    "ladder.*": Choice(
        "action",
        {
            "book_order": waterfall.BookOrderRung,
            "takeover": waterfall.TakeoverRung,
            "adl": waterfall.AdlRung,
            "cancel_orders": waterfall.CancelRung,
            "net_own_hedge": waterfall.NetRung,
        },
    ),
    "ladder.*.rate_limit": Choice(
        "kind", {"notional_per_step": waterfall.StepLimit, "time_ramp": waterfall.TimeRamp}
    ),
    "adl": Choice("enabled", {"false": waterfall.AdlOff, "true": waterfall.AdlOn}),
    "depth": Choice(
        "provider",
        {
            "none": waterfall.NoDepth,
            "levels": waterfall.LevelsDepth,
            "volume": waterfall.VolumeDepth,
            "static": waterfall.StaticDepth,
        },
    ),
}
"""The tables that are one of several; ``*`` stands for a list index."""

SECTIONS: Mapping[str, tuple[type[Section], ...]] = {
    "": (model.Rules,),
    "step": (model.Step,),
    "price": (model.Price,),
    "price.stale_guard": (model.StaleGuard,),
    "margin.tables.*": (margin.MarginTable,),
    "margin.tables.*.tiers.*": (margin.Tier,),
    "margin.steps.*": (margin.StepsTable,),
    "margin.sizes.*": (margin.SizesTable,),
    "margin.roots.*": (margin.RootsTable,),
    "margin.weights.*": (margin.WeightsTable,),
    "trigger": (model.Trigger,),
    "bankruptcy": (waterfall.Bankruptcy,),
    "adl.exempt": (waterfall.Exempt,),
    "absorbers.*": (absorbers.Absorber,),
    "absorbers.*.groups.*": (absorbers.AbsorberGroup,),
    "absorbers.*.active_windows.*": (absorbers.Span,),
    "overlays.*": (absorbers.Overlay,),
    "overlays.*.window": (absorbers.Span,),
    "depth.static.*": (waterfall.StaticLevel,),
    "socialise": (waterfall.Socialise,),
    **{pattern: tuple(choice.tables.values()) for pattern, choice in CHOICES.items()},
}
"""The tables of a rule file; ``*`` stands for a list index."""

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class _Finding:
    key: str
    text: str
    mend: str
    missing: bool = False
    replaces: str = ""  # the key that an unknown one was probably meant to be


def rules_error(failure: ValidationError, place: Callable[[str], str]) -> RulesError:
    """Turn a failed validation into one error: the first problem, and how many more there are.

    Args:
        failure: What validation of a :class:`~replay.rules.model.Rules` raised.
        place: Tells from a dotted key where it was set (the file, or an override).
    """
    findings = [_finding(details) for details in failure.errors(include_url=False)]
    meant = {finding.replaces for finding in findings}
    findings = [finding for finding in findings if not (finding.missing and finding.key in meant)]
    findings.sort(key=lambda finding: finding.missing)
    first, more = findings[0], len(findings) - 1
    text = first.text
    if more:
        text += f" (and {more} more {'problem' if more == 1 else 'problems'})"
    return RulesError(text, file=place(first.key), key=first.key or None, mend=first.mend or None)


def fields_of(section: type[Section]) -> dict[str, str]:
    """Return the keys of a table as they are written in a file, each with its meaning ("" for an axis)."""
    return {field.alias or name: field.description or "" for name, field in section.model_fields.items()}


def pattern_of(parts: Iterable[str | int]) -> str:
    """Return a dotted key with list indices written as ``*``."""
    return ".".join("*" if isinstance(part, int) else part for part in parts)


def choices(values: Iterable[str]) -> str:
    """Return the values of an axis as they are written in a file."""
    return ", ".join(value if value in ("true", "false") else json.dumps(value) for value in values)


def _finding(details: ErrorDetails) -> _Finding:
    loc, tag = _location(details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "rules":
        inner = context["key"]
        key = ".".join(filter(None, (_dotted(loc), inner)))
        return _Finding(key, context["problem"], context["mend"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _undecided(loc, details["input"])
    if kind == "missing":
        return _missing(loc, tag)
    if kind == "extra_forbidden":
        return _unknown(loc, tag)
    if kind == "literal_error":
        return _not_a_value(loc, details["input"], tag)
    wanted = {
        "string_type": "text in quotes",
        "date_type": "a date such as 2023-02-01, without quotes and time of day",
        "tuple_type": "a list",
        "model_type": "a table",
        "model_attributes_type": "a table",
    }.get(kind)
    if wanted is None:
        return _Finding(_dotted(loc), details["msg"], "")
    return _wanted(loc, wanted, details["input"], tag)


def _wanted(loc: Sequence[str | int], wanted: str, found: object, tag: str | None) -> _Finding:
    return _Finding(_dotted(loc), f"must be {wanted}, found {_shown(found)}", _or_nothing(_meaning(loc, tag)))


def _undecided(loc: Sequence[str | int], found: object) -> _Finding:
    """Explain a table that is one of several while its key does not say which."""
    key = CHOICES[pattern_of(loc)].key
    if not isinstance(found, dict):
        return _wanted(loc, "a table", found, None)
    inner = (*loc, key)
    if key not in found:
        return _missing(inner, None)
    if set(AXES[pattern_of(inner)].now) == {"true", "false"}:
        return _Finding(_dotted(inner), "must be true or false", "write true or false without quotes")
    return _not_a_value(inner, found[key], None)


def _location(loc: Sequence[str | int]) -> tuple[tuple[str | int, ...], str | None]:
    """Return the place of a finding without the tag that the validator puts behind a table of several."""
    parts: list[str | int] = []
    tag: str | None = None
    behind = False
    for part in loc:
        if behind and isinstance(part, str) and part in CHOICES[pattern_of(parts)].tables:
            tag, behind = part, False
            continue
        parts.append(part)
        behind = pattern_of(parts) in CHOICES
    return tuple(parts), tag


def _dotted(loc: Iterable[str | int]) -> str:
    parts = map(str, loc)
    return ".".join(part if part.isprintable() else ascii(part) for part in parts)


def _table(loc: Sequence[str | int], tag: str | None) -> tuple[str, type[Section]]:
    """Return the pattern and model of the table that holds a key."""
    pattern = pattern_of(loc[:-1])
    if pattern in CHOICES and tag is not None:
        return pattern, CHOICES[pattern].tables[tag]
    return pattern, SECTIONS[pattern][0]


def _title(loc: Sequence[str | int]) -> str:
    """Name the table that holds a key as the file writes it."""
    names = [str(part) for part in loc[:-1] if isinstance(part, str)]
    if not names:
        return "the file"
    name = ".".join(names)
    return f"[[{name}]]" if isinstance(loc[-2], int) else f"[{name}]"


def _meaning(loc: Sequence[str | int], tag: str | None) -> str:
    if pattern_of(loc) in AXES:
        now = _values_now(loc, tag)
        return f"one of {choices(now)}" if len(now) > 1 else choices(now)
    if isinstance(loc[-1], int):
        return ""
    return fields_of(_table(loc, tag)[1]).get(str(loc[-1]), "")


def _values_now(loc: Sequence[str | int], tag: str | None) -> list[str]:
    """Return the values a key may have in the table it stands in, in the order of its axis."""
    now = list(AXES[pattern_of(loc)].now)
    if tag is None:
        return now
    fields = _table(loc, tag)[1].model_fields
    parts = get_args(fields[str(loc[-1])].annotation)
    allowed = [value for part in parts for value in get_args(part) or (part,)]  # a key that may be left out
    here = {str(value).lower() if isinstance(value, bool) else value for value in allowed}
    return [value for value in now if value in here]


def _or_nothing(meaning: str) -> str:
    return f"wanted: {meaning}" if meaning else ""


def _missing(loc: Sequence[str | int], tag: str | None) -> _Finding:
    return _Finding(
        _dotted(loc),
        f"`{loc[-1]}` is missing in {_title(loc)}",
        f"write {_meaning(loc, tag)}",
        missing=True,
    )


def _unknown(loc: Sequence[str | int], tag: str | None) -> _Finding:
    """Explain a key that the model does not have: still to come, of another shape, or a misspelling."""
    key, title = str(loc[-1]), _title(loc)
    pattern, section = _table(loc, tag)
    allowed = list(fields_of(section))
    here = f"allowed in {title} now: {', '.join(allowed)}"
    later = LATER_KEYS.get(pattern, {}).get(key)
    if later is not None:
        return _Finding(
            _dotted(loc), f"not yet: `{key}` in {title} ({later}) is not supported in this version", here
        )
    choice = CHOICES.get(pattern)
    owners = [name for name, other in choice.tables.items() if key in fields_of(other)] if choice else []
    if choice is not None and owners:
        named = f"{choice.key} = {choices(owners[:1])}"
        found = f"the {choice.key} here is {choices([str(tag)])}"
        return _Finding(_dotted(loc), f"`{key}` belongs to {named}, {found}", here)
    close = difflib.get_close_matches(key.lower(), allowed, n=1)
    hint = f"did you mean `{close[0]}`? " if close else ""
    return _Finding(
        _dotted(loc),
        f"unknown key `{_dotted([key])}` in {title}",
        hint + here,
        replaces=_dotted((*loc[:-1], close[0])) if close else "",
    )


def _not_a_value(loc: Sequence[str | int], found: object, tag: str | None) -> _Finding:
    """Explain a value outside its closed list: still to come, of another table, or a misspelling."""
    axis, shown = AXES[pattern_of(loc)], _shown(found)
    values = _values_now(loc, tag)
    now = choices(values)
    if isinstance(found, str) and found in axis.later:
        return _Finding(
            _dotted(loc), f"not yet: {shown} is not supported in this version", f"available now: {now}"
        )
    pattern = pattern_of(loc[:-1])
    if isinstance(found, str) and found in axis.now and pattern in CHOICES:
        here = f"{CHOICES[pattern].key} = {choices([str(tag)])}"
        return _Finding(_dotted(loc), f"{shown} does not go with {here}", f"allowed there: {now}")
    hint = ""
    if isinstance(found, str):
        close = difflib.get_close_matches(found.lower(), [*values, *axis.later], n=1)
        hint = f"did you mean {json.dumps(close[0])}? " if close else ""
    later = f"; not yet: {choices(axis.later)}" if axis.later else ""
    return _Finding(_dotted(loc), f"{shown} is not a value of it", f"{hint}allowed now: {now}{later}")


def _shown(value: object) -> str:
    """Return a value as a short text, much as the file writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, FloatText):
        text = value.text
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=not value.isprintable())
    elif isinstance(value, int):
        text = str(value) if value.bit_length() < 200 else "a huge number"
    elif isinstance(value, Mapping):
        text = "a table"
    elif isinstance(value, list):
        text = "a list"
    elif isinstance(value, datetime):
        text = f"the moment {value.isoformat()}"
    elif isinstance(value, date):
        text = f"the date {value.isoformat()}"
    else:
        text = str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
