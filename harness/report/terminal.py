"""What a person at a terminal reads: the verdict table, the grid, and the text of a failure."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

from harness.outcome import Outcome, Verdict
from harness.report.grid import Grid, row_label, word
from harness.report.model import Report, Result, ScenarioInfo
from harness.report.text import clean, counted, one_line, shortened

if TYPE_CHECKING:  # a third of the start of a command that prints plain lines only
    from rich.console import RenderableType
    from rich.table import Table

_STYLE = {
    Verdict.REPRODUCED: "green",
    Verdict.HEALTHY: "green",
    Verdict.REGRESSION: "bold red",
    Verdict.NOT_REPRODUCED: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
}
#: How each word of the grid is shown: mark, style.
MARKS = {
    Outcome.HEALTHY.value: (".", "green"),
    Outcome.BUG.value: ("B", "red"),
    Outcome.HANG.value: ("H", "red"),
    Outcome.CRASH.value: ("C", "red"),
    Outcome.NOT_APPLICABLE.value: ("-", "dim"),
    Outcome.BROKEN.value: ("!", "yellow"),
    Verdict.INCONCLUSIVE.value: ("?", "yellow"),
    "": (" ", ""),
}


def verdict_table(report: Report) -> Table:
    """List every result with its verdict and what was seen.

    Print it with a rich console, or take :func:`lines` of it.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for result in report.results:
        info = report.scenario(result.scenario)
        text = Text(one_line(info.title))
        if word(result) != Outcome.HEALTHY.value or result.observation.message:
            text.append(f"\n{seen(result)}", style="dim")
        verdict = Text(result.verdict.value, style=_STYLE[result.verdict])
        table.add_row(Text(info.id), verdict, Text(result.where), text)
    return table


def seen(result: Result, longest: int = 200) -> str:
    """Say in one line what a run showed: ``bug: AssertionError: ...``."""
    outcome, message = result.observation.outcome, one_line(result.observation.message, longest)
    if not message and word(result) == Verdict.INCONCLUSIVE.value:
        message = "nothing shows that this scenario can fail"
    return f"{outcome}: {message}" if message else outcome.value


def summary_line(report: Report) -> str:
    """Count the verdicts: ``14 runs of 12 scenarios: 11 reproduced, 3 healthy``."""
    counts = Counter(result.verdict for result in report.results)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    runs = f"{counted(len(report.results), 'run')} of {counted(len(report.scenarios), 'scenario')}"
    return f"{runs}: {told}" if told else runs


def failure_text(info: ScenarioInfo, result: Result) -> str:
    """Explain one result: what broke, how to replay it, what was expected, the evidence."""
    observation = result.observation
    known = listed_present(info)
    expected = {
        Verdict.REPRODUCED: f"the bug, which is known in {known}",
        Verdict.HEALTHY: "healthy",
        Verdict.REGRESSION: f"healthy; the bug is known in {known}",
        Verdict.NOT_REPRODUCED: f"the bug, which is known in {known}",
        Verdict.INCONCLUSIVE: f"evidence either way; the bug is known in {known}",
    }[result.verdict]
    parts = [
        f"{info.id} {result.verdict} with {result.where}: {seen(result)}",
        f"  {one_line(info.title)}",
    ]
    if result.command:
        parts.append(f"replay: {one_line(result.command, 2000)}")
    parts.append(f"expected: {expected}")
    if info.source:
        parts.append(f"source: {one_line(info.source)}")
    for name, text in (("evidence", observation.detail), ("output", observation.output)):
        if text.strip():
            parts += ["", f"{name}:", shortened(clean(text)).rstrip()]
    return "\n".join(parts)


def listed_present(info: ScenarioInfo) -> str:
    """Say where a bug is known to be."""
    return " or ".join(one_line(text) for text in info.present) or "no release (a guard)"


def grid_lines(report: Report, *, width: int = 100, colour: bool = False) -> list[str]:
    """Draw every scenario as releases x interpreters, each under its name, with the legend.

    Neighbouring rows that read the same are one.

    :param width: columns that the line with the title may take
    """
    found: list[str] = []
    used: set[str] = set()
    marks = {name: mark for name, (mark, _) in MARKS.items()}
    if colour:
        from rich.color import ColorSystem
        from rich.style import Style

        marks = {
            name: Style.parse(style).render(mark, color_system=ColorSystem.STANDARD)
            for name, (mark, style) in MARKS.items()
        }
    for info in report.scenarios:
        grid = Grid.of(report, info.id)
        found.append(f"{info.id}  {one_line(info.title, width - len(info.id) - 2)}")
        rows = [(row_label(rows), words) for rows, words in grid.runs()]
        used.update(name for _, words in rows for name in words)
        first = max((len(label) for label, _ in rows), default=0)
        found.append("  ".join([" " * (first + 2), *grid.pythons]).rstrip())
        for label, words in rows:
            # A mark with its colour is longer than what is seen of it, so it is padded by hand.
            cells = (
                f"{' ' * ((len(python) - 1) // 2)}{marks[name]}{' ' * (len(python) // 2)}"
                for python, name in zip(grid.pythons, words, strict=True)
            )
            found.append("  ".join([f"  {label:{first}}", *cells]).rstrip())
    legend = "  ".join(f"{mark} {name}" for name, (mark, _) in MARKS.items() if name in used - {""})
    return [*found, legend] if legend else found


def lines(renderable: RenderableType, *, width: int = 100, colour: bool = False) -> list[str]:
    """Render to lines of text, with ANSI colours only when asked."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    with console.capture() as capture:
        console.print(renderable)
    return [line.rstrip() for line in capture.get().splitlines()]
