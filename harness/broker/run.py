"""The run: what all processes of one pytest invocation share, and what ends with it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.broker.processes import Owner
from harness.errors import HarnessError

#: Handed from the controller of pytest-xdist to its workers.
ENVIRONMENT = "HARNESS_BROKER_RUN"
#: What the directories of all runs begin with, in the machine's temporary directory.
STEM = "loop-harness-"
#: File in a run's directory that tells its owner; a broker that a person ends by hand has none.
OWNER = "owner.json"


@dataclass(frozen=True)
class Run:
    """One pytest invocation.

    :param id: short and unique; in the names of vhosts and containers
    :param owner: the process that everything of the run ends with; None for a broker that a person
        ends by hand
    :param scratch: where its directory is made: processes may differ in their ``TMPDIR``
    """

    id: str
    owner: Owner | None
    scratch: str = field(default_factory=lambda: str(scratch_directory()))

    @classmethod
    def at(cls, directory: Path) -> Run:
        """Return the run that a person ends by hand, by its directory."""
        return cls(directory.name.removeprefix(STEM), None, str(directory.parent))

    @classmethod
    def new(cls, *, owner: Owner | None) -> Run:
        """Return a run that nobody else knows of."""
        return cls(secrets.token_hex(5), owner)

    @property
    def prefix(self) -> str:
        """What the names of this run's vhosts begin with."""
        return f"{STEM}{self.id}-"

    @property
    def directory(self) -> Path:
        """The run's private directory, which exists."""
        path = self._path
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            if self.owner is not None:
                write_private(path / OWNER, json.dumps(asdict(self.owner)))
        if path.stat().st_uid != os.geteuid():
            raise HarnessError(f"{path} belongs to another user; remove it, and run again")
        return path

    @property
    def _path(self) -> Path:
        return Path(self.scratch) / f"{STEM}{self.id}"

    @property
    def is_mine(self) -> bool:
        """Whether this very process is the owner: not a worker, not a forked child."""
        return self.owner is None or self.owner.pid == os.getpid()

    def share(self, kind: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what the first process of the run to ask for ``kind`` has made.

        :param make: returns plain data; called at most once per run while it succeeds
        """
        with lock(self.directory / f"{kind}.lock"):
            record = self.shared(kind)
            if record is None:
                record = make()
                write_private(self.directory / f"{kind}.json", json.dumps(record))
            return record

    def shared(self, kind: str) -> dict[str, Any] | None:
        """Return what any process of the run has made of ``kind``, or None; makes nothing."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self._path / f"{kind}.json").read_text())
            return found
        return None

    def forget(self, kind: str) -> None:
        """Have the next :meth:`share` make a new one."""
        (self.directory / f"{kind}.json").unlink(missing_ok=True)

    def finish(self) -> None:
        """End everything of the run; does nothing in a worker or a forked child."""
        path = self._path
        if not self.is_mine or not path.exists():
            return
        from harness.broker.keeping import Keeper

        for socket in path.glob("*/keeper.sock"):
            Keeper(socket.parent).end()
        shutil.rmtree(path, ignore_errors=True)


_current: Run | None = None


def begin_run() -> Run:
    """Return this process's run; call it early in the controller, before workers are started.

    Cheap: starts nothing and touches no file. A worker of pytest-xdist takes over the run of its
    controller; every other process begins its own.
    """
    global _current
    if _current is not None:
        return _current
    if "PYTEST_XDIST_WORKER" in os.environ:
        with contextlib.suppress(KeyError, ValueError, TypeError):
            data = json.loads(os.environ[ENVIRONMENT])
            run = Run(data["id"], Owner(**data["owner"]), data["scratch"])
            # A test may start a pytest of its own, which inherits the environment but is no worker.
            if run.owner is not None and run.owner.pid == os.getppid():
                _current = run
                return run
    _current = Run.new(owner=Owner.me())
    os.environ[ENVIRONMENT] = json.dumps(asdict(_current))
    return _current


def finish_run() -> None:
    """End the brokers of this process's run, with all they started; again is fine."""
    if _current is not None:
        _current.finish()


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock among processes; the kernel frees it if its holder dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, in one step."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    scratch.replace(path)


def scratch_directory() -> Path:
    """Return where the directories of all runs are made."""
    path = Path(tempfile.gettempdir())
    # A socket's whole path has to fit into some 100 bytes; TMPDIR may lie deep in a project.
    return path if len(os.fsencode(path)) <= 55 else Path("/tmp")
