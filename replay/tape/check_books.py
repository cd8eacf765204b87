"""Whether the rows of a tape agree with each other: matches, chains, moves, reports, funding, depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb

from replay.tape.findings import Finding, Severity
from replay.tape.read import Tape
from replay.tape.schema import FillKind, Payoff, PriceKind, TransferKind
from replay.units import format_units

BROKEN_SHARE = 100
"""Within moments, more than one broken link in so many means that order or signs are wrong."""

NAMED = 3
"""So many first cases are named."""

_FORCED = f"({FillKind.LIQUIDATION}, {FillKind.BACKSTOP}, {FillKind.ADL})"

Connection = duckdb.DuckDBPyConnection


def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    return tuple(connection.execute(query).fetchone() or ())


def check_matches(connection: Connection, facts: dict[str, int]) -> Iterator[Finding]:
    """Check that every paired match has two rows that agree and cancel."""
    faults = {
        "rows <> 2": "are paired and have not exactly two rows",
        "rows = 2 AND total <> 0": "have two rows whose quantities do not cancel",
        "rows = 2 AND (prices OR markets)": "have two rows of another price or market",
        "rows = 2 AND moments": "have two rows of another moment",
        "rows = 2 AND (kinds OR victims OR strangers)": "have two rows that do not agree on kind and victim",
    }
    columns = ", ".join(
        f"count(*) FILTER ({fault}), arg_min({{'ts': ts, 'seq': seq}}, seq) FILTER ({fault})"
        for fault in faults
    )
    matches, *found = _one(
        connection,
        f"""
        SELECT count(*), {columns} FROM (
            SELECT count(*) AS rows, sum(qty) AS total, min(seq) AS seq, min(ts) AS ts,
                min(price) <> max(price) AS prices, min(market) <> max(market) AS markets,
                min(ts) <> max(ts) AS moments, min(kind) <> max(kind) AS kinds,
                min(coalesce(victim, -1)) <> max(coalesce(victim, -1)) AS victims,
                max(victim) IS NOT NULL AND count(*) FILTER (account = victim) = 0 AS strangers
            FROM fills WHERE paired = 1 GROUP BY match
        )
        """,
    )
    facts["matches"] = matches
    facts["unpaired_rows"] = _one(connection, "SELECT count(*) FROM fills WHERE paired = 0")[0]
    for number, message in enumerate(faults.values()):
        count, first = found[2 * number : 2 * number + 2]
        if count:
            yield Finding(Severity.ERROR, "fills", f"matches {message}", count, first["ts"], first["seq"])


def check_chains(tape: Tape, connection: Connection, facts: dict[str, int]) -> Iterator[Finding]:
    """Check that each start position is the one before plus what was filled; spot is set apart.

    The first link of a chain is that to the opening snapshot, where the tape says how accounts start. A
    break between two moments is a hole in the recording: the replay bridges it against ``@unseen`` and
    lists it, so it is a warning. Breaks within moments have no hole to explain them; when they are many,
    the order of the rows or their signs are wrong, and so would be every replay: that is an error.
    """
    unopened = "0" if tape.manifest.get("accounts_start") == "known" else "NULL"
    facts["spot_rows"] = _one(
        connection, f"SELECT count(*) FROM fills JOIN markets USING (market) WHERE payoff = {Payoff.SPOT}"
    )[0]
    chains, links, broken, inner_links, inner, broken_chains, first = _one(
        connection,
        f"""
        WITH rows AS (
            SELECT f.ts, f.seq, f.account, f.market, f.mode, f.start_position AS found,
                lag(f.ts) OVER chain AS before,
                CASE WHEN row_number() OVER chain = 1 THEN coalesce(p.size, {unopened})
                    ELSE lag(f.start_position::HUGEINT + f.qty) OVER chain END AS expected
            FROM fills f JOIN markets USING (market)
                LEFT JOIN positions p ON (f.account, f.market, f.mode) = (p.account, p.market, p.mode)
            WHERE payoff <> {Payoff.SPOT}
            WINDOW chain AS (PARTITION BY f.account, f.market, f.mode ORDER BY f.ts, f.seq)
        ), chains AS (
            SELECT account, market, count(found) > 0 AS known,
                count(*) FILTER (found IS NOT NULL AND expected IS NOT NULL) AS links,
                count(*) FILTER (found <> expected) AS broken,
                count(*) FILTER (found IS NOT NULL AND expected IS NOT NULL AND ts = before) AS inner_links,
                count(*) FILTER (found <> expected AND ts = before) AS inner_broken,
                arg_min({{'ts': ts, 'seq': seq, 'account': account, 'market': market}}, seq)
                    FILTER (found <> expected) AS first
            FROM rows GROUP BY account, market, mode
        )
        SELECT count(*) FILTER (known), coalesce(sum(links), 0), coalesce(sum(broken), 0),
            coalesce(sum(inner_links), 0), coalesce(sum(inner_broken), 0), count(*) FILTER (broken > 0),
            arg_min(first, first.seq, {NAMED})
        FROM chains
        """,
    )
    facts.update(chains=chains, links=int(links), broken_links=int(broken), broken_chains=broken_chains)
    if not broken:
        return
    names = ", ".join(
        f"{tape.account_names[r['account']]} in {tape.markets[r['market']].name}" for r in first
    )
    more = ", ..." if broken_chains > NAMED else ""
    yield Finding(
        Severity.WARNING,
        "fills",
        f"start positions differ from the start position and fill before, in {broken_chains} of {chains} "
        f"chains: {names}{more}",
        int(broken),
        first[0]["ts"],
        first[0]["seq"],
    )
    if inner * BROKEN_SHARE > inner_links:
        yield Finding(
            Severity.ERROR,
            "fills",
            f"start positions do not follow each other within moments, where no row can be missing: "
            f"order or signs are wrong (of {inner_links} links)",
            int(inner),
        )


def check_opening(tape: Tape, connection: Connection) -> Iterator[Finding]:
    """Check that no pool or position is opened twice; note markets whose sizes do not sum to zero."""
    for table, key in (("accounts", "account, ledger, market"), ("positions", "account, market, mode")):
        twice = _one(connection, f"SELECT count(*) - count(DISTINCT ({key})) FROM {table}")[0]
        if twice:
            yield Finding(Severity.ERROR, table, f"has the same {key} twice", twice)
    sums = connection.execute(
        "SELECT market, sum(size) FROM positions GROUP BY market HAVING sum(size) <> 0 ORDER BY market"
    ).fetchall()
    for market, total in sums:
        text = format_units(int(total), tape.markets[market].qty_scale)
        message = f"sizes of {tape.markets[market].name} sum to {text}; @unseen holds the opposite"
        yield Finding(Severity.NOTE, "positions", message)


def check_moves(connection: Connection) -> Iterator[Finding]:
    """Check that moves between pools neither make nor lose money."""
    count, first = _one(
        connection,
        f"""
        SELECT count(*), arg_min({{'ts': ts, 'seq': seq}}, seq) FROM (
            SELECT ts, min(seq) AS seq FROM transfers JOIN ledgers USING (ledger)
            WHERE kind = {TransferKind.MOVE} GROUP BY ts, currency HAVING sum(amount) <> 0
        )
        """,
    )
    if count:
        message = "moves of a moment do not sum to zero"
        yield Finding(Severity.ERROR, "transfers", message, count, first["ts"], first["seq"])


def check_reports(tape: Tape, connection: Connection) -> Iterator[Finding]:
    """Check that recorded liquidations have their forced fills on the tape; prints of nobody have none."""
    nobody = tape.account_names.index("@unseen") if "@unseen" in tape.account_names else -1
    legs = f"""
        WITH legs AS (SELECT ts, account, market, min(seq) AS seq, sum(qty) AS qty
                FROM liquidations WHERE market IS NOT NULL AND account <> {nobody} GROUP BY ts, account, market),
            forced AS (SELECT ts, account, market, sum(qty) AS qty
                FROM fills WHERE kind IN {_FORCED} AND account = victim GROUP BY ts, account, market)
        SELECT count(*) FILTER (f.ts IS NULL),
            arg_min({{'ts': l.ts, 'seq': l.seq}}, l.seq) FILTER (f.ts IS NULL),
            count(*) FILTER (l.qty <> f.qty),
            arg_min({{'ts': l.ts, 'seq': l.seq}}, l.seq) FILTER (l.qty <> f.qty)
        FROM legs l LEFT JOIN forced f ON (l.ts, l.account, l.market) = (f.ts, f.account, f.market)
    """
    missing, first_missing, differing, first_differing = _one(connection, legs)
    bare, first_bare = _one(
        connection,
        "SELECT count(*), arg_min({'ts': ts, 'seq': seq}, seq) FROM liquidations WHERE market IS NULL",
    )
    for count, first, message in (
        (missing, first_missing, "legs have no forced fill of their account at their moment"),
        (differing, first_differing, "legs have another quantity than their forced fills"),
        (bare, first_bare, "rows name no market, for want of a forced fill"),
    ):
        if count:
            yield Finding(Severity.WARNING, "liquidations", message, count, first["ts"], first["seq"])


def check_funding(tape: Tape, connection: Connection) -> Iterator[Finding]:
    """Check that a market has a mark before funding is paid on its positions."""
    count, first = _one(
        connection,
        f"""
        WITH priced AS (SELECT market, min(ts) FILTER (kind = {PriceKind.MARK}) AS mark,
                min(ts) FILTER (kind = {PriceKind.LAST}) AS last,
                min(ts) FILTER (kind = {PriceKind.EVENT}) AS event FROM prices GROUP BY market),
            traded AS (SELECT market, min(ts) AS ts, min(ts) FILTER (kind = {FillKind.TRADE}) AS trade
                FROM fills GROUP BY market),
            opened AS (SELECT DISTINCT market FROM positions)
        SELECT count(*), arg_min({{'ts': f.ts, 'seq': f.seq}}, f.seq)
        FROM funding f LEFT JOIN priced p USING (market) LEFT JOIN traded t USING (market)
            LEFT JOIN opened o ON o.market = f.market
        WHERE (o.market IS NOT NULL OR t.ts < f.ts) AND NOT coalesce(
            least(p.event, CASE WHEN p.mark IS NULL THEN least(p.last, t.trade) ELSE p.mark END) < f.ts,
            false)
        """,
    )
    if count:
        message = "is due on positions of a market that has no mark yet"
        yield Finding(Severity.ERROR, "funding", message, count, first["ts"], first["seq"])
