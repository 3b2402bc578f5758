"""Ready means: the broker answers an AMQP 0-9-1 handshake up to ``Connection.OpenOk``.

An open port is not enough: Docker's proxy accepts connections before the broker listens, and
RabbitMQ listens before it can open a vhost.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pamqp import base, commands, constants, frame, header
from pamqp.exceptions import UnmarshalingException

from harness.broker.address import Address
from harness.errors import HarnessError

M = TypeVar("M", bound=base.Frame)
_ACCESS_REFUSED = 403
_NOT_ALLOWED = 530


class NotReady(Exception):
    """Nobody answered the handshake, this time."""


class Refused(HarnessError):
    """The broker answered, and said no: to the login or to the vhost."""


def shake_hands(address: Address, *, timeout: float = 5.0) -> str:
    """Open a connection to the vhost and close it again.

    :param timeout: seconds for each answer
    :return: the server's product and version, for example ``"RabbitMQ 3.10.8"``
    :raises NotReady: if there is no AMQP broker, or not yet
    :raises Refused: if it refuses the login or the vhost
    """
    try:
        with contextlib.ExitStack() as stack:
            wire = stack.enter_context(
                socket.create_connection((address.host, address.port), timeout)
            )
            if address.scheme == "amqps":
                context = ssl.create_default_context()
                wire = stack.enter_context(context.wrap_socket(wire, server_hostname=address.host))
            return _open(_Wire(wire), address)
    except UnmarshalingException as error:
        raise NotReady(f"{address.place} does not speak AMQP 0-9-1 ({error})") from None
    except OSError as error:
        raise NotReady(f"{address.place}: {error.strerror or error}") from None


def wait_ready(
    address: Address, *, timeout: float, check: Callable[[], None] = lambda: None
) -> str:
    """Shake hands until it works.

    :param timeout: seconds altogether
    :param check: called between two attempts; raises to give up early
    :return: as :func:`shake_hands`
    :raises NotReady: with the last reason, when the time is up
    :raises Refused: if the broker refuses the login for good
    """
    end = time.monotonic() + timeout
    while True:
        check()
        try:
            return shake_hands(address, timeout=min(5.0, max(0.5, end - time.monotonic())))
        except (NotReady, Refused) as error:
            # While it boots, a broker refuses users and vhosts that it is about to create.
            if time.monotonic() > end:
                if isinstance(error, Refused):
                    raise
                raise NotReady(f"no AMQP handshake within {timeout:g} s ({error})") from None
        time.sleep(0.1)


class _Wire:
    """Methods of channel 0, sent and received."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def send(self, what: base.Frame | header.ProtocolHeader) -> None:
        self._wire.sendall(frame.marshal(what, 0))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._wire.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def receive(self, *kinds: type[M]) -> M:
        while True:
            head = self._read(7)
            size = int.from_bytes(head[3:], "big")
            if head[0] not in (constants.FRAME_METHOD, constants.FRAME_HEARTBEAT) or size > 2**20:
                raise NotReady(f"what listens there does not speak AMQP 0-9-1 (it said {head!r})")
            _, _, found = frame.unmarshal(head + self._read(size + 1))
            if isinstance(found, kinds):
                return found


def _open(wire: _Wire, address: Address) -> str:
    try:
        wire.send(header.ProtocolHeader())
        start = wire.receive(commands.Connection.Start)
    except EOFError:
        raise NotReady(f"{address.place} closed the connection before the handshake") from None
    properties: dict[str, Any] = start.server_properties or {}
    wire.send(
        commands.Connection.StartOk(
            client_properties={
                "product": "loop-harness",
                "capabilities": {"authentication_failure_close": True},
            },
            mechanism="PLAIN",
            response=f"\0{address.user}\0{address.password}",
            locale="en_US",
        )
    )
    try:
        tune = wire.receive(commands.Connection.Tune, commands.Connection.Close)
        if not isinstance(tune, commands.Connection.Tune):
            raise _refused(tune, address)
        wire.send(commands.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        wire.send(commands.Connection.Open(virtual_host=address.vhost))
        answer = wire.receive(commands.Connection.OpenOk, commands.Connection.Close)
        if not isinstance(answer, commands.Connection.OpenOk):
            raise _refused(answer, address)
        wire.send(commands.Connection.Close(200, "ready", 0, 0))
        wire.receive(commands.Connection.CloseOk)
    except EOFError:
        raise NotReady(f"{address.place} closed the connection during the handshake") from None
    return f"{properties.get('product', 'AMQP broker')} {properties.get('version', '')}".strip()


def _refused(close: base.Frame, address: Address) -> Exception:
    assert isinstance(close, commands.Connection.Close)
    text = close.reply_text
    if close.reply_code == _ACCESS_REFUSED:
        return Refused(
            f"the broker at {address.place} refuses the user {address.user!r} ({text}); "
            "check user and password in the URL (guest works only from the broker's own machine)"
        )
    if close.reply_code == _NOT_ALLOWED:
        return Refused(
            f"the broker at {address.place} does not let {address.user!r} into the vhost "
            f"{address.vhost!r} ({text}); name another vhost in the URL, or allow it with: "
            f"rabbitmqctl set_permissions -p {address.vhost} {address.user} '.*' '.*' '.*'"
        )
    return NotReady(f"{address.place}: {close.reply_code} {text}")
