"""Write the reference pages from the code (`make docs`); a test keeps them fresh."""

from __future__ import annotations

from pathlib import Path

import click

from replay.cli import cli
from replay.rules import list_rules, load_rules
from replay.rules.absorbers import Absorber
from replay.rules.numbers import level_text
from replay.rules.waterfall import Adl, AdlOff, AdlRung, BookOrderRung, Rung, TakeoverRung
from replay.run.queries import list_queries
from replay.run.schema import RUN_TABLES, VERDICTS
from replay.tape.schema import RANK, TABLES, Table
from replay.units import RATE_SCALE, format_units

FOLDER = Path(__file__).parent / "reference"


def table_section(table: Table) -> list[str]:
    lines = [f"## `{table.name}`", "", f"One row per {table.grain}.", ""]
    lines += ["| column | type | unit | null | meaning |", "|---|---|---|---|---|"]
    for column in table.columns:
        null = "yes" if column.nullable else ""
        lines.append(f"| `{column.name}` | {column.type} | {column.unit} | {null} | {column.meaning} |")
    return [*lines, ""]


def tape_page() -> str:
    lines = [
        "# Tables of a tape",
        "",
        "A tape is a folder with `tape.json` and one Parquet dataset per table. Event tables are",
        "partitioned by UTC day and sorted by `(ts, seq)`; the others are single files. Rows of one moment",
        "are applied table by table:",
        ", ".join(f"`{name}` ({rank})" for name, rank in RANK.items()) + ".",
        "",
    ]
    for table in TABLES.values():
        lines += table_section(table)
    return "\n".join(lines)


def venues_page() -> str:
    lines = [
        "# Venues by axis",
        "",
        "What each rule book that comes with the program says, from its file; `replay rules show NAME` has every",
        "value in a sentence, with the sources and what is assumed.",
        "",
        "| rules | holds | status | margin | ladder | absorber | ADL | price | losers | shared | assumptions |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for rule_file in list_rules():
        rules = load_rules(rule_file.name).rules
        cells = [
            f"`{rule_file.name}`",
            rule_file.days,
            rule_file.status,
            f"{rules.margin.shape}, {rules.margin.size_basis}",
            "; ".join(_rung(rung) for rung in rules.ladder),
            ", ".join(_absorber(a) for a in rules.absorbers) or "none",
            *_adl(rules.adl),
            rules.socialise.method,
            str(len(rules.assumptions)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _rung(rung: Rung) -> str:
    is_after = isinstance(rung, BookOrderRung | TakeoverRung | AdlRung) and rung.enter is not None
    when = f"{level_text(rung.level)}{', on what is left' if is_after else ''}"
    if isinstance(rung, BookOrderRung):
        sliced = (
            "" if rung.slice_share is None else f" in slices of {format_units(rung.slice_share, RATE_SCALE)}"
        )
        return f"{rung.size}{sliced}, {rung.tif}, limit {rung.limit} ({when})"
    if not isinstance(rung, TakeoverRung):
        return f"{rung.action} ({when})"
    shares = "" if rung.share is None else f" of shares of {format_units(rung.share, RATE_SCALE)}"
    return f"{rung.action}{shares} at {rung.price} ({when})"


def _absorber(absorber: Absorber) -> str:
    scope = "" if absorber.scope == "ledger" else f" per {absorber.scope}"
    return f"{absorber.kind}{scope}, {absorber.work_out}{_starts(absorber)}"


def _starts(absorber: Absorber) -> str:
    starts = []
    if absorber.drawdown_start is not None:
        starts.append(f"falls by {format_units(absorber.drawdown_start, RATE_SCALE)}")
    if absorber.stops_at_zero:
        starts.append("is empty")
    if absorber.insolvent_below_zero:
        starts.append("is below zero")
    return f"; ADL when it {' or '.join(starts)}" if starts else ""


def _adl(adl: Adl) -> list[str]:
    if isinstance(adl, AdlOff):
        return ["none", "", ""]
    score = (
        adl.score if adl.score != "terms" else f"{adl.profit_term} x {adl.leverage_term}, {adl.equity_scope}"
    )
    price = adl.price if adl.fallback_price is None else f"{adl.price}, {adl.fallback_price} in need"
    return [score if adl.method is None else adl.method.partition(" ")[0], price, adl.loss_rule]


def run_page() -> str:
    lines = [
        "# Tables of a run",
        "",
        "A run is a folder with `run.json` and one Parquet file per table, numbers as integers in the units",
        "below.",
        "`replay sql` shows them decoded, names joined; schema `raw` shows them as stored. Views that name",
        "an account end with `added` (`loser_added`, `winner_added`): whether `replay run --add` put it into",
        "the day.",
        "",
    ]
    for table in RUN_TABLES.values():
        lines += table_section(table)
    lines += ["## Verdicts of `audit`", "", "| verdict | meaning |", "|---|---|"]
    lines += [f"| {verdict} | {meaning} |" for verdict, meaning in VERDICTS.items()]
    lines += ["", "## Named queries", "", "| query | answers |", "|---|---|"]
    lines += [f"| `{query.name}` | {query.summary} |" for query in list_queries()]
    return "\n".join([*lines, ""])


def command_sections(command: click.Command, path: list[str]) -> list[str]:
    settings = {**command.context_settings, "terminal_width": 100, "max_content_width": 100}
    context = click.Context(command, info_name=" ".join(path), **settings)
    lines = [f"## `{' '.join(path)}`", "", "```text", command.get_help(context), "```", ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                lines += command_sections(child, [*path, name])
    return lines


def commands_page() -> str:
    return "\n".join(["# Commands", "", *command_sections(cli, ["replay"])])


PAGES = {
    "tape.md": tape_page,
    "run.md": run_page,
    "commands.md": commands_page,
    "venues.md": venues_page,
}


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page().rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
