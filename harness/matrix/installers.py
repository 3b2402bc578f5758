"""Install one requirement into a directory, with uv or else with pip."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.directories import cache_directory
from harness.errors import HarnessError
from harness.matrix.index import configuration
from harness.matrix.interpreters import Interpreter
from harness.outcome import signal_name

#: Seconds that one installation may take.
LIMIT = 180.0
#: What the reason begins with when an installer was ended from outside.
_KILLED = "the installer was killed"
#: What it begins with when an installer came to no end.
_NO_END = "no end after"
#: What may be built from its source.
_ITSELF, _ALL = "itself", "all"
_DROPPED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "UV_PYTHON")


class NotForThisPython(HarnessError):
    """The release says, or its installer found, that it is not for this interpreter."""


class IndexFailed(HarnessError):
    """The installer could not reach the index, or had no room: another time it may."""


#: Index, tag of the interpreter, and what has no wheel there and could not be built either.
_unbuildable: set[tuple[str, str, str]] = set()
#: Held while something is built for the interpreters of a tag: the next may need the same.
_building: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_running: set[subprocess.Popen[str]] = set()
_starting = threading.Lock()


@dataclass(frozen=True)
class _Attempt:
    """One way to install.

    :param builds: what may be built from its source: nothing, the release itself, or all
    """

    tool: str
    builds: str
    command: list[str]
    environment: dict[str, str]


def install(requirement: str, site: Path, python: Interpreter) -> None:
    """Install a requirement and what it depends on.

    Wheels are taken where there are any. What has only its source is built, as the last resort:
    compiling takes long and mostly ends in an error, so no dependency is tried twice.

    :param requirement: for example ``nest-asyncio==1.5.2`` or ``kiwipy[rmq]==0.9.0``; an extra that
        the release does not have is ignored
    :param site: an empty directory
    :param python: the interpreter that it is for
    :raises NotForThisPython: if it does not support that interpreter
    :raises IndexFailed: if the index cannot be reached, or there is no room
    :raises HarnessError: if it cannot be installed
    """
    failure = ""
    skipped = ""
    here = configuration().identity, python.tag
    for attempt in _attempts(requirement, site, python):
        lacking = _without_wheel(failure)
        in_vain = attempt.builds == _ITSELF and lacking and not _is_of(lacking, requirement)
        if attempt.tool == skipped or in_vain:
            continue
        with _building[python.tag] if attempt.builds == _ALL else contextlib.nullcontext():
            if (*here, lacking) in _unbuildable:
                break
            reason = _try(attempt, site)
            if reason is None:
                return
            if reason.startswith(_KILLED):
                raise IndexFailed(f"{requirement} was not installed: {reason}; run it again")
            if _may_pass(reason):
                failure = reason
                break
            if lacking and "Failed to build" in reason:
                _unbuildable.add((*here, lacking))
                break
        failure = failure or reason
        if "equires Python" in reason or "Python version (" in reason:
            raise NotForThisPython(f"{requirement} is not for Python {python.version}: {reason}")
        if attempt.tool == "uv" and _refuses_interpreter(reason):
            skipped = "uv"
        elif not _lacks_wheels(reason):
            break
    if not failure:
        raise HarnessError(
            f"{requirement} cannot be installed: there is neither uv nor pip; "
            "install one of them, for example with 'python -m ensurepip'"
        )
    text = f"{requirement} cannot be installed for Python {python.version}: {failure}"
    if _is_full(failure):
        raise IndexFailed(f"{text}; make room there, or name another cache with HARNESS_CACHE_DIR")
    if _is_network(failure):
        raise IndexFailed(f"{text}; check that the package index can be reached")
    if _lacks_wheels(failure):
        raise NotForThisPython(text)
    raise HarnessError(f"{text}; choose other releases with --release, or other interpreters")


def find_uv() -> str | None:
    """Return uv's program: on PATH, or beside this interpreter."""
    beside = Path(sys.executable).with_name("uv")
    return shutil.which("uv") or (str(beside) if os.access(beside, os.X_OK) else None)


def has_pip(path: str) -> bool:
    """Whether an interpreter has pip."""
    try:
        done = subprocess.run(
            [path, "-c", "import pip"], capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _attempts(requirement: str, site: Path, python: Interpreter) -> Iterator[_Attempt]:
    """Yield what to try, in order; the next only if the one before lacked something."""
    uv = find_uv()
    name = Requirement(requirement).name
    # Wheels first: they take no build, and what builds on one machine may not on the next.
    all_wheels = ["--only-binary", ":all:"]
    choices = {"": all_wheels, _ITSELF: [*all_wheels, "--no-binary", name], _ALL: list[str]()}
    for builds, wheels in choices.items():
        if uv:
            config = configuration()
            options = ["--quiet", "--color", "never", *([] if config.urls else ["--no-index"])]
            where = ["--python", python.path, "--target", str(site)]
            command = [uv, "pip", "install", *options, *wheels, *where, requirement]
            environment = {
                # A linked file would be one with uv's own cache, and ours are made read-only.
                "UV_LINK_MODE": "copy",
                # As the index is asked: a network with a proxy has certificates that uv has not.
                "UV_SYSTEM_CERTS": os.environ.get("UV_SYSTEM_CERTS", "1"),
            }
            if builds == _ALL:
                # Compiling was a fifth of a grid from scratch, most of that optimizing; what comes
                # of it is kept where nobody else's installation finds it.
                environment["CFLAGS"] = f"{os.environ.get('CFLAGS', '')} -O0".strip()
                environment["UV_CACHE_DIR"] = str(cache_directory() / "built")
            yield _Attempt("uv", builds, command, {**config.environment_for_uv(), **environment})
    if has_pip(python.path):
        options = ["--quiet", "--disable-pip-version-check", "--no-compile", "--target", str(site)]
        for builds, wheels in choices.items():
            command = [python.path, "-m", "pip", "install", *options, *wheels, requirement]
            yield _Attempt("pip", builds, command, {})


def _try(attempt: _Attempt, site: Path) -> str | None:
    """Return why an attempt failed, in one line; None if it did not."""
    environment = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    try:
        with _starting:
            process = subprocess.Popen(
                attempt.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                cwd=site,
                env={**environment, **attempt.environment},
                start_new_session=True,
            )
            _running.add(process)
    except OSError as error:
        return f"{attempt.command[0]} does not start: {error.strerror}"
    try:
        _, told = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.communicate()
        return f"{_NO_END} {LIMIT:g} s"
    finally:
        with _starting:
            _running.discard(process)
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return f"{_KILLED} by {signal_name(-process.returncode)}"
    return _gist(told) or f"{attempt.tool} ended with {process.returncode}"


def stop_installers() -> None:
    """End what is being installed; each of those releases is as it was before."""
    with _starting:
        for process in _running:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """End an installer and the compilers that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _gist(stderr: str) -> str:
    """Return what an installer complains of, as one line without its advice."""
    lines = [line.strip() for line in stderr.splitlines()]
    lines = [line for line in lines if line and not line.lower().startswith(("warning", "hint"))]
    errors = [line for line in lines if line.lower().startswith(("error:", "cause:", "because"))]
    return " ".join(errors or lines[-2:])[:600]


def _refuses_interpreter(reason: str) -> bool:
    return "interpreter" in reason.lower()


def _lacks_wheels(reason: str) -> bool:
    lacks = ("wheel", "building from source", "no source distribution", "no matching distribution")
    return any(word in reason.lower() for word in lacks)


def _without_wheel(reason: str) -> str:
    """Return the project and its releases of which uv says that none has a wheel; or ``""``."""
    found = re.search(r"Because ([\w.-]+)(?:\{.*?\})?(\S*) has no usable wheels", reason)
    return found[1] + found[2] if found else ""


def _is_of(releases: str, requirement: str) -> bool:
    names = [canonicalize_name(Requirement(one).name) for one in (releases, requirement)]
    return names[0] == names[1]


def _may_pass(reason: str) -> bool:
    """Whether it says nothing about the release, and another time it may be had."""
    return _is_full(reason) or _is_network(reason) or reason.startswith(_NO_END)


def _is_full(reason: str) -> bool:
    return any(word in reason.lower() for word in ("no space left", "quota", "read-only file"))


def _is_network(reason: str) -> bool:
    return any(
        word in reason.lower()
        for word in (
            "failed to fetch",
            "failed to download",
            "error sending request",
            "connection",
            "timed out",
            "dns error",
            "server error",
        )
    )
