"""Make a run: replay a tape under a rule book into a folder that appears whole or not at all."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from replay.errors import TapeError
from replay.loop.books import closing_tables, coverage, valuations_of
from replay.loop.engine import Outcome, Replay
from replay.loop.state import (
    CHAINED,
    CLIPPED,
    DROPPED,
    OPENED,
    POOLS,
    POSITIONS,
    RANKINGS,
    RECHECKS,
    RENEWED,
    SPOT_ROWS,
    STEPS,
    UNMARKED,
    VALUED_TO_RANK,
)
from replay.progress import OnProgress
from replay.rules import RuleBook, compile_rules
from replay.run.added import AddedBook, followed_accounts, read_added
from replay.run.journal import Journal
from replay.run.store import Run, new_run_folder, open_run, write_dimensions, write_run_manifest
from replay.run.switches import chosen_execution, executes_the_record
from replay.tape.read import Tape
from replay.tape.schema import Payoff, PriceKind
from replay.units import NS_PER_MINUTE, format_time

_COUNTERS = {
    "steps": STEPS,
    "pools": POOLS,
    "positions": POSITIONS,
    "positions opened from start_position": OPENED,
    "start_positions checked": CHAINED,
    "fills clipped after divergence": CLIPPED,
    "fills dropped after divergence": DROPPED,
    "margin re-checks": RECHECKS,
    "bands renewed alone": RENEWED,
    "rankings of winners": RANKINGS,
    "pools valued to rank": VALUED_TO_RANK,
    "spot rows set apart": SPOT_ROWS,
    "anchors skipped for want of a mark": UNMARKED,
}


def run(
    tape: Tape,
    book: RuleBook,
    out: Path,
    *,
    liquidations: str = "recorded",
    execution: str | None = None,
    anchor_equity: str | None = None,
    accept_assumptions: bool = False,
    add: Path | None = None,
    watch: Sequence[str] = (),
    sample_ns: int | None = None,
    until: int | None = None,
    batch_rows: int = 131_072,
    threads: int = 1,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Run:
    """Replay a tape and write the run.

    Args:
        tape: The tape.
        book: The rule book.
        out: Folder of the run; it appears when the run is complete.
        liquidations: ``recorded`` (only the tape forces) or ``rules`` (the margin checks do).
        execution: ``recorded`` or ``depth``; by default the one that goes with ``liquidations``.
        anchor_equity: ``recorded`` books the difference to recorded equity before each liquidation.
        accept_assumptions: Run a rule book of status ``draft``, too.
        add: TOML file of accounts of the user's own to put into the day; see ``docs/own-accounts.md``.
        watch: Names of accounts to sample from the start.
        sample_ns: How often the series are sampled, in ns; 0 is never. By default each minute if accounts are
            added or watched, else never.
        until: Last moment to replay, in ns.
        batch_rows: Rows read ahead per table; changes memory and speed, never the result.
        threads: Threads of the tape's streams; likewise.
        force: Replace an existing run.
        on_progress: Called with the share of the tape's rows replayed and a short text.

    Raises:
        RunError: The switches do not go together, or the folder cannot be written.
        TapeError: The tape holds a row that cannot be replayed.
        SourceError: The file of own accounts is wrong, or does not fit the tape.
        RulesError: The rules do not fit the tape's markets.
        ConservationError: The books did not close.
    """
    execution = chosen_execution(liquidations, execution)
    executing = executes_the_record(liquidations, execution)
    rules_decide = liquidations == "rules"
    anchoring = anchor_equity == "recorded"
    began = time.perf_counter()
    tape.verify()
    if tape.rows("trades") and not tape.rows("fills"):
        raise TapeError(
            "has trades without the names of who traded: there are no accounts to replay",
            file=tape.path,
            key="fills",
            mend="give it modelled accounts: replay populate TAPE --out PEOPLED",
        )
    plan = compile_rules(book, tape.markets, tape.ledgers, accept_assumptions=accept_assumptions)
    added = None if add is None else read_added(add, tape, until=until)
    watched = followed_accounts(tape, watch, added)
    if sample_ns is None:
        sample_ns = NS_PER_MINUTE if watched else 0
    with new_run_folder(out, force=force) as folder, Journal(folder) as journal:
        replay = Replay(
            tape,
            plan,
            journal,
            rules_decide=rules_decide,
            anchoring=anchoring,
            executing=executing,
            added=() if added is None else added.entries,
            watched=watched,
            sample_ns=sample_ns,
        )
        prepared = time.perf_counter()
        total = max(1, sum(tape.rows(name) for name in replay.outcome.rows))
        for ts, rows in replay.run(batch_rows=batch_rows, threads=threads, until=until):
            if on_progress is not None:
                on_progress(rows / total, f"{format_time(ts)[:19]}  {rows:,} rows")
        replayed = time.perf_counter()
        outcome = replay.outcome
        worth = valuations_of(outcome.state)
        audit_rows, break_rows = journal.rows("audit"), journal.rows("breaks")
        with ThreadPoolExecutor(max_workers=1) as pool:  # most of both is Arrow's compression
            dimensions = pool.submit(
                write_dimensions,
                folder,
                markets=pq.read_table(tape.files("markets")[0], partitioning=None),
                ledgers=pa.table(
                    {
                        "ledger": range(len(tape.ledgers)),
                        "dex": [dex for dex, _ in tape.ledgers],
                        "currency": [currency for _, currency in tape.ledgers],
                    }
                ),
                account_names=outcome.state.account_names,
                added=() if added is None else added.accounts,
            )
            tables = journal.close(closing_tables(outcome.state, worth)) | dimensions.result()
        write_run_manifest(
            folder,
            tables=tables,
            rules={"name": plan.name, "sha256": plan.sha256, "resolved": book.resolved},
            tape={"name": tape.path.name, "sha256": tape.manifest["sha256"], "venue": tape.venue},
            span=(outcome.first_ts, outcome.last_ts),
            switches={
                "liquidations": liquidations,
                "execution": execution,
                "anchor_equity": anchor_equity,
                "opening_equity": "unknown",
                "until": until,
                "watch": list(watch) or None,
                "sample_ns": sample_ns or None,
                "add": None if added is None else added.name,
            },
            added=None if added is None else {"name": added.name, "text": added.text},
            assumptions=_assumptions(
                tape,
                plan.assumptions,
                outcome,
                added,
                rules_decide=rules_decide,
                anchoring=anchoring,
                executing=executing,
            ),
            coverage=coverage(outcome.state, worth),
            counts=_counts(outcome)
            | {"recorded forced positions": audit_rows, "start_position breaks": break_rows},
            conservation=_conservation(outcome),
            timings={
                "prepare": round(prepared - began, 6),
                "replay": round(replayed - prepared, 6),
                "write": round(time.perf_counter() - replayed, 6),
            },
            memory={"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024},
        )
    return open_run(out)


def _counts(outcome: Outcome) -> dict[str, Any]:
    counters = outcome.state.arrays.counters
    return {
        "rows": dict(outcome.rows),
        **{name: int(counters[slot]) for name, slot in _COUNTERS.items()},
        "liquidations by the rules": outcome.liquidations,
        "crossed snapshots of depth refused": outcome.crossed_depth,
    }


def _conservation(outcome: Outcome) -> dict[str, Any]:
    sums = outcome.conservation
    state = outcome.state
    return {
        "markets": sum(market.payoff != Payoff.SPOT for market in state.markets),
        "open_markets": [market.name for market, size in zip(state.markets, sums.sizes, strict=True) if size],
        "ledgers": [
            {"dex": dex, "currency": currency, "cash_less_cost": have, "external_flow": flow}
            for (dex, currency), have, flow in zip(
                state.ledgers, sums.cash_less_cost, sums.external_flow, strict=True
            )
        ],
    }


def _assumptions(
    tape: Tape,
    of_rules: tuple[str, ...],
    outcome: Outcome,
    added: AddedBook | None,
    *,
    rules_decide: bool,
    anchoring: bool,
    executing: bool,
) -> list[str]:
    """Name everything the result rests on that neither tape nor rules state as fact."""
    sentences = [f"rules: {sentence}" for sentence in of_rules]
    sentences += [f"tape: {sentence}" for sentence in tape.manifest["assumptions"]]
    sentences += [f"marks: {sentence}" for sentence in _mark_sentences(outcome, anchoring=anchoring)]
    if outcome.balanced_markets:
        sentences.append(
            f"books: opening sizes of {outcome.balanced_markets} markets do not sum to zero; "
            "@unseen holds the rest"
        )
    opened = int(outcome.state.arrays.counters[OPENED])
    if opened:
        sentences.append(
            f"books: {opened:,} positions that began before the tape were opened from start_position at the "
            "mark (before the first mark: at the fill's price), balanced by @unseen"
        )
    if added is not None:
        sentences.append(
            f"added: the accounts of {added.name} ({len(added.accounts):,}) opened against @book at the "
            "mark, without a fee, and do nothing else; they moved no recorded price"
        )
    if outcome.crossed_depth:
        sentences.append(
            f"depth: {outcome.crossed_depth:,} snapshots that forced orders met are crossed, which no book can be; "
            "they were refused, as if nothing stood there"
        )
    if executing:
        sentences.append(
            "execution: recorded forced orders go through depth and fund of the rules beside the books, "
            "which stay those of the record; the fund takes at bankruptcy, or at the recorded price"
        )
    if anchoring:
        sentences.append(
            "equity: before each recorded cross liquidation the difference to the recorded equity is booked "
            "against @unexplained"
        )
    if anchoring and rules_decide:
        sentences.append(
            "equity: a pool's equity counts as known only in the step in which it is anchored; the rules "
            "judge no pool at any other time"
        )
    if rules_decide:
        sentences.append(
            "prices: the recorded price path is held fixed; a replay that forces more than the venue did "
            "understates stress, one that forces less overstates it"
        )
        sentences.append(
            "divergence: once a replayed position differs from the recorded one, recorded fills reduce it at "
            "most to zero and increase it only while the pool stands above maintenance; @book takes the rest"
        )
    return sentences


def _mark_sentences(outcome: Outcome, *, anchoring: bool) -> list[str]:
    records = outcome.state.arrays.markets
    perpetual = [m for m in outcome.state.markets if m.payoff != Payoff.SPOT]
    by_source: dict[str, int] = {}
    for market in perpetual:
        record = records[market.id]
        if record["fills_set_mark"]:
            source = "the price of the last voluntary fill (never of a forced one)"
        elif int(record["mark_kinds"]) >> PriceKind.MARK & 1:
            source = "the mark on the tape"
        else:
            source = "the last price of the tape"
        by_source[source] = by_source.get(source, 0) + 1
    sentences = [f"in {count} of {len(perpetual)} markets: {source}" for source, count in by_source.items()]
    sentences.append("where the venue printed a mark with a forced fill, that mark from there on")
    if anchoring:
        sentences.append(
            "at a recorded liquidation of one market: the mark implied by recorded notional and closed size"
        )
    return sentences
