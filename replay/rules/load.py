"""Find, read, override and validate rule files."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from replay.errors import RulesError
from replay.rules.model import RuleBook, Rules, place_of
from replay.rules.numbers import FloatText
from replay.rules.problems import rules_error

_LIMIT = 1 << 20  # no rule file is near this; anything larger was given by mistake
_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A rule file that comes with the package.

    Attributes:
        venue: The exchange.
        version: What follows the ``@`` of the name.
        title: One line that says what the file describes.
        valid_from: First day (UTC) it holds.
        valid_to: Last day (UTC) it holds; None while it still does.
        status: ``final`` or ``draft``.
    """

    venue: str
    version: str
    title: str
    valid_from: date
    valid_to: date | None
    status: str

    @property
    def name(self) -> str:
        """``venue@version``, which ``load_rules`` takes."""
        return f"{self.venue}@{self.version}"

    @property
    def days(self) -> str:
        """The days it holds, in words."""
        return f"{self.valid_from} to {self.valid_to}" if self.valid_to else f"from {self.valid_from}"


def load_rules(name: str, *, on: date | None = None, overrides: Sequence[str] = ()) -> RuleBook:
    """Load a rule book.

    Args:
        name: A venue (its file that holds ``on``), ``venue@version``, the path of a TOML file (it ends in
            ``.toml`` or contains a ``/``), or the path of a folder whose TOML files hold at different times.
        on: The UTC day of the tape. Only needed to choose among several files of a venue.
        overrides: ``key=value`` texts, applied in order. Keys are dotted, list items by index from 0
            (``ladder.0.absorber``); values are TOML, or plain text.

    Raises:
        RulesError: No such rules; the file cannot be read or is not valid; an override is not.
    """
    if name.endswith(".toml") or "/" in name or "\\" in name:
        path = Path(name)
        return load_file(_in_folder(path, on) if path.is_dir() else path, overrides=overrides)
    venue, at, version = name.partition("@")
    shipped = _shipped()
    if venue not in shipped:
        close = difflib.get_close_matches(venue.lower(), shipped, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise RulesError(
            f"there are no rules called {name}",
            mend=f"{hint}there are: {_names(shipped)}; your own file is given by its path, ending in .toml",
        )
    versions = shipped[venue]
    if not at:
        version = _choose(venue, on)
    elif version not in versions:
        raise RulesError(
            f"{venue} has no rules called {version}", mend=f"there are: {_names({venue: versions})}"
        )
    return _read(versions[version], f"{venue}@{version}", overrides)


def load_file(path: Path, *, overrides: Sequence[str] = ()) -> RuleBook:
    """Load a rule book from a file; see :func:`load_rules`."""
    return _read(path, path.stem, overrides)


def list_rules() -> list[RuleFile]:
    """Return the rule files that come with the package, by venue and first day."""
    found = [
        _describe(venue, version, file)
        for venue, versions in _shipped().items()
        for version, file in versions.items()
    ]
    return sorted(found, key=lambda rule_file: (rule_file.venue, rule_file.valid_from, rule_file.version))


def _shipped() -> dict[str, dict[str, Traversable]]:
    """Return the files of ``venues/`` by venue and version, sorted."""
    venues: dict[str, dict[str, Traversable]] = {}
    for folder in sorted(files("replay.rules").joinpath("venues").iterdir(), key=lambda entry: entry.name):
        if folder.is_dir():
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
            versions = {e.name.removesuffix(".toml"): e for e in entries if e.name.endswith(".toml")}
            if versions:
                venues[folder.name] = versions
    return venues


def _describe(venue: str, version: str, file: Traversable) -> RuleFile:
    return _rule_file(version, _read(file, f"{venue}@{version}", ()).rules, venue)


def _rule_file(version: str, rules: Rules, venue: str) -> RuleFile:
    return RuleFile(venue, version, rules.title, rules.valid_from, rules.valid_to, rules.status)


def _names(shipped: dict[str, dict[str, Traversable]]) -> str:
    return ", ".join(f"{venue}@{version}" for venue, versions in shipped.items() for version in versions)


def _choose(venue: str, on: date | None) -> str:
    """Return the version of a venue that holds on a day, or its only one if no day is given."""
    candidates = [rule_file for rule_file in list_rules() if rule_file.venue == venue]
    there_are = f"there are: {'; '.join(f'{c.name} ({c.days})' for c in candidates)}"
    if on is None:
        if len(candidates) > 1:
            raise RulesError(f"{venue} has several rule files", mend=f"name one; {there_are}")
        return candidates[0].version
    return _holding(candidates, venue, on, there_are).version


def _holding(candidates: Sequence[RuleFile], whose: str, on: date, there_are: str) -> RuleFile:
    """Return the only one of several rule files that holds on a day."""
    valid = [c for c in candidates if c.valid_from <= on and (c.valid_to is None or on <= c.valid_to)]
    if not valid:
        raise RulesError(
            f"no rules of {whose} hold on {on}", mend=f"name one to use it all the same; {there_are}"
        )
    if len(valid) > 1:
        first, second = valid[:2]
        raise RulesError(
            f"{first.name} ({first.days}) and {second.name} ({second.days}) both hold on {on}: "
            "their dates overlap",
            mend="end the first with valid_to before the second begins, or name one of them",
        )
    return valid[0]


def _in_folder(folder: Path, on: date | None) -> Path:
    """Return the file of a folder that holds on a day, or its only one if no day is given."""
    found = sorted(folder.glob("*.toml"))
    if not found:
        raise RulesError("has no rule files", file=str(folder), mend="give a folder of TOML files, or a file")
    books = [load_file(path) for path in found]
    venues = sorted({book.rules.venue for book in books})
    if len(venues) > 1:
        raise RulesError(
            f"has rules of several venues: {', '.join(venues)}",
            file=str(folder),
            mend="keep the files of one venue in a folder, or name a file",
        )
    candidates = [_rule_file(book.name, book.rules, book.rules.venue) for book in books]
    there_are = f"there are: {'; '.join(f'{c.version}.toml ({c.days})' for c in candidates)}"
    if on is None and len(candidates) > 1:
        raise RulesError("has several rule files", file=str(folder), mend=f"name one; {there_are}")
    chosen = candidates[0] if on is None else _holding(candidates, str(folder), on, there_are)
    return folder / f"{chosen.version}.toml"


def _read(file: Path | Traversable, name: str, overrides: Sequence[str]) -> RuleBook:
    """Read and validate a file, then again with the overrides, so that a fault is laid where it arose."""
    shown = str(file)
    text = _text(file)
    try:
        raw = tomllib.loads(text, parse_float=FloatText)
    except (ValueError, RecursionError) as failure:
        reason = str(failure) if isinstance(failure, ValueError) else "it is nested too deeply"
        at = _LINE.search(reason)
        raise RulesError(
            f"is not TOML: {_LINE.sub('', reason)}",
            file=shown,
            row=int(at.group(1)) if at else None,
            mend="rule files are TOML 1.0: key = value under [section] headings",
        ) from None
    try:
        rules = Rules.model_validate(raw)
    except ValidationError as failure:
        raise rules_error(failure, lambda _key: shown) from None
    applied = tuple(overrides)
    if applied:
        for override in applied:
            _apply(raw, override)
        everything = " ".join(f"--set {override}" for override in applied)
        try:
            rules = Rules.model_validate(raw)
        except ValidationError as failure:
            raise rules_error(failure, lambda key: place_of(key, everything, applied)) from None
    return RuleBook(name=name, file=shown, text=text, rules=rules, overrides=applied)


def _text(file: Path | Traversable) -> str:
    example = "`replay rules show NAME --format toml` prints one to start from"
    try:
        with file.open("rb") as stream:
            content = stream.read(_LIMIT + 1)
    except FileNotFoundError:
        raise RulesError("no such rule file", file=str(file), mend=example) from None
    except (OSError, ValueError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else str(failure)
        raise RulesError(
            f"cannot be read: {reason}", file=str(file), mend="give the path of a TOML file"
        ) from None
    if len(content) > _LIMIT:
        raise RulesError(
            f"is larger than {_LIMIT} bytes", file=str(file), mend=f"this is no rule file; {example}"
        )
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as failure:
        raise RulesError(
            f"is not UTF-8 text: byte {failure.start} is not",
            file=str(file),
            mend=f"rule files are TOML; {example}",
        ) from None


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one ``key=value`` in the raw content of a file.

    Raises:
        RulesError: Unprintable, no value, a malformed key, an index that does not exist, or a key below a
            plain value.
    """
    place = f"--set {override}"
    if not override.isprintable():
        raise RulesError("is not one line of printable text", file=ascii(place), mend="write key=value")
    key, equals, value = override.partition("=")
    segments = key.strip().split(".")
    if not equals or not all(map(_SEGMENT.fullmatch, segments)):
        raise RulesError(
            "is not of the form key=value",
            file=place,
            mend="write a dotted key, =, and a value: margin.rate=0.02",
        )
    node: Any = raw
    for depth, segment in enumerate(segments):
        last = depth == len(segments) - 1
        if isinstance(node, list):
            if not segment.isdecimal() or int(segment) >= len(node):
                raise RulesError(
                    f"{'.'.join(segments[:depth])} has no item {segment}",
                    file=place,
                    key=key.strip(),
                    mend=f"its items are 0 to {len(node) - 1}" if node else "it is empty",
                )
            index: Any = int(segment)
        elif isinstance(node, dict):
            index = segment
            if not last:
                node.setdefault(index, {})
        else:
            raise RulesError(
                f"{'.'.join(segments[:depth])} is a value, not a table",
                file=place,
                key=key.strip(),
                mend=f"set {'.'.join(segments[:depth])} itself",
            )
        if last:
            node[index] = _value(value.strip())
        else:
            node = node[index]


def _value(text: str) -> Any:
    """Read an override's value as TOML; what is not TOML is plain text."""
    try:
        parsed = tomllib.loads(f"value = {text}", parse_float=FloatText)
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text
