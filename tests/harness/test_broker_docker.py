"""A container of one's own: on loopback, broken and healed at will, removed whatever happens."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.broker import Fault, Unavailable, docker, image
from harness.broker.address import Address
from harness.broker.docker import LABEL, DockerBroker, DockerProvider, engine
from harness.broker.handshake import NotReady, shake_hands
from harness.broker.processes import Owner, started, wait_until
from harness.broker.run import Run
from harness.errors import HarnessError

lacking = DockerProvider.lacking()
needs_engine = pytest.mark.skipif(lacking is not None, reason=str(lacking))


@pytest.fixture(scope="module")
def container() -> Iterator[DockerBroker]:
    """One container for the tests that leave it as they found it."""
    run = Run.new(owner=Owner.me())
    yield DockerProvider(run, print).start()
    run.finish()


def exists(name: str) -> bool:
    with engine() as client:
        return bool(client.containers.list(all=True, filters={"name": name}))


@needs_engine
def test_it_is_ready_and_says_what_it_is(container: DockerBroker) -> None:
    version = shake_hands(container.address)
    assert container.describe().startswith(f"{version}, image ")
    assert "Docker engine" in container.describe()


@needs_engine
def test_it_is_published_on_loopback_only(container: DockerBroker) -> None:
    with engine() as client:
        ports = client.containers.get(container.container).ports
    hosts = {binding["HostIp"] for bindings in ports.values() for binding in bindings or ()}
    assert hosts == {"127.0.0.1"}


@needs_engine
def test_every_vhost_is_new_and_private(container: DockerBroker) -> None:
    url = container.new_vhost("a test")
    assert shake_hands(Address.parse(url))
    container.drop_vhost(url)
    assert container.management.vhosts(container.prefix) == []


@needs_engine
@pytest.mark.parametrize(
    ("fault", "seen"),
    [(Fault.PAUSE, "timed out"), (Fault.KILL, "refused"), (Fault.CUT, "refused|timed out")],
)
def test_a_fault_is_felt_and_healed(container: DockerBroker, fault: Fault, seen: str) -> None:
    url = container.new_vhost("kept")
    with container.fault(fault), pytest.raises(NotReady, match=seen):
        shake_hands(container.address, timeout=0.5)
    assert shake_hands(Address.parse(url))


@needs_engine
def test_a_memory_alarm_is_raised_and_cleared(container: DockerBroker) -> None:
    with container.fault(Fault.MEMORY_ALARM):
        assert "memory" in container.control("eval", "rabbit_alarm:get_alarms().")
    assert "memory" not in container.control("eval", "rabbit_alarm:get_alarms().")


START = """
import json, time
from harness.broker.docker import DockerProvider
from harness.broker.run import begin_run
broker = DockerProvider(begin_run(), lambda line: None).start()
print(json.dumps([broker.container, str(broker.keeper.directory)]), flush=True)
time.sleep(600)
"""


@needs_engine
def test_a_killed_run_leaves_no_container_and_no_process() -> None:
    command = [sys.executable, "-c", START]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as run:
        assert run.stdout is not None
        name, directory = json.loads(run.stdout.readline())
        keeper = int((Path(directory) / "keeper.pid").read_text())
        assert exists(name)
        run.kill()
    assert wait_until(lambda: not exists(name), 30)
    assert wait_until(lambda: started(keeper) is None, 30)


@needs_engine
def test_only_the_containers_of_ended_runs_are_swept() -> None:
    ended = replace(Owner.me(), started="1")
    owners = {
        "mine": Owner.me(),
        "ended": ended,
        "elsewhere": replace(ended, space="another/machine"),
        "by-hand": None,
    }
    with engine() as client:
        name = image.provide(client, None, print)
        made = {
            kind: client.containers.create(
                name,
                labels={LABEL: json.dumps({"owner": None if owner is None else asdict(owner)})},
            )
            for kind, owner in owners.items()
        }
        try:
            docker.sweep(client)
            left = {each.id for each in client.containers.list(all=True)}
            assert {kind for kind, each in made.items() if each.id in left} == {
                "mine",
                "elsewhere",
                "by-hand",
            }
        finally:
            for each in made.values():
                docker.remove_container(each.name or "")


@pytest.fixture
def other_image(request: pytest.FixtureRequest) -> Iterator[str]:
    """An image like ours with another command."""
    tag = "loop-harness/test:broken"
    with engine() as client:
        base = image.provide(client, None, print)
        recipe = f"FROM {base}\nENTRYPOINT []\nCMD {json.dumps(request.param)}\n"
        client.images.build(fileobj=io.BytesIO(recipe.encode()), tag=tag, rm=True)
    yield tag
    with engine() as client:
        client.images.remove(tag, force=True)


@needs_engine
@pytest.mark.parametrize("other_image", [["sh", "-c", "echo no disk; exit 3"]], indirect=True)
def test_a_container_that_ends_at_once_is_told_with_its_last_words(other_image: str) -> None:
    provider = DockerProvider(Run.new(owner=Owner.me()), print, other_image)
    with pytest.raises(HarnessError, match=r"broken ended with status 3 [^$]*no disk"):
        provider.start_private()


@needs_engine
@pytest.mark.parametrize(
    "other_image", [["sh", "-c", "echo still booting; exec sleep 600"]], indirect=True
)
def test_an_image_that_never_gets_ready_is_given_up(
    other_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "_READY_SECONDS", 1.0)
    run = Run.new(owner=Owner.me())
    with pytest.raises(HarnessError, match=r"did not get ready: [^$]*still booting"):
        DockerProvider(run, print, other_image).start()
    assert not exists(run.id)
    run.finish()


@needs_engine
def test_an_image_that_is_not_to_be_had_names_the_next_step() -> None:
    provider = DockerProvider(Run.new(owner=Owner.me()), print, "loop-harness/none:such")
    with pytest.raises(
        HarnessError, match=r"'loop-harness/none:such' .*harness broker build-image"
    ):
        provider.start_private()


@pytest.mark.parametrize(
    "host", ["unix:///nonexistent/docker.sock", "tcp://127.0.0.1:1", "ssh://far/away", "nonsense"]
)
def test_a_dead_engine_is_told_in_one_line(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(Unavailable, match=r"start it|unset DOCKER_HOST") as caught, engine():
        pass
    assert "\n" not in str(caught.value)
    assert host in str(caught.value)
