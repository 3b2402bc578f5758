"""The table of all scenarios, written from their records."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

from harness.report.text import counted
from harness.scenario import Interval, Scenario


def table(records: Iterable[Scenario]) -> str:
    """Return the text of ``scenarios/README.md``: what is known, one family after the other."""
    families: dict[str, list[Scenario]] = {}
    for record in records:
        families.setdefault(record.family, []).append(record)
    total = sum(len(members) for members in families.values())
    parts = [_HEAD.format(total=counted(total, "scenario"))]
    for family in sorted(families):
        members = sorted(families[family], key=lambda record: _natural(record.id))
        parts.append(f"## {family}\n\n{_about(members[0])}\n")
        parts.append(_COLUMNS + "".join(_row(record) for record in members))
        if guards := [record for record in members if not record.present]:
            parts.append("Guards:\n")
            parts.append("".join(f"- {record.id}: {_why_good(record)}\n" for record in guards))
    return "\n".join(parts)


_HEAD = """\
# The library

<!-- Written by `harness catalogue`; a test holds it to the records. Do not edit. -->

{total}. `first bad` and `first good` are releases of the library under test; where a bug comes and
goes there is one line for each interval. `-` in `first good` means that no release is good. A
*guard* is bad nowhere: the way that works, or a bug that was told of and does not show here; below
each table stands which, and a planted defect shows that it can fail. Run one with
`pytest scenarios -k NAME`, a family with `pytest scenarios -m FAMILY`, in every release with
`harness matrix ID`.
"""
_COLUMNS = (
    "| id | what goes wrong | library | first bad | first good | Pythons | source |\n"
    "| --- | --- | --- | --- | --- | --- | --- |\n"
)


def _natural(name: str) -> tuple[object, ...]:
    """Sort N5 before N10."""
    return tuple(
        (0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", name) if p
    )


def _about(record: Scenario) -> str:
    """Return the first line of what the family's package says about itself."""
    package = Path(inspect.getfile(record.function)).with_name("__init__.py")
    if not package.exists():
        return ""
    return (ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or "").split("\n")[0]


def _why_good(record: Scenario) -> str:
    """Return what the docstring of a guard says in place of a symptom."""
    symptom = (inspect.getdoc(record.function) or "").partition("\n\n")[0]
    return " ".join(symptom.removeprefix("Symptom: ").split())


def _row(record: Scenario) -> str:
    intervals = [_ends(interval, record) for interval in record.present]
    bad, good, pythons = "guard", "", str(record.python)
    if intervals:
        bad, good, pythons = ("<br>".join(column) for column in zip(*intervals, strict=True))
    cells = [
        record.id,
        record.title.replace("|", "\\|"),
        record.library or "Python",
        bad,
        good,
        pythons,
        f"[{_host(record.source)}]({record.source})",
    ]
    return f"| {' | '.join(cells)} |\n"


def _ends(interval: Interval, record: Scenario) -> tuple[str, str, str]:
    """Return the first bad release, the first good one after it, and the Pythons."""
    pythons = _pythons(interval, record)
    if interval.library is None:
        return "", "", pythons
    name = "" if interval.library == record.library else f"{interval.library} "
    bad, good = "first release", "-"
    for specifier in interval.releases:
        if specifier.operator == ">=":
            bad = specifier.version
        elif specifier.operator == "<":
            good = specifier.version
        elif specifier.operator == "<=":
            good = f"after {specifier.version}"
        else:
            bad = str(specifier)
    return name + bad, good, pythons


def _pythons(interval: Interval, record: Scenario) -> str:
    if interval.marker is None:
        return str(record.python)
    text = re.sub(r"python_(full_)?version ", "", str(interval.marker))
    return text.replace('"', "").replace("'", "").replace(" and ", ", ")


def _host(source: str) -> str:
    """Return what a link is called: the issue where it is one, else the site."""
    match = re.fullmatch(r"https://github\.com/[^/]+/([^/]+)/(?:issues|pull)/(\d+)", source)
    if match:
        return f"{match[1]} #{match[2]}"
    return source.partition("//")[2].partition("/")[0].removeprefix("www.")
