"""Markdown that GitHub renders: the report of one run, and the blocks the upstream issue shares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.outcome import Outcome, Verdict
from harness.report.grid import Grid, row_label
from harness.report.model import Report, Result, ScenarioInfo
from harness.report.terminal import listed_present, seen, summary_line
from harness.report.text import clean, counted, one_line, shortened

#: GitHub refuses the text of an issue, pull request or comment above this many characters.
GITHUB_LIMIT = 65_536

#: How many results are listed one by one before grids take their place.
_MOST_ROWS = 500
#: How many cells that showed the same are named.
_MOST_NAMED = 12
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
#: A line's end after which no item of a list begins.
_WRAPPED = re.compile(r"[ \t]*\n[ \t]*(?!(?:[-*+]|\d+[.)])[ \t])(?=\S)")
_BACKTICKS = re.compile("`+")
# What would act in prose that a scenario's author wrote for people: mentions, issue references of
# whatever repository the text is pasted into, HTML, links and emphasis.
_ACTING = re.compile(
    r"(?P<mention>@[\w.-]+)|(?P<reference>#(?=\d))|(?P<mark>[\\*<>\[\]|~]|(?<!\w)_|_(?!\w))"
)


def code(text: str) -> str:
    """Return an inline code span that holds the text as it is; safe in a table cell."""
    flat = one_line(text, 2000)
    if not flat:
        return ""
    fence = "`" * (max(map(len, _BACKTICKS.findall(flat)), default=0) + 1)
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def fenced(text: str, language: str = "") -> str:
    """Return a fenced block that nothing in the text can close."""
    safe = clean(text).strip("\n")
    fence = "`" * max(3, max(map(len, _BACKTICKS.findall(safe)), default=0) + 1)
    return f"{fence}{language}\n{safe}\n{fence}"


def prose(text: str) -> str:
    """Return text written for people so that it reads as it is; code stays code.

    Wrapped lines are joined: GitHub breaks the lines of an issue where they end.
    """
    paragraphs = re.split(r"\n(?:[ \t]*\n)+", clean(text))
    return "\n\n".join(map(_paragraph, paragraphs))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def grid(found: Grid) -> str:
    """Return one scenario as a table of releases x interpreters."""
    shown = {Outcome.HEALTHY.value: "ok", Outcome.NOT_APPLICABLE.value: "n/a"}
    bold = {outcome.value for outcome in Outcome if outcome.is_bug}
    rows = []
    for labels, words in found.runs():
        cells = (f"**{name}**" if name in bold else shown.get(name, name) for name in words)
        rows.append([row_label(labels), *cells])
    return table(["", *found.pythons], rows)


def environment(report: Report) -> str:
    """Return the environment, and when the report was made, as a list."""
    told = {**report.environment, "Run": report.created}
    return "\n".join(f"- {prose(key)}: {code(value)}" for key, value in told.items())


def run_report(report: Report) -> str:
    """Describe one run: environment, verdict table, and what was seen of each bug."""
    blocks = [
        "# Event-loop scenarios",
        f"{summary_line(report)}.",
        "## Environment",
        environment(report),
        "## Verdicts",
        *_verdicts(report),
    ]
    for heading, verdicts in (
        ("Unexpected", (Verdict.REGRESSION, Verdict.NOT_REPRODUCED)),
        ("Reproduced", (Verdict.REPRODUCED,)),
        ("No evidence", (Verdict.INCONCLUSIVE,)),
    ):
        sections = []
        for info in report.scenarios:
            found = [result for result in report.results_of(info.id) if result.verdict in verdicts]
            if found:
                sections.append(_evidence(info, found))
        if sections:
            blocks += [f"## {heading}", *sections]
    return "\n\n".join(blocks) + "\n"


def _verdicts(report: Report) -> list[str]:
    """Return a row for each result, or where there are too many to be read, a grid for each."""
    if len(report.results) > _MOST_ROWS:
        return [
            folded(f"{info.id}: {one_line(info.title)}", grid(Grid.of(report, info.id)))
            for info in report.scenarios
        ]
    rows = []
    for result in report.results:
        info = report.scenario(result.scenario)
        verdict = f"**{result.verdict}**" if result.verdict.is_failure else result.verdict.value
        title = f"{prose(one_line(info.title))} {link(info)}".rstrip()
        rows.append([info.id, verdict, result.observation.outcome.value, result.where, title])
    return [table(["Scenario", "Verdict", "Outcome", "With", "Symptom"], rows)]


def _evidence(info: ScenarioInfo, results: Sequence[Result]) -> str:
    """Tell of one scenario; cells that showed the same are told of together, with one evidence."""
    blocks = [
        f"### {info.id}: {prose(one_line(info.title))}",
        f"Known in {code(listed_present(info))} {link(info)}".rstrip(),
    ]
    if info.doc:
        blocks.append(prose(info.doc))
    alike: dict[str, list[Result]] = {}
    for result in results:
        alike.setdefault(seen(result), []).append(result)
    for told, group in alike.items():
        example = group[0]
        blocks += [f"Seen with {example.where}:", fenced(told, "text")]
        if len(group) > 1:
            others = [result.where for result in group[1 : _MOST_NAMED + 1]]
            if len(group) > _MOST_NAMED + 1:
                others.append(counted(len(group) - _MOST_NAMED - 1, "other cell"))
            blocks.append(f"The same with {'; '.join(others)}.")
        if example.command:
            blocks += ["Replay:", fenced(example.command, "sh")]
        for name, text in (
            ("Evidence", example.observation.detail),
            ("Output", example.observation.output),
        ):
            if text.strip():
                blocks.append(folded(name, fenced(shortened(text, 8000), "text")))
    return "\n\n".join(blocks)


def folded(summary: str, block: str) -> str:
    """Return a block that opens on a click."""
    return f"<details><summary>{prose(summary)}</summary>\n\n{block}\n\n</details>"


def link(info: ScenarioInfo, text: str = "source") -> str:
    """Return a link to the source of a scenario; what is no plain web address is shown as text."""
    address = one_line(info.source, 1000)
    if not re.fullmatch(r"https?://[^\s<>()\[\]`|\\]+", address):
        return prose(address)
    return f"<{address}>" if text == info.source else f"([{text}]({address}))"


def _paragraph(text: str) -> str:
    if all(line.startswith("    ") for line in text.split("\n") if line):
        return text
    text = _WRAPPED.sub(" ", text)
    parts: list[str] = []
    end = 0
    for match in _CODE_SPAN.finditer(text):
        parts += [_escaped(text[end : match.start()]), match.group()]
        end = match.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    def escape(match: re.Match[str]) -> str:
        if match["mention"]:
            return f"`{match['mention']}`"
        return "#<!-- -->" if match["reference"] else f"\\{match['mark']}"

    # A lone backtick could pair with one that is added here.
    return _ACTING.sub(escape, text.replace("`", "'"))


def _cell(text: str) -> str:
    # In a GFM table a pipe ends the cell even inside a code span, and a backslash before it is
    # taken away even there.
    return re.sub(r"(?<!\\)\|", r"\\|", text).replace("\n", "<br>")
