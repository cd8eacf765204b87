"""Options that take a moment or a length of time."""

from __future__ import annotations

import click

from replay.units import parse_time


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a moment in UTC as ns."""
    if value is None:
        return None
    try:
        return parse_time(value)
    except ValueError as failure:
        raise click.BadParameter(str(failure), ctx, param) from None


def duration(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a length of time as ns; 0 is none."""
    if value is None or value == "0":
        return None if value is None else 0
    from replay.sources.scenario_model import parse_offset

    try:
        return parse_offset(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no length of time; write 1m, 30s or 1h", ctx, param) from None
