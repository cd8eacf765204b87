"""Print the tables of docs/anonymous-days.md from what ``replay band ... --format csv`` wrote.

``python docs/bands.py markets FILE`` prints a line a market, ``python docs/bands.py days FILE...`` a line a file.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

Rows = list[dict[str, str]]


def three(values: Sequence[str]) -> str:
    """Return least, median and largest of values in order; a dash of none."""
    return " / ".join((values[0], values[len(values) // 2], values[-1])) if values else "-"


def clock(rows: Rows, stage: str) -> list[str]:
    """Return the times of day, rising, at which a stage first engaged in those rows where it did."""
    return sorted(row[stage][11:19] for row in rows if row[stage])


def by_market(rows: Rows) -> str:
    """Return a line a market: in how many seeds, when first, how many liquidations, which share in ADL."""
    lines = [
        "| market | takeover in | first takeover | ADL in | first ADL | liquidations | share in ADL |",
        "|---|---|---|---|---|---|---|",
    ]
    for market in sorted({row["market"] for row in rows}):
        mine = [row for row in rows if row["market"] == market]
        takeovers, closings = clock(mine, "takeover"), clock(mine, "adl")
        counts = three([f"{count:,}" for count in sorted(int(row["liquidations"]) for row in mine)])
        shares = three([f"{100 * share:.0f}" for share in sorted(float(row["deleveraged"]) for row in mine)])
        lines.append(
            f"| {market.partition('USD')[0]} | {len(takeovers)} | {three(takeovers)} | {len(closings)} "
            f"| {three(closings)} | {counts} | {shares} % |"
        )
    return "\n".join(lines)


def of_day(rows: Rows) -> str:
    """Return the cells of one assumption: first ADL of any market by seed, market-days with ADL, median share."""
    first: dict[str, str] = {}
    for row in rows:
        if row["adl"]:
            first[row["seed"]] = min(row["adl"][11:19], first.get(row["seed"], "24"))
    shares = sorted(float(row["deleveraged"]) for row in rows if row["adl"])
    median = f"{100 * shares[len(shares) // 2]:.1f} %" if shares else "-"
    return f"| {three(sorted(first.values()))} | {len(shares)} | {median} |"


def main(form: str, *files: str) -> None:
    """Print the table of a form: ``markets`` or ``days``."""
    for file in files:
        with Path(file).open(newline="") as text:
            rows = list(csv.DictReader(text))
        print(by_market(rows) if form == "markets" else f"{file} {of_day(rows)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
