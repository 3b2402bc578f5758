"""One scenario as an issue for the tracker of the library under test, ready to be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from harness.errors import HarnessError
from harness.outcome import Outcome, Verdict, signal_name
from harness.report.grid import BadRange, Grid, Row, is_bad, is_good, release_key
from harness.report.markdown import (
    GITHUB_LIMIT,
    code,
    environment,
    fenced,
    grid,
    link,
    prose,
    table,
)
from harness.report.model import TELLING, Result, ScenarioInfo
from harness.report.terminal import seen
from harness.report.text import clean, counted, listed, one_line, shortened
from harness.report.verify import Shown, Verified

_LABEL = re.compile(r"(?:^|(?<=[.!?] ))(Symptom|Cause|Fix|Workaround)s?:[ \t]*", re.MULTILINE)
#: A reference to another scenario, which says nothing to a reader outside of this library.
_REFERENCE = re.compile(r"\s*\([A-Z]\d\d[a-z]*\)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'`(])")
#: What is another in each run, or each interpreter, and says nothing.
_VARIES = re.compile(r"0x[0-9a-fA-F]+|\d+")
#: How much of what the script printed is quoted, the most first; the report takes what fits.
_QUOTED = (6_000, 2_000, 500)
#: How many ranges of bad releases are told of one by one.
_MOST_RANGES = 12


def issue(verified: Verified, *, limit: int = GITHUB_LIMIT) -> str:
    """Return the text of an issue: its first line is the title.

    :param verified: what repeated; nothing else is claimed
    :param limit: the most characters that the tracker takes
    :raises HarnessError: if no bug repeated, or the script alone is too long
    """
    if verified.shown is None:
        why = "; ".join(verified.dropped[:5]) or "no cell of the report shows it"
        raise HarnessError(f"{verified.info.id}: there is no bug to report: {why}")
    for quoted in _QUOTED:
        for with_grid in (True, False):
            text = _issue(verified, verified.shown, quoted, with_grid)
            if len(text) <= limit:
                return text
    raise HarnessError(
        f"{verified.info.id}: its script alone is longer than the {limit} characters of an issue; "
        "attach the file that 'harness export' writes"
    )


def labelled(doc: str) -> dict[str, str]:
    """Part a docstring at its ``Symptom:``, ``Cause:``, ``Fix:`` and ``Workaround:``.

    What comes before any label is the symptom.
    """
    parts = _LABEL.split(_REFERENCE.sub("", doc))
    found = {"Symptom": parts[0].strip()}
    for label, text in zip(parts[1::2], parts[2::2], strict=True):
        found[label] = f"{found.get(label, '')}\n\n{text.strip()}".strip()
    return {label: text for label, text in found.items() if text}


def summary(info: ScenarioInfo, found: Grid) -> str:
    """Return the two sentences that an issue begins with: what goes wrong, and where."""
    symptom = labelled(info.doc).get("Symptom", "")
    first = _SENTENCE_END.split(" ".join(symptom.split()))[0] or one_line(info.title)
    first = first if first[-1:] in ".!?" else f"{first}."
    return f"{prose(_capital(first))} {prose(_where(found))}"


def history(found: Grid) -> str:
    """Say for each library and interpreter when the bug came and when it went, as a list."""
    lines = []
    for library, columns, ranges in found.history():
        known = [release for name, release in found.rows if name == library]
        told = _first([_story(one, known) for one in ranges])
        places: dict[str, Sequence[str]] = {"; ".join(told): columns}
        if not ranges:
            ran = {
                python
                for (row, python), r in found.cells.items()
                if row[0] == library and is_good(r)
            }
            places = {
                "not seen": [python for python in columns if python in ran],
                "it could not be tried": [python for python in columns if python not in ran],
            }
        for text, shown in places.items():
            if shown:
                lines.append(f"- {library} on Python {_span(shown, found.pythons)}: {text}.")
    bad, good = _alone(found)
    if bad or good:
        told = [f"bad on {_span(bad, found.pythons)}"] if bad else []
        told += [f"good on {_span(good, found.pythons)}"] if good else []
        alone = f"- Python alone: {', '.join(told)}."
        lines.append(
            alone if lines else f"- {_capital(', '.join(told)).replace('on ', 'on Python ', 1)}."
        )
    return "\n".join(lines)


def _issue(verified: Verified, shown: Shown, quoted: int, with_grid: bool) -> str:
    info, result = verified.info, shown.result
    found = Grid.of(verified.report, info.id)
    name = f"{info.id}.py"
    blocks = [
        f"# {prose(one_line(info.title))}",
        summary(info, found),
        f"Source: {link(info, info.source)}" if info.source else "",
        f"## Script ({code(name)})",
        fenced(verified.script, "python"),
        "## Seen",
        f"{code(shown.command)} with {result.where} {_ended(shown)}",
        fenced(shortened(clean(shown.text), quoted), "text") if shown.text.strip() else "",
        "## Expected",
        _expected(found, result),
        "## Where",
        grid(found) if with_grid else "",
        _legend(found) if with_grid else "",
        history(found),
        _otherwise(found, result),
        _doubts(verified.dropped),
    ]
    told = labelled(info.doc)
    for label in ("Cause", "Fix", "Workaround"):
        if label in told:
            blocks += [f"## {label}", prose(_capital(told[label]))]
    blocks += [
        "## Environment",
        _environment(verified),
        "## How to run",
        *_how_to_run(info, result, name),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _ended(shown: Shown) -> str:
    how = f"ends with status {shown.status}"
    if shown.status < 0:
        how = f"is killed by {signal_name(-shown.status)}"
    return f"{how} and prints{':' if shown.text.strip() else ' nothing.'}"


def _expected(found: Grid, bad: Result) -> str:
    # The same library on the same Python says most, and of its releases the newest.
    healthy = sorted(
        filter(is_good, found.cells.values()),
        key=lambda one: (
            one.library == bad.library,
            (one.python, one.build) == (bad.python, bad.build),
            release_key(one.release or ""),
        ),
    )
    example = f", as it does with {healthy[-1].where}" if healthy else ""
    return f"Every assertion of the script holds: it prints `healthy` and exits with 0{example}."


def _legend(found: Grid) -> str:
    words = {name for row in found.rows for name in found.row_words(row)}
    told = {
        "": "an empty cell was not run",
        Outcome.NOT_APPLICABLE.value: "`n/a` could not show it either way",
        Verdict.INCONCLUSIVE.value: "`inconclusive` did not show the same each time",
    }
    parts = [text for name, text in told.items() if name in words]
    return f"{_capital(listed(parts))}." if parts else ""


def _environment(verified: Verified) -> str:
    """Leave out what is installed beside the harness: each cell had a release of its own."""
    report = verified.report
    builds: dict[tuple[str, str], dict[str, None]] = {}
    for result in sorted(report.results, key=lambda result: release_key(result.python)):
        before, _, after = result.build.partition(result.python)
        builds.setdefault((before, after), {})[result.python] = None
    told = [f"{before}{', '.join(known)}{after}" for (before, after), known in builds.items()]
    kept = {
        name: value
        for name, value in report.environment.items()
        if name not in (*TELLING, "Python")
    }
    return environment(replace(report, environment={"Interpreters": "; ".join(told), **kept}))


def _how_to_run(info: ScenarioInfo, result: Result, name: str) -> list[str]:
    minor = ".".join(result.python.split(".")[:2])
    steps = [f"uv run --python {minor} {shlex.quote(name)}"]
    if result.library is not None and result.release is not None:
        steps += [
            "# or, with any release:",
            f"python{minor} -m pip install {result.library}=={result.release}",
            f"python{minor} {shlex.quote(name)}; echo $?",
        ]
    else:
        steps = [f"python{minor} {shlex.quote(name)}; echo $?"]
    blocks = [fenced("\n".join(steps), "sh")]
    if info.library is not None:
        run = fenced(
            f"git bisect start BAD GOOD\nPYTHONPATH=. git bisect run python {shlex.quote(name)}",
            "sh",
        )
        blocks += [
            "In a checkout the script finds the commit (`PYTHONPATH=src` for a package in src):",
            run,
        ]
    rows = [
        ["0", "healthy"],
        ["1", "the bug is there; the last line says which assertion failed, or that it hangs"],
        ["125", "it cannot run here, which `git bisect run` skips"],
    ]
    return [*blocks, table(["Exit status", "Meaning"], rows)]


def _first(texts: Sequence[str]) -> list[str]:
    """Return the first few texts, and how many more there are: a reader stops counting."""
    more = len(texts) - _MOST_RANGES
    return [*texts[:_MOST_RANGES], *([f"{counted(more, 'more range')}"] if more > 0 else [])]


def _capital(text: str) -> str:
    """Begin a sentence with a capital, unless it begins with the name of something in code."""
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+[\s,;:](?!\d)", text) else text


def _doubts(dropped: Sequence[str]) -> str:
    if not dropped:
        return ""
    told = "; ".join(dropped[:5]) + ("; ..." if len(dropped) > 5 else "")
    return prose(
        f"{counted(len(dropped), 'result')} of an earlier run could not be repeated, so nothing is "
        f"claimed there ({one_line(told, 600)})."
    )


def _where(found: Grid) -> str:
    columns_of: dict[str, list[str]] = {}
    for library, columns, ranges in found.history():
        if ranges:
            releases = f"{library} {listed(_first([_releases(one) for one in ranges]))}"
            columns_of.setdefault(releases, []).extend(columns)
    parts = []
    for releases, shown in columns_of.items():
        ordered = [python for python in found.pythons if python in shown]
        parts.append(f"{releases} on Python {_span(ordered, found.pythons)}")
    bad, _ = _alone(found)
    if bad:
        parts.append(f"Python {_span(bad, found.pythons)}" + (" alone" if parts else ""))
    return f"It happens with {listed(parts)}{_newest(found)}."


def _newest(found: Grid) -> str:
    """Say of the newest release of each library that ever had the bug whether it has it still."""
    told = []
    for library in {library: None for library, _, ranges in found.history() if ranges}:
        releases = [release for name, release in found.rows if name == library]
        release = releases[-1]
        results = [r for (row, _), r in found.cells.items() if row == (library, release)]
        if len(releases) == 1:
            continue
        if any(map(is_bad, results)):
            told.append(f"{library} {release}, the newest tried, still shows it")
        elif any(map(is_good, results)):
            told.append(f"{library} {release}, the newest tried, is healthy")
    return "".join(f"; {text}" for text in told)


def _alone(found: Grid) -> tuple[list[str], list[str]]:
    """Return the interpreters that are bad and those that are good with no library on the path."""
    results = [(python, found.cells.get((("", ""), python))) for python in found.pythons]
    bad = [python for python, result in results if result is not None and is_bad(result)]
    good = [python for python, result in results if result is not None and is_good(result)]
    return bad, good


def _releases(found: BadRange) -> str:
    return found.first if found.first == found.last else f"{found.first} to {found.last}"


def _story(found: BadRange, releases: Sequence[str]) -> str:
    oldest, newest = found.first == releases[0], found.last == releases[-1]
    if len(releases) == 1:
        return f"bad in {found.first}, the only release tried"
    came = f"first bad {found.first} (good {found.good_before})"
    if found.good_before is None:
        came = f"bad from {found.first} on, with no good release below it"
        if oldest:
            came = f"bad from {found.first} (the oldest tried) on"
    went = f"last bad {found.last}, first good {found.good_after}"
    if found.good_after is None:
        went = f"last seen in {found.last}, with no good release above it"
    if newest:
        went = f"still bad in {found.last} (the newest tried)"
    unclear = listed(_runs(found.unclear, releases))
    unclear = f", no evidence from {unclear}" if unclear else ""
    return f"{came}, {went}{unclear}"


def _otherwise(found: Grid, quoted: Result) -> str:
    """Tell of the bad cells that failed in another way than the one that is quoted."""
    alike: dict[str, list[tuple[Row, str]]] = {}
    for place, result in found.cells.items():
        if is_bad(result):
            alike.setdefault(_VARIES.sub("", result.observation.message), []).append(place)
    alike.pop(_VARIES.sub("", quoted.observation.message), None)
    lines = []
    for places in sorted(alike.values(), key=len, reverse=True)[:_MOST_RANGES]:
        rows = [row for row in found.rows if any(row == place for place, _ in places)]
        names = []
        for library in dict.fromkeys(library for library, _ in rows if library):
            known = [release for name, release in found.rows if name == library]
            names += [f"{library} {listed(_runs([r for n, r in rows if n == library], known))}"]
        columns = [python for python in found.pythons if any(python == one for _, one in places)]
        names.append(f"Python {_span(columns, found.pythons)}")
        told = f"{counted(len(places), 'cell')} ({', '.join(names)})"
        lines.append(f"- {told}: {code(seen(found.cells[places[0]]))}")
    return "\n".join(["Not every cell fails as above:", "", *lines]) if lines else ""


def _runs(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Name some releases, neighbours together: ``0.9.0 to 1.2.3 (17)``."""
    runs: list[list[str]] = []
    for name in names:
        if runs and known.index(name) == known.index(runs[-1][-1]) + 1:
            runs[-1].append(name)
        else:
            runs.append([name])
    return [
        part
        for run in runs
        for part in (run if len(run) < 3 else [f"{run[0]} to {run[-1]} ({len(run)})"])
    ]


def _span(columns: Sequence[str], known: Sequence[str]) -> str:
    """Name some columns: as a range where they are neighbours."""
    first = known.index(columns[0])
    together = list(known[first : first + len(columns)]) == list(columns)
    return f"{columns[0]} to {columns[-1]}" if together and len(columns) > 2 else listed(columns)
