"""A run is judged by its evidence."""

from __future__ import annotations

from typing import Any

import pytest

from harness.matrix.evidence import observe
from harness.outcome import Outcome


def event(stderr: str = "", status: int = 0, **more: Any) -> dict[str, Any]:
    return {"seconds": 0.5, "stdout": "out", "stderr": stderr, "status": status, **more}


@pytest.mark.parametrize(
    ("seen", "outcome", "message"),
    [
        (event("healthy\n"), Outcome.HEALTHY, ""),
        (event("Traceback\nbug: TypeError: no\n", 1), Outcome.BUG, "TypeError: no"),
        (event("stacks\nhang: test did not return\n", 1), Outcome.HANG, "test did not return"),
        (event("cannot run: no demo\n", 125), Outcome.NOT_APPLICABLE, "no demo"),
        (event("cannot run: no demo\nleft open\n", 125), Outcome.NOT_APPLICABLE, "no demo"),
        (event("", 125), Outcome.CRASH, "ended itself with status 125 before the end"),
        (event(signal=11), Outcome.CRASH, "killed by SIGSEGV"),
        (event(hang="deadlock: x", signal=9), Outcome.HANG, "deadlock: x"),
        (event(runaway=1 << 24, signal=9), Outcome.BROKEN, "printed more than 16 MiB"),
        (event("", 0), Outcome.CRASH, "ended itself with status 0 before the end"),
        (event("", 1), Outcome.CRASH, "ended itself with status 1 before the end"),
        (event("", 7), Outcome.CRASH, "ended itself with status 7"),
        (
            event("Traceback (most recent call last):\nNameError: x\n", 1),
            Outcome.BROKEN,
            "failed outside the scenario: NameError: x",
        ),
        ({"id": 1, "unparsable": "invalid syntax (line 3)"}, Outcome.BROKEN, "cannot read it"),
        ({"id": 1, "failed": "cannot fork"}, Outcome.BROKEN, "cannot fork"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_evidence_decides(seen: dict[str, Any], outcome: Outcome, message: str) -> None:
    """Exit status, signal and the last line together: a status alone proves nothing."""
    found = observe(seen)
    assert found.outcome is outcome
    assert message in found.message
