"""The named queries: one ``.sql`` file each, whose first line says what it answers.

Their rows are in a total order, so that the same run gives the same answer. Tables and columns are those of
the decoded views of :mod:`replay.run.sql`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from replay.errors import RunError


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A question that is asked often: its name, what it answers, and its SQL."""

    name: str
    summary: str
    text: str


def list_queries() -> list[NamedQuery]:
    """Return the named queries in order of name."""
    queries = []
    for file in resources.files(__name__).iterdir():
        if file.name.endswith(".sql"):
            text = file.read_text(encoding="utf-8")
            summary = text.partition("\n")[0].removeprefix("--").strip()
            queries.append(NamedQuery(file.name.removesuffix(".sql"), summary, text))
    return sorted(queries, key=lambda query: query.name)


def find_query(name: str) -> NamedQuery:
    """Return a named query.

    Raises:
        RunError: There is none of this name.
    """
    queries = {query.name: query for query in list_queries()}
    if name not in queries:
        raise RunError(f"there is no query {name!r}", mend=f"named queries are {', '.join(queries)}")
    return queries[name]
