"""``harness coverage nest-asyncio==1.6.0``: which lines of a release the scenarios execute."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.commands.matrix import add_selection, engine_for, interpreters_for
from harness.errors import HarnessError
from harness.matrix.cells import ReleaseChoice, libraries, plan
from harness.matrix.covering import collect, write_page
from harness.selection import select

HELP = "show which lines of a release the scenarios execute"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_selection(parser)
    parser.add_argument(
        "--combine",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a data file of 'coverage run -m pytest scenarios' to count too; several times",
    )
    parser.add_argument("--output", metavar="DIR", type=Path, default=Path("coverage-page"))


def run(args: argparse.Namespace) -> int:
    """Write the page and print the share of lines that ran."""
    choice = ReleaseChoice.parse(args.release)
    if len(choice.projects) != 1:
        raise HarnessError(
            "--release must name one release of one project, as in --release nest-asyncio==1.6.0"
        )
    (library,) = choice.projects
    records = [record for record in select(args.scenarios) if library in libraries(record)]
    if not records:
        raise HarnessError(f"no scenario is about {library}; see pytest --harness-list")
    cells, problems = plan(records, interpreters_for(args).interpreters, choice)
    cells = [cell for cell in cells if cell.library == library]
    releases = {cell.release for cell in cells}
    if len(releases) != 1:
        told = "; ".join(problems) or f"{len(releases)} releases match"
        raise HarnessError(f"--release {' '.join(args.release)}: {told}; name one that exists")
    with engine_for(args) as engine:
        covered = collect(engine, cells)
    modules = [name for name in covered.lines if "site-packages" not in name]
    share = write_page(covered, modules, args.combine, args.output)
    print(f"{share:.1f} % of the lines of {library} {releases.pop()}: {args.output / 'index.html'}")
    return 0
