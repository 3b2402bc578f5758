"""Debian packages, fetched and unpacked without root, from the sources this machine already uses.

Nothing is installed: no maintainer script runs, and the machine's package database is only read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError

_TOOLS = ("apt-get", "apt-cache", "dpkg-deb", "dpkg-query")
#: The only dependencies that are followed: what a program links to, and Erlang's own applications.
#: The rest (adduser, logrotate, Perl, systemd) serves the installation, which does not happen here.
_FOLLOWED = re.compile(r"^(z?lib|erlang-)")
_UPDATE_SECONDS = 180.0
_DOWNLOAD_SECONDS = 300.0


def missing_tools() -> list[str]:
    """Return which of apt's and dpkg's programs this machine lacks; empty on Debian and its kin."""
    return [tool for tool in _TOOLS if shutil.which(tool) is None]


@dataclass(frozen=True)
class Package:
    """One package of the machine's sources.

    :param depends: names it depends on, each a tuple of alternatives
    """

    name: str
    version: str
    depends: tuple[tuple[str, ...], ...]


@dataclass
class Archive:
    """The machine's package sources, with an index of our own where the machine has none.

    :param directory: where that index is kept, between runs
    :param say: told what takes long
    """

    directory: Path
    say: Callable[[str], None]
    _options: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if lacking := missing_tools():
            raise HarnessError(
                f"this machine has no {', '.join(lacking)}, so Debian's packages cannot be "
                "unpacked; install RabbitMQ yourself, or name a broker by its URL"
            )
        common = ["Acquire::Languages=none", "Acquire::Retries=2", "Acquire::http::Timeout=30"]
        if os.geteuid() == 0:
            common.append("APT::Sandbox::User=root")
        self._options = [part for option in common for part in ("-o", option)]
        if not self._knows("rabbitmq-server"):
            self.refresh()

    def refresh(self) -> None:
        """Fetch the package lists into our own directory, and use those from now on.

        :raises HarnessError: if the sources do not offer RabbitMQ
        """
        lists = self.directory / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        (self.directory / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        own = [
            f"Dir::State={self.directory}",
            f"Dir::State::lists={lists}",
            f"Dir::Cache={self.directory / 'cache'}",
            "Dir::State::status=/var/lib/dpkg/status",
            # The package lists of testing and unstable are often past their date on a mirror.
            "Acquire::Check-Valid-Until=false",
        ]
        if own[0] not in self._options:
            self._options += [part for option in own for part in ("-o", option)]
        self.say("fetching Debian's package lists")
        # A source that fails is apt's error, and may be one that is of no concern to us.
        updated = self._run(["apt-get", "-q", "update"], _UPDATE_SECONDS, check=False)
        if not self._knows("rabbitmq-server"):
            last = (updated.stderr.strip() or updated.stdout.strip()).splitlines()[-3:]
            raise HarnessError(
                "this machine's package sources offer no rabbitmq-server "
                f"(apt-get update said: {' '.join(last) or 'nothing'}); "
                "check the sources with: apt-get update"
            )

    def closure(self, names: Iterable[str], *, without: Iterable[str] = ()) -> list[Package]:
        """Return packages with the libraries and Erlang applications that they need.

        :param without: names to leave out, with what only they need
        """
        seen = set(without)
        wanted = [name for name in names if name not in seen]
        found: dict[str, Package] = {}
        while wanted:
            seen.update(wanted)
            records = {package.name: package for package in self._show(wanted)}
            found.update(records)
            wanted = []
            for package in records.values():
                for alternatives in package.depends:
                    first = alternatives[0]
                    if _FOLLOWED.match(first) and seen.isdisjoint(alternatives):
                        wanted.append(first)
            wanted = sorted(set(wanted))
        return sorted(found.values(), key=lambda package: package.name)

    def version_of(self, name: str) -> str:
        """Return the version that the sources offer."""
        for package in self._show([name]):
            return package.version
        raise HarnessError(f"this machine's package sources offer no {name}")

    def download(self, packages: Sequence[Package], directory: Path) -> list[Path]:
        """Fetch packages; apt checks their signatures and sums.

        :raises HarnessError: with apt's last words
        """
        directory.mkdir(parents=True, exist_ok=True)
        wanted = [f"{package.name}={package.version}" for package in packages]
        command = ["apt-get", "-q", "download", *wanted]
        done = self._run(command, _DOWNLOAD_SECONDS, cwd=directory, check=False)
        if done.returncode:
            # The usual reason: the machine's lists are older than what the mirror still has.
            self.refresh()
            known = {package.name: package.version for package in self._show(_names(packages))}
            command[3:] = [f"{name}={version}" for name, version in known.items()]
            self._run(command, _DOWNLOAD_SECONDS, cwd=directory)
        return sorted(directory.glob("*.deb"))

    def installed(self) -> set[str]:
        """Return the names of the packages that are installed on this machine."""
        done = self._run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n"], 30)
        lines = (line.partition(" ") for line in done.stdout.splitlines())
        return {name for status, _, name in lines if status == "installed"}

    def _knows(self, name: str) -> bool:
        return bool(self._show([name]))

    def _show(self, names: Sequence[str]) -> list[Package]:
        """Return the records of those names that exist; a virtual package has none."""
        command = ["apt-cache", "show", "--no-all-versions", *names]
        text = self._run(command, 60, check=False).stdout
        packages = []
        for block in filter(str.strip, text.split("\n\n")):
            fields = {
                key: value.strip()
                for key, colon, value in (line.partition(":") for line in block.splitlines())
                if colon and not key.startswith(" ")
            }
            depends = [fields.get("Pre-Depends", ""), fields.get("Depends", "")]
            packages.append(
                Package(fields["Package"], fields["Version"], _dependencies(",".join(depends)))
            )
        return packages

    def _run(
        self, command: list[str], seconds: float, *, cwd: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        if command[0].startswith("apt"):
            command = [command[0], *self._options, *command[1:]]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                cwd=cwd,
                env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HarnessError(
                f"{command[0]} was not done after {seconds:g} s; check the network, and run again"
            ) from None
        if check and done.returncode:
            words = done.stderr.strip().splitlines()[-3:]
            raise HarnessError(f"{command[0]} failed: {' '.join(words)}")
        return done


def _names(packages: Iterable[Package]) -> list[str]:
    return [package.name for package in packages]


def _dependencies(text: str) -> tuple[tuple[str, ...], ...]:
    """Read a Depends field: ``a (>= 1) | b, c:any`` gives ``(("a", "b"), ("c",))``."""
    groups = []
    for group in filter(str.strip, text.split(",")):
        names = (re.split(r"[\s:(\[]", each.strip())[0] for each in group.split("|"))
        groups.append(tuple(names))
    return tuple(groups)


def unpack(debs: Iterable[Path], root: Path) -> None:
    """Unpack packages over each other into a directory; whoever unpacks owns the files."""
    root.mkdir(parents=True, exist_ok=True)
    for deb in debs:
        done = subprocess.run(
            ["dpkg-deb", "-x", str(deb), str(root)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise HarnessError(f"cannot unpack {deb.name}: {done.stderr.strip()}")
