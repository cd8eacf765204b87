"""How long work tells how far it is. Rooms call an :data:`OnProgress` if given one; only the cli draws it."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[float, str], None]
"""Called with the share done, from 0 to 1, and a short text of what is being done."""
