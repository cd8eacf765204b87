"""Lines of Hyperliquid's nodes: a JSON object for each block, with its number, its time and its events.

Format from tape-formats.md sections 1.2 and 1.5; fills and other events come in such lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from replay.errors import SourceError
from replay.sources._numbers import parse_moment
from replay.sources._read import Lines
from replay.units import BOUND

_FIELDS = ("block_number", "block_time", "events")
_KNOWN = frozenset((*_FIELDS, "local_time"))


def in_order(inputs: Sequence[Path]) -> list[Path]:
    """Sort files by the number of the first block that can be read in them."""
    return sorted(inputs, key=_first_block)


def _first_block(file: Path) -> int:
    with Lines(file) as lines:
        for _number, line in lines:
            try:
                return Block.parse(line).number
            except ValueError:
                continue
    raise SourceError(
        "no line of it is a block", file=file, mend=f"a block is a JSON object with {', '.join(_FIELDS)}"
    )


class Block(NamedTuple):
    """A block: number, time in ns, its events as JSON gave them, and fields that are not known."""

    number: int
    ts: int
    events: list[Any]
    unknown: list[str]

    @classmethod
    def parse(cls, line: bytes) -> Block:
        """Read a line.

        Raises:
            ValueError: The line is not a block; the text says why.
        """
        try:
            block = orjson.loads(line)
        except orjson.JSONDecodeError as failure:
            raise ValueError(f"is not JSON: {failure.msg} at column {failure.colno}") from failure
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
