"""What one run showed, and what that says about the catalogue. Imports no other room."""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Exit statuses of an exported script; 125 is what ``git bisect run`` takes for "skip this one".
EXIT_HEALTHY = 0
EXIT_BUG = 1
EXIT_CANNOT_RUN = 125


class Outcome(str, enum.Enum):
    """What one run of one scenario showed."""

    HEALTHY = "healthy"
    BUG = "bug"
    HANG = "hang"
    CRASH = "crash"
    NOT_APPLICABLE = "not-applicable"
    BROKEN = "broken"

    @property
    def is_bug(self) -> bool:
        """Whether the unhealthy behaviour was seen: a failed assertion, a hang or a crash."""
        return self in _BUGS

    def __str__(self) -> str:
        return self.value


def signal_name(number: int) -> str:
    """Return what a signal is called; those for real time have no name of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_BUGS = frozenset({Outcome.BUG, Outcome.HANG, Outcome.CRASH})


class Verdict(str, enum.Enum):
    """An outcome held against the record's ``present``."""

    REPRODUCED = "reproduced"
    HEALTHY = "healthy"
    REGRESSION = "regression"
    NOT_REPRODUCED = "not-reproduced"
    INCONCLUSIVE = "inconclusive"

    @property
    def is_failure(self) -> bool:
        """Whether the run contradicts the catalogue."""
        return self in (Verdict.REGRESSION, Verdict.NOT_REPRODUCED)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Observation:
    """The evidence of one run.

    :param outcome: what the run showed
    :param message: one line: the exception, the signal, or where it hangs
    :param detail: traceback, or the stacks of every task and thread
    :param output: what the scenario printed, cut to a bounded size
    :param seconds: wall-clock time of the run, in seconds
    """

    outcome: Outcome
    message: str = ""
    detail: str = ""
    output: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_json` reads back."""
        return {**vars(self), "outcome": self.outcome.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observation:
        """Rebuild an observation.

        :raises ValueError: for an outcome this version does not know
        :raises TypeError: for a field this version does not know
        """
        return cls(**{**data, "outcome": Outcome(data["outcome"])})


def judge(outcome: Outcome, *, present: bool, can_fail: bool) -> Verdict:
    """Hold one outcome against the catalogue.

    :param present: whether the record says that the bug is present here
    :param can_fail: whether anything shows that this scenario is able to fail: a place where its
        bug is known, or a planted defect. Without it a pass carries no evidence
    """
    if outcome.is_bug:
        return Verdict.REPRODUCED if present else Verdict.REGRESSION
    if outcome is Outcome.HEALTHY:
        if present:
            return Verdict.NOT_REPRODUCED
        return Verdict.HEALTHY if can_fail else Verdict.INCONCLUSIVE
    return Verdict.INCONCLUSIVE
