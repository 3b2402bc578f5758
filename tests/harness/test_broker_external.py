"""On a broker that is not ours nothing is touched but vhosts of our own making."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.broker import Broker, Fault
from harness.broker.address import Address
from harness.broker.base import OwnBroker
from harness.broker.external import MANAGEMENT_VARIABLE, UrlBroker, UrlProvider
from harness.broker.handshake import shake_hands
from harness.broker.management import NoManagement
from harness.broker.processes import Owner, wait_until
from harness.broker.run import Run
from harness.errors import HarnessError


@pytest.fixture
def theirs(broker: Broker) -> str:
    """URL of a running broker, as a person would give it."""
    return f"{broker.url}?management={broker.management.url}"


@pytest.fixture
def ours(theirs: str) -> Iterator[UrlBroker]:
    run = Run.new(owner=Owner.me())
    yield UrlProvider(theirs, run).start()
    run.finish()


def test_every_vhost_is_dropped_at_the_end_and_no_other(broker: Broker, theirs: str) -> None:
    before = broker.management.vhosts("")
    run = Run.new(owner=Owner.me())
    external = UrlProvider(theirs, run).start()
    for label in ("left by a killed child", "dropped"):
        url = external.new_vhost(label)
        assert "management" not in url
        assert shake_hands(Address.parse(url))
    external.drop_vhost(url)
    external.stop()
    assert broker.management.vhosts("") == before
    run.finish()


def test_it_is_neither_broken_nor_stopped(ours: UrlBroker, theirs: str) -> None:
    with pytest.raises(HarnessError, match="the url broker cannot kill"):
        ours.inflict(Fault.KILL)
    with pytest.raises(HarnessError, match="not the harness's own"):
        UrlProvider(theirs, Run.new(owner=Owner.me())).start_private()
    ours.stop()
    assert shake_hands(ours.address)
    assert "not ours" in ours.describe()


def test_a_vhost_of_somebody_else_is_left_alone(ours: UrlBroker, amqp_url: str) -> None:
    with pytest.raises(HarnessError, match="not of this run's making"):
        ours.drop_vhost(amqp_url)
    assert shake_hands(Address.parse(amqp_url))


START = """
import json, sys, time
from harness.broker.external import UrlProvider
from harness.broker.run import begin_run
broker = UrlProvider(sys.argv[1], begin_run()).start()
print(json.dumps([broker.prefix, broker.new_vhost("killed")]), flush=True)
time.sleep(600)
"""


def test_a_killed_run_leaves_no_vhost(broker: Broker, theirs: str) -> None:
    command = [sys.executable, "-c", START, theirs]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as run:
        assert run.stdout is not None
        prefix, _ = json.loads(run.stdout.readline())
        assert len(broker.management.vhosts(prefix)) == 1
        run.kill()
    assert wait_until(lambda: not broker.management.vhosts(prefix), 30)


def test_an_unreachable_url_names_the_next_step_and_no_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HarnessError, match=r"refused\); start it.*harness broker up") as caught:
        UrlProvider(f"amqp://me:secret@127.0.0.1:{port}/", Run.new(owner=None))
    assert "secret" not in str(caught.value)


def test_wrong_credentials_name_the_user(broker: Broker) -> None:
    wrong = replace(broker.address, password="wrong")
    with pytest.raises(HarnessError, match=r"refuses the user 'harness' \(ACCESS_REFUSED"):
        UrlProvider(wrong.url, Run.new(owner=None))


def test_without_a_management_api_it_says_how_to_have_one(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MANAGEMENT_VARIABLE, "http://127.0.0.1:1")
    run = Run.new(owner=Owner.me())
    with pytest.raises(NoManagement, match="rabbitmq-plugins enable rabbitmq_management"):
        UrlProvider(broker.url, run).start()
    run.finish()


def test_a_user_who_may_not_make_vhosts_is_told_how_to_be_allowed(broker: Broker) -> None:
    if not isinstance(broker, OwnBroker):
        pytest.skip("needs a broker on which users can be made")
    name = f"user-{secrets.token_hex(4)}"
    broker.control("add_user", name, "secret")
    broker.control("set_permissions", name, ".*", ".*", ".*")
    try:
        address = replace(broker.address, user=name, password="secret")
        url = f"{address.url}?management={broker.management.url}"
        run = Run.new(owner=Owner.me())
        with pytest.raises(NoManagement, match=f"set_user_tags {name} administrator"):
            UrlProvider(url, run).start()
        # Tagged so that it may look, but not make vhosts: told as soon as one is needed.
        broker.control("set_user_tags", name, "monitoring")
        with pytest.raises(NoManagement, match=f"set_user_tags {name} administrator"):
            UrlProvider(url, run).start().new_vhost("x")
        run.finish()
    finally:
        broker.control("delete_user", name)
