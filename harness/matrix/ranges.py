"""Where a bug was seen, as the requirement strings that a record's ``present`` takes."""

from __future__ import annotations

from harness.report.grid import BadRange, Grid, is_bad, release_key
from harness.report.model import Report


def present_lines(report: Report, id: str) -> list[str]:
    """Say for each library where the bug was seen, in the form that ``present`` takes.

    :param id: the scenario
    """
    grid = Grid.of(report, id)
    lines = []
    columns_of: dict[tuple[str, str], dict[str, BadRange]] = {}
    for library, columns, ranges in grid.history():
        newest = [row[1] for row in grid.rows if row[0] == library][-1]
        for one in ranges:
            found = columns_of.setdefault((library, requirement(library, one, newest)), {})
            found.update(dict.fromkeys(columns, one))
    for (_, text), found in columns_of.items():
        chosen = tuple(python for python in grid.pythons if python in found)
        lines.append(f'present: "{text}{_marker(grid, chosen)}"  # {found[chosen[0]]}')
    alone = ((python, grid.cells.get((("", ""), python))) for python in grid.pythons)
    bad = tuple(python for python, result in alone if result is not None and is_bad(result))
    if bad:
        marker = _marker(grid, bad).removeprefix("; ") or "python_version >= '3.6'"
        lines.append(f'present: "{marker}"  # Python {", ".join(bad)}')
    return lines


def requirement(library: str, found: BadRange, newest: str) -> str:
    """Return the releases of a range as a requirement.

    The end is the first healthy release, so that what lies between, and was not tried, counts.

    :param newest: the newest release that was tried
    """
    if found.good_after is None and release_key(found.last) == release_key(newest):
        return f"{library}>={found.first}"
    if found.good_after is None:
        return f"{library}>={found.first},<={found.last}"
    return f"{library}>={found.first},<{found.good_after}"


def _marker(grid: Grid, columns: tuple[str, ...]) -> str:
    """Return the marker of some columns, empty for all of them."""
    if columns == grid.pythons:
        return ""
    minors = [_minor(column) for column in grid.pythons]
    chosen = [_minor(column) for column in columns]
    first, last = minors.index(chosen[0]), len(minors) - 1 - minors[::-1].index(chosen[-1])
    if minors[first : last + 1] != chosen:
        return "; " + " or ".join(f"python_version == '{minor}'" for minor in dict.fromkeys(chosen))
    parts = []
    if first:
        parts.append(f"python_version >= '{chosen[0]}'")
    if last < len(minors) - 1:
        parts.append(f"python_version <= '{chosen[-1]}'")
    return "; " + " and ".join(parts)


def _minor(column: str) -> str:
    return ".".join(column.split(maxsplit=1)[0].split(".")[:2])
