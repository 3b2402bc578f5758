"""Exceptions that are part of the public interface."""

from __future__ import annotations

__all__ = [
    "ClosedError",
    "InvalidStateError",
    "KilledError",
    "PersistenceError",
    "UnsuccessfulResult",
]


class KilledError(Exception):
    """The process was killed."""


class InvalidStateError(Exception):
    """The operation needs the process to be in another state."""


class UnsuccessfulResult:
    """Returned by a step of a process to finish it unsuccessfully.

    :param result: the result of the process, by convention an exit code
    """

    def __init__(self, result: int | None = None):
        self.result = result


class PersistenceError(Exception):
    """Something could not be saved or loaded."""


class ClosedError(Exception):
    """The operation needs the process to be open."""
