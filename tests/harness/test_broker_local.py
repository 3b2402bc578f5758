"""A private node: on loopback only, ready when it says so, gone with all it started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.broker import Fault, local
from harness.broker.address import Address
from harness.broker.base import Broker
from harness.broker.handshake import NotReady, shake_hands
from harness.broker.installation import Installation
from harness.broker.local import LocalBroker, LocalProvider
from harness.broker.processes import Owner, descendants, started, wait_until
from harness.broker.run import Run
from harness.errors import HarnessError

lacking = LocalProvider.lacking()
pytestmark = pytest.mark.skipif(lacking is not None, reason=str(lacking))


@pytest.fixture(scope="module")
def node() -> Iterator[LocalBroker]:
    """One node for the tests that leave it as they found it."""
    run = Run.new(owner=Owner.me())
    yield LocalProvider(run, print).start()
    run.finish()


def processes_of(broker: Broker) -> list[int]:
    return descendants(int((broker.keeper.directory / "keeper.pid").read_text()))


def test_it_is_ready_and_says_what_it_is(node: LocalBroker) -> None:
    version = shake_hands(node.address)
    assert node.describe().startswith(f"{version}, node on {node.address.place} from ")


def test_it_listens_on_loopback_only(node: LocalBroker) -> None:
    inodes = set()
    for pid in processes_of(node):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(entry)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.append(fields[1].partition(":")[0])
    assert len(found) >= 4  # AMQP, management, distribution, epmd
    assert set(found) <= {"0100007F", "0" * 24 + "01000000"}


def test_every_vhost_is_new_and_private(node: LocalBroker) -> None:
    one, other = node.new_vhost("a test[x/1]"), node.new_vhost("a test[x/1]")
    assert one != other
    assert shake_hands(Address.parse(one))
    node.drop_vhost(one)
    node.drop_vhost(one)
    assert node.management.vhosts(node.prefix) == [Address.parse(other).vhost]
    node.drop_vhosts()
    assert node.management.vhosts(node.prefix) == []


def test_a_vhost_of_somebody_else_is_left_alone(node: LocalBroker) -> None:
    with pytest.raises(HarnessError, match="not of this run's making"):
        node.drop_vhost(node.url)
    with pytest.raises(HarnessError, match="not of this run's making"):
        node.close_connections(node.url)
    assert node.management.vhosts("/") == ["/"]


def test_starting_again_gives_the_same_node(node: LocalBroker) -> None:
    again = LocalProvider(node._run, print).start()
    assert again.url == node.url


def test_a_paused_node_does_not_answer_until_it_is_healed(node: LocalBroker) -> None:
    with node.fault(Fault.PAUSE), pytest.raises(NotReady, match="timed out"):
        shake_hands(node.address, timeout=0.5)
    assert shake_hands(node.address)


def test_a_memory_alarm_is_raised_and_cleared(node: LocalBroker) -> None:
    with node.fault(Fault.MEMORY_ALARM):
        assert "memory" in node.control("eval", "rabbit_alarm:get_alarms().")
    assert node.control("eval", "rabbit_alarm:get_alarms().").strip() == "[]"


def test_a_fault_that_it_cannot_do_names_what_can(node: LocalBroker) -> None:
    with pytest.raises(HarnessError, match=r"cannot cut .*--harness-broker=docker"):
        node.inflict(Fault.CUT)
    with pytest.raises(HarnessError, match="cannot cut"):
        node.heal(Fault.CUT)


def test_two_nodes_live_side_by_side_and_a_killed_one_comes_back(node: LocalBroker) -> None:
    other = LocalProvider(node._run, print).start_private()
    try:
        assert other.address.port != node.address.port
        url = other.new_vhost("kept")
        with other.fault(Fault.KILL):
            with pytest.raises(NotReady, match="refused"):
                shake_hands(other.address)
            assert shake_hands(node.address)
        assert shake_hands(Address.parse(url))
        kept = processes_of(other)
        directory = other.keeper.directory.parent
    finally:
        other.stop()
    assert [pid for pid in kept if started(pid) is not None] == []
    assert not directory.exists()
    assert shake_hands(node.address)


def test_a_forked_child_that_stops_it_does_not_stop_it(node: LocalBroker) -> None:
    child = os.fork()
    if child == 0:
        node.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert shake_hands(node.address)


START = """
import json, sys, time
from harness.broker.local import LocalProvider
from harness.broker.run import begin_run
broker = LocalProvider(begin_run(), lambda line: None).start()
print(json.dumps([broker.url, str(broker.keeper.directory)]), flush=True)
time.sleep(600)
"""


def test_a_killed_run_leaves_no_process_and_no_directory() -> None:
    command = [sys.executable, "-c", START]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as run:
        assert run.stdout is not None
        url, place = json.loads(run.stdout.readline())
        directory = Path(place)
        keeper = int((directory / "keeper.pid").read_text())
        kept = [keeper, *descendants(keeper)]
        assert shake_hands(Address.parse(url))
        run.kill()
    assert wait_until(lambda: all(started(pid) is None for pid in kept), 30)
    assert wait_until(lambda: not directory.parent.exists(), 30)


def broken(home: Path, script: str) -> Installation:
    (home / "sbin").mkdir(parents=True)
    (home / "plugins").mkdir()
    for path in (home / "sbin" / "rabbitmq-server", home / "epmd"):
        path.write_text(script if path.name == "rabbitmq-server" else "#!/bin/sh\nexec sleep 600\n")
        path.chmod(0o755)
    return Installation(home, erlang=home)


def test_a_node_that_ends_at_once_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = broken(tmp_path, "#!/bin/sh\necho the disk is full\nexit 3\n")
    monkeypatch.setattr(local.installation, "find", lambda: found)
    with pytest.raises(HarnessError, match=r"status 3 before it was ready[^$]*the disk is full"):
        LocalProvider(Run.new(owner=Owner.me()), print).start_private()


def test_a_node_that_never_gets_ready_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = broken(tmp_path, "#!/bin/sh\necho still booting\nexec sleep 600\n")
    monkeypatch.setattr(local.installation, "find", lambda: found)
    monkeypatch.setattr(local, "_READY_SECONDS", 1.0)
    with pytest.raises(HarnessError, match=r"did not get ready: [^$]*still booting"):
        LocalProvider(Run.new(owner=Owner.me()), print).start_private()
