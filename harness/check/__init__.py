"""The vacuous-test detector: find tests that pass without having run, by running them."""

from harness.check.model import Finding, Kind, Run
from harness.check.runner import check

__all__ = ["Finding", "Kind", "Run", "check"]
