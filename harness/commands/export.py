"""``harness export``: write a scenario as a stand-alone script."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.errors import HarnessError
from harness.export import export
from harness.matrix.releases import newest_release
from harness.report.model import write_text
from harness.selection import select

HELP = "write a scenario as a stand-alone script"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.add_argument(
        "scenario",
        nargs="*",
        metavar="SCENARIO",
        help="id, file, directory or file::name; default: all",
    )
    parser.add_argument(
        "--release", help="release of the library under test that the script's header pins"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="write here instead of to standard output; a folder gets one ID.py for each scenario",
    )


def run(args: argparse.Namespace) -> int:
    """Write the scripts and return 0.

    :raises HarnessError: for scenarios that cannot be exported, when the others were written
    """
    records = select(args.scenario)
    output = None if args.output is None else Path(args.output)
    into_folder = output is not None and (
        output.is_dir() or len(records) > 1 or args.output.endswith("/")
    )
    if output is None and len(records) > 1:
        raise HarnessError(
            f"{len(records)} scenarios were asked for, and standard output takes one script; "
            "give --output FOLDER"
        )
    refused = []
    for record in records:
        try:
            text = export(record, args.release, newest=newest_release)
        except HarnessError as error:
            refused.append(str(error))
            continue
        if output is None:
            sys.stdout.write(text)
            continue
        path = output / f"{record.id}.py" if into_folder else output
        write_text(path, text)
        print(f"wrote {path}", file=sys.stderr)
    if refused:
        raise HarnessError("\n".join(refused))
    return 0
