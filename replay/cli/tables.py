"""Rows as text for people: a table of the columns that fit the width, or records where rows are few."""

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
_SHORTENED = re.compile(r"^(\w{6}…)\w{4}$")
_IN_SENTENCE = re.compile(r"\b0x[0-9a-fA-F]{40}\b")
_LONG_NAME = 24
_GAP = "  "
_LEAST_TEXT = 18
"""Columns of text are folded down to this width before the table is given up."""

_FEW_ROWS = 2
"""Up to so many rows are written as records, with all columns, where a table of all does not fit."""

_MOST_DECIMALS = 10
_EXACT_DECIMALS = 8
"""Amounts have no more decimals than this; what has more is a quotient, whose last digits say nothing."""


@dataclass(slots=True)
class _Column:
    name: str
    cells: list[str]
    is_number: bool

    @property
    def width(self) -> int:
        return max(map(cell_len, self.cells), default=0)


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows laid out.

    Attributes:
        text: Lines of text.
        left_out: Names of the columns that did not fit.
    """

    text: str
    left_out: tuple[str, ...] = ()


def format_table(names: Sequence[str], columns: Sequence[Sequence[Any]], width: int | None) -> Layout:
    """Lay out rows for reading.

    Args:
        names: Names of the columns.
        columns: Their values, all of one length.
        width: Characters of a line, or None for as many as it takes.

    Returns:
        A table if its columns fit, where need be with folded names and texts. Otherwise up to two rows are
        written as records of named values, and of more rows the leading columns that fit are shown, with
        addresses shortened further where that makes room for a column more.
    """
    shown = [_column(name, values) for name, values in zip(names, columns, strict=True)]
    if not shown or not shown[0].cells:
        return Layout(_GAP.join(names) + "\n(no rows)\n")
    heads = [[column.name] for column in shown]
    if width is None or _total(shown, heads) <= width:
        return Layout(_table(shown, heads, [column.width for column in shown]))
    fitting = _fitting(shown, width)
    if fitting < len(shown) and len(shown[0].cells) <= _FEW_ROWS:
        return Layout(_records(shown, width))
    short = [_shortened(column) for column in shown]
    if _fitting(short, width) > fitting:
        shown, fitting = short, _fitting(short, width)
    leading = shown[:fitting]
    heads = [column.name.split("_") for column in leading]
    widths = _folded_widths(leading, heads, width) or [column.width for column in leading]
    return Layout(_table(leading, heads, widths), tuple(names[fitting:]))


def _fitting(columns: Sequence[_Column], width: int) -> int:
    """Return how many of the leading columns fit, at least 1."""
    heads = [column.name.split("_") for column in columns]
    return next(
        (n for n in range(len(columns), 1, -1) if _folded_widths(columns[:n], heads[:n], width) is not None),
        1,
    )


def _shortened(column: _Column) -> _Column:
    """Leave of shortened addresses only the beginning."""
    if column.is_number:
        return column
    return _Column(column.name, [_SHORTENED.sub(r"\1", cell) for cell in column.cells], False)


def _column(name: str, values: Sequence[Any]) -> _Column:
    known = [value for value in values if value is not None]
    is_number = bool(known) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known)
    if is_number:
        digits = _fraction_digits(known)
        return _Column(name, ["-" if v is None else _number(v, digits) for v in values], True)
    return _Column(name, ["-" if v is None else _text(v) for v in values], False)


def _fraction_digits(values: Sequence[int | float]) -> int:
    """Return how many digits after the point a column needs, and at most is worth.

    Amounts show six significant digits of the smallest, quotients four, as long as the largest does not get
    longer than ten digits and nine.
    """
    if all(value == int(value) for value in values):
        return 0
    sizes = [abs(value) for value in values if value]
    needed = next(
        (d for d in range(1, _EXACT_DECIMALS + 1) if all(_is_about(round(v, d), v) for v in sizes)), None
    )
    significant, longest = (4, 9) if needed is None else (6, 10)
    of_smallest = significant - _places(min(sizes))
    of_largest = max(longest - _places(max(sizes)), 2)
    most = min(max(of_smallest, 2), of_largest, _MOST_DECIMALS)
    return next((d for d in range(1, most) if all(round(v, d) == round(v, most) for v in sizes)), most)


def _is_about(rounded: float, value: float) -> bool:
    """Tell whether two numbers differ by no more than sums of floating-point numbers do."""
    return math.isclose(rounded, value, rel_tol=1e-12)


def _places(size: int | float) -> int:
    """Return the digits before the point, as a negative number those of the zeros behind it."""
    return math.floor(math.log10(size)) + 1


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


def shorten_addresses(sentence: str) -> str:
    """Shorten the addresses in a sentence as those in cells are."""
    return _IN_SENTENCE.sub(lambda match: _text(match[0]), sentence)


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
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


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
