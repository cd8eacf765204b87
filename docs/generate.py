"""Write the reference pages from the code (`make docs`); a test keeps them fresh."""

from __future__ import annotations

from pathlib import Path

import click

from replay.cli import cli
from replay.run.queries import list_queries
from replay.run.schema import RUN_TABLES, VERDICTS
from replay.tape.schema import RANK, TABLES, Table

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


PAGES = {"tape.md": tape_page, "run.md": run_page, "commands.md": commands_page}


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page().rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
