"""The policies by name, and a user's own: by entry point, by module, by file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from replay.errors import RulesError
from replay.loop.policies import proportional, queues
from replay.loop.policies.winners import Lots, Winners

QUEUE = "queue"
"""The method of the rules' own score: candidates are closed in the order of their rank."""

Policy = Callable[[int, Winners], Lots]
"""Whole lots needed and candidates in, whole lots of each candidate out."""

ENTRY_POINTS = "replay.policies"
"""Group of entry points under which a package offers policies."""

POLICIES: Mapping[str, Callable[..., Lots]] = {
    "score_queue": queues.score_queue,
    "lexicographic": queues.lexicographic,
    "random_walk": queues.random_walk,
    "contract_pro_rata": proportional.contract_pro_rata,
    "profit_pro_rata": proportional.profit_pro_rata,
    "equity_pro_rata": proportional.equity_pro_rata,
    "wealth_pro_rata": proportional.wealth_pro_rata,
    "levered_pro_rata": proportional.levered_pro_rata,
    "capped_pro_rata": proportional.capped_pro_rata,
    "risk_linear": proportional.risk_linear,
    "risk_power": proportional.risk_power,
    "risk_cvar": proportional.risk_cvar,
    "minimax_leverage": proportional.minimax_leverage,
}
"""Registered policies, by the name rule files use."""


def policy(name: str, **options: Any) -> Policy:
    """Return a policy by name, ``module:function`` or ``path/to/file.py:function``.

    Args:
        name: A registered name, the name of an entry point in the group ``replay.policies``, or where to
            find the function.
        options: Keywords of the policy, such as ``seed``.

    Raises:
        RulesError: No such policy, it cannot be loaded, or it does not take the options.
    """
    function = POLICIES.get(name) or _found(name)
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise RulesError(
                f"the policy {name} has no option `{option}`",
                key="adl.method",
                mend=f"it has: {', '.join(known) or 'none'}",
            )
    return partial(function, **options) if options else function


def named_policy(text: str) -> Policy:
    """Return the policy that a rule file names: its name, then options, as in ``random_walk seed=7``.

    Values are whole numbers or fractions (``2``, ``0.5``, ``1/3``), or text.

    Raises:
        RulesError: See :func:`policy`; an option without a value.
    """
    name, *words = text.split()
    options = {}
    for word in words:
        option, equals, value = word.partition("=")
        if not equals:
            raise RulesError(
                f"`{word}` is no option of the policy {name}",
                key="adl.method",
                mend='write options behind the name as name=value, such as "random_walk seed=7"',
            )
        options[option] = _value(value)
    return policy(name, **options)


def _value(text: str) -> int | Fraction | str:
    try:
        number = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return text
    return int(number) if number.denominator == 1 else number


def _found(name: str) -> Callable[..., Lots]:
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return _callable(point.load(), name)
    place, _, function = name.rpartition(":")
    if not place:
        raise RulesError(
            f"there is no policy {name}",
            key="adl.method",
            mend=f"there are {', '.join(POLICIES)}; your own is module:function or path/to/file.py:function",
        )
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        return _callable(getattr(module, function), name)
    except (ImportError, OSError, AttributeError, SyntaxError) as failure:
        raise RulesError(
            f"the policy {name} cannot be loaded: {failure}",
            key="adl.method",
            mend="write module:function or path/to/file.py:function",
        ) from None


def _callable(found: Any, name: str) -> Callable[..., Lots]:
    if not callable(found):
        raise RulesError(
            f"{name} is no function", key="adl.method", mend="a policy is f(need, winners) -> lots"
        )
    return found  # type: ignore[no-any-return]


def _from_file(path: Path) -> Any:
    name = f"replay_policy_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def checked(taken: Lots, need: int, winners: Winners, name: str) -> Lots:
    """Return what a policy took if it is within the need and the candidates' lots.

    Raises:
        RulesError: It is not; a policy of a user's own has a fault.
    """
    if len(taken) != len(winners) or taken.dtype.kind not in "iu":
        raise RulesError(
            f"the policy {name} did not return whole lots, one for each of {len(winners)} candidates",
            key="adl.method",
            mend="return an int64 array as long as winners",
        )
    if (taken < 0).any() or (taken > winners.lots).any() or int(taken.sum()) > need:
        raise RulesError(
            f"the policy {name} took more lots than a candidate has, or than the {need} that are needed",
            key="adl.method",
            mend="no candidate gives more than winners.lots, all together no more than need",
        )
    return taken
