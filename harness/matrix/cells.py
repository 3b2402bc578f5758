"""Which cells a grid has: one interpreter and one release of the library under test for each."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from harness.errors import HarnessError
from harness.export import FIXTURE, FIXTURE_VARIABLE
from harness.matrix.cache import Say, say_on_stderr
from harness.matrix.interpreters import Interpreter
from harness.matrix.releases import released_versions
from harness.matrix.scripts import kept_scripts
from harness.scenario import Interval, Scenario
from harness.selection import word_for

#: A project with more releases than this is tried, unless asked otherwise, only where its record
#: speaks of it.
MANY = 45


@dataclass(frozen=True)
class Cell:
    """One scenario in one place.

    :param library: canonical name of the project on the path; None for Python alone
    :param release: its release; None together with ``library``
    """

    record: Scenario
    interpreter: Interpreter
    library: str | None
    release: str | None

    def __hash__(self) -> int:
        # That of the whole record would be most of the work of a bisect.
        return hash((self.record.id, self.interpreter, self.library, self.release))

    @property
    def is_claimed(self) -> bool:
        """Whether the record says that this interpreter can run it."""
        return _claims(str(self.record.python), self.interpreter.version)

    @property
    def why_not(self) -> str:
        """Why it cannot run here, whatever the release; empty if it can."""
        if not self.is_claimed:
            return (
                f"the scenario is for Python {self.record.python}, not {self.interpreter.version}"
            )
        if _takes_a_broker(self.record.function) and not os.environ.get(FIXTURE_VARIABLE):
            return f"needs {FIXTURE_VARIABLE}, the URL of a RabbitMQ: see 'harness broker up'"
        return ""

    @property
    def is_present(self) -> bool:
        """Whether the record says that the bug is here."""
        return any(
            _names(interval.text, self.library, self.release)
            and _applies(interval.text, self.interpreter)
            for interval in self.record.present
        )

    @property
    def command(self) -> str:
        """What a person types to run this cell again."""
        if self.library is not None:
            release = f" --release {self.library}=={self.release}"
        else:
            release = " --release none" if self.record.library else ""
        name = shlex.quote(word_for(self.record))
        return f"harness matrix {name} --python {self.interpreter.version}{release}"


@functools.lru_cache(maxsize=1024)
def _claims(pythons: str, version: str) -> bool:
    return SpecifierSet(pythons).contains(Version(version), prereleases=True)


@functools.cache
def _takes_a_broker(function: Callable[..., object]) -> bool:
    return FIXTURE in inspect.signature(function).parameters


# Both halves of ``Interval.contains``: markers and releases come again in thousands of cells.


@functools.lru_cache(maxsize=65536)
def _names(present: str, library: str | None, release: str | None) -> bool:
    interval = replace(Interval.parse(present), marker=None)
    return interval.contains({library: release} if library and release else {}, {})


@functools.lru_cache(maxsize=65536)
def _applies(present: str, interpreter: Interpreter) -> bool:
    interval = replace(Interval.parse(present), library=None)
    return interval.contains({}, interpreter.environment)


@dataclass(frozen=True)
class ReleaseChoice:
    """Which releases the user asked for.

    :param specifiers: canonical project name (None: whichever is under test) -> releases
    :param newest: whether only the newest release is asked for
    :param none: whether Python alone is asked for
    """

    specifiers: tuple[tuple[NormalizedName | None, SpecifierSet], ...] = ()
    newest: bool = False
    none: bool = False

    @classmethod
    def parse(cls, words: Sequence[str]) -> ReleaseChoice:
        """Read the words of ``--release``.

        :param words: each a release (``1.5.2``), a specifier (``>=1.3,<1.5``), a requirement
            (``nest-asyncio2==1.7.4``), ``newest``, ``all`` or ``none``
        :raises HarnessError: for a word that is none of these
        """
        specifiers: list[tuple[NormalizedName | None, SpecifierSet]] = []
        for word in words:
            if word in ("newest", "none"):
                continue
            try:
                specifiers.append(_specifier(word))
            except (InvalidRequirement, InvalidSpecifier):
                raise HarnessError(
                    f"--release {word!r} means nothing; write for example 1.5.2, '>=1.3,<1.5', "
                    "nest-asyncio2==1.7.4, newest, all or none"
                ) from None
        return cls(tuple(specifiers), "newest" in words, "none" in words)

    @property
    def is_open(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.specifiers or self.newest or self.none)

    def choose(self, library: str, known: Sequence[Version]) -> list[Version]:
        """Return the releases of one project that are asked for, oldest first."""
        if self.is_open:
            return list(known)
        wanted = {
            version
            for name, specifier in self.specifiers
            if name in (None, library)
            for version in known
            if specifier.contains(version, prereleases=True)
        }
        final = [version for version in known if not version.is_prerelease] or known
        return sorted(wanted.union(final[-1:] if self.newest else ()))

    def pinned(self, library: str) -> list[Version]:
        """Return the releases that are named one by one; they need no index."""
        return [
            Version(next(iter(specifier)).version)
            for name, specifier in self.specifiers
            if name in (None, library) and _is_pin(specifier)
        ]

    @property
    def projects(self) -> set[str]:
        """The projects that are asked for by name."""
        return {name for name, _ in self.specifiers if name is not None}


def _specifier(word: str) -> tuple[NormalizedName | None, SpecifierSet]:
    if word == "all":
        return None, SpecifierSet()
    try:
        return None, SpecifierSet(f"=={Version(word)}")
    except InvalidVersion:
        pass
    try:
        return None, SpecifierSet(word)
    except InvalidSpecifier:
        requirement = Requirement(word)
        return canonicalize_name(requirement.name), requirement.specifier


def _is_pin(specifier: SpecifierSet) -> bool:
    parts = list(specifier)
    return len(parts) == 1 and parts[0].operator == "==" and not parts[0].version.endswith("*")


@functools.cache
def libraries(record: Scenario) -> list[str]:
    """Return the projects whose releases decide about a scenario.

    That is its own, those that ``present`` names, and the forks that it imports in its place.
    """
    if record.library is None:
        return []
    named = [interval.library for interval in record.present if interval.library]
    try:
        others = kept_scripts().of(record).forks
    except HarnessError:  # it cannot be exported, which its cells will say
        others = ()
    return list(dict.fromkeys([record.library, *named, *others]))


def plan(
    records: Iterable[Scenario],
    interpreters: Sequence[Interpreter],
    choice: ReleaseChoice,
    *,
    pre: bool = False,
    yanked: bool = False,
    offline: bool = False,
    thin: bool = False,
    say: Say = say_on_stderr,
) -> tuple[list[Cell], list[str]]:
    """Lay out the grid of some scenarios.

    :param choice: the releases asked for; all of them if it is empty
    :param pre: whether pre-releases count among all releases
    :param yanked: whether yanked releases do
    :param thin: whether to try, of a project with very many releases, only those at the ends of
        what a record says, those it shows, and the newest; unless releases are asked for
    :return: the cells, and what is asked for and cannot be had
    :raises HarnessError: if releases are asked for that no scenario of these is about
    """
    records = list(records)
    problems: list[str] = []
    known: dict[str, list[Version]] = {}
    about = dict.fromkeys(name for record in records for name in libraries(record))
    for name in choice.projects - set(about):
        raise HarnessError(
            f"--release names {name}, and none of these scenarios is about it; they are about "
            f"{', '.join(about) or 'Python itself'}"
        )
    for library in about:
        try:
            known[library] = _versions(library, choice, pre, yanked, offline, say)
        except HarnessError as error:
            known[library] = []
            problems.append(str(error))
    crowded = [name for name in about if thin and choice.is_open and len(known[name]) > MANY]
    for name in crowded:
        say(
            f"{name}: of {len(known[name])} releases only the newest and those that the records "
            "speak of; --release all runs all"
        )
    cells = []
    for record in records:
        here = set(crowded).intersection(libraries(record))
        near = {**known, **{name: _spoken_of(record, name, known[name]) for name in here}}
        cells += [
            Cell(record, interpreter, library, release)
            for library, release in _places(record, choice, near)
            for interpreter in interpreters
        ]
    return cells, problems


def _spoken_of(record: Scenario, library: str, known: Sequence[Version]) -> list[Version]:
    """Return the newest release, those that the record shows, and both sides of each end."""
    inside = [
        any(
            interval.library == library and interval.releases.contains(version, prereleases=True)
            for interval in record.present
        )
        for version in known
    ]
    ends = {
        known[place]
        for index in range(1, len(known))
        if inside[index - 1] != inside[index]
        for place in (index - 1, index)
    }
    shown = {version for version in known if str(version) in record.shown_in}
    return sorted({*ends, *shown, *known[-1:]})


def _versions(
    library: str, choice: ReleaseChoice, pre: bool, yanked: bool, offline: bool, say: Say
) -> list[Version]:
    pinned = choice.pinned(library)
    if len(pinned) == len(choice.specifiers) and pinned and not choice.newest:
        return pinned
    wants_pre = pre or any(
        Version(part.version.removesuffix(".*")).is_prerelease
        for _, specifier in choice.specifiers
        for part in specifier
    )
    listed = released_versions(library, pre=wants_pre, yanked=yanked, say=say, offline=offline)
    return sorted({*listed, *pinned})


def _places(
    record: Scenario, choice: ReleaseChoice, known: Mapping[str, Sequence[Version]]
) -> list[tuple[str | None, str | None]]:
    names = libraries(record)
    if not names:
        return [(None, None)]
    places: list[tuple[str | None, str | None]] = [(None, None)] if choice.none else []
    for name in names:
        places += [(name, str(version)) for version in choice.choose(name, known[name])]
    return places


def shard(cells: Sequence[Cell], part: str) -> list[Cell]:
    """Return one part of a grid, for a machine of its own.

    :param part: ``i/n``, for example ``2/8``; together the n parts are the whole grid
    :raises HarnessError: if it is not a part
    """
    index, _, count = part.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise HarnessError(f"--shard {part!r} is no part; write for example 2/8, from 1/8 to 8/8")
    return list(cells[int(index) - 1 :: int(count)])
