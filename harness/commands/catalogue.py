"""``harness catalogue``: write the table of all scenarios, or hold it to the records."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.catalogue import table
from harness.errors import HarnessError
from harness.report.model import write_text
from harness.selection import select

HELP = "write the table of all scenarios"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("scenarios"),
        help="folder of the scenarios (default: scenarios)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help="default: README.md in that folder"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the file is not up to date"
    )


def run(args: argparse.Namespace) -> int:
    """Write the table and return 0; with ``--check`` return 1 if the file differs from it.

    :raises HarnessError: if there is no such folder, or no scenario in it
    """
    folder: Path = args.folder
    if not folder.is_dir():
        raise HarnessError(f"there is no folder {str(folder)!r} here; give that of the scenarios")
    text = table(select([str(folder)]))
    path: Path = args.output or folder / "README.md"
    if args.check:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return 0
        print(f"{path} is not what the records say; run: harness catalogue", file=sys.stderr)
        return 1
    write_text(path, text)
    print(f"wrote {path}", file=sys.stderr)
    return 0
