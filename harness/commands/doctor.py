"""``harness doctor``: what this machine has, and what each missing thing would enable."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.broker import installation, packages
from harness.broker.docker import DockerProvider, engine
from harness.directories import cache_directory
from harness.errors import HarnessError
from harness.matrix.interpreters import discover

#: The oldest and the newest Python that the catalogue speaks of.
_WANTED = [f"3.{minor}" for minor in range(6, 15)]


@dataclass(frozen=True)
class Finding:
    """One thing that a machine may have.

    :param topic: what it is
    :param present: whether it is here
    :param found: what was found, or why it was not
    :param enables: what it would enable, and how to get it; empty where it is here
    """

    topic: str
    present: bool
    found: str
    enables: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print JSON, for a program")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="name the interpreters left out, and why"
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found; 0 whatever is missing."""
    findings = list(examine(verbose=args.verbose))
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
        return 0
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        print(f"{'ok' if finding.present else '--'}  {finding.topic:{width}}  {finding.found}")
        if finding.enables:
            print(f"    {'':{width}}  -> {finding.enables}")
    return 0


def examine(*, verbose: bool = False) -> Iterator[Finding]:
    """Look at everything that some part of the harness can use.

    :param verbose: whether to name the interpreters that were left out
    """
    yield from _interpreters(verbose)
    yield _uv()
    yield _docker()
    yield from _rabbitmq()
    yield _fork()
    yield _releases()


def _interpreters(verbose: bool) -> Iterator[Finding]:
    found = discover()
    for one in found.interpreters:
        yield Finding(f"Python {one.version}", True, one.path)
    missing = [minor for minor in _WANTED if minor not in {i.minor for i in found.interpreters}]
    if missing:
        yield Finding(
            "Python",
            False,
            f"no {', '.join(missing)}",
            "more columns in the matrix: pyenv install, uv python install, or put it on PATH",
        )
    if verbose:
        for rejected in found.rejected:
            yield Finding("left out", True, str(rejected))


def _uv() -> Finding:
    path = shutil.which("uv")
    if path is not None:
        return Finding("uv", True, path)
    return Finding(
        "uv",
        False,
        "not on PATH; pip is used",
        "releases fetched in a tenth of the time: pip install uv",
    )


def _docker() -> Finding:
    reason = DockerProvider.lacking()
    if reason is None:
        with engine() as client:
            version = client.version()["Version"]
        return Finding("Docker", True, f"engine {version}")
    return Finding(
        "Docker",
        False,
        reason,
        "a RabbitMQ in a container, and its faults: --harness-broker=docker",
    )


def _rabbitmq() -> Iterator[Finding]:
    installed, kept = installation.find(), installation.cached()
    if installed is not None:
        yield Finding("RabbitMQ", True, f"{installed.version} in {installed.home}")
    elif kept is not None:
        yield Finding("RabbitMQ", True, f"{kept.version}, unpacked in the cache")
    elif not packages.missing_tools():
        yield Finding("RabbitMQ", True, "none yet; Debian's packages are unpacked when needed")
    else:
        yield Finding(
            "RabbitMQ",
            False,
            "no rabbitmq-server, and no apt to fetch one",
            "a private node without Docker: install rabbitmq-server, or name a URL",
        )


def _fork() -> Finding:
    if hasattr(os, "fork"):
        return Finding("fork", True, f"isolation works on {sys.platform}")
    return Finding(
        "fork", False, f"{sys.platform} has none", "running scenarios: use Linux or macOS"
    )


def _releases() -> Finding:
    try:
        places = sorted((cache_directory() / "releases").glob("*/*"))
    except HarnessError as error:
        return Finding("releases", False, str(error), "runs that need no network")
    counts: dict[str, int] = {}
    for place in places:
        if any(Path(place).glob("*/release.json")):
            counts[place.parent.name] = counts.get(place.parent.name, 0) + 1
    told = ", ".join(f"{name} ({number})" for name, number in counts.items())
    if not told:
        return Finding(
            "releases", False, "none cached", "the matrix offline: they are kept when first used"
        )
    return Finding("releases", True, f"cached: {told}")
