"""``replay sql``: questions to a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from replay.cli.output import chosen_format, output_options, write_result

if TYPE_CHECKING:
    from replay.run.sql import Result


def _complete_query(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from replay.run.queries import list_queries

    return [
        CompletionItem(query.name, help=query.summary)
        for query in list_queries()
        if query.name.startswith(incomplete)
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("statement", required=False)
@click.option("--query", "name", metavar="NAME", help="Ask a named query.", shell_complete=_complete_query)
@click.option("--list", "list_them", is_flag=True, help="List the named queries.")
@output_options
def sql(
    run: Path,
    statement: str | None,
    name: str | None,
    list_them: bool,
    form: str | None,
    out: Path | None,
    force: bool,
) -> None:
    """Question RUN in SQL: one SELECT (DuckDB's dialect; - reads it from stdin), or a named query.

    Each table has a view with names joined and numbers decoded, and one in schema raw with the integers as
    stored; "SHOW TABLES" and "DESCRIBE audit" say what there is. A run is only read. Tables shorten long
    addresses; the other formats write everything in full.

    \b
    Examples:
      replay sql RUN --list
      replay sql RUN --query liquidation-audit --format json
      replay sql RUN "SELECT market, count(*) AS n FROM audit GROUP BY market ORDER BY n DESC"
      replay sql RUN "FROM raw.audit" --out audit.parquet
    """  # noqa: D301 - click reads the escape
    _check_one(statement, name, list_them)
    chosen_format(form, out)
    write_result(
        _named_queries() if list_them else _answer(run, statement, name), form=form, out=out, force=force
    )


def _check_one(statement: str | None, name: str | None, list_them: bool) -> None:
    """Ask for exactly one question."""
    if (statement is not None) + (name is not None) + list_them != 1:
        raise click.UsageError(
            'give one of: a statement ("SELECT ..."), --query NAME, --list\n'
            "  replay sql RUN --list shows the named queries"
        )
    if statement is not None and " " not in statement:
        from replay.run.queries import list_queries

        if statement in {query.name for query in list_queries()}:
            raise click.UsageError(f"{statement} is a named query: use --query {statement}")


def _answer(path: Path, statement: str | None, name: str | None) -> Result:
    from replay.run.queries import find_query
    from replay.run.sql import query
    from replay.run.store import open_run

    if name is not None:
        statement = find_query(name).text
    elif statement == "-":
        statement = sys.stdin.read()
    run = open_run(path)
    run.verify()
    return query(run, statement or "")


def _named_queries() -> Result:
    import pyarrow as pa

    from replay.run.queries import list_queries
    from replay.run.sql import Result

    rows = [{"query": query.name, "answers": query.summary} for query in list_queries()]
    table = pa.Table.from_pylist(rows)
    return Result(table.schema, iter(table.to_batches()))
