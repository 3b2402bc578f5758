"""``harness bisect``: when did the bug of a scenario come, and when did it go."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from harness.commands.matrix import (
    EXIT_AS_EXPECTED,
    EXIT_COULD_NOT,
    EXIT_UNEXPECTED,
    add_selection,
    engine_for,
    interpreters_for,
    progress_bar,
)
from harness.errors import HarnessError
from harness.matrix.bisect import Bisection, History, bisect
from harness.matrix.cache import say_on_stderr
from harness.matrix.cells import Cell, ReleaseChoice, plan
from harness.matrix.difference import Difference, compare
from harness.matrix.engine import Engine
from harness.matrix.interpreters import Found
from harness.matrix.ranges import present_lines
from harness.report import terminal
from harness.report.grid import state
from harness.report.model import Result, ScenarioInfo
from harness.scenario import Scenario
from harness.selection import select

#: How many of the cells whose runs differed are named.
_MOST_UNSTABLE = 5
HELP = "find the first bad and the first good release of a scenario"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_selection(parser)
    parser.add_argument(
        "--diff",
        action="store_true",
        help="show what changed at each boundary, in the lines that the scenario runs",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if not args.scenarios:
        raise HarnessError("name the scenario to bisect, for example 'harness bisect N05'")
    problems: list[str] = []
    records = select(args.scenarios, problems)
    found = interpreters_for(args)
    problems += [str(one) for one in found.rejected] if args.python else []
    with engine_for(args) as engine:
        unexpected = _run(args, engine, records, found, problems)
    for problem in dict.fromkeys(problems):
        say_on_stderr(f"could not run: {problem}")
    if unexpected:
        return EXIT_UNEXPECTED
    return EXIT_COULD_NOT if problems else EXIT_AS_EXPECTED


def _run(
    args: argparse.Namespace,
    engine: Engine,
    records: Sequence[Scenario],
    found: Found,
    problems: list[str],
) -> bool:
    """Bisect and print each scenario; return whether anything unexpected was seen."""
    choice = ReleaseChoice.parse(args.release)
    unexpected = False
    answers = []
    for record in records:
        cells, missing = plan(
            [record],
            found.interpreters,
            choice,
            pre=args.pre,
            yanked=args.yanked,
            offline=args.offline,
        )
        problems += missing
        if not cells:
            problems.append(f"{record.id}: no release to run")
            continue
        with progress_bar(record.id) as progress:
            answer = bisect(engine, record, cells, progress)
        problems += answer.grid.problems
        unexpected = unexpected or bool(answer.differences or answer.unstable)
        differences = _differences(engine, answer, cells, problems) if args.diff else []
        if args.json:
            answers.append(_plain(answer, differences))
        else:
            print("\n".join(_text(answer, differences)))
    if args.json:
        print(json.dumps(answers, indent=1))
    return unexpected


def _text(answer: Bisection, differences: Sequence[Difference]) -> list[str]:
    info = ScenarioInfo.of(answer.record)
    lines = [f"{info.id}  {info.title}"]
    for history in answer.histories:
        where = f", Python {', '.join(history.pythons)}" if history.pythons else ""
        lines.append(f"  {history.subject}{where}:")
        lines += [f"    {line}" for line in _history(history, _why_unclear(answer, history))]
    if answer.differences:
        lines.append(f"  record: present is {terminal.listed_present(info)}, but")
        lines += [f"    {line}" for line in _grouped(answer.differences)]
        if not answer.unstable:
            report = answer.grid.report([answer.record])
            lines += [f"  measured: {line}" for line in present_lines(report, info.id)]
    elif answer.histories:
        lines.append(f"  record: agrees (present: {terminal.listed_present(info)})")
    for one in answer.unstable[:_MOST_UNSTABLE]:
        lines.append(f"  inconclusive: {one.where}: {one.observation.message}")
        lines.append(f"    replay: {one.command} --repeat 10 --fresh")
    if len(answer.unstable) > _MOST_UNSTABLE:
        lines.append(f"  inconclusive: and {len(answer.unstable) - _MOST_UNSTABLE} more cells")
    for difference in differences:
        lines += ["", *_difference(difference)]
    return lines


def _grouped(results: Iterable[Result]) -> list[str]:
    """Name the first cell of all that show the same."""
    alike: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        alike.setdefault((one.verdict.value, terminal.seen(one)), []).append(one)
    lines = []
    for (verdict, seen), (first, *others) in alike.items():
        more = f" and {len(others)} more cells" if others else ""
        lines += [f"{verdict} with {first.where}{more}: {seen}", f"  replay: {first.command}"]
    return lines


def _why_unclear(answer: Bisection, history: History) -> str:
    """Say why the first release of a history that could not tell could not."""
    for one in answer.grid.results:
        alone = history.subject == "Python" and one.library is None
        if state(one) == "unclear" and (
            alone or (one.library == history.subject and one.python in history.pythons)
        ):
            return one.observation.message
    return ""


def _history(history: History, why_unclear: str) -> list[str]:
    lines = []
    if history.tried and not history.told:
        return [f"no release could tell: {why_unclear}"]
    for one in history.ranges:
        first = f"first bad {one.first}"
        first += f" (last good {one.good_before})" if one.good_before else " (none good before it)"
        last = f"last bad {one.last}"
        last += f" (first good {one.good_after})" if one.good_after else " (none good after it)"
        lines.append(f"{first}, {last}")
    if not history.ranges:
        lines.append("never bad")
    if history.unclear:
        lines.append(f"could not tell: {', '.join(history.unclear)} ({why_unclear})")
    lines.append(f"sure: {history.certainty}")
    return lines


def _difference(difference: Difference) -> list[str]:
    title = (
        f"{difference.library} {difference.before} -> {difference.after}, "
        f"lines that ran on Python {difference.python}:"
    )
    body = difference.text.rstrip("\n") or "  no changed line ran"
    left_out = difference.left_out
    more = [f"({left_out} changes that did not run are left out)"] if left_out else []
    return [title, body, *more]


def _differences(
    engine: Engine, answer: Bisection, cells: Sequence[Cell], problems: list[str]
) -> list[Difference]:
    """Compare both sides of each boundary, once for all interpreters that show it."""
    found: dict[tuple[str, str, str], Difference] = {}
    for history in reversed(answer.histories):
        if not history.pythons:
            continue
        places = {
            str(cell.release): cell
            for cell in cells
            if cell.library == history.subject and cell.interpreter.version == history.pythons[-1]
        }
        for one in history.ranges:
            for before, after in ((one.good_before, one.first), (one.last, one.good_after)):
                if before is None or after is None:
                    continue
                key = (history.subject, before, after)
                if key in found:
                    continue
                try:
                    found[key] = compare(engine, places[before], places[after])
                except HarnessError as error:
                    problems.append(str(error))
    return list(found.values())


def _plain(answer: Bisection, differences: Sequence[Difference]) -> dict[str, Any]:
    return {
        "scenario": answer.record.id,
        "present": [interval.text for interval in answer.record.present],
        "histories": [{**asdict(one), "sure": one.certainty} for one in answer.histories],
        "agrees": not answer.differences,
        "differences": [
            {"verdict": one.verdict.value, "where": one.where, "replay": one.command}
            for one in answer.differences
        ],
        "inconclusive": [
            {"where": one.where, "why": one.observation.message} for one in answer.unstable
        ],
        "diffs": [asdict(one) for one in differences],
    }
