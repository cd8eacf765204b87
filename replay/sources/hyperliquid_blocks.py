"""Lines of Hyperliquid's nodes: a JSON object for each block, with its number, its time and its events.

Format from tape-formats.md sections 1.2 and 1.5; fills and other events come in such lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from replay.errors import SourceError
from replay.sources._numbers import parse_moment
from replay.sources._read import Lines
from replay.units import BOUND

EARLIEST_MS, LATEST_MS = 1_420_070_400_000, 2_082_758_400_000
"""2015 to 2035, in milliseconds."""

_FIELDS = ("block_number", "block_time", "events")
_KNOWN = frozenset((*_FIELDS, "local_time"))


def parse_json(line: bytes) -> Any:
    """Read a line as JSON.

    Raises:
        ValueError: It is none; the text says where.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as failure:
        raise ValueError(f"is not JSON: {failure.msg} at column {failure.colno}") from failure


def in_order(inputs: Sequence[Path], parse: Callable[[bytes], Block] | None = None) -> list[Path]:
    """Sort files by the first block that can be read in them.

    Args:
        inputs: The files.
        parse: Reads a line; by default one of a block with its events.
    """
    read = parse or Block.parse
    return sorted(inputs, key=lambda file: _first_block(file, read))


def _first_block(file: Path, parse: Callable[[bytes], Block]) -> int:
    with Lines(file) as lines:
        for _number, line in lines:
            try:
                return parse(line).place
            except ValueError:
                continue
    what = "a block" if parse == Block.parse else "a fill"
    raise SourceError(
        f"no line of it is {what}",
        file=file,
        mend=f"a block is a JSON object with {', '.join(_FIELDS)}",
    )


class Block(NamedTuple):
    """A block: number, time in ns, its events as JSON gave them, and fields that are not known.

    The older forms have no number (-1); the events of a trade are made of its line, which is then kept.
    """

    number: int
    ts: int
    events: list[Any]
    unknown: list[str]
    line: bytes | None = None

    @property
    def place(self) -> int:
        """What puts blocks of one form in order: the number, or the time where there is none."""
        return self.ts if self.number < 0 else self.number

    @classmethod
    def parse(cls, line: bytes) -> Block:
        """Read a line.

        Raises:
            ValueError: The line is not a block; the text says why.
        """
        block = parse_json(line)
        if type(block) is not dict:
            raise ValueError("is not a JSON object")
        for key in _FIELDS:
            if key not in block:
                raise ValueError(f"lacks {key}")
        number, time, events = (block[key] for key in _FIELDS)
        if type(number) is not int or not 0 <= number < BOUND:
            raise ValueError(f"block_number {number!r} is not a whole number from 0")
        if type(time) is not str:
            raise ValueError(f"block_time {time!r} is not text")
        if type(events) is not list:
            raise ValueError("events is not a list")
        return cls(number, parse_moment(time), events, [key for key in block if key not in _KNOWN])
