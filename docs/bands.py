"""Print the tables of docs/anonymous-days.md from what ``replay band ... --format csv`` wrote.

``python docs/bands.py markets FILE`` prints a line a market, ``days`` a line for all of them.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from replay.analysis.band import three

Rows = list[dict[str, str]]


def clock(rows: Rows, stage: str) -> list[str]:
    """Return the times of day at which a stage first engaged in those rows where it did."""
    return [row[stage][11:19] for row in rows if row[stage]]


def told(times: list[str]) -> str:
    """Return least, median and largest of times; a dash of none."""
    return " / ".join(three(times)) if times else "-"


def by_market(rows: Rows) -> str:
    """Return a line a market: in how many seeds, when first, how many liquidations, which share in ADL."""
    lines = [
        "| market | takeover in | first takeover | ADL in | first ADL | liquidations | share in ADL |",
        "|---|---|---|---|---|---|---|",
    ]
    for market in sorted({row["market"] for row in rows}):
        mine = [row for row in rows if row["market"] == market]
        takeovers, closings = clock(mine, "takeover"), clock(mine, "adl")
        counts = " / ".join(f"{count:,}" for count in three([int(row["liquidations"]) for row in mine]))
        shares = " / ".join(
            f"{100 * share:.0f}" for share in three([float(row["deleveraged"]) for row in mine])
        )
        lines.append(
            f"| {market.partition('USD')[0]} | {len(takeovers)} | {told(takeovers)} | {len(closings)} "
            f"| {told(closings)} | {counts} | {shares} % |"
        )
    return "\n".join(lines)


def of_day(rows: Rows) -> str:
    """Return the cells of one assumption: first ADL of any market by seed, market-days with ADL, median share."""
    seeds = {row["seed"] for row in rows if row["adl"]}
    first = [min(clock([row for row in rows if row["seed"] == seed], "adl")) for seed in seeds]
    shares = [float(row["deleveraged"]) for row in rows if row["adl"]]
    median = f"{100 * three(shares)[1]:.1f} %" if shares else "-"
    return f"| {told(first)} | {len(shares)} | {median} |"


FORMS = {"markets": by_market, "days": of_day}


def main(form: str, *files: str) -> None:
    """Print the table of a form for each file."""
    for file in files:
        with Path(file).open(newline="") as text:
            print(f"{file}\n{FORMS[form](list(csv.DictReader(text)))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
