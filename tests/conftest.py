"""Settings shared by all tests."""

from __future__ import annotations

from hypothesis import settings

# The first example of a compiled function includes its compilation, so examples have no deadline.
settings.register_profile("replay", deadline=None, derandomize=True)
settings.load_profile("replay")
