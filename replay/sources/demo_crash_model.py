"""The parameters of the crash day, as they stand in its ``dataset.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from replay.sources.demo_crash_markets import LEDGERS
from replay.sources.demo_crash_prices import CALM_SECONDS
from replay.sources.scenario_model import Entry, Fund, Name, Start, fault
from replay.sources.scenario_read import Form, read_form
from replay.units import ATOM, BOUND, MONEY_SCALE, NS_PER_SECOND, rescale

_MOST = 1_000_000


class Parameters(Entry):
    """``[parameters]``: what the model is asked for.

    Attributes:
        seed: Start of the random numbers; another seed is another day of the same kind.
        crash: Moment the crash begins, ns UTC. The day starts eight hours before it.
        accounts: Accounts of the day, pseudo accounts not counted.
        matches: Matches of the day, about; each is two rows of ``fills``.
        depth: Depth of the books in percent of the normal one.
    """

    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    crash: Start
    accounts: Annotated[int, Field(ge=500, le=_MOST)]
    matches: Annotated[int, Field(ge=1_000, le=10 * _MOST)]
    depth: Annotated[int, Field(ge=1, le=10_000)]

    @field_validator("crash")
    @classmethod
    def _is_in_range(cls, crash: int) -> int:
        if crash < CALM_SECONDS * NS_PER_SECOND:
            fault("is in the first hours of 1970", "there are eight calm hours before the crash")
        return crash


class CrashFund(Fund):
    """``[[funds]]``: opening cash of a fund or vault in one currency."""

    @model_validator(mode="after")
    def _has_a_ledger(self) -> CrashFund:
        if self.currency not in LEDGERS:
            fault("does not say in which currency", f"write one of: {', '.join(LEDGERS)}")
        if self.dex is not None:
            fault("names a dex, and the day has none", "leave out `dex`")
        if not 0 <= self.atoms < BOUND:
            fault("has less cash than none, or more than there is", f"at most {BOUND // ATOM}")
        return self

    @property
    def ledger(self) -> int:
        """Id of its ledger."""
        return LEDGERS.index(str(self.currency))

    @property
    def atoms(self) -> int:
        """Cash in atoms, rounded half-even."""
        return rescale(*self.cash, MONEY_SCALE)[0]


class Dataset(Entry):
    """A ``dataset.toml``; only ``venue``, ``[parameters]`` and ``[[funds]]`` shape the tape."""

    venue: Name
    parameters: Parameters
    funds: tuple[CrashFund, ...] = ()
    title: str = ""
    summary: str = ""
    rules: tuple[Name, ...] = ()
    sources: tuple[dict[str, Any], ...] = ()
    licence: dict[str, Any] = Field(default_factory=dict)
    facts: tuple[dict[str, Any], ...] = ()


FORM = Form(Dataset, "a crash dataset", "docs/demo-crash.md")


def read_dataset(path: Path) -> Dataset:
    """Read and validate the file of the day.

    Raises:
        SourceError: Not readable, not TOML, an unknown or missing key, a value of another form, or a fund
            given twice.
    """
    dataset, page = read_form(path, FORM)
    seen: set[tuple[str, str | None]] = set()
    for number, fund in enumerate(dataset.funds):
        if (fund.name, fund.currency) in seen:
            problem = f"{fund.name!r} has cash in {fund.currency} already"
            raise page.error(problem, ("funds", number), "write each fund once")
        seen.add((fund.name, fund.currency))
    return dataset
