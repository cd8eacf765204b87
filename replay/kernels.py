"""The one decorator of compiled code: numba, cached on disk under a name made of all compiled sources.

Numba's own cache looks only at the file a function stands in, so a change in what it calls would go unseen.
Here every version of the compiled sources has a cache folder of its own, outside the installation (which may
be read-only). The first run of a version compiles, which takes some minutes; later ones load.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsInt, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:

    def i64(value: SupportsInt) -> int:
        """Widen an integer, so that compiled code sees one type of it; see below."""

else:
    i64 = np.int64

F = TypeVar("F", bound=Callable[..., object])

_SOURCES = (
    "kernels.py",
    "exact.py",
    "units.py",
    "tape/schema.py",
    "tape/populate.py",
    "tape/prices.py",
    "tape/read.py",
    "sources/_numbers.py",
    "loop/*.py",
    "loop/policies/scores.py",
    "rules/plan.py",
)


@cache
def cache_folder() -> Path:
    """Return where this version's compiled code is kept: below NUMBA_CACHE_DIR or the user's cache."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(package.glob(pattern)):
            digest.update(path.read_bytes())
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    return root / "perp-replay" / f"kernels-{digest.hexdigest()[:16]}"


def is_compiled() -> bool:
    """Tell whether this version has compiled code on disk, so that a run starts without compiling."""
    return any(cache_folder().rglob("advance.advance-*.nbc"))


def kernel(function: F) -> F:
    """Compile a function that makes no array on first use and keep it on disk.

    Without numba's reference counts: they would cost two atomic additions for every array of the state at
    every call, two thirds of the time of the loop. It holds no lock of the interpreter while it runs.
    """
    return _compiled(function, counts_references=False)


def allocating_kernel(function: F) -> F:
    """Compile a function that makes arrays; see :func:`kernel`."""
    return _compiled(function, counts_references=True)


def _compiled(function: F, *, counts_references: bool) -> F:
    config: Any = numba.config
    njit: Any = numba.njit  # its types do not name `_nrt`
    before = config.CACHE_DIR
    config.CACHE_DIR = str(cache_folder())
    try:
        compiled = njit(cache=True, error_model="numpy", nogil=True, _nrt=counts_references)(function)
    finally:
        config.CACHE_DIR = before
    return cast(F, compiled)
