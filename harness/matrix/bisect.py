"""When did a bug come and go: every interval of bad releases, for each interpreter.

Nothing is assumed about the history: it may have holes, and releases that can tell nothing. A few
releases are probed in all interpreters at once. Where the rest is cheap it is run, too, and then
the answer is certain. Else neighbours that disagree are halved until nothing lies between them, the
gaps that are left are sampled while time allows, and what was not tried is said. Each boundary is
confirmed by running both of its sides again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from packaging.version import Version

from harness.errors import HarnessError
from harness.matrix.cells import Cell
from harness.matrix.engine import Engine, Progress, no_progress
from harness.matrix.engine import Grid as Ran
from harness.matrix.interpreters import Interpreter
from harness.report.grid import BadRange, bad_ranges, state
from harness.report.model import Result
from harness.scenario import Scenario

#: How many releases are probed first.
PROBES = 7
#: Runs of each side of a boundary.
CONFIRMATIONS = 3
#: Seconds that everything may take before releases are left out.
BUDGET = 20.0


@dataclass(frozen=True)
class History:
    """What is known of one library in some interpreters that agree, or of Python itself.

    :param subject: canonical project name, or ``Python``
    :param pythons: the interpreters; empty if the subject is Python
    :param ranges: every range of bad releases, oldest first
    :param untried: releases that did not run, neighbours as ``first to last``
    :param unclear: releases that ran and could not tell, likewise
    :param unstable: releases whose runs differed, likewise
    :param tried: how many releases ran
    :param told: how many of them could tell
    :param places: how many releases there are
    """

    subject: str
    pythons: tuple[str, ...]
    ranges: tuple[BadRange, ...]
    untried: tuple[str, ...]
    unclear: tuple[str, ...]
    unstable: tuple[str, ...]
    tried: int
    told: int
    places: int

    @property
    def certainty(self) -> str:
        """How sure this is, for people."""
        if self.unstable:
            return (
                f"less than it looks: equal runs differed in {', '.join(self.unstable)}; "
                "make the scenario deterministic first"
            )
        if not self.untried:
            sure = f"all {self.places} releases ran"
        else:
            sure = f"{self.tried} of {self.places} releases ran; a hole could hide in the others: "
            sure += ", ".join(self.untried)
        if self.ranges:
            sure += f"; both sides of each boundary ran {CONFIRMATIONS} times"
        return sure


@dataclass(frozen=True)
class Bisection:
    """What a bisect found out.

    :param histories: one for each library and each group of interpreters that agree
    :param grid: the cells that ran
    :param differences: the cells that contradict the record's ``present``
    """

    record: Scenario
    histories: tuple[History, ...]
    grid: Ran
    differences: tuple[Result, ...]

    @property
    def unstable(self) -> list[Result]:
        """The cells whose runs did not agree: nothing is claimed about them."""
        return self.grid.differing


def bisect(
    engine: Engine,
    record: Scenario,
    cells: Sequence[Cell],
    progress: Progress = no_progress,
    *,
    budget: float = BUDGET,
) -> Bisection:
    """Find when the bug of a scenario came and went.

    :param cells: every cell of the scenario that may run
    :param budget: seconds after which only what settles a boundary is run
    """
    return _Search(engine, record, cells, progress, budget).run()


class _Search:
    def __init__(
        self,
        engine: Engine,
        record: Scenario,
        cells: Sequence[Cell],
        progress: Progress,
        budget: float,
    ) -> None:
        self._engine = engine
        self._record = record
        self._progress = progress
        self._end = time.monotonic() + budget
        self._ran = Ran()
        self._results: dict[Cell, Result] = {}
        self._differing: set[Cell] = set()
        columns: dict[tuple[str, Interpreter], list[Cell]] = {}
        for cell in sorted(cells, key=_age):
            columns.setdefault((cell.library or "", cell.interpreter), []).append(cell)
        self._columns = columns

    def run(self) -> Bisection:
        started = time.monotonic()
        self._try(self._of_each(self._probes))
        if self._rest_is_cheap(time.monotonic() - started):
            self._try([cell for column in self._columns.values() for cell in column])
        self._halve()
        while time.monotonic() < self._end and (wanted := self._of_each(self._widest_gap)):
            self._try(wanted)
            self._halve()
        self._try(self._of_each(self._sides), CONFIRMATIONS)
        differences = tuple(one for one in self._ran.results if one.verdict.is_failure)
        return Bisection(self._record, tuple(self._histories()), self._ran, differences)

    def _of_each(self, choose: Callable[[Sequence[Cell]], list[Cell]]) -> list[Cell]:
        return [cell for column in self._columns.values() for cell in choose(column)]

    def _try(self, cells: Sequence[Cell], repeat: int = 1) -> None:
        if not cells:
            return
        self._engine.run(cells, self._progress, repeat=repeat)
        # What a healthy cell is worth depends on whether any cell failed: judge all of them again.
        known = list(dict.fromkeys([*self._results, *cells]))
        self._ran = self._engine.run(known)
        if not self._ran.results:
            raise HarnessError(self._ran.problems[0])
        self._results = dict(zip(known, self._ran.results, strict=True))
        differing = set(map(id, self._ran.differing))
        self._differing = {cell for cell, one in self._results.items() if id(one) in differing}

    def _halve(self) -> None:
        while wanted := self._of_each(self._between):
            self._try(wanted)

    def _state(self, cell: Cell) -> str:
        """Return ``bad``, ``good``, ``unclear``, or nothing if it did not run."""
        return state(self._results[cell]) if cell in self._results else ""

    def _probes(self, column: Sequence[Cell]) -> list[Cell]:
        """Return evenly spread releases, and those where the record says that something changes."""
        last = len(column) - 1
        spread = {round(last * index / (PROBES - 1)) for index in range(PROBES)}
        for index in range(last):
            if column[index].is_present != column[index + 1].is_present:
                spread.update((index, index + 1))
        return [column[index] for index in sorted(spread)]

    def _rest_is_cheap(self, seconds: float) -> bool:
        """Whether everything else can run, given how long the first probes took."""
        missing = sum(map(len, self._columns.values())) - len(self._results)
        return seconds * missing / len(self._results) < self._end - time.monotonic()

    def _between(self, column: Sequence[Cell]) -> list[Cell]:
        """Return, for each two neighbours that disagree, the middle of what lies between."""
        wanted = []
        for before, after in self._disagreeing(column):
            gap = [cell for cell in column[before + 1 : after] if cell not in self._results]
            wanted += gap[len(gap) // 2 : len(gap) // 2 + 1]
        return wanted

    def _widest_gap(self, column: Sequence[Cell]) -> list[Cell]:
        gaps: list[list[Cell]] = [[]]
        for cell in column:
            if cell in self._results:
                gaps.append([])
            else:
                gaps[-1].append(cell)
        widest = max(gaps, key=len)
        return widest[len(widest) // 2 : len(widest) // 2 + 1]

    def _sides(self, column: Sequence[Cell]) -> list[Cell]:
        places = {index for pair in self._disagreeing(column) for index in pair}
        return [column[index] for index in sorted(places)]

    def _disagreeing(self, column: Sequence[Cell]) -> list[tuple[int, int]]:
        """Return the places of each two that tell opposites, with nothing between that tells."""
        clear = [index for index, cell in enumerate(column) if self._state(cell) in ("bad", "good")]
        return [
            (before, after)
            for before, after in itertools.pairwise(clear)
            if self._state(column[before]) != self._state(column[after])
        ]

    def _histories(self) -> list[History]:
        found: dict[History, list[str]] = {}
        alone: list[Cell] = []
        for (library, interpreter), column in self._columns.items():
            if library:
                key = self._history(library, column, [str(cell.release) for cell in column])
                found.setdefault(key, []).append(interpreter.version)
            else:
                alone += column
        histories = [replace(key, pythons=tuple(pythons)) for key, pythons in found.items()]
        if alone:
            alone.sort(key=lambda cell: cell.interpreter.sort_key)
            names = [cell.interpreter.version for cell in alone]
            histories.append(self._history("Python", alone, names))
        return histories

    def _history(self, subject: str, column: Sequence[Cell], names: Sequence[str]) -> History:
        states = [self._state(cell) for cell in column]
        known = [pair for pair in zip(names, states, strict=True) if pair[1]]
        return History(
            subject=subject,
            pythons=(),
            ranges=tuple(bad_ranges(known)),
            untried=_spans(names, [not one for one in states]),
            unclear=_spans(names, [one == "unclear" for one in states]),
            unstable=_spans(names, [cell in self._differing for cell in column]),
            tried=len(known),
            told=sum(one in ("bad", "good") for one in states),
            places=len(names),
        )


def _age(cell: Cell) -> tuple[str, Version]:
    return cell.library or "", Version(cell.release or "0")


def _spans(names: Sequence[str], chosen: Sequence[bool]) -> tuple[str, ...]:
    """Name the chosen ones, neighbours as ``first to last``."""
    spans = []
    for is_chosen, group in itertools.groupby(zip(names, chosen, strict=True), lambda one: one[1]):
        members = [name for name, _ in group]
        if is_chosen:
            spans.append(members[0] if len(members) == 1 else f"{members[0]} to {members[-1]}")
    return tuple(spans)
