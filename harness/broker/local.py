"""The local provider: ``rabbitmq-server`` as a private node on free loopback ports."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.broker import installation, packages
from harness.broker.address import Address
from harness.broker.base import Fault, OwnBroker, Provider, Unavailable
from harness.broker.handshake import NotReady, wait_ready
from harness.broker.installation import Installation
from harness.broker.keeping import Keeper
from harness.broker.management import Management
from harness.broker.processes import Owner, descendants, free_ports, started, wait_until
from harness.broker.run import OWNER, STEM, Run, scratch_directory
from harness.errors import HarnessError

_READY_SECONDS = 60.0
#: A port that was free a moment ago may be taken by the time the node binds it.
_TRIES = 3


class LocalBroker(OwnBroker):
    """A private node, kept by a keeper process."""

    name = "local"
    faults = frozenset({Fault.PAUSE, Fault.KILL, Fault.STOP, Fault.MEMORY_ALARM})

    def __init__(self, record: Mapping[str, Any], run: Run, *, shared: bool) -> None:
        super().__init__(record, run, shared=shared)
        self._record = record

    def control(self, *arguments: str) -> str:
        environment: dict[str, str] = self._record["environment"]
        done = subprocess.run(
            [self._record["control"], "--node", environment["RABBITMQ_NODENAME"], *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise HarnessError(
                f"rabbitmqctl {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}"
            )
        return done.stdout

    def _break(self, fault: Fault) -> None:
        self.keeper.ask(str(fault))

    def _mend(self, fault: Fault) -> None:
        self.keeper.ask("resume" if fault is Fault.PAUSE else "start")
        wait_node(self.keeper, self.address, self._record)


class LocalProvider(Provider):
    """Starts nodes of the installed RabbitMQ, or of one fetched into the user's cache.

    :param say: told what takes long
    """

    name = "local"

    def __init__(self, run: Run, say: Callable[[str], None]) -> None:
        self._run = run
        self._say = say

    @staticmethod
    def lacking() -> str | None:
        """Return why no node can be had here, or None if one can."""
        if installation.find() is not None or installation.cached() is not None:
            return None
        if tools := packages.missing_tools():
            return f"no rabbitmq-server here, and no {', '.join(tools)} to fetch it with"
        return None

    def start(self) -> LocalBroker:
        record = self._run.share(self.name, lambda: self._launch(self._run, self._run.owner))
        return LocalBroker(record, self._run, shared=True)

    def start_private(self) -> LocalBroker:
        run = Run.new(owner=Owner.me())
        try:
            return LocalBroker(self._launch(run, run.owner), run, shared=False)
        except BaseException:
            run.finish()
            raise

    def describe(self) -> str:
        found = installation.find() or installation.cached()
        if found is None:
            return "RabbitMQ from Debian's packages, to be fetched"
        return f"RabbitMQ {found.version} from {found.home}"

    def _launch(self, run: Run, owner: Owner | None) -> dict[str, Any]:
        if reason := self.lacking():
            raise Unavailable(
                f"{reason}; install rabbitmq-server, or name a broker: "
                "--harness-broker=amqp://USER:PASSWORD@HOST:5672/"
            )
        sweep()
        found = installation.find() or installation.cached() or installation.fetch(self._say)
        for attempt in range(1, _TRIES + 1):
            try:
                return _start_node(found, run, owner)
            except _PortTaken:
                if attempt == _TRIES:
                    raise
        raise AssertionError("unreachable")


class _PortTaken(HarnessError):
    pass


def _start_node(found: Installation, run: Run, owner: Owner | None) -> dict[str, Any]:
    amqp, management, distribution, mapper = free_ports(4)
    password = secrets.token_hex(12)
    address = Address("amqp", "127.0.0.1", amqp, "harness", password)
    directory = run.directory / secrets.token_hex(3)
    directory.mkdir(mode=0o700)
    environment = _environment(found, directory, amqp, distribution, mapper)
    _configure(directory, management, password)
    installation.link_plugins(found.home / "plugins", directory / "plugins")
    keeper = Keeper(directory)
    try:
        keeper.spawn(
            owner,
            "node",
            environment=environment,
            server=[found.program("rabbitmq-server")],
            epmd=[found.epmd(), "-port", str(mapper), "-address", "127.0.0.1"],
        )
        record = {
            "url": address.url,
            "management": {
                "url": f"http://127.0.0.1:{management}",
                "user": address.user,
                "password": password,
            },
            "keeper": str(directory),
            "home": str(found.home),
            "environment": environment,
            "control": found.program("rabbitmqctl"),
        }
        keeper.ask("start")
        version = wait_node(keeper, address, record)
        record["summary"] = f"{version}, node on {address.place} from {found.home}"
    except BaseException:
        keeper.end()
        raise
    return record


def wait_node(keeper: Keeper, address: Address, record: Mapping[str, Any]) -> str:
    """Wait until a node answers the handshake and its management API; return its version."""
    management = Management(**record["management"])
    log = keeper.directory / "output.log"

    def words() -> str:
        text = log.read_text(errors="replace") if log.exists() else ""
        return "\n  ".join(text.strip().splitlines()[-12:]) or "nothing"

    def check() -> None:
        status = keeper.ask("status")["exited"]
        if status is not None:
            said = words()
            kind = _PortTaken if "eaddrinuse" in said or "already_started" in said else HarnessError
            raise kind(
                f"the RabbitMQ node ended with status {status} before it was ready; "
                f"it said last:\n  {said}"
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
            f"the RabbitMQ node did not get ready: {error}; it said last:\n  {words()}"
        ) from None
    return version


def _environment(
    found: Installation, directory: Path, amqp: int, distribution: int, mapper: int
) -> dict[str, str]:
    # Of the caller's environment only what cannot lead the node to somebody else's files.
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
    quiet = "+sbwt none +sbwtdcpu none +sbwtdio none"
    return {
        **kept,
        "LC_ALL": "C.UTF-8",
        **found.environment(),
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"harness-{amqp}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(amqp),
        "RABBITMQ_DIST_PORT": str(distribution),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_PID_FILE": str(directory / "node.pid"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "no-environment.conf"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(directory / "no-conf.d"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "no-advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_PLUGINS_DIR": str(directory / "plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "config"),
        "ERL_CRASH_DUMP": str(directory / "erl_crash.dump"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            f"-kernel inet_dist_use_interface {{127,0,0,1}} {quiet}"
        ),
        "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }


def _configure(directory: Path, management: int, password: str) -> None:
    (directory / "enabled_plugins").write_text("[rabbitmq_management].\n")
    (directory / "rabbitmq.conf").write_text(
        "default_user = harness\n"
        f"default_pass = {password}\n"
        "management.tcp.ip = 127.0.0.1\n"
        f"management.tcp.port = {management}\n"
        "log.file = false\n"
        "log.console = true\n"
        "log.console.level = warning\n"
    )
    for name in ("data", "log", "config"):
        (directory / name).mkdir()


def sweep(scratch: Path | None = None) -> None:
    """End what earlier runs left behind because even their keeper was killed.

    :param scratch: where their directories are; default: where new ones are made
    """
    scratch = scratch or scratch_directory()
    for directory in scratch.glob(f"{STEM}*/*"):
        with contextlib.suppress(OSError, ValueError):
            if directory.stat().st_uid != os.geteuid() or not directory.is_dir():
                continue
            pid = int((directory / "keeper.pid").read_text())
            if started(pid) is not None:
                continue
            for process in _with_home(directory):
                for each in [*descendants(process), process]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
            shutil.rmtree(directory, ignore_errors=True)
    for run in scratch.glob(f"{STEM}*"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            owner = Owner(**json.loads((run / OWNER).read_text()))
            if not owner.is_alive() and not any(path.is_dir() for path in run.iterdir()):
                shutil.rmtree(run)


def _with_home(directory: Path) -> list[int]:
    """Return the processes whose home is a node's directory."""
    wanted = f"HOME={directory}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found
