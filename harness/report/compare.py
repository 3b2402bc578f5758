"""What changed between two reports: the regression report."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.outcome import Outcome, Verdict
from harness.report import markdown
from harness.report.grid import is_bad, is_good, word
from harness.report.model import Report, Result
from harness.report.terminal import seen
from harness.report.text import counted, one_line


class Kind(enum.Enum):
    """What became of a cell; the value is the heading that it is listed under."""

    WORSE = "worse"
    BETTER = "better"
    CHANGED = "changed"
    NEW = "new"
    GONE = "gone"


@dataclass(frozen=True)
class Change:
    """One cell that is not what it was.

    :param before: its result in the old report; None if it was not there
    :param after: its result in the new one; None if it is no longer there
    """

    kind: Kind
    before: Result | None
    after: Result | None

    @property
    def cell(self) -> Result:
        """The result that says which cell it is."""
        found = self.after or self.before
        assert found is not None
        return found

    def __str__(self) -> str:
        was = "not run" if self.before is None else word(self.before)
        now = "not run" if self.after is None else seen(self.after)
        return f"{self.cell.scenario} with {self.cell.where}: {was} -> {now}"


@dataclass(frozen=True)
class Comparison:
    """Everything that changed, worst first.

    :param same: how many cells are what they were
    """

    changes: tuple[Change, ...]
    same: int

    @property
    def got_worse(self) -> bool:
        """Whether anything did."""
        return any(change.kind is Kind.WORSE for change in self.changes)

    def of(self, kind: Kind) -> list[Change]:
        """Return the changes of one kind."""
        return [change for change in self.changes if change.kind is kind]

    def summary(self) -> str:
        """Count the changes in one line."""
        told = [f"{len(self.of(kind))} {kind.value}" for kind in Kind if self.of(kind)]
        return ", ".join([*told, f"{self.same} the same"])

    def to_json(self) -> dict[str, Any]:
        """Return plain data, for machines."""
        return {
            "got_worse": self.got_worse,
            "same": self.same,
            "changes": [
                {
                    "kind": change.kind.value,
                    "scenario": change.cell.scenario,
                    "python": change.cell.python,
                    "build": change.cell.build,
                    "library": change.cell.library,
                    "release": change.cell.release,
                    "before": None if change.before is None else word(change.before),
                    "after": None if change.after is None else word(change.after),
                    "message": one_line(change.cell.observation.message),
                    "command": change.cell.command,
                }
                for change in self.changes
            ],
        }


def compare(old: Report, new: Report) -> Comparison:
    """Hold a report against an older one, cell by cell.

    Worse is a cell that was healthy and now shows the bug, breaks or is of two minds, and a bug
    where none is known that was not there before. A cell that does not run any more is gone, and
    a release or interpreter that is new is new.
    """
    before = {result.cell: result for result in old.results}
    after = {result.cell: result for result in new.results}
    changes = []
    for cell in dict.fromkeys([*after, *before]):
        was, now = before.get(cell), after.get(cell)
        kind = _kind(was, now)
        if kind is not None:
            changes.append(Change(kind, was, now))
    order = list(Kind)
    changes.sort(key=lambda change: order.index(change.kind))
    return Comparison(tuple(changes), len(after) - sum(c.after is not None for c in changes))


def comparison_text(found: Comparison, most: int = 40) -> str:
    """Tell a person at a terminal what changed, with the command that replays what is worse.

    :param most: how many changes of each kind are listed one by one
    """
    lines = [found.summary()]
    for kind in Kind:
        changes = found.of(kind)
        for change in changes[:most]:
            lines.append(f"{kind.value}: {change}")
            if kind is Kind.WORSE and change.cell.command:
                lines.append(f"  replay: {one_line(change.cell.command, 2000)}")
        if len(changes) > most:
            lines.append(f"{kind.value}: and {counted(len(changes) - most, 'more cell')}")
    return "\n".join(lines)


def comparison_markdown(found: Comparison, old: Report, new: Report) -> str:
    """Return the comparison as Markdown."""
    blocks = [
        "# What changed",
        f"{found.summary()[:1].upper()}{found.summary()[1:]}.",
        f"Between {markdown.code(old.created)} and {markdown.code(new.created)}.",
    ]
    for kind in Kind:
        changes = found.of(kind)
        if changes:
            blocks += [f"## {kind.value.capitalize()}", _table(changes, old, new)]
    return "\n\n".join(blocks) + "\n"


def _table(changes: Sequence[Change], old: Report, new: Report) -> str:
    titles = {info.id: info.title for report in (old, new) for info in report.scenarios}
    rows = [
        [
            change.cell.scenario,
            markdown.prose(one_line(titles[change.cell.scenario])),
            change.cell.where,
            "not run" if change.before is None else word(change.before),
            "not run" if change.after is None else markdown.code(seen(change.after)),
        ]
        for change in changes
    ]
    return markdown.table(["Scenario", "Symptom", "With", "Before", "Now"], rows)


def _kind(was: Result | None, now: Result | None) -> Kind | None:
    if now is None:
        return Kind.GONE
    regression = now.verdict is Verdict.REGRESSION
    if was is None:
        return Kind.WORSE if regression else Kind.NEW
    if regression and not is_bad(was):
        return Kind.WORSE
    if word(was) == word(now):
        return None
    if is_good(was) and (
        is_bad(now) or word(now) in (Outcome.BROKEN.value, Verdict.INCONCLUSIVE.value)
    ):
        return Kind.WORSE
    if is_bad(was) and is_good(now):
        return Kind.BETTER
    return Kind.CHANGED
