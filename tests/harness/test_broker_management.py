"""The management API makes and drops vhosts, and says what would allow it where it may not."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness.broker import Broker
from harness.broker.address import Address
from harness.broker.handshake import Refused, shake_hands
from harness.broker.management import Management, NoManagement
from harness.errors import HarnessError


@contextmanager
def answering(status: int, body: bytes) -> Iterator[Management]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield Management(f"http://127.0.0.1:{server.server_port}", "me", "secret")
        thread.join(10)


def test_a_refused_user_is_told_how_to_be_allowed() -> None:
    refused = pytest.raises(NoManagement, match="rabbitmqctl set_user_tags me administrator")
    with answering(401, b"{}") as management, refused as caught:
        management.version()
    assert "secret" not in str(caught.value)


def test_something_else_on_the_port_is_told_apart() -> None:
    with answering(200, b"<html>") as management, pytest.raises(NoManagement, match="not JSON"):
        management.version()


def test_nobody_on_the_port_names_the_plugin_to_enable() -> None:
    management = Management("http://127.0.0.1:1", "me", "secret")
    with pytest.raises(NoManagement, match="rabbitmq-plugins enable rabbitmq_management"):
        management.version()


@pytest.mark.parametrize("url", ["amqp://host", "host:15672", "http://host:port"])
def test_what_is_no_url_of_an_api_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(HarnessError, match=r"http://127\.0\.0\.1:15672"):
        Management.parse(url, user="me", password="secret")


def test_a_login_in_the_url_wins() -> None:
    found = Management.parse("http://you:pass@[::1]:99/prefix/", user="me", password="secret")
    assert found == Management("http://[::1]:99/prefix", "you", "pass")


def test_a_vhost_can_be_entered_from_when_it_is_made_until_it_is_dropped(broker: Broker) -> None:
    name = f"{broker.prefix}{secrets.token_hex(4)}/with a slash"
    inside = broker.address.at(name)
    broker.management.make_vhost(name, (broker.address.user,))
    assert broker.management.vhosts(name) == [name]
    assert shake_hands(inside).startswith("RabbitMQ ")
    broker.management.drop_vhost(name)
    broker.management.drop_vhost(name)
    assert broker.management.vhosts(name) == []
    with pytest.raises(Refused, match="set_permissions"):
        shake_hands(Address.parse(inside.url))
