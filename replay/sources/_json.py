"""JSON values of a file one after the other, in bounded memory, with numbers as they were printed.

A file holds one value, several (lines of JSON are such), or a list, whose items are then given one by one.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from replay.errors import SourceError
from replay.sources._read import LONGEST_LINE, Lines

_CHUNK = 1 << 20
_SPACE = " \t\r\n"


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_number)


class _Text:
    """What of a file was read and not yet handed out."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self.text = ""
        self.at = 0
        self.line = 1
        self.is_whole = False

    def fill(self) -> None:
        """Read on; as much as is held, so that a long value is not tried too often."""
        data = self._lines.read(max(_CHUNK, len(self.text) - self.at))
        try:
            more = self._decode(data, final=not data)
        except UnicodeDecodeError:
            raise self.error("is not UTF-8 text") from None
        self.is_whole = not data
        self.text = self.text[self.at :] + more
        self.at = 0

    def peek(self) -> str:
        """Skip white space and return the next character; the empty text at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _SPACE:
                self.line += self.text[self.at] == "\n"
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if self.is_whole:
                return ""
            self.fill()

    def value(self) -> Any:
        """Read a value, of which the next character is the first."""
        while True:
            try:
                found, end = _DECODER.raw_decode(self.text, self.at)
            except (json.JSONDecodeError, RecursionError, ValueError) as failure:
                if self.is_whole or not isinstance(failure, json.JSONDecodeError):
                    reason = failure.msg if isinstance(failure, json.JSONDecodeError) else str(failure)
                    raise self.error(f"is not JSON: {reason}") from None
                if len(self.text) - self.at > LONGEST_LINE:
                    raise self.error(
                        f"has a value of more than {LONGEST_LINE >> 20} MiB, or is not JSON"
                    ) from None
                self.fill()
                continue
            if end == len(self.text) and not self.is_whole:  # a number may go on
                self.fill()
                continue
            self.line += self.text.count("\n", self.at, end)
            self.at = end
            return found

    def error(self, problem: str) -> SourceError:
        """Return an error of this place."""
        return SourceError(problem, file=self._lines.path, row=self.line, mend="fetch the file again")


def read_values(lines: Lines) -> Iterator[tuple[int, Any]]:
    """Yield each value with the line it begins in; numbers are texts, also whole ones.

    Args:
        lines: The open file.

    Raises:
        SourceError: The file is damaged, is not UTF-8 or JSON, or has a value beyond 64 MiB.
    """
    text = _Text(lines)
    while (first := text.peek()) != "":
        if first != "[":
            line = text.line
            yield line, text.value()
            continue
        text.at += 1
        if text.peek() == "]":
            text.at += 1
            continue
        while True:
            if text.peek() == "":
                raise text.error("is not JSON: a list is not closed")
            line = text.line
            yield line, text.value()
            after = text.peek()
            if after not in (",", "]"):
                raise text.error("is not JSON: neither a comma nor the end of the list follows a value")
            text.at += 1
            if after == "]":
                break
