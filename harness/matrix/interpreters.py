"""Find every CPython on this machine, by asking each candidate what it is.

Candidates come from ``PATH``, pyenv, uv and an explicit list. Two candidates are the same
interpreter when they have the same build and the same base prefix (links, virtual environments,
pyenv's shims); it is named once, and every candidate that is left out is listed with its reason.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import select as polling
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from harness.directories import cache_directory
from harness.errors import HarnessError
from harness.matrix.cache import keep

OLDEST = (3, 6)
#: Seconds that a candidate has to say what it is.
ANSWER_LIMIT = 20.0
#: Bytes after which what a candidate says is no answer.
_LONGEST_ANSWER = 1 << 20
_NAME = re.compile(r"python(3(\.\d+)?[td]*)?")

# Parsed by any Python from 2.6 on, so that an old one can say that it is old.
_QUESTION = """
import sys, os, json
try:
    import platform, sysconfig
    def full(i):
        v = "%d.%d.%d" % (i.major, i.minor, i.micro)
        return v if i.releaselevel == "final" else v + i.releaselevel[0] + str(i.serial)
    answer = {
        "version": full(sys.version_info),
        "version_info": list(sys.version_info[:3]),
        "implementation": platform.python_implementation(),
        "build": " ".join(sys.version.split()),
        "executable": sys.executable,
        "prefix": os.path.realpath(getattr(sys, "base_prefix", sys.prefix)),
        "platform": getattr(sys.implementation, "_multiarch", "") or platform.machine(),
        "tag": "%s-%s" % (sysconfig.get_config_var("SOABI") or sys.implementation.cache_tag,
                          sysconfig.get_platform()),
        "environment": {
            "implementation_name": sys.implementation.name,
            "implementation_version": full(sys.implementation.version),
            "os_name": os.name,
            "platform_machine": platform.machine(),
            "platform_python_implementation": platform.python_implementation(),
            "platform_release": platform.release(),
            "platform_system": platform.system(),
            "platform_version": platform.version(),
            "python_full_version": platform.python_version(),
            "python_version": ".".join(platform.python_version_tuple()[:2]),
            "sys_platform": sys.platform,
        },
    }
except Exception:
    answer = {"version": "%d.%d" % sys.version_info[:2], "version_info": list(sys.version_info[:3])}
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Interpreter:
    """One CPython, as it described itself.

    :param path: the program to start
    :param version: for example ``3.11.7`` or ``3.15.0a2``
    :param build: what ``sys.version`` says: version, date of the build, compiler
    :param prefix: the directory it is installed in
    :param platform: what it was built for, for example ``x86_64-linux-gnu``
    :param tag: its ABI and platform; releases with compiled parts are kept by it
    :param environment: its PEP 508 marker environment
    """

    path: str
    version: str
    build: str
    prefix: str
    platform: str
    tag: str
    environment: Mapping[str, str] = field(compare=False, hash=False)

    def __hash__(self) -> int:
        return hash(self.path)  # of all six fields it would be most of the work of a known grid

    @property
    def minor(self) -> str:
        """Major and minor version, for example ``3.11``."""
        return self.environment["python_version"]

    @property
    def identity(self) -> str:
        """What the results of a run depend on; the same on another machine with the same build."""
        return f"{self.build} {self.tag}"

    @property
    def sort_key(self) -> tuple[Version, str]:
        """Order of columns in a grid."""
        return Version(self.version), self.path


@dataclass(frozen=True)
class Rejected:
    """A candidate that is not used, and why.

    :param lasting: whether it said so itself, and will say the same as long as it is not replaced
    """

    path: str
    reason: str
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Found:
    """The interpreters of this machine, oldest version first, and the candidates left out."""

    interpreters: tuple[Interpreter, ...]
    rejected: tuple[Rejected, ...] = ()


@functools.lru_cache(maxsize=1)
def this_interpreter() -> Interpreter:
    """Return the interpreter that is running now.

    :raises HarnessError: if it cannot be started a second time
    """
    path = os.path.realpath(sys.executable)
    answer = _ask_all([path])[path]
    if isinstance(answer, Rejected):
        raise HarnessError(f"this Python cannot be used for cells: {answer}")
    return answer


def ask(path: str) -> Interpreter | Rejected:
    """Start a candidate and let it say what it is."""
    try:
        status, said = _question(path)
    except subprocess.TimeoutExpired:
        return Rejected(path, f"does not start: no answer within {ANSWER_LIMIT:g} s")
    except OSError as error:
        return Rejected(path, f"does not start: {error.strerror}")
    lines = said.decode(errors="replace").strip().splitlines()
    if status:
        why = f": {lines[0].strip()}" if lines else ""
        return Rejected(path, f"does not start (status {status}){why[:200]}")
    try:
        answer = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
        version_info = tuple(answer["version_info"])
        if version_info < OLDEST:
            return Rejected(path, f"Python {answer['version']} is older than 3.6", lasting=True)
        if answer["implementation"] != "CPython":
            return Rejected(path, f"{answer['implementation']} is not CPython", lasting=True)
        return Interpreter(
            path=answer["executable"] or path,
            version=answer["version"],
            build=answer["build"],
            prefix=answer["prefix"],
            platform=answer["platform"],
            tag=answer["tag"],
            environment=answer["environment"],
        )
    except (ValueError, KeyError, StopIteration, TypeError):
        return Rejected(path, "does not answer as a Python does")


def _question(path: str) -> tuple[int, bytes]:
    """Return with which status a candidate ended, and what it said; nothing of it is left.

    :raises OSError: if it is no program
    :raises subprocess.TimeoutExpired: if it does not come to an end
    """
    end = time.monotonic() + ANSWER_LIMIT
    command = [path, "-S", "-s", "-E", "-c", _QUESTION]
    environment = {name: value for name, value in os.environ.items() if name[:6] != "PYTHON"}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        said = b""
        try:
            more = b" "
            while more and not said.endswith(b"}\n"):  # somebody may hold the pipe open after that
                if not polling.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[
                    0
                ]:
                    raise subprocess.TimeoutExpired(command, ANSWER_LIMIT)
                more = os.read(process.stdout.fileno(), 1 << 16)
                said += more
                if len(said) > _LONGEST_ANSWER:
                    return 0, b""
            return process.wait(max(0.0, end - time.monotonic())), said
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def discover(extra: Iterable[str] = ()) -> Found:
    """Find the interpreters of this machine.

    :param extra: paths to look at besides ``PATH``, pyenv and uv
    """
    candidates: dict[str, str] = {}
    rejected: list[Rejected] = []
    shims = _pyenv_root() / "shims"
    for path in [*extra, *_pyenv(), *_uv(), *_on_path()]:
        if path in candidates:
            continue
        if Path(path).parent == shims:
            rejected.append(Rejected(path, "a shim of pyenv, whose interpreters are found anyway"))
        else:
            candidates[path] = os.path.realpath(path)
    answers = _ask_all(sorted(set(candidates.values())))
    found: dict[tuple[str, str, str], Interpreter] = {}
    for path, real in candidates.items():
        answer = answers[real]
        if isinstance(answer, Rejected):
            rejected.append(Rejected(path, answer.reason))
            continue
        same = found.setdefault((answer.build, answer.prefix, answer.tag), answer)
        if same is not answer:
            rejected.append(Rejected(path, f"the same interpreter as {same.path}"))
        elif path != real and path not in (same.path, real):
            rejected.append(Rejected(path, f"a link to {same.path}"))
    return Found(
        tuple(sorted(found.values(), key=lambda one: one.sort_key)),
        tuple(sorted(rejected, key=lambda one: one.path)),
    )


def select(wanted: Sequence[str]) -> Found:
    """Find the interpreters that the user asked for; all of them if nothing is asked for.

    :param wanted: each a version (``3.8``, ``3.11.7``), a specifier (``>=3.9``) or a program. What
        is asked for and is not to be had is among the rejected, with the reason
    :raises HarnessError: for a word that names nothing
    """
    if "" in wanted:
        raise HarnessError("--python '' names nothing; write for example 3.8, '>=3.9' or a program")
    programs = [item for item in wanted if _specifier(item) is None]
    located = {item: shutil.which(item) or item for item in programs}
    found = discover(located.values())
    if not wanted:
        return found
    chosen: dict[Interpreter, None] = {}
    rejected: list[Rejected] = []
    for item in wanted:
        specifier = _specifier(item)
        if specifier is not None:
            fitting = [
                one
                for one in found.interpreters
                if specifier.contains(Version(one.version), prereleases=True)
            ]
            if not fitting:
                rejected.append(Rejected(item, _why_none(specifier)))
            chosen.update(dict.fromkeys(fitting))
            continue
        answer = ask(located[item])
        if isinstance(answer, Rejected):
            rejected.append(Rejected(item, answer.reason))
            continue
        identity = (answer.build, answer.prefix, answer.tag)
        chosen.update(
            dict.fromkeys(
                one for one in found.interpreters if (one.build, one.prefix, one.tag) == identity
            )
        )
    return Found(tuple(sorted(chosen, key=lambda one: one.sort_key)), tuple(rejected))


def _why_none(specifier: SpecifierSet) -> str:
    """Say why no interpreter fits: it means older ones only, or there is none."""

    def fits(major: int, minors: Iterable[int]) -> bool:
        return any(
            specifier.contains(f"{major}.{minor}.{micro}")
            for minor in minors
            for micro in range(30)
        )

    if (fits(2, range(8)) or fits(3, range(OLDEST[1]))) and not fits(3, range(OLDEST[1], 40)):
        return "Python older than 3.6 is not supported"
    return "no such Python on this machine"


def _specifier(item: str) -> SpecifierSet | None:
    """Return which versions an item means, or None if it names a program."""
    try:
        version = Version(item)
    except InvalidVersion:
        try:
            return SpecifierSet(item) if item and os.sep not in item else None
        except InvalidSpecifier:
            return None
    exact = len(version.release) > 2
    return SpecifierSet(f"=={version}" if exact else f"=={item}.*")


def _ask_all(paths: Sequence[str]) -> dict[str, Interpreter | Rejected]:
    """Ask many candidates at once; answers are kept for as long as the program does not change."""
    store = cache_directory() / "interpreters.json"
    kept = _kept_answers(store)
    answers: dict[str, Interpreter | Rejected] = {}
    stamps = {path: _stamp(path) for path in paths}
    for path, stamp in stamps.items():
        plain = kept.get(f"{path} {stamp}")
        if plain is not None:
            answers[path] = _answer(plain)
    missing = [path for path in paths if path not in answers]
    if missing:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            answers.update(zip(missing, pool.map(ask, missing), strict=True))
        fresh = {
            f"{path} {stamps[path]}": vars(answer)
            for path, answer in answers.items()
            if stamps[path] and (isinstance(answer, Interpreter) or answer.lasting)
        }
        keep(store, json.dumps({**kept, **fresh}, indent=1))
    return answers


def _kept_answers(store: Path) -> dict[str, dict[str, Any]]:
    try:
        kept = json.loads(store.read_text(encoding="utf-8"))
        for plain in kept.values():
            _answer(plain)
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return dict(kept)


def _answer(plain: dict[str, Any]) -> Interpreter | Rejected:
    return Rejected(**plain) if "reason" in plain else Interpreter(**plain)


def _stamp(path: str) -> str:
    """Return what changes when a program is replaced; empty for a script, which may do anything."""
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"#!":
                return ""
            info = os.fstat(file.fileno())
    except OSError:
        return ""
    return f"{info.st_size} {info.st_mtime_ns} {info.st_ino}"


def _on_path() -> list[str]:
    found = []
    for directory in os.get_exec_path():
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if _NAME.fullmatch(name) and os.access(path, os.X_OK):
                found.append(path)
    return found


def _pyenv_root() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def _pyenv() -> list[str]:
    return [str(path) for path in sorted(_pyenv_root().glob("versions/*/bin/python"))]


def _uv() -> list[str]:
    named = os.environ.get("UV_PYTHON_INSTALL_DIR")
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    root = Path(named) if named else Path(data) / "uv" / "python"
    return [str(path) for path in sorted(root.glob("*/bin/python3"))]
