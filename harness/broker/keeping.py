"""The owner's side of a keeper: start one, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.broker.processes import Owner, started, wait_until
from harness.broker.run import Run
from harness.errors import HarnessError

#: Seconds that a keeper may take to answer; stopping a node in good order is the longest.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Keeper:
    """One keeper, known by its directory; usable from every process of the same user."""

    directory: Path

    @classmethod
    def start(cls, run: Run, owner: Owner | None, kind: str, **spec: Any) -> Keeper:
        """Start the keeper of something that need not exist yet.

        :param owner: whose end is the end of what is kept; None for nobody's
        :param kind: ``node``, ``container`` or ``vhosts``; ``spec`` describes it
        """
        directory = run.directory / secrets.token_hex(3)
        directory.mkdir(mode=0o700)
        keeper = cls(directory)
        keeper.spawn(owner, kind, **spec)
        return keeper

    @classmethod
    def at(cls, directory: str) -> Keeper:
        """Return the keeper that was started in a directory."""
        return cls(Path(directory))

    def spawn(self, owner: Owner | None, kind: str, **spec: Any) -> None:
        """Start the process, in a directory that is there already."""
        described = {
            **spec,
            "kind": kind,
            "directory": str(self.directory),
            "owner": None if owner is None else asdict(owner),
        }
        package = str(Path(__file__).parents[2])
        paths = [package, os.environ.get("PYTHONPATH", "")]
        with (self.directory / "keeper.log").open("wb") as log:
            ended = subprocess.run(
                [sys.executable, "-m", "harness.broker.keeper"],
                input=json.dumps(described).encode(),
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                start_new_session=True,
                timeout=_PATIENCE,
                check=False,
            )
        if ended.returncode:
            words = (self.directory / "keeper.log").read_text(errors="replace")[-500:]
            raise HarnessError(f"the broker's keeper did not start ({words.strip()})")

    def ask(self, what: str) -> dict[str, Any]:
        """Have the keeper do something.

        :raises HarnessError: if it is gone, or could not
        """
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as wire:
                wire.settimeout(_PATIENCE)
                wire.connect(str(self.directory / "keeper.sock"))
                wire.sendall(json.dumps(what).encode() + b"\n")
                with wire.makefile("r") as lines:
                    answer: dict[str, Any] = json.loads(lines.readline() or "null") or {}
        except OSError as error:
            raise HarnessError(f"the broker's keeper is gone ({error}); start it anew") from None
        if "error" in answer:
            raise HarnessError(f"the broker's keeper could not {what}: {answer['error']}")
        return answer

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        try:
            return started(int((self.directory / "keeper.pid").read_text())) is not None
        except (OSError, ValueError):
            return False

    def end(self) -> None:
        """End what is kept, and the keeper; returns when both are gone. Again is fine."""
        pid = None
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.directory / "keeper.pid").read_text())
        with contextlib.suppress(HarnessError):
            self.ask("end")
        if pid is not None:
            wait_until(lambda: started(pid) is None, 5)
        shutil.rmtree(self.directory, ignore_errors=True)
