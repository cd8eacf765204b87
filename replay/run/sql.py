"""Questions to a run in SQL: an in-memory DuckDB with a view per table, and the named queries.

Each table of a run has two views of its name. In schema ``raw`` it shows the integers as stored. In the main
schema names are joined, times are timestamps, small numbers that stand for words are words, and prices,
quantities and money are decoded by division, which gives the nearest floating-point number to the stored
one. The views are generated from the units of :mod:`replay.run.schema`.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

import duckdb
import pyarrow as pa

from replay.errors import RunError
from replay.run.queries import NamedQuery, find_query, list_queries
from replay.run.schema import DIMENSIONS, FLAGS, RUN_TABLES, WORDS
from replay.run.store import Run
from replay.tape.schema import SCALE_OF, Column, Table, Unit
from replay.units import MONEY_SCALE, RATE_SCALE

__all__ = ["NamedQuery", "Result", "connect", "decoded", "find_query", "list_queries", "query"]

_FIXED_SCALE = {Unit.MONEY: MONEY_SCALE, Unit.RATE: RATE_SCALE}

_SETTINGS = f"""
    SET threads = 1;  -- sums of floating-point numbers and ties come out the same each time
    SET enable_progress_bar = false;
    SET python_enable_replacements = false;
    SET autoinstall_known_extensions = false;
    SET autoload_known_extensions = false;
    SET temp_directory = '{tempfile.gettempdir().replace("'", "''")}';
    SET TimeZone = 'UTC';
    SET lock_configuration = true;
"""


@dataclass(frozen=True, slots=True)
class Result:
    """Rows of a query: their columns, and the batches as they are computed (once)."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]

    def table(self) -> pa.Table:
        """Return all rows at once."""
        return pa.Table.from_batches(self.batches, self.schema)


def connect(run: Run) -> duckdb.DuckDBPyConnection:
    """Return a fresh in-memory connection with the views of a run.

    Views: every table of the run (decoded; as stored in schema ``raw``), ``markets``, ``accounts``,
    ``ledgers``, ``recorded_liquidations`` (the audit, one row per liquidation), ``run`` (one row with what
    the manifest says) and ``assumptions``, each with what it decided. It uses one thread, so that the same
    question gets the same answer to the last digit.
    """
    connection = duckdb.connect(":memory:")
    connection.execute("CREATE SCHEMA raw")
    for name in (*RUN_TABLES, *DIMENSIONS):
        connection.execute(f"CREATE VIEW raw.{name} AS SELECT * FROM read_parquet({_path(run, name)})")
    connection.execute(_SCALES)
    for name, table in RUN_TABLES.items():
        connection.execute(f"CREATE VIEW {name} AS {decoded(table)}")
    connection.execute(_DIMENSION_VIEWS)
    _describe(connection, run)
    connection.execute(resources.files("replay.run").joinpath("views.sql").read_text(encoding="utf-8"))
    connection.execute(_SETTINGS)
    return connection


def query(run: Run, statement: str) -> Result:
    """Ask a run one question.

    Args:
        run: The run.
        statement: One SELECT (also WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW), or the name of a query.

    Returns:
        The rows; they are computed while they are read.

    Raises:
        RunError: The SQL is wrong (also while reading rows), or is anything but one reading statement.
    """
    statement = {named.name: named.text for named in list_queries()}.get(statement, statement)
    connection = connect(run)
    with _clear_errors():
        statements = connection.extract_statements(statement)
        if len(statements) != 1:
            raise RunError(f"one statement is asked for, {len(statements)} were given", mend=_ONE_SELECT)
        if statements[0].type != duckdb.StatementType.SELECT:
            raise RunError(f"a run is only read, and this is a {statements[0].type.name}", mend=_ONE_SELECT)
        reader = connection.sql(statements[0].query).to_arrow_reader(_BATCH_ROWS)
    schema = reader.schema
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise RunError(f"two columns are named {', '.join(twice)}", mend="name them apart with AS")
    return Result(schema, _batches(reader, connection))


_BATCH_ROWS = 65_536
_INTERRUPTED = "Query interrupted"
"""How DuckDB words Ctrl-C, which it raises as a RuntimeError."""

_ONE_SELECT = "write one SELECT; pass --out FILE to keep its rows"


def _batches(reader: Any, connection: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a reader; the connection lives as long as its rows are wanted."""
    try:
        with _clear_errors():
            yield from reader
    finally:
        connection.close()


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what DuckDB and Arrow raise into a RunError, and an interrupted query into KeyboardInterrupt."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError, RuntimeError) as failure:
        if _INTERRUPTED in str(failure):
            raise KeyboardInterrupt from failure
        if isinstance(failure, RuntimeError):
            raise
        text = re.sub(r"\n\s*\n+", "\n", str(failure)).strip()
        raise RunError(f"SQL: {text}", mend=_SEE_TABLES) from failure


_SEE_TABLES = 'see the tables with "SHOW TABLES", the columns of one with "DESCRIBE audit"'


def _path(run: Run, table: str) -> str:
    """Return the file of a table as an SQL literal in which no character of the path is a wildcard."""
    path = re.sub(r"([*?\[])", r"[\1]", str(run.file(table).absolute()))
    return "'" + path.replace("'", "''") + "'"


def decoded(table: Table) -> str:
    """Return the SELECT that decodes a table of schema ``raw``."""
    expressions = [_decoded(column) for column in table.columns]
    expressions += [_ADDED[column.name] for column in table.columns if column.name in _ADDED]
    joins = [_JOINS[column.name] for column in table.columns if column.name in _JOINS]
    return f"SELECT {', '.join(expressions)} FROM raw.{table.name} AS t{''.join(joins)}"


_JOINS = {
    "account": " LEFT JOIN raw.account_names AS a ON a.account = t.account",
    "market": " LEFT JOIN raw.scales AS m ON m.market = t.market",
    "ledger": " LEFT JOIN raw.ledgers AS l ON l.ledger = t.ledger",
    "loser": " LEFT JOIN raw.account_names AS loser_name ON loser_name.account = t.loser",
    "winner": " LEFT JOIN raw.account_names AS winner_name ON winner_name.account = t.winner",
}
_JOINED = {
    "account": "a.name AS account",
    "loser": "loser_name.name AS loser",
    "winner": "winner_name.name AS winner",
    "market": "m.name AS market",
    "ledger": "l.currency AS currency, l.dex AS dex",
}

_ADDED = {
    "account": "a.added = 1 AS added",
    "loser": "loser_name.added = 1 AS loser_added",
    "winner": "winner_name.added = 1 AS winner_added",
}
"""Last columns of every view that names accounts: whether the user put them into the day."""


def _decoded(column: Column) -> str:
    name = column.name
    if name in _JOINED:
        return _JOINED[name]
    if name in FLAGS:
        return f"t.{name} = 1 AS {name}"
    if name in WORDS:
        return f"{_word(f't.{name}', name)} AS {name}"
    if column.unit == Unit.TIME:
        return f"make_timestamp_ns(t.{name}) AS {name}"
    if column.unit in SCALE_OF:
        return f"t.{name}::DOUBLE / m.{SCALE_OF[column.unit]} AS {name}"
    if column.unit in _FIXED_SCALE:
        return f"t.{name}::DOUBLE / 1e{_FIXED_SCALE[column.unit]}::DOUBLE AS {name}"
    return f"t.{name}"


def _word(expression: str, column: str) -> str:
    cases = " ".join(f"WHEN {word.value} THEN '{word.name.lower()}'" for word in WORDS[column])
    return f"CASE {expression} {cases} ELSE {expression}::VARCHAR END"


_SCALES = f"""
    CREATE VIEW raw.scales AS
    SELECT market, name, {", ".join(f"('1e' || {s})::DOUBLE AS {s}" for s in SCALE_OF.values())}
    FROM raw.markets
"""
"""The powers of ten by which prices, marks and quantities of a market are divided."""

_DIMENSION_VIEWS = f"""
    CREATE VIEW accounts AS SELECT account AS id, name AS account, added = 1 AS added FROM raw.account_names;
    CREATE VIEW ledgers AS SELECT ledger AS id, dex, currency FROM raw.ledgers;
    CREATE VIEW markets AS
    SELECT m.market AS id, m.name AS market, m.dex, l.currency, {_word("m.payoff", "payoff")} AS payoff,
           m.multiplier_num::DOUBLE / m.multiplier_den AS multiplier,
           m.price_scale, m.mark_scale, m.qty_scale,
           m.tick::DOUBLE / s.price_scale AS tick, m.lot::DOUBLE / s.qty_scale AS lot
    FROM raw.markets AS m
    JOIN raw.scales AS s ON s.market = m.market
    LEFT JOIN raw.ledgers AS l ON l.ledger = m.ledger;
"""


def _describe(connection: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Create the one-row table ``run``: rules, tape, span, the switches, hashes, and the manifest as JSON."""
    manifest = run.manifest
    texts: dict[str, Any] = {
        "rules": manifest["rules"].get("name"),
        "rules_sha256": manifest["rules"].get("sha256"),
        "tape": manifest["tape"].get("name"),
        "tape_sha256": manifest["tape"].get("sha256"),
        "venue": manifest["tape"].get("venue"),
        **manifest["switches"],
        "sha256": manifest["sha256"],
    }
    parameters = [
        value if value is None or isinstance(value, str) else json.dumps(value) for value in texts.values()
    ]
    columns = [f'?::VARCHAR AS "{name}"' for name in texts]
    for name in ("from", "until"):
        columns.append(f'make_timestamp_ns(?::BIGINT) AS "{name}"')
        parameters.append(manifest["span"].get(name))
    columns.append("?::JSON AS manifest")
    parameters.append(json.dumps(manifest))
    connection.execute(f"CREATE TABLE run AS SELECT {', '.join(columns)}", parameters)
    connection.execute(
        "CREATE TABLE stated AS SELECT n, assumption, "
        "regexp_extract(assumption, '^rules: ([a-z_]+(?:\\.[a-z_0-9]+)*)[:,]', 1) AS key FROM "
        "(SELECT generate_subscripts(a, 1) AS n, unnest(a) AS assumption FROM (SELECT ?::VARCHAR[] AS a))",
        [manifest["assumptions"]],
    )
