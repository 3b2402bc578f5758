"""AMQP URLs are read, changed and printed without their password."""

from __future__ import annotations

import pytest

from harness.broker.address import Address, hide_password
from harness.errors import HarnessError


def test_what_a_url_leaves_out_has_the_defaults_of_rabbitmq() -> None:
    assert Address.parse("amqp://host") == Address("amqp", "host", 5672, "guest", "guest", "/")
    assert Address.parse("amqps://host").port == 5671


def test_escapes_are_undone_and_made_again() -> None:
    address = Address.parse("amqp://a%40b:p%2Fw@[::1]:99/a%2Fb?heartbeat=2")
    assert (address.user, address.password, address.vhost) == ("a@b", "p/w", "a/b")
    assert address.place == "[::1]:99"
    assert address.url == "amqp://a%40b:p%2Fw@[::1]:99/a%2Fb?heartbeat=2"


def test_another_vhost_keeps_everything_else() -> None:
    address = Address.parse("amqp://u:p@host:1/one?heartbeat=2")
    assert address.at("x y").url == "amqp://u:p@host:1/x%20y?heartbeat=2"


@pytest.mark.parametrize("url", ["http://host", "amqp://", "amqp://host:notaport/", "host:5672"])
def test_what_is_no_amqp_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(HarnessError, match=r"amqp://guest:guest@127\.0\.0\.1:5672/"):
        Address.parse(url)


def test_no_message_shows_a_password() -> None:
    assert "secret" not in str(Address.parse("amqp://u:secret@host/"))
    assert hide_password("http://u:se@cret@host/x") == "http://u:***@host/x"
    with pytest.raises(HarnessError) as caught:
        Address.parse("mqtt://u:secret@host/")
    assert "secret" not in str(caught.value)
