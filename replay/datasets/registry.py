"""The registry: a folder with ``dataset.toml`` for each day."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from replay.errors import SourceError

_PACKAGED = Path(__file__).parents[1] / "_days"
_IN_REPOSITORY = Path(__file__).parents[2] / "datasets"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Source(_Part):
    """``[[sources]]``: where rows of the day come from.

    Attributes:
        importer: The source of ``replay import`` that reads them.
        origin: Who made or recorded them, in words.
        file: A file beside ``dataset.toml``.
        base: Where free files are, over HTTP; with ``paths``, in which ``{symbol}`` stands for each of the symbols.
        paths: Paths below ``base``.
        symbols: What ``{symbol}`` stands for.
        checksum: What is added to a path for its SHA-256, as text; empty: there is none.
        commands: What to run for files that are not free, or need an account.
        cost: What they cost, in words.
    """

    importer: str
    origin: str
    file: str | None = None
    base: str | None = None
    paths: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    checksum: str = ""
    commands: tuple[str, ...] = ()
    cost: str = ""

    def urls(self) -> list[tuple[str, str]]:
        """Return (path below the base, address) of each file to fetch."""
        if self.base is None:
            return []
        paths = [
            path.replace("{symbol}", symbol)
            for symbol in self.symbols or ("",)
            for path in self.paths
            if symbol or "{symbol}" not in path
        ]
        return [(path, self.base.rstrip("/") + "/" + path) for path in dict.fromkeys(paths)]


class Fact(_Part):
    """``[[facts]]``: something published about the day.

    Attributes:
        what: The fact, in a sentence.
        source: Where it is published.
        of: The day it is about, if not the day itself.
        sql: A question to a run with one number as its answer.
        tape_sql: The same question to the run's tape, whose numbers are integers as stored.
        value: The published number.
        tolerance: How far the answer may be off, as a share of the number.
        unit: What is counted.
    """

    what: str
    source: str
    of: str | None = None
    sql: str | None = None
    tape_sql: str | None = None
    value: float | None = None
    tolerance: float = 0.0
    unit: str = ""


class Licence(_Part):
    """``[licence]``: what may be done with the data."""

    name: str
    text: str


class Dataset(BaseModel):
    """A ``dataset.toml``; keys that an importer reads beside these are its own."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    folder: Path
    title: str
    summary: str
    venue: str
    rules: Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(strict=False)]
    sources: tuple[Source, ...]
    licence: Licence
    facts: tuple[Fact, ...] = ()
    accounts: Literal["recorded", "modelled", "made"] = "made"
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def how(self) -> str:
        """How its data is had: ``built in``, ``download`` or ``by hand``."""
        if any(source.commands for source in self.sources):
            return "by hand"
        return "download" if any(source.base for source in self.sources) else "built in"


def _root() -> Path:
    return _PACKAGED if _PACKAGED.is_dir() else _IN_REPOSITORY


def list_datasets() -> list[Dataset]:
    """Return all days of the registry, by name."""
    return [_read(path.parent) for path in sorted(_root().glob("*/dataset.toml"))]


def dataset(name: str) -> Dataset:
    """Return a day by name, or that of a folder with a ``dataset.toml``.

    Raises:
        SourceError: There is none of that name; its file is damaged.
    """
    folder = Path(name) if "/" in name else _root() / name
    if not (folder / "dataset.toml").is_file():
        names = [path.parent.name for path in sorted(_root().glob("*/dataset.toml"))]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SourceError(f"there is no dataset called {name}", mend=f"{hint}there are: {', '.join(names)}")
    return _read(folder)


def _read(folder: Path) -> Dataset:
    file = folder / "dataset.toml"
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        return Dataset.model_validate({**content, "name": folder.resolve().name, "folder": folder})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failure:
        raise SourceError(
            f"cannot be read: {failure}", file=file, mend="write it as TOML, see docs/datasets.md"
        ) from None
    except ValidationError as failure:
        first = failure.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise SourceError(
            first["msg"], file=file, key=key, mend="see docs/datasets.md for the keys"
        ) from None
