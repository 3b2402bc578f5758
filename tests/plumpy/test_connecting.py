"""What keeps a lost connection from coming back is said once, without the password."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from harness.broker import Broker
from harness.broker.address import Address
from plumpy._connecting import connected, without_password

TIMEOUT = 30

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.breaks_connections,
]


class Listener(logging.Handler):
    """Waits for what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: list[str] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self._texts.append(record.getMessage())
            self._changed.notify_all()

    def count(self, text: str) -> int:
        return sum(text in each for each in self._texts)

    def wait_for(self, text: str, times: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count(text) >= times, TIMEOUT), self._texts


@pytest.fixture
def heard() -> Iterator[Listener]:
    """What plumpy says."""
    yield from _listening("plumpy")


@pytest.fixture
def attempts() -> Iterator[Listener]:
    """What aio_pika says: a line for each attempt."""
    yield from _listening("aio_pika.robust_connection")


def _listening(name: str) -> Iterator[Listener]:
    logger, listener = logging.getLogger(name), Listener()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(listener)
    yield listener
    logger.removeHandler(listener)
    logger.setLevel(before)


class User:
    """A user of the broker who may use one vhost."""

    def __init__(self, broker: Broker, url: str) -> None:
        self._management = broker.management
        self._address = Address.parse(url)
        self.name = f"user of {self._address.vhost}"

    def has(self, password: str) -> None:
        """Make the user, or give it another password."""
        name, vhost = quote(self.name, safe=""), quote(self._address.vhost, safe="")
        user = {"password": password, "tags": ""}
        self._management._ask("PUT", f"/users/{name}", user)
        allowed = {"configure": ".*", "write": ".*", "read": ".*"}
        self._management._ask("PUT", f"/permissions/{vhost}/{name}", allowed)

    def url(self, password: str) -> str:
        address = self._address
        login = f"{quote(self.name)}:{quote(password)}@{address.place}"
        return f"amqp://{login}/{quote(address.vhost, safe='')}?reconnect_interval=0.1"

    def drop(self) -> None:
        name = quote(self.name, safe="")
        self._management._ask("DELETE", f"/users/{name}", missing_ok=True)


@pytest.fixture
def user(broker: Broker, amqp_url: str) -> Iterator[User]:
    made = User(broker, amqp_url)
    yield made
    made.drop()


def test_a_login_that_is_refused_later_is_said_once_and_tried_again(
    broker: Broker, amqp_url: str, user: User, heard: Listener, attempts: Listener
) -> None:
    """The worker was silent for ever, as if there were no tasks."""
    place = Address.parse(amqp_url).place
    refused = f"the broker at {place} refuses the user {user.name!r}: ACCESS_REFUSED"
    user.has("secret 1")
    with connected(user.url("secret 1")) as communicator:
        for loss in (1, 2):
            user.has("secret 2")
            broker.close_connections(amqp_url)
            heard.wait_for(refused, loss)
            attempts.wait_for("", attempts.count("") + 3)
            assert heard.count(refused) == loss
            user.has("secret 1")
            heard.wait_for("connected again", loss)
        assert communicator.task_send("a task", no_reply=True) is None
    assert heard.count("secret") == 0


def test_who_is_not_connected_any_more_says_nothing(amqp_url: str) -> None:
    log = logging.getLogger("aio_pika.robust_connection")
    before = list(log.handlers)
    with connected(amqp_url):
        assert log.handlers != before
    assert log.handlers == before


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:secret@host/x", "amqp://me@host/x"),
        ("amqp://me:sec@ret@host", "amqp://me@host"),
        ("postgresql://host/x?user=me&password=secret", "postgresql://host/x?user=me&password=..."),
        ("amqp://host", "amqp://host"),
    ],
)
def test_a_password_is_not_shown(url: Any, shown: str) -> None:
    assert without_password(url) == shown
