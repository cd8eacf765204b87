"""Sizes of OKX's contracts: the answer of ``GET /api/v5/public/instruments?instType=SWAP``, kept as a file.

The archive gives quantities in contracts and does not say what one is.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from replay.errors import SourceError
from replay.sources._json import read_values
from replay.sources._read import Lines, first_bytes, is_parquet
from replay.sources.feeds import Contract
from replay.sources.symbols import split_pair
from replay.tape.schema import Payoff
from replay.units import to_fraction

_PAYOFFS = {"linear": Payoff.LINEAR, "inverse": Payoff.INVERSE}
_HEAD = 1 << 14


def is_instruments(file: Path) -> bool:
    """Tell whether a file is such an answer: JSON that names contract values near its beginning."""
    if file.stat().st_size == 0 or is_parquet(file):
        return False
    head = first_bytes(file, _HEAD)
    return head.lstrip()[:1] == b"{" and b'"ctVal"' in head


def read_instruments(file: Path) -> dict[str, Contract | str]:
    """Return what each swap is, by name; of one that is not understood, why.

    Raises:
        SourceError: The file is no such answer.
    """
    contracts: dict[str, Contract | str] = {}
    with Lines(file) as lines:
        for line, answer in read_values(lines):
            entries = answer.get("data") if isinstance(answer, dict) else None
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise SourceError("has no list `data` of instruments", file=file, row=line, mend=_MEND)
            for entry in entries:
                if entry.get("instType") == "SWAP":
                    contracts[str(entry.get("instId"))] = _contract_or_reason(entry)
    return contracts


_MEND = "expected is an answer of GET /api/v5/public/instruments?instType=SWAP"


def _contract_or_reason(entry: dict[str, Any]) -> Contract | str:
    try:
        return _contract(entry)
    except (KeyError, TypeError, ValueError, AttributeError) as failure:
        return f"{type(failure).__name__} {failure}"


def _contract(entry: dict[str, Any]) -> Contract:
    """Return a swap: ``ctVal`` x ``ctMult`` coins a contract, or dollars of an inverse one."""
    base, _ = split_pair(entry["instId"].removesuffix("-SWAP"))
    multiplier: Fraction = to_fraction(entry["ctVal"]) * to_fraction(entry["ctMult"])
    if multiplier <= 0 or not entry["settleCcy"] or type(entry["settleCcy"]) is not str:
        raise ValueError(f"{entry['instId']} is {multiplier} a contract, settled in {entry['settleCcy']!r}")
    return Contract(base, _PAYOFFS[entry["ctType"]], entry["settleCcy"], multiplier)
