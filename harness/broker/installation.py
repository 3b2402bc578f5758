"""Where RabbitMQ's programs are on this machine; fetched into the cache where there are none."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.broker import packages
from harness.broker.run import lock
from harness.directories import cache_directory
from harness.errors import HarnessError

#: Never taken from a package: they belong to the running system as a whole.
_SYSTEM = ("libc6", "libgcc-s1", "libstdc++6")
#: The plugins that a broker here has; what they need comes with them.
PLUGINS = ("rabbit", "rabbitmq_prelaunch", "rabbitmq_management")


@dataclass(frozen=True)
class Installation:
    """One set of RabbitMQ programs.

    :param home: the directory with ``sbin`` and ``plugins``
    :param erlang: directory of ``erl``, to be put on the path; None where it is there already
    :param libraries: directory of shared libraries that the machine does not have; None if none
    """

    home: Path
    erlang: Path | None = None
    libraries: Path | None = None

    def program(self, name: str) -> str:
        """Return the path of one of RabbitMQ's programs."""
        return str(self.home / "sbin" / name)

    @property
    def version(self) -> str:
        """Return the version that the plugins carry, or ``"?"``."""
        for path in (self.home / "plugins").glob("rabbit-*"):
            return path.name.removeprefix("rabbit-").removesuffix(".ez")
        return "?"

    def environment(self) -> dict[str, str]:
        """Return what the programs need to find each other."""
        found = {"RABBITMQ_HOME": str(self.home)}
        if self.erlang is not None:
            found["PATH"] = f"{self.erlang}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        if self.libraries is not None:
            found["LD_LIBRARY_PATH"] = str(self.libraries)
        return found

    def epmd(self) -> str:
        """Return the path of Erlang's port mapper.

        :raises HarnessError: if there is none
        """
        beside = [] if self.erlang is None else [self.erlang]
        erl = shutil.which("erl")
        if erl is not None:
            beside.append(Path(erl).resolve().parent)
        for directory in beside:
            for path in (directory / "epmd", *directory.glob("../erts-*/bin/epmd")):
                if path.exists():
                    return str(path)
        path_of = shutil.which("epmd")
        if path_of is None:
            raise HarnessError("RabbitMQ is here, but Erlang's epmd is not; install erlang-base")
        return path_of


def find() -> Installation | None:
    """Return the RabbitMQ that this machine has installed, if it has one."""
    candidates = []
    program = shutil.which("rabbitmq-server")
    if program is not None:
        candidates.append(Path(program).resolve().parents[1])
    # The wrappers in a system's sbin directory insist on root or the user rabbitmq; these do not.
    for place in ("/usr/lib/rabbitmq/lib", "/opt", "/usr/local"):
        candidates += sorted(Path(place).glob("rabbitmq_server-*"), reverse=True)
    for home in candidates:
        complete = (home / "sbin" / "rabbitmq-server").exists() and (home / "plugins").is_dir()
        if complete and shutil.which("erl") is not None:
            return Installation(home)
    return None


def cached() -> Installation | None:
    """Return what :func:`fetch` has unpacked before, if it has."""
    root = cache_directory() / "rabbitmq"
    for home in root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*"):
        libraries = sorted((root / "usr" / "lib").glob("*-linux-*"))
        return Installation(
            home,
            erlang=root / "usr" / "lib" / "erlang" / "bin",
            libraries=libraries[0] if libraries else None,
        )
    return None


def fetch(say: Callable[[str], None]) -> Installation:
    """Fetch Debian's packages of RabbitMQ and Erlang into the user's cache, without root.

    Several runs may ask at once: one fetches, the others wait for it.

    :param say: told what takes long
    :raises HarnessError: if this machine cannot
    """
    cache = cache_directory()
    with lock(cache / "rabbitmq.lock"):
        found = cached()
        if found is not None:
            return found
        with contextlib.suppress(OSError):
            for stale in cache.glob("unpack-*"):
                shutil.rmtree(stale)
        scratch = Path(tempfile.mkdtemp(prefix="unpack-", dir=cache))
        try:
            archive = packages.Archive(cache / "apt", say)
            here = archive.installed() - {"rabbitmq-server"}
            if shutil.which("erl") is None:
                here = {name for name in here if not name.startswith("erlang-")}
            wanted = archive.closure(["rabbitmq-server"], without=here | set(_SYSTEM))
            say(f"fetching RabbitMQ as {len(wanted)} Debian packages, once, into {cache}")
            debs = archive.download(wanted, scratch / "debs")
            root = scratch / "root"
            packages.unpack(debs, root)
            _shrink(root)
            _point_erlang(root, cache / "rabbitmq")
            root.rename(cache / "rabbitmq")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        found = cached()
        if found is None:
            raise HarnessError(
                f"the Debian packages of RabbitMQ hold no server ({cache / 'rabbitmq'}); "
                "remove that directory, and name a broker by its URL meanwhile"
            )
        return found


def _shrink(root: Path) -> None:
    for path in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian"):
        shutil.rmtree(root / path, ignore_errors=True)


def _point_erlang(root: Path, final: Path) -> None:
    """Have Erlang's start scripts, which name their own place, name the new one.

    ERL_ROOTDIR would not do: Debian's scripts ignore it.
    """
    erlang = root / "usr" / "lib" / "erlang"
    for directory in (erlang / "bin", *erlang.glob("erts-*/bin")):
        for name in ("erl", "start"):
            script = directory / name
            if script.is_file() and not script.is_symlink():
                text = script.read_text(errors="surrogateescape")
                place = str(final / "usr" / "lib" / "erlang")
                script.write_text(text.replace("/usr/lib/erlang", place), errors="surrogateescape")


def link_plugins(source: Path, target: Path, roots: tuple[str, ...] = PLUGINS) -> None:
    """Make a plugin directory of links to only those plugins that ``roots`` need.

    A node looks into every plugin it has when it starts: fewer of them save about 40 % of that.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in needed_plugins(source, roots).values():
        (target / path.name).symlink_to(path)


def needed_plugins(source: Path, roots: tuple[str, ...] = PLUGINS) -> dict[str, Path]:
    """Return the plugins among those in ``source`` that ``roots`` need, by application name."""
    every = {path.name.partition("-")[0]: path for path in source.iterdir()}
    found: dict[str, Path] = {}
    queue = list(roots)
    while queue:
        name = queue.pop()
        path = every.get(name)
        if path is None or name in found:
            continue
        found[name] = path
        description = path / "ebin" / f"{name}.app"
        if not description.exists():
            return every  # packed plugins (.ez): what they need cannot be read off so easily
        text = description.read_text(errors="replace")
        for group in re.findall(r"applications\s*,\s*\[([^]]*)\]", text):
            queue += re.findall(r"[a-z][a-z0-9_]*", group)
    return found
