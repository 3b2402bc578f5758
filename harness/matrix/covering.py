"""Which lines of one release the scenarios execute, over every interpreter, as coverage data."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import coverage
from coverage.exceptions import CoverageException, NoDataError

from harness.errors import HarnessError
from harness.matrix.cells import Cell
from harness.matrix.engine import Engine


@dataclass(frozen=True)
class Covered:
    """The lines of one release that ran.

    :param directory: where the release lies
    :param lines: file below it -> lines that ran in some cell
    """

    directory: Path
    lines: Mapping[str, frozenset[int]]


def collect(engine: Engine, cells: Sequence[Cell]) -> Covered:
    """Run cells of one release and note which of its lines ran.

    :raises HarnessError: if none of the cells can run here
    """
    grid = engine.run(cells)
    found: dict[str, set[int]] = defaultdict(set)
    for ran in engine.trace(cells):
        if ran is not None:
            for name, lines in ran.lines.items():
                found[name].update(lines)
    releases = [release for cell in cells if (release := engine.release_of(cell)) is not None]
    if not releases or not found:
        why = dict.fromkeys([*grid.problems, *(one.observation.message for one in grid.results)])
        raise HarnessError(f"no line of the release ran: {'; '.join(filter(None, why))}")
    return Covered(releases[0].directory, {name: frozenset(ran) for name, ran in found.items()})


def write_page(
    covered: Covered, modules: Sequence[str], combined: Sequence[Path], output: Path
) -> float:
    """Write the page that shows each line as executed or not.

    :param modules: patterns of the files to show, for example ``nest_asyncio.py``
    :param combined: coverage data files of other runs (``coverage run -m pytest scenarios``), whose
        copies of these files count too
    :param output: directory of the page
    :return: the share of lines that ran, in per cent
    :raises HarnessError: if a data file or the directory cannot be used
    """
    with tempfile.TemporaryDirectory(prefix="harness-coverage-") as scratch:
        cells = coverage.CoverageData(str(Path(scratch, "cells")))
        cells.add_lines(
            {str(covered.directory / name): lines for name, lines in covered.lines.items()}
        )
        cells.write()
        whole = coverage.Coverage(
            data_file=str(Path(scratch, "whole")),
            config_file=False,
            include=[str(covered.directory / name) for name in modules],
        )
        whole.set_option("paths", {"release": [str(covered.directory), "*/site-packages"]})
        try:
            whole.combine([str(Path(scratch, "cells")), *map(str, combined)], keep=True)
            return float(whole.html_report(directory=str(output)))
        except NoDataError as error:
            raise HarnessError(f"{', '.join(map(str, combined))}: {error}") from None
        except (CoverageException, OSError) as error:
            raise HarnessError(f"the page cannot be written to {output}: {error}") from None
