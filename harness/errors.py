"""The one error a person is meant to read."""

from __future__ import annotations


class HarnessError(Exception):
    """The harness could not do what it was asked; not a finding about any scenario.

    The message is one sentence that names the offending value, and then the next step. The command
    line prints it without a traceback and exits with 2; pytest reports it as a usage error.
    """
