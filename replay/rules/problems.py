"""From the validator's findings to one message a person can act on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from replay.errors import RulesError
from replay.rules import model
from replay.rules.axes import AXES, LATER_KEYS
from replay.rules.model import FloatText, Section

SHAPES: Mapping[str, type[Section]] = {"flat": model.FlatMargin, "bracket_deduction": model.BracketMargin}
"""The tables ``[margin]`` may be, by its ``shape``."""

SECTIONS: Mapping[str, tuple[type[Section], ...]] = {
    "": (model.Rules,),
    "step": (model.Step,),
    "price": (model.Price,),
    "margin": tuple(SHAPES.values()),
    "margin.tiers.*": (model.Tier,),
    "trigger": (model.Trigger,),
    "ladder.*": (model.TakeoverStage,),
    "bankruptcy": (model.Bankruptcy,),
    "absorbers.*": (model.Absorber,),
    "adl": (model.Adl,),
    "socialise": (model.Socialise,),
}
"""The tables of a rule file; ``*`` stands for a list index. ``[margin]`` has one model for each shape."""

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
    loc, shape = _location(details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "rules":
        inner = context["key"]
        key = ".".join(filter(None, (_dotted(loc), inner)))
        return _Finding(key, context["problem"], context["mend"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        found = details["input"].get("shape")
        if found is None:
            return _missing((*loc, "shape"), shape)
        return _not_a_value((*loc, "shape"), found)
    if kind == "missing":
        return _missing(loc, shape)
    if kind == "extra_forbidden":
        return _unknown(loc, shape)
    if kind == "literal_error":
        return _not_a_value(loc, details["input"])
    wanted = {
        "string_type": "text in quotes",
        "date_type": "a date such as 2023-02-01, without quotes and time of day",
        "tuple_type": "a list",
        "model_type": "a table",
        "model_attributes_type": "a table",
    }.get(kind)
    if wanted is None:
        return _Finding(_dotted(loc), details["msg"], "")
    return _Finding(
        _dotted(loc), f"must be {wanted}, found {_shown(details['input'])}", _or_nothing(_meaning(loc, shape))
    )


def _location(loc: Sequence[str | int]) -> tuple[tuple[str | int, ...], str | None]:
    """Return the place of a finding without the shape that the validator puts behind ``margin``."""
    if len(loc) > 1 and loc[0] == "margin" and loc[1] in SHAPES:
        return ("margin", *loc[2:]), str(loc[1])
    return tuple(loc), None


def _dotted(loc: Iterable[str | int]) -> str:
    parts = map(str, loc)
    return ".".join(part if part.isprintable() else ascii(part) for part in parts)


def _table(loc: Sequence[str | int], shape: str | None) -> tuple[str, type[Section]]:
    """Return the pattern and model of the table that holds a key."""
    pattern = pattern_of(loc[:-1])
    if pattern == "margin" and shape is not None:
        return pattern, SHAPES[shape]
    return pattern, SECTIONS[pattern][0]


def _title(loc: Sequence[str | int]) -> str:
    """Name the table that holds a key as the file writes it."""
    names = [str(part) for part in loc[:-1] if isinstance(part, str)]
    if not names:
        return "the file"
    name = ".".join(names)
    return f"[[{name}]]" if isinstance(loc[-2], int) else f"[{name}]"


def _meaning(loc: Sequence[str | int], shape: str | None) -> str:
    axis = AXES.get(pattern_of(loc))
    if axis is not None:
        return f"one of {choices(axis.now)}" if len(axis.now) > 1 else choices(axis.now)
    if isinstance(loc[-1], int):
        return ""
    return fields_of(_table(loc, shape)[1]).get(str(loc[-1]), "")


def _or_nothing(meaning: str) -> str:
    return f"wanted: {meaning}" if meaning else ""


def _missing(loc: Sequence[str | int], shape: str | None) -> _Finding:
    return _Finding(
        _dotted(loc),
        f"`{loc[-1]}` is missing in {_title(loc)}",
        f"write {_meaning(loc, shape)}",
        missing=True,
    )


def _unknown(loc: Sequence[str | int], shape: str | None) -> _Finding:
    """Explain a key that the model does not have: still to come, of another shape, or a misspelling."""
    key, title = str(loc[-1]), _title(loc)
    pattern, section = _table(loc, shape)
    allowed = list(fields_of(section))
    here = f"allowed in {title} now: {', '.join(allowed)}"
    later = LATER_KEYS.get(pattern, {}).get(key)
    if later is not None:
        return _Finding(
            _dotted(loc), f"not yet: `{key}` in {title} ({later}) is not supported in this version", here
        )
    for other in SECTIONS[pattern]:
        if key in fields_of(other):
            owner = next(name for name, candidate in SHAPES.items() if candidate is other)
            return _Finding(
                _dotted(loc), f'`{key}` belongs to shape = "{owner}", the shape here is "{shape}"', here
            )
    close = difflib.get_close_matches(key.lower(), allowed, n=1)
    hint = f"did you mean `{close[0]}`? " if close else ""
    return _Finding(
        _dotted(loc),
        f"unknown key `{_dotted([key])}` in {title}",
        hint + here,
        replaces=_dotted((*loc[:-1], close[0])) if close else "",
    )


def _not_a_value(loc: Sequence[str | int], found: object) -> _Finding:
    """Explain a value outside its closed list: still to come, of another type, or a misspelling."""
    axis, shown = AXES[pattern_of(loc)], _shown(found)
    now = choices(axis.now)
    plain = shown if isinstance(found, bool) else found
    if isinstance(plain, str) and plain in axis.later:
        return _Finding(
            _dotted(loc), f"not yet: {shown} is not supported in this version", f"available now: {now}"
        )
    hint = ""
    if isinstance(found, str):
        close = difflib.get_close_matches(found.lower(), [*axis.now, *axis.later], n=1)
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
