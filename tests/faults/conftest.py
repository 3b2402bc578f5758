"""Workers in programs of their own, a proxy that can cut the network, and the table at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

#: Under which a test keeps its rows of the table: they come with its report, from xdist too.
_ROW = "fault"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == _ROW
    ]
    if rows:
        terminalreporter.section("faults")
        for fault, action, result in rows:
            terminalreporter.write_line(f"{fault:20} {action:29} {result}")


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Callable[[str, str, str], None]:
    """Add a row to the table that is printed at the end."""
    return lambda *row: request.node.user_properties.append((_ROW, row))


class Proxy:
    """Stands between workers and a broker; what it forwards can be held back, or cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = threading.Event()
        self._open.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Forward nothing, as a network does that drops packets."""
        self._open.clear()

    def let(self) -> None:
        """Forward again."""
        self._open.set()

    def cut(self) -> None:
        """Break all connections."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        """Stop."""
        # close() alone leaves a thread in accept().
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.let()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self._open.wait()
            server = socket.create_connection(self._target, 5)
            with server:
                self._pairs.append((client, server))
                while True:
                    readable, _, _ = select.select([client, server], [], [], 1.0)
                    self._open.wait()
                    for end in readable:
                        data = end.recv(65536)
                        if not data:
                            return
                        (server if end is client else client).sendall(data)


class Crew:
    """Workers on one queue and database, each in a program of its own."""

    def __init__(self, url: str, database: Path, logs: Path) -> None:
        self._url = url
        self.database = database
        self._logs = logs
        self.workers: list[subprocess.Popen[bytes]] = []

    def hire(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([HERE, *(p for p in sys.path if p)]),
        }
        log = self._logs / f"worker-{len(self.workers)}.log"
        with log.open("wb") as file:
            worker = subprocess.Popen(
                [
                    *(sys.executable, "-m", "plumpy.cli", "worker"),
                    *("--broker", self._url, "--persister", f"sqlite:///{self.database}"),
                    *("--import", "fault_processes", "--allow", "fault_processes:*"),
                    *("--lease", "3", "--poll", "0.3", "--heartbeat", "2", *options),
                ],
                env=environment,
                cwd=self._logs,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(worker)
        return worker

    def full_disk(self, full: bool) -> None:
        """Let workers write nothing to files any more, or again."""
        for worker in self.alive():
            _, hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (1024 if full else hard, hard))

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """Return the workers that run."""
        return [worker for worker in self.workers if worker.poll() is None]

    def dismiss(self) -> None:
        """End all of them, without grace."""
        for worker in self.alive():
            worker.send_signal(signal.SIGCONT)
            worker.kill()
        for worker in self.workers:
            worker.wait()

    def logs(self) -> str:
        """Return what they wrote."""
        return "\n".join(path.read_text() for path in sorted(self._logs.glob("worker-*.log")))


@pytest.fixture
def proxy_url(vhost_url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the broker, and the URL that leads through it."""
    parts = urlsplit(vhost_url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 5672)
    user = parts.netloc.rpartition("@")[0]
    yield proxy, urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{proxy.port}"))
    proxy.close()


@pytest.fixture
def fault_broker(request: pytest.FixtureRequest) -> Any:
    """The broker to be broken: one of its own for faults of the broker, else that of the run."""
    callspec = getattr(request.node, "callspec", None)
    private = getattr(callspec.params["fault"] if callspec else request.node.obj, "private", False)
    return request.getfixturevalue("private_broker" if private else "broker")


@pytest.fixture
def vhost_url(fault_broker: Any) -> str:
    """A fresh vhost."""
    url: str = fault_broker.new_vhost("faults")
    return url


@pytest.fixture
async def crew(proxy_url: tuple[Proxy, str], tmp_path: Path) -> AsyncIterator[Crew]:
    """Workers, behind the proxy."""
    made = Crew(proxy_url[1], tmp_path / "processes.db", tmp_path)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.dismiss)
