"""Which switches of a run go together."""

from __future__ import annotations

from replay.errors import RunError

RECORDED, RULES, DEPTH = "recorded", "rules", "depth"


def executes_the_record(liquidations: str, execution: str) -> bool:
    """Tell whether recorded forced orders are sent through depth and fund of the rules."""
    return (liquidations, execution) == (RECORDED, DEPTH)


def chosen_execution(liquidations: str, execution: str | None) -> str:
    """Return how forced orders fill: as asked for, or as goes with who forces.

    Args:
        liquidations: ``recorded`` or ``rules``.
        execution: ``recorded``, ``depth`` or None.

    Raises:
        RunError: A value is unknown, or the two have no meaning together.
    """
    if liquidations not in (RECORDED, RULES):
        raise RunError(f"{liquidations!r} is unknown", key="--liquidations", mend="use recorded or rules")
    chosen = execution or (DEPTH if liquidations == RULES else RECORDED)
    if chosen not in (RECORDED, DEPTH):
        raise RunError(f"{chosen!r} is unknown", key="--execution", mend="use recorded or depth")
    if (liquidations, chosen) == (RULES, RECORDED):
        raise RunError(
            "has no meaning with --liquidations rules: the tape holds no fills of orders that the rules make",
            key="--execution recorded",
            mend="leave it out, or use --execution depth",
        )
    return chosen
