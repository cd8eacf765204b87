"""Reading a hand-written TOML file: to its typed model, and every fault to one message that says where."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from replay.errors import SourceError
from replay.sources.scenario_model import Scenario

Content = TypeVar("Content", bound=BaseModel)
Place = tuple[str | int, ...]
"""Where something stands in the file: ``("trades", 3, "price")``, counted from zero."""

_HEADER = re.compile(r"[ \t]*\[\[\s*(\w+)\s*\]\]")
_SENTENCES = {
    "tuple_type": "must be a list: [...], or a [[section]] of its own per entry",
    "too_short": "must not be empty",
    "too_long": "has more values than {max_length}",
    "model_type": "must be a table: {{ key = value, ... }}",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "literal_error": "must be {expected}",
}
_SYNTAX = re.compile(r"(.*?) \(at line (\d+), column (\d+)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Form(Generic[Content]):
    """A kind of hand-written file.

    Attributes:
        model: What it may hold.
        called: What it is called in messages, with its article.
        guide: The page that describes it.
    """

    model: type[Content]
    called: str
    guide: str


SCENARIO = Form(Scenario, "a scenario", "docs/scenarios.md")


class Page:
    """The text of a hand-written file, to say where in it a fault is."""

    def __init__(self, path: Path, text: str = "") -> None:
        self.path = path
        self._headers: dict[str, list[int]] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            header = _HEADER.match(line)
            if header is not None:
                self._headers.setdefault(header.group(1), []).append(number)

    def error(self, problem: str, place: Place = (), mend: str | None = None) -> SourceError:
        """Return the error for a fault at a place: dotted key, and the line of its ``[[entry]]``."""
        row = None
        if len(place) >= 2 and isinstance(place[1], int):
            lines = self._headers.get(str(place[0]), [])
            row = lines[place[1]] if place[1] < len(lines) else None
        return SourceError(problem, file=self.path, row=row, key=key_of(place) or None, mend=mend)


def key_of(place: Place) -> str:
    """Write a place as a dotted key: ``trades[3].price``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def read_scenario(path: Path) -> tuple[Scenario, Page]:
    """Read and validate a scenario file; see :func:`read_form`."""
    return read_form(path, SCENARIO)


def read_form(path: Path, form: Form[Content]) -> tuple[Content, Page]:
    """Read and validate a hand-written file.

    Raises:
        SourceError: Not readable, not TOML, an unknown or missing key, a value of another form.
    """
    return parse_form(read_text(path, form), path, form)


def read_text(path: Path, form: Form[Any]) -> str:
    """Return the text of a hand-written file.

    Raises:
        SourceError: Not readable, or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as failure:
        raise SourceError(f"cannot be read: {failure.strerror}", file=path) from failure
    except UnicodeDecodeError as failure:
        raise SourceError("is not UTF-8 text", file=path, mend=f"{form.called} is a TOML file") from failure


def parse_form(text: str, path: Path, form: Form[Content]) -> tuple[Content, Page]:
    """Validate the text of a hand-written file; see :func:`read_form`."""
    try:
        document = tomllib.loads(text, parse_float=lambda literal: literal.replace("_", ""))
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as failure:
        syntax = _SYNTAX.match(str(failure))
        problem, row = (syntax.group(1), int(syntax.group(2))) if syntax else (str(failure), None)
        raise SourceError(
            f"is not TOML: {problem}", file=path, row=row, mend=f"see {form.guide}"
        ) from failure
    page = Page(path, text)
    try:
        return form.model.model_validate(document), page
    except ValidationError as failure:
        raise _first_fault(failure.errors(include_url=False), page, form) from failure


def _first_fault(faults: list[ErrorDetails], page: Page, form: Form[Content]) -> SourceError:
    """Turn the most telling fault into the error: a misspelt key before what is missing because of it."""
    details = next((item for item in faults if item["type"] == "extra_forbidden"), faults[0])
    place: Place = details["loc"]
    context = details.get("ctx", {})
    if details["type"] == "scenario":
        return page.error(context["problem"], place, context["mend"])
    if details["type"] == "extra_forbidden":
        allowed = _keys(form.model, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), allowed, n=1)
        mend = f"did you mean `{near[0]}`?" if near else f"allowed: {', '.join(sorted(allowed))}"
        return page.error(f"is not a key of {form.called}", place, mend)
    if details["type"] == "missing":
        return page.error("is missing", place, f"see {form.guide} for what an entry needs")
    found = details["input"]
    shown = "" if isinstance(found, dict | list) else f", found {str(found)!r}"
    sentence = _SENTENCES.get(details["type"], details["msg"])
    return page.error(sentence.format(**context) + shown, place, f"see {form.guide} for its form")


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """Return the keys that may stand at a place below a model, by following its annotations."""
    for part in place:
        if isinstance(part, int):
            continue
        field = next(f for n, f in model.model_fields.items() if (f.alias or n) == part)
        model = _model_in(field.annotation)
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel]:
    """Return the one model inside an annotation such as ``tuple[Trade, ...]`` or ``Pool | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if inner is not Ellipsis and inner is not type(None):
            return _model_in(inner)
    raise TypeError(f"{annotation!r} holds no model")
