"""What the matrix keeps between runs: where it lies, and the results of cells that were run.

Results lie in one file per script, a line per result, so that a whole grid is read back with a few
reads. A line carries a checksum: one that was cut short or written over is ignored, with a message.
Lines are appended, and damaged ones removed, under a lock: runs that share a cache cannot harm each
other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.outcome import Observation

#: Tells the user something that is not an error: one line, without a line end.
Say = Callable[[str], None]

#: Part of every key: raised when results of an older harness no longer mean the same.
FORMAT = 2


def say_on_stderr(line: str) -> None:
    """Print a line for the user on standard error."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, shared by every process that uses this cache, while the body runs."""
    try:
        file = open(path, "a+b")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b")  # noqa: SIM115
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader sees the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def keep(path: Path, text: str) -> None:
    """Replace a file that only saves time: where it cannot be written, things go on without."""
    with contextlib.suppress(OSError):
        write_atomically(path, text)


def protect(directory: Path) -> None:
    """Take write permission from everything in a directory, and from the directory."""
    for place, _, files in os.walk(directory):
        for name in files:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                os.chmod(path, 0o555 if os.stat(path).st_mode & stat.S_IXUSR else 0o444)
        os.chmod(place, 0o555)


def remove(directory: Path) -> None:
    """Remove a directory that may be protected; one that is not there is fine.

    Of a link only the link goes: what it leads to is somebody else's.
    """
    if directory.is_symlink():
        directory.unlink(missing_ok=True)
        return
    with contextlib.suppress(RecursionError):
        for place, _, _ in os.walk(directory):
            with contextlib.suppress(OSError):
                os.chmod(place, 0o755)
        shutil.rmtree(directory, ignore_errors=True)
    if directory.is_dir():  # too deep for Python, whose paths have an end
        subprocess.call(["rm", "-rf", directory], stderr=subprocess.DEVNULL)


def digest(*parts: str) -> str:
    """Return a hash of some texts, in which no two lists of texts can be mistaken."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        whole.update(b"%d:" % len(data))
        whole.update(data)
    return whole.hexdigest()


class ResultCache:
    """The results of cells that were run, found by what was run.

    :param directory: where the files lie
    :param say: told of entries that cannot be read
    """

    def __init__(self, directory: Path, say: Say = say_on_stderr) -> None:
        self._directory = directory
        self._say = say
        self._known: dict[str, dict[str, list[Observation]]] = {}
        self._is_full = False

    def get(self, script: str, place: str) -> list[Observation]:
        """Return the runs of a script in a place, oldest first; empty if there are none.

        :param script: digest of the script's text
        :param place: digest of the release's bytes and the interpreter's build
        """
        if script not in self._known:
            self._known[script] = self._read(script)
        return list(self._known[script].get(place, ()))

    def add(self, script: str, place: str, observation: Observation) -> None:
        """Keep one run; it is on disk when this returns, or it is said, once, that none can be."""
        self.get(script, place)
        self._known[script].setdefault(place, []).append(observation)
        payload = json.dumps([place, observation.to_json()], separators=(",", ":"))
        line = f"{_checksum(payload)} {payload}\n".encode()
        for attempt in (1, 2):
            try:
                self._append(self._path(script), line)
                return
            except OSError as error:
                if attempt == 1 and isinstance(error, FileNotFoundError):
                    continue  # somebody has removed the directory a moment ago
                if not self._is_full:
                    self._is_full = True
                    self._say(
                        f"results are not kept for later runs: {self._path(script)} cannot be "
                        f"written ({error.strerror}); make room there, or name another cache with "
                        "HARNESS_CACHE_DIR"
                    )
                return

    def _append(self, path: Path, line: bytes) -> None:
        with locked(self._directory / "lock"), open(path, "a+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # a run that was killed in the middle of a line
                    line = b"\n" + line
            file.write(line)

    def _path(self, script: str) -> Path:
        return self._directory / f"{script}.jsonl"

    def _read(self, script: str) -> dict[str, list[Observation]]:
        found: dict[str, list[Observation]] = {}
        try:
            data = self._path(script).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return found
        except OSError as error:
            self._say(f"{self._path(script)} cannot be read ({error.strerror}); run again instead")
            return found
        bad = 0
        for line in data.decode("utf-8", "replace").splitlines():
            total, _, payload = line.partition(" ")
            try:
                if total != _checksum(payload):
                    raise ValueError(total)
                place, plain = json.loads(payload)
                found.setdefault(place, []).append(Observation.from_json(plain))
            except (ValueError, TypeError):
                bad += bool(line)
        if bad:
            self._say(
                f"{self._path(script)}: {bad} damaged entr{'y' if bad == 1 else 'ies'} ignored; "
                "those cells are run again"
            )
            with contextlib.suppress(OSError):
                self._drop_damaged(self._path(script))
        return found

    def _drop_damaged(self, path: Path) -> None:
        """Write a file anew without its damaged lines, so that they are told of once."""
        with locked(self._directory / "lock"):
            lines = path.read_bytes().decode("utf-8", "replace").splitlines()
            parts = (line.partition(" ") for line in lines)
            kept = [" ".join((total, text)) for total, _, text in parts if total == _checksum(text)]
            write_atomically(path, "".join(f"{line}\n" for line in kept))


def _checksum(payload: str) -> str:
    return hashlib.sha256(payload.encode("utf-8")).hexdigest()[:16]
