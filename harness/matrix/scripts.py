"""The scripts of scenarios: exported once, and again only when something they come from changes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import harness.export
from harness.directories import cache_directory
from harness.export import export, forks
from harness.export._source import outermost_package
from harness.matrix.cache import digest, keep
from harness.scenario import Scenario

#: Variables that lead a script to something outside of it: where one is set, and the script reads
#: it, its results are not kept.
_OUTSIDE = ("AMQP_URL",)
#: What tells a script its own release, so that equal bytes are not the same place.
_TELLS_RELEASE = ("importlib.metadata", "importlib_metadata", "pkg_resources")
#: How many states of the library's files are remembered.
_MOST_FILES = 12


@dataclass(frozen=True)
class Script:
    """The script of one scenario.

    :param digest: hash of its text
    :param forks: the projects that it imports where that of its library is missing
    :param tells_release: whether it may ask for the release of the library under test
    :param variables: what it reads that may lead it to something outside of its cell
    """

    text: str
    digest: str
    forks: tuple[str, ...]
    tells_release: bool
    variables: tuple[str, ...]

    @property
    def looks_outside(self) -> bool:
        """Whether its results depend on what lies outside of the cell."""
        return any(name in os.environ for name in self.variables)

    @classmethod
    def of(cls, text: str, forks: Iterable[str] = ()) -> Script:
        """Describe the text of a script."""
        return cls(
            text,
            digest(text),
            tuple(forks),
            any(word in text for word in _TELLS_RELEASE),
            tuple(name for name in _OUTSIDE if name in text),
        )


def with_extras(text: str, library: str) -> str:
    """Return a project with the extras that the header of a script wants: ``kiwipy[rmq]``.

    :param text: the script
    :param library: project name
    """
    return _wanted_with_extras(text).get(canonicalize_name(library), library)


@functools.lru_cache(maxsize=256)
def _wanted_with_extras(text: str) -> dict[str, str]:
    listed = re.search(r"^# dependencies = (\[.*\])$", text, re.MULTILINE)
    found = [Requirement(one) for one in (json.loads(listed[1]) if listed else ()) if "[" in one]
    return {
        canonicalize_name(one.name): f"{one.name}[{','.join(sorted(one.extras))}]" for one in found
    }


def kept_scripts() -> Scripts:
    """Return the scripts that this process has exported, and those of earlier runs."""
    return _scripts_in(cache_directory() / "scripts")


@functools.lru_cache(maxsize=4)
def _scripts_in(directory: Path) -> Scripts:
    return Scripts(directory)


class Scripts:
    """Exports scenarios and keeps what came of it.

    :param directory: where the scripts of earlier runs lie
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, dict[str, Script]] = {}
        self._fresh: set[str] = set()

    def of(self, record: Scenario) -> Script:
        """Return the script of a scenario.

        :raises HarnessError: if it cannot be exported
        """
        function = record.function.__code__
        sources = _digest_of_sources(Path(function.co_filename))
        if sources not in self._known:
            self._known[sources] = self._read(sources)
        key = digest(function.co_filename, str(function.co_firstlineno), _described(record))
        if key not in self._known[sources]:
            self._known[sources][key] = Script.of(export(record), forks(record))
            self._fresh.add(sources)
        return self._known[sources][key]

    def keep(self) -> None:
        """Write what was exported; the files of the oldest states go."""
        for sources in self._fresh:
            scripts = {
                key: [digest(one.text, *one.forks), one.text, *one.forks]
                for key, one in self._known[sources].items()
            }
            keep(self._path(sources), json.dumps(scripts))
        if self._fresh:
            self._fresh.clear()
            files = sorted(self._directory.glob("*.json"), key=lambda path: -path.stat().st_mtime)
            for path in files[_MOST_FILES:]:
                path.unlink(missing_ok=True)

    def _path(self, sources: str) -> Path:
        return self._directory / f"{sources}.json"

    def _read(self, sources: str) -> dict[str, Script]:
        try:
            kept = json.loads(self._path(sources).read_text(encoding="utf-8"))
            return {
                key: Script.of(text, forks)
                for key, (mark, text, *forks) in kept.items()
                if digest(text, *forks) == mark
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


def _described(record: Scenario) -> str:
    """Return what a script takes from the record and not from its source."""
    intervals = [interval.text for interval in record.present]
    facts = (record.id, record.title, record.source, intervals, record.library, record.shown_in)
    return repr((*facts, str(record.python), record.limit, record.prepare is None))


@functools.lru_cache(maxsize=1024)
def _digest_of_sources(file: Path) -> str:
    """Return a hash of every file that the script of one in this file can take something from.

    It is taken once in a process, which has imported these files already.
    """
    return _digest_of_package(outermost_package(file) or file)


@functools.lru_cache(maxsize=64)
def _digest_of_package(package: Path) -> str:
    files = sorted(package.rglob("*.py")) if package.is_dir() else [package]
    return digest(_surroundings(), *(f"{path}\n{_hash(path)}" for path in files))


@functools.lru_cache(maxsize=1)
def _surroundings() -> str:
    """Return a hash of the exporter and of the names of the installed projects, which it pins."""
    parts = [sys.version, *map(_hash, sorted(Path(harness.export.__file__).parent.glob("*.py")))]
    for entry in sys.path:
        try:
            names = os.listdir(entry or ".")
        except OSError:
            continue
        parts += sorted(name for name in names if name.endswith((".dist-info", ".egg-info")))
    return digest(*parts)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
