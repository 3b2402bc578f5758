"""The results of one scenario as releases x interpreters, and when its bug came and went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from harness.outcome import Outcome, Verdict
from harness.report.model import Report, Result, ScenarioInfo

#: One row: canonical project name and release, ("", "") for Python alone.
Row = tuple[str, str]


def release_key(release: str) -> tuple[bool, Version | str]:
    """Order releases by PEP 440, and what is no release number after them, by name."""
    try:
        return (False, Version(release))
    except InvalidVersion:
        return (True, release)


def word(result: Result) -> str:
    """Say in one word what a cell showed: an outcome, or ``inconclusive`` if it is no evidence."""
    if result.verdict is Verdict.INCONCLUSIVE and result.observation.outcome in (
        *(outcome for outcome in Outcome if outcome.is_bug),
        Outcome.HEALTHY,
    ):
        return Verdict.INCONCLUSIVE.value
    return result.observation.outcome.value


def is_bad(result: Result) -> bool:
    """Whether this cell is evidence that the bug is there."""
    return result.verdict in (Verdict.REPRODUCED, Verdict.REGRESSION)


def is_good(result: Result) -> bool:
    """Whether this cell ran through and did not show the bug."""
    return result.observation.outcome is Outcome.HEALTHY and word(result) == "healthy"


@dataclass(frozen=True)
class BadRange:
    """Neighbouring releases that show the bug.

    :param first: the first bad release of the range
    :param last: the last one
    :param good_before: the newest healthy release below it; None if no lower one was healthy
    :param good_after: the oldest healthy release above it; None if no higher one was healthy
    :param unclear: releases inside or at a boundary that could not tell
    """

    first: str
    last: str
    good_before: str | None
    good_after: str | None
    unclear: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = self.first if self.first == self.last else f"{self.first} to {self.last}"
        before = f"last good one before: {self.good_before}" if self.good_before else ""
        after = "no good one after"
        if self.good_after:
            after = f"first good one after: {self.good_after}"
        about = "; ".join(part for part in (before, after) if part)
        unclear = f"; no evidence from {', '.join(self.unclear)}" if self.unclear else ""
        return f"{text} ({about}{unclear})"


def state(result: Result) -> str:
    """Say what a cell is evidence of: ``bad``, ``good`` or ``unclear``."""
    return "bad" if is_bad(result) else "good" if is_good(result) else "unclear"


def bad_ranges(known: Iterable[tuple[str, str]]) -> list[BadRange]:
    """Return every range of bad places in a history.

    :param known: (name, :func:`state`) of each place, oldest first
    """
    ranges: list[BadRange] = []
    good_before: str | None = None
    bad: list[str] = []
    unclear: list[str] = []
    pending: list[str] = []
    for name, kind in [*known, ("", "end")]:
        if kind == "unclear":
            pending.append(name)
        elif kind == "bad":
            unclear += pending
            pending = []
            bad.append(name)
        else:
            if bad:
                good_after = name if kind == "good" else None
                told = tuple(unclear + (pending if good_after else []))
                ranges.append(BadRange(bad[0], bad[-1], good_before, good_after, told))
            good_before, bad, unclear, pending = name, [], [], []
    return ranges


@dataclass(frozen=True)
class Grid:
    """Every result of one scenario, in rows and columns.

    :param pythons: column labels, oldest interpreter first
    :param rows: oldest release first, Python alone before any
    :param cells: (row, column label) -> result; a cell that did not run is missing
    """

    scenario: ScenarioInfo
    pythons: tuple[str, ...]
    rows: tuple[Row, ...]
    cells: Mapping[tuple[Row, str], Result]

    @classmethod
    def of(cls, report: Report, id: str) -> Grid:
        """Arrange one scenario of a report.

        :raises HarnessError: for an id that the report does not hold
        """
        info, results = report.scenario(id), report.results_of(id)
        label = column_labels(results)
        cells = {((r.library or "", r.release or ""), label[r.python, r.build]): r for r in results}
        rows = sorted({row for row, _ in cells}, key=lambda row: (row[0], release_key(row[1])))
        return cls(info, tuple(label.values()), tuple(rows), cells)

    def row_words(self, row: Row) -> tuple[str, ...]:
        """Return the words of one row, empty where nothing ran."""
        found = (self.cells.get((row, python)) for python in self.pythons)
        return tuple("" if result is None else word(result) for result in found)

    def runs(self) -> list[tuple[tuple[Row, ...], tuple[str, ...]]]:
        """Group neighbouring rows of one library that read the same."""
        groups: list[tuple[tuple[Row, ...], tuple[str, ...]]] = []
        for row in self.rows:
            words = self.row_words(row)
            if groups and groups[-1][1] == words and groups[-1][0][0][0] == row[0]:
                groups[-1] = ((*groups[-1][0], row), words)
            else:
                groups.append(((row,), words))
        return groups

    def bad_ranges(self, python: str, library: str) -> list[BadRange]:
        """Return every range of bad releases in one column, oldest first.

        Releases that could not tell never split a range; they are named instead.
        """
        known: list[tuple[str, str]] = []
        for row in self.rows:
            result = self.cells.get((row, python)) if row[0] == library and row[1] else None
            if result is not None:
                known.append((row[1], state(result)))
        return bad_ranges(known)

    def history(self) -> list[tuple[str, tuple[str, ...], list[BadRange]]]:
        """Return (library, columns, bad ranges), columns of one history together."""
        found: list[tuple[str, tuple[str, ...], list[BadRange]]] = []
        libraries = sorted({library for library, release in self.rows if library and release})
        for library in libraries:
            for python in self.pythons:
                if not any(row[0] == library and (row, python) in self.cells for row in self.rows):
                    continue
                ranges = self.bad_ranges(python, library)
                for index, (name, columns, known) in enumerate(found):
                    if name == library and known == ranges:
                        found[index] = (name, (*columns, python), known)
                        break
                else:
                    found.append((library, (python,), ranges))
        return found


def row_label(rows: tuple[Row, ...]) -> str:
    """Name neighbouring rows: ``nest-asyncio 1.3.0 to 1.3.3 (4)``.

    The number says how many releases ran, for not every release between the two need have.
    """
    (library, first), (_, last) = rows[0], rows[-1]
    releases = {1: first, 2: f"{first}, {last}"}.get(len(rows), f"{first} to {last} ({len(rows)})")
    return f"{library} {releases}" if library and releases else library or "Python"


def grids(report: Report) -> Iterable[Grid]:
    """Arrange every scenario of a report, in the order of the report."""
    return (Grid.of(report, info.id) for info in report.scenarios)


def column_labels(results: Iterable[Result]) -> dict[tuple[str, str], str]:
    """Name each interpreter, oldest first: its version, with the build where two have one version.

    :return: (python, build) -> label
    """
    keys = {(result.python, result.build) for result in results}
    versions = [python for python, _ in keys]
    return {
        (python, build): python if versions.count(python) == 1 else f"{python} [{build}]"
        for python, build in sorted(keys, key=lambda key: (release_key(key[0]), key[1]))
    }
