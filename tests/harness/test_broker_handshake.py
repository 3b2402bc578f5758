"""Ready means an answered handshake; whatever else listens is not ready, and says why."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pamqp import base, commands, frame

from harness.broker.address import Address
from harness.broker.handshake import NotReady, Refused, shake_hands, wait_ready
from harness.errors import HarnessError


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[Address]:
    """Listen on a loopback port, and treat the first caller with ``serve``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            wire, _ = listener.accept()
            with wire:
                serve(wire)

        thread = threading.Thread(target=accept)
        thread.start()
        yield Address("amqp", "127.0.0.1", listener.getsockname()[1], "me", "secret", "mine")
        thread.join(10)


def method(what: base.Frame) -> bytes:
    return frame.marshal(what, 0)


def until_closed(wire: socket.socket) -> None:
    while wire.recv(4096):
        pass


def test_a_port_that_accepts_and_stays_silent_is_not_ready() -> None:
    with listening(until_closed) as address, pytest.raises(NotReady, match="timed out"):
        shake_hands(address, timeout=0.2)


def test_a_port_that_accepts_and_closes_is_not_ready() -> None:
    with listening(lambda wire: None) as address, pytest.raises(NotReady):
        shake_hands(address)


def test_a_web_server_is_not_ready() -> None:
    def serve(wire: socket.socket) -> None:
        wire.recv(8)
        wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(serve) as address, pytest.raises(NotReady, match="does not speak AMQP 0-9-1"):
        shake_hands(address)


def test_a_frame_of_garbage_is_not_ready() -> None:
    def serve(wire: socket.socket) -> None:
        wire.recv(8)
        wire.sendall(b"\x01\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff\xce")
        until_closed(wire)

    with listening(serve) as address, pytest.raises(NotReady, match="does not speak AMQP 0-9-1"):
        shake_hands(address)


def test_nobody_listening_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotReady, match="refused"):
        shake_hands(Address("amqp", "127.0.0.1", port, "me", "secret"))


@pytest.mark.parametrize(
    ("code", "text"), [(403, "check user and password"), (530, "set_permissions -p mine me")]
)
def test_a_refusal_names_the_next_step_and_not_the_password(code: int, text: str) -> None:
    def serve(wire: socket.socket) -> None:
        wire.recv(8)
        wire.sendall(method(commands.Connection.Start(server_properties={})))
        wire.recv(4096)
        wire.sendall(method(commands.Connection.Close(code, "no", 10, 40)))
        until_closed(wire)

    with listening(serve) as address, pytest.raises(Refused, match=text) as caught:
        shake_hands(address)
    assert "secret" not in str(caught.value)


def test_an_answered_handshake_tells_product_and_version() -> None:
    opened: list[bytes] = []

    def serve(wire: socket.socket) -> None:
        wire.recv(8)
        properties = {"product": "RabbitMQ", "version": "9.8.7"}
        wire.sendall(method(commands.Connection.Start(server_properties=properties)))
        wire.recv(4096)
        wire.sendall(method(commands.Connection.Tune(10, 131072, 0)))
        while not opened or b"mine" not in b"".join(opened):
            opened.append(wire.recv(4096))
        wire.sendall(method(commands.Connection.OpenOk()))
        wire.recv(4096)
        wire.sendall(method(commands.Connection.CloseOk()))

    with listening(serve) as address:
        assert shake_hands(address) == "RabbitMQ 9.8.7"


def test_waiting_ends_with_the_last_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotReady, match=r"within 0\.3 s .*refused"):
        wait_ready(Address("amqp", "127.0.0.1", port, "me", "secret"), timeout=0.3)


def test_waiting_ends_as_soon_as_the_check_gives_up() -> None:
    def check() -> None:
        raise HarnessError("it died")

    with pytest.raises(HarnessError, match="it died"):
        wait_ready(Address("amqp", "127.0.0.1", 1, "me", "secret"), timeout=60, check=check)
