"""Releases of any project as directories, each installed once and kept.

``fetch`` returns a directory to put first on ``sys.path``. uv or pip install into it, so the user's
index, credentials and proxies apply and dependencies are resolved. A pure release without
dependencies is kept once for every interpreter, any other once for each. A project with extras,
``kiwipy[rmq]``, is kept apart from the project alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from harness.directories import cache_directory
from harness.errors import HarnessError
from harness.matrix.cache import (
    Say,
    keep,
    locked,
    protect,
    remove,
    say_on_stderr,
    write_atomically,
)
from harness.matrix.index import FRESH, IndexUnknown, configuration, listing
from harness.matrix.installers import IndexFailed, NotForThisPython, install
from harness.matrix.interpreters import Interpreter, Rejected, ask, this_interpreter

_ANY = "any"
#: Seconds for which a release that could not be installed is not tried again, if it is not for
#: that interpreter, and if the reason may be another.
_REFUSAL_KEPT, _FAILURE_KEPT = 24 * 3600.0, FRESH
#: Raised when directories of an older harness no longer do; they are installed again.
_LAYOUT = 2


@dataclass(frozen=True)
class Release:
    """One installed release.

    :param library: canonical project name
    :param version: the release
    :param directory: what goes first on ``sys.path``
    :param digest: hash of every file that can be imported; equal for releases that are the same
    """

    library: str
    version: str
    directory: Path
    digest: str


def released_versions(
    library: str,
    *,
    pre: bool = False,
    yanked: bool = False,
    say: Say = say_on_stderr,
    offline: bool = False,
) -> list[Version]:
    """Return the releases of a project, oldest first.

    :param library: project name
    :param pre: whether to name pre-releases and development releases too
    :param yanked: whether to name withdrawn releases too
    :param say: told when the cache serves because the index cannot be reached
    :param offline: use what the cache knows without asking the index
    :raises HarnessError: if there is no such project, or nothing is known about it offline
    """
    try:
        releases = [
            Version(one.version)
            for one in listing(library, say=say, offline=offline)
            if yanked or not one.yanked
        ]
    except IndexUnknown:
        releases = _releases_in_cache(canonicalize_name(library))
        if not releases:
            raise
        say(
            f"{library}: the index cannot be asked; using the {len(releases)} releases in the cache"
        )
    return [version for version in releases if pre or not version.is_prerelease]


def newest_release(library: str) -> str | None:
    """Return the newest release of a project, or None where the index does not tell."""
    try:
        versions = released_versions(library)
    except HarnessError:
        return None
    return str(versions[-1]) if versions else None


def fetch(library: str, release: str, python: Interpreter | str | None = None) -> Path:
    """Return the directory of a release, installing it first if need be.

    :param library: project name, with the extras that are wanted: ``kiwipy[rmq]``
    :param release: version
    :param python: the interpreter it is for, or the path of one; default: the running one
    :raises NotForThisPython: if the release does not support that interpreter
    :raises HarnessError: if it cannot be had, naming it and the next step
    """
    return obtain(library, release, _interpreter(python)).directory


def obtain(
    library: str,
    release: str,
    python: Interpreter,
    *,
    say: Say = say_on_stderr,
    offline: bool = False,
) -> Release:
    """Return an installed release; the arguments and errors are those of :func:`fetch`.

    A kept directory that no longer has the bytes that were installed is installed again.
    """
    wanted = _Wanted.parse(library)
    try:
        version = str(Version(release))
    except InvalidVersion:
        raise HarnessError(
            f"{release!r} is not a release number of {library}; write for example 1.5.2"
        ) from None
    try:
        return _obtain(wanted, version, python, say, offline)
    except OSError as error:
        raise HarnessError(
            f"{wanted} {version} cannot be kept in {cache_directory()} ({error.strerror}); "
            "make room there, or name another cache with HARNESS_CACHE_DIR"
        ) from None


def _obtain(wanted: _Wanted, version: str, python: Interpreter, say: Say, offline: bool) -> Release:
    home = wanted.home(version)
    found = _kept(home, wanted, version, python, say)
    if found is not None:
        return found
    with locked(cache_directory() / "locks" / f"{wanted.folder}-{version}"):
        found = _kept(home, wanted, version, python, say)
        if found is not None:
            return found
        offline = offline or configuration().offline
        _refuse_unsuitable(wanted.name, version, python, _silent if offline else say, offline)
        _refuse_again(home, python)
        if offline:
            raise HarnessError(
                f"{wanted} {version} for Python {python.version} is not in the cache and the "
                "package index may not be asked (offline); go online once to get it"
            )
        try:
            return _install(home, wanted, version, python)
        except IndexFailed:
            raise
        except HarnessError as error:
            refusal = {
                "index": configuration().identity,
                "python": isinstance(error, NotForThisPython),
                "text": str(error),
            }
            keep(_refusal(home, python), json.dumps(refusal))
            raise


def _refusal(home: Path, python: Interpreter) -> Path:
    return home / f"refused-{python.tag}.json"


def _refuse_again(home: Path, python: Interpreter) -> None:
    """Raise what an installation failed with not long ago: building in vain takes minutes."""
    path = _refusal(home, python)
    try:
        age = time.time() - path.stat().st_mtime
        refusal = json.loads(path.read_text(encoding="utf-8"))
        text, kind = str(refusal["text"]), bool(refusal["python"])
        if refusal["index"] != configuration().identity:
            return
    except (OSError, ValueError, KeyError, TypeError):
        return
    if age > (_REFUSAL_KEPT if kind else _FAILURE_KEPT):
        return
    raise (NotForThisPython if kind else HarnessError)(text)


def is_kept(library: str, release: str) -> bool:
    """Whether the cache has a release for at least one interpreter; named as for :func:`fetch`."""
    home = _Wanted.parse(library).home(str(Version(release)))
    return any(home.glob("*/release.json"))


def bytes_digest(directory: Path) -> str:
    """Return a hash of the files below a directory that an import can reach.

    Metadata of the installer and compiled files are left out: they differ between releases, and
    between machines, whose code is the same.
    """
    whole = hashlib.sha256()
    for name in _code(directory):
        whole.update(f"{name}\0".encode())
        whole.update(hashlib.sha256(Path(directory, name).read_bytes()).digest())
    return whole.hexdigest()


def signature(directory: Path) -> str:
    """Return what changes when somebody writes to a directory: cheap, for use after every run."""
    stats = []
    for name in _code(directory):
        info = os.stat(os.path.join(directory, name))
        stats.append(f"{name} {info.st_size} {info.st_mtime_ns}")
    return hashlib.sha256("\n".join(stats).encode()).hexdigest()


def _code(directory: Path) -> list[str]:
    """Return the paths of what can be imported, relative to the directory."""
    found = []
    for place, directories, files in os.walk(directory):
        directories[:] = [
            name
            for name in directories
            if name not in ("__pycache__", "bin") and not name.endswith(".dist-info")
        ]
        below = os.path.relpath(place, directory)
        inside = "" if below == "." else f"{below}/"
        found += [f"{inside}{name}" for name in files if not name.startswith(".")]
    return sorted(found, key=lambda name: name.split("/"))


def _interpreter(python: Interpreter | str | None) -> Interpreter:
    if isinstance(python, Interpreter):
        return python
    if python is None:
        return this_interpreter()
    answer = ask(python)
    if isinstance(answer, Rejected):
        raise HarnessError(f"{answer}; name a Python of 3.6 or newer")
    return answer


def recall(library: str, release: str, python: Interpreter) -> Release | None:
    """Return a release as it was installed, without a look at its files; None if it was not.

    Enough to find results by its digest; before anything runs there, :func:`obtain` it.

    :raises NotForThisPython: if the release does not support that interpreter
    """
    wanted, version = _Wanted.parse(library), str(Version(release))
    home = wanted.home(version)
    for tag in (_ANY, python.tag):
        try:
            record = _Record.read(home / tag)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if record is not None:
            _refuse(wanted.name, version, record.requires_python, python)
            return Release(wanted.name, version, home / tag / "site", record.digest)
    return None


@dataclass(frozen=True)
class _Wanted:
    """A project and the extras of it that are wanted."""

    name: str
    extras: tuple[str, ...]

    @classmethod
    def parse(cls, library: str) -> _Wanted:
        name, _, extras = library.partition("[")
        given = extras.rstrip("]").split(",") if extras else ()
        return cls(canonicalize_name(name), tuple(sorted({canonicalize_name(x) for x in given})))

    def __str__(self) -> str:
        return f"{self.name}[{','.join(self.extras)}]" if self.extras else self.name

    @property
    def folder(self) -> str:
        """Its name in the cache: brackets would be a pattern to some of what reads the paths."""
        return "+".join((self.name, *self.extras))

    def home(self, version: str) -> Path:
        return cache_directory() / "releases" / self.folder / version


@dataclass(frozen=True)
class _Record:
    digest: str
    signature: str
    requires_python: str

    @classmethod
    def read(cls, place: Path) -> _Record | None:
        """Return what was written down at the installation; None if an older harness did it."""
        plain = json.loads((place / "release.json").read_text(encoding="utf-8"))
        if plain.get("layout") != _LAYOUT:
            return None
        return cls(str(plain["digest"]), str(plain["signature"]), str(plain["requires_python"]))


def _kept(
    home: Path, wanted: _Wanted, version: str, python: Interpreter, say: Say
) -> Release | None:
    for tag in (_ANY, python.tag):
        place = home / tag
        try:
            record = _Record.read(place)
            if record is None:
                remove(place)
                continue
            intact = signature(place / "site") == record.signature or (
                bytes_digest(place / "site") == record.digest
            )
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            record, intact = None, False
        if record is None or not intact:
            say(f"{wanted} {version}: its directory in the cache was changed; installing it again")
            remove(place)
            continue
        _refuse(wanted.name, version, record.requires_python, python)
        if os.stat(place / "site").st_mode & stat.S_IWUSR:
            _protect(place / "site")
        return Release(wanted.name, version, place / "site", record.digest)
    return None


def _releases_in_cache(name: str) -> list[Version]:
    home = cache_directory() / "releases"
    places = [
        path for form in (name, f"{name}+*") for path in home.glob(f"{form}/*/*/release.json")
    ]
    return sorted({Version(place.parent.parent.name) for place in places})


def _silent(line: str) -> None:
    """Say nothing: that the index was not asked was said when the releases were listed."""


def _refuse_unsuitable(
    name: str, version: str, python: Interpreter, say: Say, offline: bool
) -> None:
    """Refuse a release that the index does not list, or lists for other interpreters."""
    try:
        known = {Version(one.version): one for one in listing(name, say=say, offline=offline)}
    except IndexUnknown:
        return  # the installer may still know a way, and else says what is wrong
    listed = known.get(Version(version))
    if listed is None:
        newest = ", ".join(str(one) for one in sorted(known)[-3:])
        raise HarnessError(
            f"{name} has no release {version} in the package index; its newest are {newest}"
        )
    _refuse(name, version, listed.requires_python, python)


def _refuse(name: str, version: str, requires: str, python: Interpreter) -> None:
    try:
        suits = SpecifierSet(requires).contains(Version(python.version), prereleases=True)
    except InvalidSpecifier:
        return
    if not suits:
        raise NotForThisPython(
            f"{name} {version} is for Python {requires}, not for {python.version}"
        )


def _install(home: Path, wanted: _Wanted, version: str, python: Interpreter) -> Release:
    name = wanted.name
    home.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=home))
    try:
        site = draft / "site"
        site.mkdir()
        install(f"{wanted}=={version}", site, python)
        metadata = _metadata(site)
        if name not in metadata:
            raise HarnessError(
                f"{name} {version} was installed but left no metadata; is the index in order?"
            )
        tag = _ANY if _suits_all(site, metadata, bool(wanted.extras)) else python.tag
        record = {
            "layout": _LAYOUT,
            "digest": bytes_digest(site),
            "signature": signature(site),
            "requires_python": metadata[name].get("Requires-Python") or "",
            "installed": sorted(f"{key} {one['Version']}" for key, one in metadata.items()),
        }
        write_atomically(draft / "release.json", json.dumps(record, indent=1))
        _protect(site)
        remove(home / tag)
        os.replace(draft, home / tag)
    finally:
        remove(draft)
    return Release(name, version, home / tag / "site", str(record["digest"]))


def _protect(site: Path) -> None:
    """Let nobody write to a release, but interpreters keep what they compile."""
    protect(site)
    for place, _, files in os.walk(site):
        if any(name.endswith(".py") for name in files):
            os.chmod(place, 0o755)
            os.makedirs(os.path.join(place, "__pycache__"), exist_ok=True)
            os.chmod(os.path.join(place, "__pycache__"), 0o755)
            os.chmod(place, 0o555)


def _metadata(site: Path) -> dict[str, dict[str, str]]:
    found = {}
    for path in site.glob("*.dist-info/METADATA"):
        message = HeaderParser().parsestr(path.read_text(encoding="utf-8", errors="replace"))
        plain = {key: str(message[key]) for key in message}
        plain["Requires-Dist"] = "\n".join(map(str, message.get_all("Requires-Dist") or ()))
        found[str(canonicalize_name(plain["Name"]))] = plain
    return found


def _suits_all(site: Path, metadata: dict[str, dict[str, str]], with_extras: bool) -> bool:
    """Whether a directory serves every interpreter: one pure distribution, no dependencies.

    An extra may mean something for another interpreter that it does not mean for this one.
    """
    if len(metadata) != 1:
        return False
    (only,) = metadata.values()
    requirements = only["Requires-Dist"].splitlines()
    if any(with_extras or _is_needed(one) for one in requirements):
        return False
    wheel = HeaderParser().parsestr(
        next(iter(site.glob("*.dist-info/WHEEL"))).read_text(encoding="utf-8")
    )
    tags = wheel.get_all("Tag") or [""]
    return wheel["Root-Is-Purelib"] == "true" and any(
        "py3" in tag.split("-")[0].split(".") and tag.endswith("-none-any") for tag in tags
    )


def _is_needed(requirement: str) -> bool:
    try:
        marker = Requirement(requirement).marker
    except InvalidRequirement:
        return True
    return marker is None or "extra" not in str(marker)
