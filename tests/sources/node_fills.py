"""Node fills written by hand: blocks of `[user, fill]` pairs as the venue prints them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ANN = "0x" + "a" * 40
BEN = "0x" + "b" * 40
VAULT = "0x" + "c" * 40
START_NS = 1_761_584_400_000_000_000  # 2025-10-27T17:00:00Z

LONG_OPENS = {"side": "B", "dir": "Open Long", "crossed": True}
SHORT_OPENS = {"side": "A", "dir": "Open Short", "crossed": False}


def fill(**changes: Any) -> dict[str, Any]:
    """Return a fill with every field of the venue; a change to ``...`` leaves a field out."""
    content = {
        "coin": "BTC",
        "px": "115000.0",
        "sz": "0.01",
        "side": "B",
        "time": 1761584400000,
        "startPosition": "0.0",
        "dir": "Open Long",
        "closedPnl": "0.0",
        "hash": "0x" + "0" * 64,
        "oid": 214106928179,
        "crossed": True,
        "fee": "0.5175",
        "tid": 77,
        "feeToken": "USDC",
        "twapId": None,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not ...}


def match(
    buyer: str = ANN,
    seller: str = BEN,
    *,
    buys: dict[str, Any] | None = None,
    sells: dict[str, Any] | None = None,
    **both: Any,
) -> list[Any]:
    """Return the two rows of a match: the buyer takes, the seller makes."""
    return [
        [buyer, fill(**{**LONG_OPENS, **both, **(buys or {})})],
        [seller, fill(**{**SHORT_OPENS, "fee": "-0.023", **both, **(sells or {})})],
    ]


def block(number: int, events: Any, **changes: Any) -> str:
    """Return the line of a block; blocks are 80 ms apart."""
    nanoseconds = number * 80_000_000 + 123_456_789
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    minute, second = divmod(seconds, 60)
    moment = f"2025-10-27T17:{minute:02d}:{second:02d}.{rest:09d}"
    content = {
        "local_time": moment,
        "block_time": moment,
        "block_number": number,
        "events": events,
        **changes,
    }
    return json.dumps({key: value for key, value in content.items() if value is not ...})


def time_of(number: int) -> int:
    """Return the time of a block in ns."""
    return START_NS + number * 80_000_000 + 123_456_789


def write(path: Path, *lines: str) -> Path:
    """Write lines to a file, each with a line end."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
