"""Where the recorded tapes are, and how a test says that they are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "../shared/data"


def recording(name: str) -> Path:
    """Return the folder of a recording, or skip the test with the reason."""
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"the recording {name} is not there: {folder}")
    return folder
