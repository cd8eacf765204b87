"""What a run found, in lines a person reads in ten seconds; the command line draws them.

Everything is read from the run: counts and sums from its tables, the rest from its manifest.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from replay.run.sql import connect
from replay.run.store import Run
from replay.units import ATOM, MONEY_SCALE, format_time, format_units

_BEARERS = ("fund", "vault", "socialised", "bad_debt")
"""Who pays a shortfall: columns of `liquidations` that add up to it."""

_STATED = {"rules": "of the rules", "tape": "of the tape"}
"""Kinds of assumptions that rules and tape state themselves; all others are of this run."""

_LISTED = 5
"""Currencies, ledgers or markets named in one line; the tables have all of them."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a summary: what it is about, and what there is to say."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in short.

    Attributes:
        title: Tape and rules.
        facts: What was replayed and what was found.
        small_print: On what the result rests: coverage by equity grade first, then assumptions.
        commands: What to type next.
    """

    title: str
    facts: tuple[Line, ...]
    small_print: tuple[Line, ...]
    commands: tuple[str, ...]


def summarise(run: Run) -> Summary:
    """Return the summary of a run."""
    connection = connect(run)
    try:
        facts = [
            Line("switches", _switches(run.manifest["switches"])),
            Line("replayed", _span(run.manifest)),
            Line("books", _books(connection)),
            Line("forced", _forced(connection)),
            *_by_the_rules(connection),
            *_engagements(connection),
            Line("conserved", _conservation(run.manifest["conservation"])),
        ]
        breaks = run.rows("breaks")
        if breaks:
            facts.append(
                Line("breaks", f"{_count(breaks, 'start position')} that earlier fills do not explain")
            )
        judged = run.rows("audit") > 0
        effects = _ask(
            connection,
            "SELECT decided, count(*) AS n FROM assumptions WHERE assumption LIKE 'rules: %' "
            "AND decided IS NOT NULL AND decided NOT LIKE '0 %' GROUP BY decided ORDER BY min(n)",
        )
    finally:
        connection.close()
    return Summary(
        title=f"{run.manifest['tape']['name']} under {run.manifest['rules']['name']}",
        facts=tuple(facts),
        small_print=(
            Line("coverage", _coverage(run.manifest["coverage"])),
            *_assumptions(run, effects),
            *_effort(run.manifest),
        ),
        commands=_commands(run, judged=judged),
    )


def money(atoms: int, currency: str) -> str:
    """Write an amount for reading: to the cent, below one to four significant digits."""
    if abs(atoms) >= ATOM or atoms == 0:
        digits = 2
    else:
        digits = min(MONEY_SCALE, 4 - len(str(abs(atoms))) + MONEY_SCALE)
    return f"{atoms / ATOM:,.{digits}f} {currency}"


def _ask(connection: duckdb.DuckDBPyConnection, statement: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = connection.sql(statement).to_arrow_table().to_pylist()
    return rows


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _moneys(connection: duckdb.DuckDBPyConnection, expression: str, source: str) -> str:
    """Return sums of money by currency, largest first, empty if there are none."""
    rows = _ask(
        connection,
        f"SELECT l.currency, sum({expression})::HUGEINT AS atoms "
        f"FROM {source} JOIN raw.ledgers AS l USING (ledger) "
        "GROUP BY l.currency HAVING atoms <> 0 ORDER BY abs(atoms) DESC, l.currency",
    )
    return _listed([money(int(row["atoms"]), row["currency"]) for row in rows])


def _switches(switches: Mapping[str, Any]) -> str:
    """Return the switches as they would be typed, without those that were not given a choice."""
    chosen = {
        name: value
        for name, value in switches.items()
        if value is not None and (name, value) != ("opening_equity", "unknown")
    }
    if "until" in chosen:
        chosen["until"] = format_time(int(chosen["until"]))
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in chosen.items())


def _span(manifest: Mapping[str, Any]) -> str:
    first, last = manifest["span"]["from"], manifest["span"]["until"]
    rows = {name: count for name, count in manifest["counts"].get("rows", {}).items() if count}
    if first is None or last is None:
        return "no events"
    kinds = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    steps = manifest["counts"].get("steps")
    within = f" in {_count(steps, 'step')}" if steps else ""
    return f"{format_time(first)} to {format_time(last)}: {kinds}{within}"


def _books(connection: duckdb.DuckDBPyConnection) -> str:
    (row,) = _ask(
        connection,
        "SELECT count(DISTINCT account) AS accounts, count(*) AS pools "
        "FROM raw.accounts_end WHERE special = 0",
    )
    (held,) = _ask(
        connection,
        "SELECT count(*) AS positions FROM positions_end WHERE size <> 0 AND account NOT LIKE '@%'",
    )
    return (
        f"{_count(row['accounts'], 'account')}, {_count(row['pools'], 'pool')}, "
        f"{_count(held['positions'], 'position')} open at the end"
    )


def _forced(connection: duckdb.DuckDBPyConnection) -> str:
    """Say what the tape recorded as forced, and how the rules judge it."""
    rows = _ask(
        connection,
        "SELECT verdict, count(*) AS n FROM recorded_liquidations GROUP BY verdict ORDER BY n DESC, verdict",
    )
    total = sum(row["n"] for row in rows)
    if total == 0:
        return "nothing was recorded as forced"
    turnover = _moneys(connection, "abs(fill_value)", "raw.audit")
    verdicts = ", ".join(f"{row['n']:,} {row['verdict']}" for row in rows)
    worth = f" of {turnover}" if turnover else ""
    return f"{_count(total, 'recorded liquidation')}{worth}: {verdicts}"


def _by_the_rules(connection: duckdb.DuckDBPyConnection) -> list[Line]:
    (row,) = _ask(
        connection,
        "SELECT count(DISTINCT liquidation) AS n, "
        "count(DISTINCT liquidation) FILTER (recorded = 1) AS recorded, "
        "count(DISTINCT account) AS accounts, count(*) FILTER (absorbed > 0) AS absorbed, "
        'count(*) FILTER (adl > 0) AS adl, count(*) FILTER ("left" > 0) AS unfilled FROM raw.liquidations',
    )
    if row["n"] == 0:
        return []
    worth = _moneys(connection, "abs(bankruptcy_value)", "raw.liquidations")
    found = (
        f"{_count(row['n'], 'liquidation')} of {_count(row['accounts'], 'account')}, {worth} at bankruptcy"
    )
    lines = [Line("by the rules", f"{found}; {row['recorded']:,} in the same step as recorded")]
    taken = [
        f"{_count(row[key], 'position')} {what}"
        for key, what in (
            ("absorbed", "taken over"),
            ("adl", "in ADL"),
            ("unfilled", "with a part nobody took"),
        )
        if row[key]
    ]
    sums = {
        name: _moneys(connection, name, "raw.liquidations") for name in ("surplus", "shortfall", *_BEARERS)
    }
    borne = [f"{name.replace('_', ' ')} {sums[name]}" for name in _BEARERS if sums[name]]
    if sums["surplus"]:
        taken.append(f"surplus {sums['surplus']}")
    if sums["shortfall"]:
        taken.append(f"shortfall {sums['shortfall']} ({', '.join(borne)})")
    if taken:
        lines.append(Line("waterfall", ", ".join(taken)))
    return lines


def _engagements(connection: duckdb.DuckDBPyConnection) -> list[Line]:
    """Say how often each stage began, and where it was still on at the end.

    `engaged` begins and ends within a step, `start` begins what the next `stop` of its scope and market ends.
    """
    rows = _ask(
        connection,
        """
        WITH scopes AS (
            SELECT stage, shadow, count(*) FILTER (state <> 'stop') AS begun,
                   min(ts) FILTER (state <> 'stop') AS first, arg_max(state, seq) = 'start' AS is_on
            FROM raw.engagements GROUP BY stage, shadow, scope, market
        )
        SELECT stage, shadow, sum(begun)::BIGINT AS n, min(first)::BIGINT AS first,
               count(*) FILTER (is_on) AS still
        FROM scopes GROUP BY stage, shadow HAVING n > 0 ORDER BY first, stage, shadow
        """,
    )
    return [
        Line(
            "engaged" if not row["shadow"] else "would engage",
            f"{row['stage']} {_count(row['n'], 'time')}, first at {format_time(row['first'])}"
            + (f", not stopped in {_count(row['still'], 'place')}" if row["still"] else ""),
        )
        for row in rows
    ]


def _conservation(sums: Mapping[str, Any]) -> str:
    """Say how the books close, with the numbers, exactly."""
    ledgers: Sequence[Mapping[str, Any]] = sums["ledgers"]
    open_markets = list(sums["open_markets"])
    differing = [entry for entry in ledgers if entry["cash_less_cost"] != entry["external_flow"]]
    if open_markets or differing:
        wrong = [*open_markets, *(_ledger_name(entry) for entry in differing)]
        return f"NOT closed: {_listed(wrong)}"
    amounts = [
        f"{format_units(int(entry['external_flow']), MONEY_SCALE)} {_ledger_name(entry)}" for entry in ledgers
    ]
    return (
        f"sizes sum to 0 in {_count(int(sums['markets']), 'market')}; cash - cost = external flow "
        f"in {_count(len(ledgers), 'ledger')}, to the atom: {_listed(amounts)}"
    )


def _listed(texts: Sequence[str]) -> str:
    """Join texts; of many, the first ones and how many more there are."""
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _ledger_name(entry: Mapping[str, Any]) -> str:
    return f"{entry['dex']}:{entry['currency']}" if entry["dex"] else str(entry["currency"])


def _coverage(coverage: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how much of the open notional is of which equity grade, by currency."""
    totals: dict[str, int] = {}
    for entry in coverage.values():
        for currency, atoms in entry["notional"].items():
            totals[currency] = totals.get(currency, 0) + int(atoms)
    parts = []
    for grade, entry in coverage.items():
        if not entry["pools"]:
            continue
        shares = [
            f"{100 * int(entry['notional'][currency]) / total:.1f} % of open {currency} notional"
            for currency, total in totals.items()
            if entry["notional"].get(currency)
        ]
        parts.append(f"{grade} equity: {_listed([_count(entry['pools'], 'pool'), *shares])}")
    return "; ".join(parts) or "no pools"


def _assumptions(run: Run, effects: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Say what the marks are, on which all else rests; count the assumptions, and say what they decided."""
    marks: list[str] = []
    counts: dict[str, int] = {}
    for assumption in run.manifest["assumptions"]:
        kind, _, sentence = assumption.partition(": ")
        if kind == "marks":
            marks.append(sentence)
        whose = _STATED.get(kind, "of this run")
        counts[whose] = counts.get(whose, 0) + 1
    lines = [Line("marks", "; ".join(marks))] if marks else []
    if counts:
        parts = ", ".join(f"{number} {whose}" for whose, number in counts.items())
        lines.append(Line("assumed", f"{_count(sum(counts.values()), 'assumption')}: {parts}"))
    if effects:
        decided = "; ".join(f"{row['decided']} ({row['n']})" for row in effects)
        lines.append(Line("rest on it", f"by assumptions of the rules (how many): {decided}"))
    return lines


def _effort(manifest: Mapping[str, Any]) -> list[Line]:
    seconds = sum(float(value) for value in manifest.get("timings", {}).values())
    peak = int(manifest.get("memory", {}).get("peak_bytes", 0))
    if not seconds:
        return []
    return [Line("effort", f"{seconds:.1f} s, {peak / 2**20:,.0f} MiB at the most")]


def _commands(run: Run, *, judged: bool) -> tuple[str, ...]:
    path = shlex.quote(str(run.path))
    ruled = run.manifest["switches"].get("liquidations") == "rules"
    if judged:
        name = "liquidation-misses" if ruled else "liquidation-audit"
    else:
        name = "engagements" if run.rows("engagements") else "largest-positions"
    ask = f"replay sql {path}"
    listed = (f'{ask} "FROM assumptions"',) if run.manifest["assumptions"] else ()
    return (f"{ask} --query {name}", *listed, f"{ask} --list")
