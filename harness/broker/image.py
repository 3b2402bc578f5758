"""Which image to run: the official one, or one built here from Debian packages."""

from __future__ import annotations

import contextlib
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.broker import packages
from harness.broker.installation import needed_plugins
from harness.broker.run import lock
from harness.directories import cache_directory
from harness.errors import HarnessError

if TYPE_CHECKING:
    from docker import DockerClient

OFFICIAL = "rabbitmq"
#: Name of the images that are built here; the tag is the version of RabbitMQ.
BUILT = "loop-harness/rabbitmq"
#: The user rabbitmq, in the official image and in ours.
USER_ID = 999
_PULL_SECONDS = 300.0
#: What the start scripts and ``rabbitmqctl`` call, besides RabbitMQ and Erlang.
_SEEDS = ("dash", "coreutils", "sed", "grep", "hostname", "libc-bin", "rabbitmq-server")
_OF_RABBITMQ = ("etc/rabbitmq", "var/lib/rabbitmq", "var/log/rabbitmq")
_DROPPED = (
    "usr/share/*",
    "usr/lib/erlang/lib/*/src",
    "usr/lib/erlang/lib/*/include",
    "usr/lib/erlang/lib/*/examples",
    "usr/lib/erlang/erts-*/src",
    "usr/lib/erlang/erts-*/include",
    "usr/lib/*-linux-*/gconv",
    "usr/lib/systemd",
    "lib/systemd",
    "etc/init.d",
    "etc/logrotate.d",
    "var/lib/dpkg",
)


def provide(client: DockerClient, wanted: str | None, say: Callable[[str], None]) -> str:
    """Return the name of an image that the engine has.

    Without ``wanted``: the official one if it is there, else one built before; else the official
    one is pulled, and where no registry answers one is built.

    :param wanted: the only image that will do; pulled if the engine does not have it
    :param say: told what takes long
    :raises HarnessError: if there is none to be had, saying what was tried
    """
    if wanted:
        if not _has(client, wanted) and (reason := _pull(client, wanted, say)):
            raise HarnessError(
                f"the image {wanted!r} is not on this machine and could not be pulled ({reason}); "
                "check its name, or build one from Debian packages: harness broker build-image"
            )
        return wanted
    if _has(client, OFFICIAL):
        return OFFICIAL
    built = client.images.list(name=BUILT)
    if built:
        newest = max(built, key=lambda image: str(image.attrs.get("Created", "")))
        return str(newest.tags[0])
    reason = _pull(client, OFFICIAL, say)
    if reason is None:
        return OFFICIAL
    if packages.missing_tools():
        raise HarnessError(
            f"the image {OFFICIAL!r} could not be pulled ({reason}), and without apt none can be "
            "built here; load one by hand (docker load), or use --harness-broker=local"
        )
    say(f"the image {OFFICIAL!r} could not be pulled ({reason}), so one is built, once")
    return build(client, say)


def _has(client: DockerClient, name: str) -> bool:
    from docker.errors import ImageNotFound

    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def _pull(client: DockerClient, name: str, say: Callable[[str], None]) -> str | None:
    """Pull an image; return why that failed, or None. The engine's silence ends it."""
    from docker.errors import APIError
    from docker.utils import parse_repository_tag
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    repository, tag = parse_repository_tag(name)
    say(f"pulling the image {name!r}")
    end = time.monotonic() + _PULL_SECONDS
    try:
        lines = client.api.pull(repository, tag=tag or "latest", stream=True, decode=True)
        for line in lines:
            if "error" in line:
                return str(line["error"]).splitlines()[0]
            if time.monotonic() > end:
                return f"not done after {_PULL_SECONDS:g} s"
    except APIError as error:
        return str(error.explanation or error).splitlines()[0]
    except (RequestException, HTTPError) as error:
        return f"the engine is silent: {type(error).__name__}"
    return None


def build(client: DockerClient, say: Callable[[str], None]) -> str:
    """Build an image from this machine's package sources and return its name; needs no root.

    :param say: told what takes long
    :raises HarnessError: if the packages or the engine do not allow it
    """
    from docker.errors import APIError

    cache = cache_directory()
    with (
        lock(cache / "image.lock"),
        tempfile.TemporaryDirectory(prefix="image-", dir=cache) as scratch,
    ):
        archive = packages.Archive(cache / "apt", say)
        wanted = archive.closure(_SEEDS)
        say(f"fetching {len(wanted)} Debian packages")
        debs = archive.download(wanted, Path(scratch) / "debs")
        root = Path(scratch) / "root"
        _skeleton(root)
        packages.unpack(debs, root)
        home = _shrink(root)
        _configure(root)
        version = home.name.removeprefix("rabbitmq_server-")
        say(f"importing {BUILT}:{version}")
        tar = Path(scratch) / "root.tar"
        _pack(root, tar)
        changes = [
            "USER rabbitmq",
            "ENV LANG=C.UTF-8",
            "EXPOSE 5672 15672",
            f"LABEL loop-harness.image={version}",
            f"CMD {json.dumps([f'/{home.relative_to(root)}/sbin/rabbitmq-server'])}",
        ]
        before = client.images.list(name=f"{BUILT}:{version}")
        answer = client.api.import_image_from_file(
            str(tar), repository=BUILT, tag=version, changes=changes
        )
        if "error" in str(answer):
            raise HarnessError(f"the Docker engine did not take the image: {answer}")
        for replaced in before:
            with contextlib.suppress(APIError):  # a container may still use it
                client.images.remove(str(replaced.id))
    return f"{BUILT}:{version}"


def _skeleton(root: Path) -> None:
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("etc", "proc", "sys", "dev", "run", "root", "tmp", "var/tmp", *_OF_RABBITMQ):
        (root / name).mkdir(parents=True, exist_ok=True)


def _shrink(root: Path) -> Path:
    """Drop what a broker never reads; return RabbitMQ's home."""
    for pattern in _DROPPED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    homes = list(root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*"))
    if not homes:
        raise HarnessError(
            "Debian's package rabbitmq-server holds no server where it was always; "
            "pull the official image, or use --harness-broker=local"
        )
    kept = set(needed_plugins(homes[0] / "plugins").values())
    for plugin in (homes[0] / "plugins").iterdir():
        if plugin not in kept:
            shutil.rmtree(plugin) if plugin.is_dir() else plugin.unlink()
    return homes[0]


def _configure(root: Path) -> None:
    files = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
        f"rabbitmq:x:{USER_ID}:{USER_ID}::/var/lib/rabbitmq:/bin/sh\n",
        "etc/group": f"root:x:0:\nrabbitmq:x:{USER_ID}:\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "etc/rabbitmq/rabbitmq.conf": (
            "loopback_users = none\nlog.file = false\nlog.console = true\n"
            "log.console.level = warning\n"
        ),
    }
    for name, text in files.items():
        (root / name).write_text(text)


def _pack(root: Path, target: Path) -> None:
    """Write a tar archive of a root directory, owned by root but for RabbitMQ's own directories."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        ours = any(entry.name == path or entry.name.startswith(f"{path}/") for path in _OF_RABBITMQ)
        entry.uid = entry.gid = USER_ID if ours else 0
        entry.uname = entry.gname = ""
        if entry.isdir():
            entry.mode = 0o1777 if entry.name in ("tmp", "var/tmp") else 0o755
        return entry

    with tarfile.open(target, "w") as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, arcname=path.name, filter=owned)
