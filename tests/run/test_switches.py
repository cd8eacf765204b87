from __future__ import annotations

import pytest

from replay.errors import RunError
from replay.run.switches import chosen_execution


@pytest.mark.parametrize(
    ("liquidations", "execution", "chosen"),
    [
        ("recorded", None, "recorded"),
        ("recorded", "recorded", "recorded"),
        ("rules", None, "depth"),
        ("rules", "depth", "depth"),
        ("recorded", "depth", "depth"),
    ],
)
def test_execution_goes_with_who_forces(liquidations, execution, chosen):
    assert chosen_execution(liquidations, execution) == chosen


@pytest.mark.parametrize(
    ("liquidations", "execution", "message"),
    [
        ("rules", "recorded", "--execution recorded: has no meaning"),
        ("rules", "twap", "--execution: 'twap' is unknown"),
        ("none", None, "--liquidations: 'none' is unknown"),
    ],
)
def test_what_does_not_go_together_is_refused(liquidations, execution, message):
    with pytest.raises(RunError, match=message):
        chosen_execution(liquidations, execution)
