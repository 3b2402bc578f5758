"""``@scenario``: the record that turns one async test function into a catalogue entry."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from packaging.markers import InvalidMarker, Marker, default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from harness.errors import HarnessError

AsyncTest = Callable[..., Coroutine[Any, Any, None]]
F = TypeVar("F", bound=AsyncTest)

#: Name of the function attribute that holds the record.
ATTRIBUTE = "__scenario__"
#: Seconds before the watchdog calls a run a hang, unless the record says otherwise.
DEFAULT_LIMIT = 10.0
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Interval:
    """Where a bug is known to be: releases of one library, under a marker.

    :param library: canonical project name; None for a bug of Python itself
    :param releases: the bad releases (pre-releases count where they fall in the range)
    :param marker: the environments that have the bug; None means every one
    """

    text: str
    library: str | None
    releases: SpecifierSet
    marker: Marker | None

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read a PEP 508 requirement, or a marker alone.

        :raises ValueError: if it is neither
        """
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            try:
                return cls(text, None, SpecifierSet(), Marker(text))
            except InvalidMarker:
                raise ValueError(str(error).splitlines()[0]) from None
        name = canonicalize_name(requirement.name)
        return cls(text, name, requirement.specifier, requirement.marker)

    def contains(self, releases: Mapping[str, str], environment: Mapping[str, str]) -> bool:
        """Whether the bug is known to be present.

        :param releases: canonical project name -> release under test
        :param environment: marker environment of the interpreter under test
        """
        if self.marker is not None and not self.marker.evaluate(dict(environment)):
            return False
        if self.library is None:
            return True
        release = releases.get(self.library)
        return release is not None and self.releases.contains(Version(release), prereleases=True)


@dataclass(frozen=True)
class Scenario:
    """One async test function that asserts healthy behaviour, with what is known about its bug.

    :param id: short unique name, for example ``N05``
    :param title: the symptom, in one line
    :param source: URL of the issue or document that tells of the bug
    :param present: where the bug is known to be; empty means nowhere (a guard)
    :param function: the test function itself
    :param library: canonical name of the PyPI project under test; None for Python itself
    :param shown_in: releases of ``library`` in which ``pytest scenarios/`` runs the scenario too
    :param python: the interpreters that can run it at all
    :param limit: seconds before the watchdog calls the run a hang
    :param prepare: called in the pristine process before its event loop exists
    :param planted: a defect that can be planted by calling this in place of a bad release; shows
        that the scenario is able to fail
    """

    id: str
    title: str
    source: str
    present: tuple[Interval, ...]
    function: AsyncTest
    library: str | None = None
    shown_in: tuple[str, ...] = ()
    python: SpecifierSet = field(default_factory=SpecifierSet)
    limit: float = DEFAULT_LIMIT
    prepare: Callable[[], object] | None = None
    planted: Callable[[], object] | None = None

    @property
    def family(self) -> str:
        """Name of the folder that the scenario's file lies in."""
        return Path(inspect.getfile(self.function)).parent.name

    @property
    def can_fail(self) -> bool:
        """Whether there is a place where this scenario is known to fail."""
        return bool(self.present) or self.planted is not None

    def is_present(
        self, releases: Mapping[str, str], environment: Mapping[str, str] | None = None
    ) -> bool:
        """Whether the record says that the bug is there.

        :param releases: canonical project name -> release under test
        :param environment: marker environment (PEP 508); default: this interpreter's
        """
        where = _marker_environment() if environment is None else environment
        return any(interval.contains(releases, where) for interval in self.present)


def _marker_environment() -> dict[str, str]:
    return {name: str(value) for name, value in default_environment().items()}


def scenario(
    *,
    id: str,
    title: str,
    source: str,
    present: Sequence[str] = (),
    library: str | None = None,
    shown_in: Sequence[str] = (),
    python: str = ">=3.6",
    limit: float = DEFAULT_LIMIT,
    prepare: Callable[[], object] | None = None,
    planted: Callable[[], object] | None = None,
) -> Callable[[F], F]:
    """Make a scenario of an async test function; the arguments are those of :class:`Scenario`.

    ``library`` need not be given where ``present`` names it. The function is returned as it is.

    :param present: PEP 508 requirement strings, for example
        ``"nest-asyncio>=1.3,<1.4.0; python_version >= '3.7'"``; a marker alone for a bug of Python
    :raises HarnessError: for a record that cannot be true, naming the scenario and the value
    """

    def refuse(what: str) -> HarnessError:
        return HarnessError(f"scenario {id!r}: {what}")

    if not _ID.fullmatch(id):
        raise refuse("the id must be letters, digits, '_', '.' or '-', and start with a letter")
    if isinstance(present, str) or isinstance(shown_in, str):
        raise refuse("present and shown_in are sequences of strings; write (..., ) around one")
    intervals = []
    for text in present:
        try:
            intervals.append(Interval.parse(text))
        except ValueError as error:
            raise refuse(
                f"present holds {text!r}, which is not a PEP 508 requirement or marker ({error}); "
                "write for example \"nest-asyncio>=1.3,<1.4; python_version >= '3.7'\""
            ) from None
    named = {interval.library for interval in intervals if interval.library is not None}
    if library is None and len(named) == 1:
        (library,) = named
    if len(named) > 1 and library is None:
        raise refuse(f"present names {', '.join(sorted(named))}; say with library= which is tested")
    try:
        for release in shown_in:
            Version(release)
    except InvalidVersion:
        raise refuse(f"shown_in holds {release!r}, which is not a release number") from None
    if shown_in and library is None:
        raise refuse("shown_in needs a library; give library=")
    try:
        pythons = SpecifierSet(python)
    except InvalidSpecifier:
        raise refuse(f"python is {python!r}; write for example '>=3.7'") from None
    if not limit > 0:
        raise refuse(f"limit is {limit!r}; give a number of seconds above 0")

    def decorate(function: F) -> F:
        if not inspect.iscoroutinefunction(function):
            raise refuse(
                f"{function.__name__} is not an 'async def'; its body would never be awaited"
            )
        record = Scenario(
            id=id,
            title=title,
            source=source,
            present=tuple(intervals),
            function=function,
            library=None if library is None else canonicalize_name(library),
            shown_in=tuple(shown_in),
            python=pythons,
            limit=limit,
            prepare=prepare,
            planted=planted,
        )
        setattr(function, ATTRIBUTE, record)
        return function

    return decorate


def record_of(function: Any) -> Scenario | None:
    """Return the record of a test function, or None if it is no scenario."""
    return getattr(function, ATTRIBUTE, None)
