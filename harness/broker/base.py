"""What every provider of a broker offers: one small interface."""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from harness.broker.address import Address
from harness.broker.keeping import Keeper
from harness.broker.management import Management
from harness.broker.run import Run
from harness.errors import HarnessError

_numbers = itertools.count(1)


class Unavailable(HarnessError):
    """No broker can be had here; the message says why, and how to get one."""


class Fault(str, enum.Enum):
    """What can be done to a broker.

    ``KILL`` and ``STOP`` end it (abruptly, in good order) and healing starts it again with its
    data; ``PAUSE`` freezes its processes; ``CUT`` takes it off the network; ``MEMORY_ALARM`` blocks
    every publisher.
    """

    PAUSE = "pause"
    KILL = "kill"
    STOP = "stop"
    CUT = "cut"
    MEMORY_ALARM = "memory-alarm"

    def __str__(self) -> str:
        return self.value


class Broker:
    """A running RabbitMQ. Plain data inside: it may be used in a forked child of its maker.

    :param record: what the process that started it wrote down for the others
    :param run: whose vhosts are made here, and which the broker ends with
    :param shared: whether the other processes of the run use it too
    """

    #: "docker", "local" or "url"
    name: str
    #: What :meth:`inflict` can do here.
    faults: frozenset[Fault] = frozenset()

    def __init__(self, record: Mapping[str, Any], run: Run, *, shared: bool) -> None:
        self.address = Address.parse(record["url"])
        self.management = Management(**record["management"])
        self.prefix = run.prefix
        self.keeper = Keeper.at(record["keeper"])
        self._summary: str = record["summary"]
        self._run = run
        self._shared = shared

    @property
    def url(self) -> str:
        """AMQP URL of the default vhost, with the password."""
        return self.address.url

    def describe(self) -> str:
        """Return one line for the summary: what this is and which version."""
        return self._summary

    def stop(self) -> None:
        """Remove the broker with everything it started (of a broker that is not ours: this run's
        vhosts). Again is fine. Does nothing in a worker or a forked child, if others use it too.
        """
        if not self._shared:
            self._run.finish()
        elif self._run.is_mine:
            self._run.forget(self.name)
            self.keeper.end()

    def new_vhost(self, label: str = "") -> str:
        """Make a fresh private vhost and return its AMQP URL.

        :param label: what it is for; becomes part of its name
        :raises HarnessError: if the broker does not allow it, with what would
        """
        tail = re.sub(r"[^A-Za-z0-9_.-]+", "-", label)[-60:]
        name = f"{self.prefix}{os.getpid()}-{next(_numbers)}-{tail}".rstrip("-")
        users = {self.address.user: None, self.management.user: None}
        self.management.make_vhost(name, tuple(users))
        return self.address.at(name).url

    def drop_vhost(self, url: str) -> None:
        """Drop a vhost that :meth:`new_vhost` made, with all that is in it; again is fine.

        :raises HarnessError: for a vhost that this run did not make
        """
        self.management.drop_vhost(self._own(url))

    def drop_vhosts(self) -> None:
        """Drop every vhost of this run: also those that killed children left behind."""
        for name in self.management.vhosts(self.prefix):
            self.management.drop_vhost(name)

    def close_connections(self, url: str) -> None:
        """Have the server close every connection that is open in a vhost of this run.

        A broker that is not ours knows its connections by its statistics: there, one that was
        opened within the last five seconds or so may stay open.

        :raises HarnessError: for a vhost that this run did not make
        """
        for name in self.management.connections(self._own(url)):
            self.management.close_connection(name)

    def inflict(self, fault: Fault) -> None:
        """Break the broker, for every user of it, until :meth:`heal`.

        :raises HarnessError: if this kind of broker cannot do that
        """
        raise self._cannot(fault)

    def heal(self, fault: Fault) -> None:
        """Undo a fault, and wait until the broker is ready again.

        :raises HarnessError: if it does not become ready
        """
        raise self._cannot(fault)

    @contextlib.contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """Break the broker for the length of a ``with`` block. Blocks the calling thread."""
        self.inflict(fault)
        try:
            yield
        finally:
            self.heal(fault)

    def _cannot(self, fault: Fault) -> HarnessError:
        able = ", ".join(sorted(self.faults)) or "nothing"
        return HarnessError(
            f"the {self.name} broker cannot {fault} (it can do: {able}); "
            "use --harness-broker=docker for every fault"
        )

    def _own(self, url: str) -> str:
        name = Address.parse(url).vhost
        if not name.startswith(self.prefix):
            raise HarnessError(
                f"the vhost {name!r} is not of this run's making ({self.prefix}...), "
                "so it is left alone; pass a URL that new_vhost() returned"
            )
        return name


class OwnBroker(Broker, ABC):
    """A broker that the harness has started itself, and may break."""

    @abstractmethod
    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` on it and return what it printed; takes about a second."""

    def close_connections(self, url: str) -> None:
        self.control("close_all_connections", "--vhost", self._own(url), "closed by a test")

    def inflict(self, fault: Fault) -> None:
        if fault not in self.faults:
            raise self._cannot(fault)
        if fault is Fault.MEMORY_ALARM:
            self.control("set_vm_memory_high_watermark", "0.0000001")
        else:
            self._break(fault)

    def heal(self, fault: Fault) -> None:
        if fault not in self.faults:
            raise self._cannot(fault)
        if fault is Fault.MEMORY_ALARM:
            self.control("set_vm_memory_high_watermark", "0.4")
        else:
            self._mend(fault)

    @abstractmethod
    def _break(self, fault: Fault) -> None:
        """Inflict a fault other than the memory alarm."""

    @abstractmethod
    def _mend(self, fault: Fault) -> None:
        """Undo it, and wait until the broker is ready."""


class Provider(ABC):
    """A way to get a broker. One broker per run: the workers of pytest-xdist share it."""

    #: "docker", "local", "url", or "auto" until :meth:`start` has chosen
    name: str

    @abstractmethod
    def start(self) -> Broker:
        """Return the run's broker, ready to be used; starts it the first time.

        :raises HarnessError: if it does not get ready, with its last words
        """

    @abstractmethod
    def start_private(self) -> Broker:
        """Return another broker that nobody else uses, for faults; its caller stops it."""

    @abstractmethod
    def describe(self) -> str:
        """Return one line: what this would start."""
