"""Rows as text for people: a table where it fits the width, else one record below the other."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from rich.cells import cell_len

_ADDRESS = re.compile(r"@?\w*[0-9]\w{7,}")
_LONG_NAME = 24
_GAP = "  "
_LEAST_TEXT = 18
"""Columns of text are folded down to this width before the table is given up."""

_DIGITS = 6
"""Significant digits of the largest number of a column that are worth showing."""


@dataclass(slots=True)
class _Column:
    name: str
    cells: list[str]
    is_number: bool

    @property
    def width(self) -> int:
        return max(map(cell_len, self.cells), default=0)


def format_table(names: Sequence[str], columns: Sequence[Sequence[Any]], width: int | None) -> str:
    """Lay out rows for reading.

    Args:
        names: Names of the columns.
        columns: Their values, all of one length.
        width: Characters of a line, or None for as many as it takes.

    Returns:
        Lines of text: a table if its columns fit, where need be with folded names and texts; otherwise
        every row as a record of named values.
    """
    shown = [_column(name, values) for name, values in zip(names, columns, strict=True)]
    if not shown or not shown[0].cells:
        return _GAP.join(names) + "\n(no rows)\n"
    heads = [[column.name] for column in shown]
    if width is None or _total(shown, heads) <= width:
        return _table(shown, heads, [column.width for column in shown])
    heads = [column.name.split("_") for column in shown]
    widths = _folded_widths(shown, heads, width)
    if widths is not None:
        return _table(shown, heads, widths)
    return _records(shown, width)


def _column(name: str, values: Sequence[Any]) -> _Column:
    known = [value for value in values if value is not None]
    is_number = bool(known) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known)
    if is_number:
        digits = _fraction_digits(known)
        return _Column(name, ["-" if v is None else _number(v, digits) for v in values], True)
    return _Column(name, ["-" if v is None else _text(v) for v in values], False)


def _fraction_digits(values: Sequence[int | float]) -> int:
    """Return how many digits after the point a column needs, and at most is worth."""
    largest = max(map(abs, values))
    if all(value == int(value) for value in values):
        return 0
    before = math.floor(math.log10(largest)) + 1
    most = min(max(_DIGITS - before, 2), 10)
    return next((d for d in range(1, most) if all(round(value, d) == value for value in values)), most)


def _number(value: int | float, digits: int) -> str:
    if value and round(value, digits) == 0:
        return f"{value:.1e}"
    return f"{value + 0 if value else 0:,.{digits}f}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else str(value)
    if len(text) > _LONG_NAME and _ADDRESS.fullmatch(text):
        return f"{text[:6]}…{text[-4:]}"
    return " ".join(text.split())


def _total(columns: Sequence[_Column], heads: Sequence[Sequence[str]]) -> int:
    return sum(_least(column, head) for column, head in zip(columns, heads, strict=True)) + len(_GAP) * (
        len(columns) - 1
    )


def _least(column: _Column, head: Sequence[str]) -> int:
    return max(column.width, *map(cell_len, head))


def _folded_widths(
    columns: Sequence[_Column], heads: Sequence[Sequence[str]], width: int
) -> list[int] | None:
    """Return widths that fit, taking from the widest texts first; None if there are none."""
    widths = [_least(column, head) for column, head in zip(columns, heads, strict=True)]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while excess > 0:
        texts = [
            i for i, column in enumerate(columns)
            if not column.is_number and widths[i] > _LEAST_TEXT and any(" " in cell for cell in column.cells)
        ]  # fmt: skip
        if not texts:
            return None
        widest = max(texts, key=lambda i: widths[i])
        widths[widest] -= 1
        excess -= 1
    return widths


def _table(columns: Sequence[_Column], heads: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    widths = [max(w, *map(cell_len, head)) for w, head in zip(widths, heads, strict=True)]
    depth = max(map(len, heads))
    lines = [
        _line([head[-depth + i] if depth - i <= len(head) else "" for head in heads], columns, widths)
        for i in range(depth)
    ]
    lines.append(_GAP.join("─" * width for width in widths))
    for row in zip(*(column.cells for column in columns), strict=True):
        folded = [_fold(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines += [_line(parts, columns, widths) for parts in zip_longest(*folded, fillvalue="")]
    return "\n".join(lines) + "\n"


def _fold(cell: str, width: int) -> list[str]:
    if cell_len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_long_words=False) or [""]


def _line(cells: Sequence[str], columns: Sequence[_Column], widths: Sequence[int]) -> str:
    padded = (
        " " * (width - cell_len(cell)) + cell if column.is_number else cell + " " * (width - cell_len(cell))
        for cell, column, width in zip(cells, columns, widths, strict=True)
    )
    return _GAP.join(padded).rstrip()


def _records(columns: Sequence[_Column], width: int) -> str:
    """Write every row as named values, as many beside each other as fit."""
    label = max(cell_len(column.name) for column in columns)
    lines = []
    for number, row in enumerate(zip(*(column.cells for column in columns), strict=True), 1):
        lines.append(f"── {number} ".ljust(min(width, 60), "─"))
        pairs = [(column.name.ljust(label), cell) for column, cell in zip(columns, row, strict=True)]
        lines += _pairs(pairs, label, width)
    return "\n".join(lines) + "\n"


def _pairs(pairs: Sequence[tuple[str, str]], label: int, width: int) -> list[str]:
    short = [cell_len(cell) for _, cell in pairs if cell_len(cell) <= 30]
    field = label + 1 + max(short, default=0)
    across = max(1, (width + len(_GAP)) // (field + len(_GAP)))
    lines: list[str] = []
    held: list[str] = []
    for name, cell in pairs:
        text = f"{name} {cell}"
        if cell_len(text) > field:
            folded = textwrap.wrap(cell, max(width - label - 1, _LEAST_TEXT), break_long_words=False)
            if held:
                lines.append(_GAP.join(held).rstrip())
                held = []
            lines.append(f"{name} {folded[0]}")
            lines += [" " * (label + 1) + rest for rest in folded[1:]]
            continue
        held.append(text + " " * (field - cell_len(text)))
        if len(held) == across:
            lines.append(_GAP.join(held).rstrip())
            held = []
    if held:
        lines.append(_GAP.join(held).rstrip())
    return lines
