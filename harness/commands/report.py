"""``harness report``: write, merge or compare reports."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.report.as_json import as_json, schema
from harness.report.compare import Comparison, compare, comparison_markdown, comparison_text
from harness.report.grid import is_bad
from harness.report.html import page
from harness.report.junit import junit
from harness.report.markdown import run_report
from harness.report.merge import merge
from harness.report.model import Report, write_text
from harness.report.terminal import grid_lines, summary_line
from harness.report.upstream import issue
from harness.report.verify import Verifier

HELP = "write, merge or compare reports"
EXIT_AS_EXPECTED, EXIT_UNEXPECTED = 0, 1

_TERMINAL, _MARKDOWN, _JSON = "terminal", "markdown", "json"
#: Format -> file that it makes in --output, and its writer.
_FILES: dict[str, tuple[str, Callable[[Report], str]]] = {
    _MARKDOWN: ("report.md", run_report),
    "html": ("report.html", page),
    _JSON: ("report.json", as_json),
    "junit": ("junit.xml", junit),
}
_COMPARISONS = (_TERMINAL, _MARKDOWN, _JSON)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.epilog = (
        "Exit codes: 0 done (and with --against: nothing got worse), 1 something got worse, "
        "2 could not run."
    )
    parser.add_argument(
        "results", nargs="*", metavar="RESULTS.json", type=Path, help="what a run has saved"
    )
    parser.add_argument(
        "--merge", action="store_true", help="join several files: shards, or several machines"
    )
    parser.add_argument(
        "--scenario", action="append", metavar="ID", help="only this scenario; may be repeated"
    )
    parser.add_argument(
        "--format",
        action="append",
        choices=[_TERMINAL, *_FILES],
        help="may be repeated; default: terminal, or with --output every other one. markdown is, "
        "for each scenario with a bug, an issue for the upstream tracker, whose script is run "
        "again first in every cell that it claims",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write files here instead of printing"
    )
    parser.add_argument(
        "--against", type=Path, metavar="OLD.json", help="report what changed since an older run"
    )
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of RESULTS.json"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit code.

    :raises HarnessError: for a file that is no report, or formats that do not go together
    """
    if args.schema:
        print(json.dumps(schema(), indent=2))
        return EXIT_AS_EXPECTED
    report = _load(args.results, args.merge)
    if args.against is not None:
        old = Report.load(args.against)
        if args.scenario:
            known = {info.id for info in old.scenarios}
            old = old.only([id for id in args.scenario if id in known])
            report = report.only(args.scenario)
        return _compare(old, report, args.format or [_TERMINAL], args.output)
    if args.scenario:
        report = report.only(args.scenario)
    if args.output is not None:
        _write(report, args.format or list(_FILES), args.output)
        return EXIT_AS_EXPECTED
    formats = args.format or [_TERMINAL]
    if len(formats) > 1:
        raise HarnessError(
            f"standard output takes one format, and {len(formats)} were asked for; "
            "give --output DIR"
        )
    sys.stdout.write(_printed(report, formats[0]))
    return EXIT_AS_EXPECTED


def _load(paths: Sequence[Path], merging: bool) -> Report:
    if not paths:
        raise HarnessError(
            "no results were given; save some with: harness matrix --output results.json"
        )
    if len(paths) > 1 and not merging:
        raise HarnessError(f"{len(paths)} files were given; add --merge to join them")
    reports = [Report.load(path) for path in paths]
    return merge(reports) if merging else reports[0]


def _printed(report: Report, format: str) -> str:
    if format == _TERMINAL:
        colour = sys.stdout.isatty()
        lines = [*grid_lines(report, width=200, colour=colour), summary_line(report)]
        return "\n".join(lines) + "\n"
    if format == _MARKDOWN and len(report.scenarios) == 1 and any(map(is_bad, report.results)):
        with Verifier() as verifier:
            return _issue(verifier, report, report.scenarios[0].id)
    return _FILES[format][1](report)


def _write(report: Report, formats: Sequence[str], folder: Path) -> None:
    for format in dict.fromkeys(formats):
        if format == _TERMINAL:
            sys.stdout.write(_printed(report, format))
            continue
        name, writer = _FILES[format]
        _put(folder / name, writer(report))
    buggy = [i.id for i in report.scenarios if any(map(is_bad, report.results_of(i.id)))]
    if _MARKDOWN not in formats or not buggy:
        return
    with Verifier() as verifier:
        for id in buggy:
            try:
                _put(folder / "issues" / f"{id}.md", _issue(verifier, report, id))
            except HarnessError as error:
                print(f"no issue for {id}: {error}", file=sys.stderr)


def _issue(verifier: Verifier, report: Report, id: str) -> str:
    verified = verifier.verify(report, id)
    for line in verified.dropped:
        print(f"{id}: not claimed: {line}", file=sys.stderr)
    return issue(verified)


def _compare(old: Report, new: Report, formats: Sequence[str], folder: Path | None) -> int:
    found = compare(old, new)
    for format in formats:
        if format not in _COMPARISONS:
            raise HarnessError(
                f"--against cannot be written as {format}; use {', '.join(_COMPARISONS)}"
            )
        text = _compared(found, old, new, format)
        if folder is None or format == _TERMINAL:
            sys.stdout.write(text)
        else:
            _put(folder / ("changes.json" if format == _JSON else "changes.md"), text)
    return EXIT_UNEXPECTED if found.got_worse else EXIT_AS_EXPECTED


def _compared(found: Comparison, old: Report, new: Report, format: str) -> str:
    if format == _JSON:
        return json.dumps(found.to_json(), indent=1) + "\n"
    if format == _MARKDOWN:
        return comparison_markdown(found, old, new)
    return comparison_text(found) + "\n"


def _put(path: Path, text: str) -> None:
    write_text(path, text)
    print(f"wrote {path}", file=sys.stderr)
