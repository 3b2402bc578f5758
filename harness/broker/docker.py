"""The docker provider: RabbitMQ in a labelled container of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import socket
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from harness.broker import image as images
from harness.broker.address import Address
from harness.broker.base import Fault, OwnBroker, Provider, Unavailable
from harness.broker.handshake import NotReady, wait_ready
from harness.broker.keeping import Keeper
from harness.broker.management import Management
from harness.broker.processes import Owner, free_ports, wait_until
from harness.broker.run import STEM, Run
from harness.errors import HarnessError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

#: Every container of ours carries this label; its value tells the run and its owner, as JSON.
LABEL = "loop-harness.run"
_READY_SECONDS = 90.0
#: Seconds for one answer of the Docker engine.
_ENGINE_SECONDS = 60
_TRIES = 3
_LAST_WORDS = 12
#: Less than any engine may have itself: it cannot give more than that.
_FILES = 4096
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@contextlib.contextmanager
def engine(timeout: int = _ENGINE_SECONDS) -> Iterator[DockerClient]:
    """Open a client of the Docker engine, closed at the end: nothing of it outlives a fork.

    :param timeout: seconds for one answer
    :raises Unavailable: if no engine answers
    """
    import docker
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    host = urlsplit(where).hostname
    if not where.startswith(("unix:", "npipe:")) and host not in _LOOPBACK:
        raise Unavailable(
            f"the Docker engine at {where!r} is on another machine, whose loopback ports cannot be "
            "reached from here; unset DOCKER_HOST, or name a broker by its URL"
        )
    client = None
    try:
        if where.startswith("unix:"):
            # The SDK leaves a socket open for the collector to find when nobody answers.
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(timeout)
                probe.connect("/" + where.partition(":")[2].lstrip("/"))
        client = docker.from_env(timeout=timeout)
        client.ping()
    except (DockerException, RequestException, OSError, ValueError) as error:
        if client is not None:
            client.close()
        raise Unavailable(
            f"no Docker engine answers at {where} ({_innermost(error)}); start it "
            "(systemctl start docker, or dockerd), and check that you may use it (group docker)"
        ) from None
    try:
        yield client
    except APIError as error:
        raise HarnessError(f"the Docker engine refused: {error.explanation or error}") from error
    except RequestException as error:
        raise HarnessError(
            f"the Docker engine at {where} stopped answering ({_innermost(error)}); restart it"
        ) from None
    finally:
        client.close()


def _innermost(error: BaseException) -> str:
    """Return the text of the error at the bottom: the SDK wraps 'no such file' four times."""
    text = str(error)
    for reason in ("No such file or directory", "Permission denied", "Connection refused"):
        if reason in text:
            return reason
    return text.splitlines()[0] if text else type(error).__name__


def remove_container(name: str) -> None:
    """Remove a container with its volumes; one that is gone already is fine."""
    from docker.errors import NotFound

    with engine() as client:
        with contextlib.suppress(NotFound):
            client.containers.get(name).remove(force=True, v=True)

        # A removal that somebody else has begun is theirs to finish; here it only has to be over.
        def gone() -> bool:
            return not client.containers.list(all=True, filters={"name": f"^/{name}$"})

        wait_until(gone, 10)


def sweep(client: DockerClient) -> None:
    """Remove the containers of runs whose owner has ended, whatever became of their keeper."""
    from docker.errors import APIError

    for container in client.containers.list(
        all=True, filters={"label": LABEL}, ignore_removed=True
    ):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            owner = json.loads(container.labels[LABEL])["owner"]
            if owner is not None and not Owner(**owner).is_alive():
                with contextlib.suppress(APIError):
                    container.remove(force=True, v=True)


class DockerBroker(OwnBroker):
    """A container that publishes AMQP and the management API on fixed loopback ports."""

    name = "docker"
    faults = frozenset(Fault)

    def __init__(self, record: Mapping[str, Any], run: Run, *, shared: bool) -> None:
        super().__init__(record, run, shared=shared)
        self.container: str = record["container"]

    def control(self, *arguments: str) -> str:
        with self._opened() as (_, container):
            status, output = container.exec_run(["rabbitmqctl", *arguments])
        text = cast("bytes", output).decode(errors="replace")
        if status:
            raise HarnessError(f"rabbitmqctl {arguments[0]} failed: {text.strip()[-500:]}")
        return text

    def _break(self, fault: Fault) -> None:
        with self._opened() as (client, container):
            if fault is Fault.PAUSE:
                container.pause()
            elif fault is Fault.KILL:
                container.kill()
            elif fault is Fault.STOP:
                container.stop(timeout=20)
            elif fault is Fault.CUT:
                for network in self._networks(container):
                    client.networks.get(network).disconnect(container)

    def _mend(self, fault: Fault) -> None:
        with self._opened() as (client, container):
            if fault is Fault.PAUSE:
                container.unpause()
            elif fault is Fault.CUT:
                client.networks.get("bridge").connect(container)
            else:
                container.start()
            _wait_container(container, self.address, self.management)

    @staticmethod
    def _networks(container: Container) -> list[str]:
        container.reload()
        return list(container.attrs["NetworkSettings"]["Networks"])

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[DockerClient, Container]]:
        with engine() as client:
            yield client, client.containers.get(self.container)


class DockerProvider(Provider):
    """Starts containers.

    :param wanted: image to run; None for the official one, or one built on this machine
    :param say: told what takes long
    """

    name = "docker"

    def __init__(self, run: Run, say: Callable[[str], None], wanted: str | None = None) -> None:
        self._run = run
        self._say = say
        self._wanted = wanted

    @staticmethod
    def lacking() -> str | None:
        """Return why no container can be had here, or None if the engine answers."""
        try:
            with engine(timeout=10):
                return None
        except HarnessError as error:
            return str(error)

    def start(self) -> DockerBroker:
        record = self._run.share(self.name, lambda: self._launch(self._run, self._run.owner))
        return DockerBroker(record, self._run, shared=True)

    def start_private(self) -> DockerBroker:
        run = Run.new(owner=Owner.me())
        try:
            return DockerBroker(self._launch(run, run.owner), run, shared=False)
        except BaseException:
            run.finish()
            raise

    def describe(self) -> str:
        return f"a container of {self._wanted or images.OFFICIAL}"

    def _launch(self, run: Run, owner: Owner | None) -> dict[str, Any]:
        with engine() as client:
            sweep(client)
            image = images.provide(client, self._wanted, self._say)
            for attempt in range(1, _TRIES + 1):
                try:
                    return _start_container(client, image, run, owner)
                except _PortTaken:
                    if attempt == _TRIES:
                        raise
        raise AssertionError("unreachable")


class _PortTaken(HarnessError):
    pass


def _start_container(
    client: DockerClient, image: str, run: Run, owner: Owner | None
) -> dict[str, Any]:
    from docker.errors import APIError, NotFound
    from docker.types import Ulimit

    amqp, web = free_ports(2)
    name = f"{STEM}{run.id}-{secrets.token_hex(3)}"
    address = Address("amqp", "127.0.0.1", amqp, "harness", secrets.token_hex(12))
    management = Management(f"http://127.0.0.1:{web}", address.user, address.password)
    # First the keeper, then what it keeps: there is no moment at which a kill leaves a container.
    keeper = Keeper.start(run, owner, "container", name=name)
    try:
        label = {
            "id": run.id,
            "owner": None if owner is None else asdict(owner),
            "made": int(time.time()),
        }
        container = client.containers.create(
            image,
            name=name,
            environment={"RABBITMQ_NODENAME": "rabbit@localhost"},
            labels={LABEL: json.dumps(label)},
            # Erlang reserves memory for every file that it might open; some engines allow 10**9.
            ulimits=[Ulimit(name="nofile", soft=_FILES, hard=_FILES)],
            ports={"5672/tcp": ("127.0.0.1", amqp), "15672/tcp": ("127.0.0.1", web)},
        )
        try:
            container.put_archive("/etc/rabbitmq", _configuration(address.password))
            container.start()
        except NotFound:
            raise HarnessError(
                f"the image {image!r} has no /etc/rabbitmq, so it is no RabbitMQ image; "
                "name another, or none: then the official one is taken, or one is built"
            ) from None
        except APIError as error:
            if "port is already allocated" in str(error) or "address already in use" in str(error):
                raise _PortTaken(f"port {amqp} or {web} was taken meanwhile; run again") from None
            raise
        version = _wait_container(container, address, management)
        return {
            "url": address.url,
            "management": asdict(management),
            "container": name,
            "summary": f"{version}, image {image}, Docker engine {client.version()['Version']}",
            "keeper": str(keeper.directory),
        }
    except BaseException:
        keeper.end()
        raise


def _configuration(password: str) -> bytes:
    """Return a tar archive for /etc/rabbitmq: works with the official image and with our own."""
    files = {
        "enabled_plugins": "[rabbitmq_management].\n",
        # Last by its number: the official image's own files switch the statistics off.
        "conf.d/99-harness.conf": (
            "default_user = harness\n"
            f"default_pass = {password}\n"
            "loopback_users = none\n"
            "management_agent.disable_metrics_collector = false\n"
            "log.console.level = warning\n"
        ),
    }
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(text), 0o644, int(time.time())
            # The id of the user rabbitmq, in the official image and in ours.
            entry.uid = entry.gid = images.USER_ID
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


def _wait_container(container: Container, address: Address, management: Management) -> str:
    def words() -> str:
        lines = container.logs(tail=_LAST_WORDS).decode(errors="replace").strip().splitlines()
        return "\n  ".join(lines) or "nothing"

    image = ", ".join(container.image.tags) if container.image is not None else "?"

    def check() -> None:
        container.reload()
        if container.status in ("exited", "dead"):
            raise HarnessError(
                f"the container of {image} ended with status "
                f"{container.attrs['State']['ExitCode']} before RabbitMQ was ready; check the "
                f"image; it said last:\n  {words()}"
            )

    def serves() -> bool:
        with contextlib.suppress(HarnessError):
            return bool(management.version())
        return False

    try:
        version = wait_ready(address, timeout=_READY_SECONDS, check=check)
        if not wait_until(serves, 20):
            raise NotReady(f"no answer from the management API at {management.url}")
    except NotReady as error:
        raise HarnessError(
            f"the container of {image} did not get ready: {error}; is it a RabbitMQ image? "
            f"It said last:\n  {words()}"
        ) from None
    return version
