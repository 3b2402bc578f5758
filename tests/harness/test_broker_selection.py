"""The setting decides; ``auto`` takes the first that works, and tells how to get one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.broker import Provider, Unavailable, choose, why_not
from harness.broker.docker import DockerProvider
from harness.broker.local import LocalProvider
from harness.broker.processes import Owner
from harness.broker.run import Run
from harness.errors import HarnessError


@pytest.fixture
def run() -> Iterator[Run]:
    made = Run.new(owner=Owner.me())
    yield made
    made.finish()


def have(monkeypatch: pytest.MonkeyPatch, **lacking: str | None) -> None:
    monkeypatch.setattr(DockerProvider, "lacking", staticmethod(lambda: lacking["docker"]))
    monkeypatch.setattr(LocalProvider, "lacking", staticmethod(lambda: lacking["local"]))


class Stub:
    def __init__(self, name: str) -> None:
        self.name = name


def test_none_is_none_and_says_so(run: Run) -> None:
    assert choose("none", run=run) is None
    assert "--harness-broker=auto" in why_not()


@pytest.mark.parametrize("setting", ["podman", "", "Docker", "http://host/"])
def test_an_unknown_setting_names_the_known_ones(setting: str, run: Run) -> None:
    with pytest.raises(HarnessError, match="amqp://"):
        choose(setting, run=run)


@pytest.mark.parametrize("setting", ["docker", "local"])
def test_a_provider_asked_for_by_name_must_be_there(
    setting: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, docker="it is not there", local="it is not there")
    with pytest.raises(Unavailable, match=f"--harness-broker={setting}: it is not there"):
        choose(setting, run=run)


def test_auto_with_nothing_tells_every_reason_and_how_to_get_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, docker="no engine; start it", local="no server; install it")
    assert choose("auto", run=run) is None
    assert "docker: no engine; local: no server" in why_not()
    assert "apt-get install docker.io" in why_not()


def test_auto_prefers_docker(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, docker=None, local="no")
    provider = choose("auto", run=run)
    assert isinstance(provider, DockerProvider)
    have(monkeypatch, docker="no", local=None)
    assert isinstance(choose("auto", run=run), LocalProvider)


def test_auto_falls_back_where_docker_would_not_start_and_asks_it_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, docker=None, local=None)
    tried = []

    def fail(self: Provider) -> Any:
        tried.append(self.name)
        raise HarnessError("no image")

    monkeypatch.setattr(DockerProvider, "start", fail)
    monkeypatch.setattr(LocalProvider, "start", lambda self: Stub("local"))
    said: list[str] = []
    for _ in range(2):  # the second one stands for another worker of the same run
        provider = choose("auto", run=run, say=said.append)
        assert provider is not None
        assert provider.start().name == "local"
    assert tried == ["docker"]
    assert said == ["no docker broker (no image)"]


def test_auto_where_nothing_would_start_tells_every_reason(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, docker=None, local=None)

    def fail(self: Provider) -> Any:
        raise HarnessError(f"{self.name} is out of order")

    monkeypatch.setattr(DockerProvider, "start", fail)
    monkeypatch.setattr(LocalProvider, "start", fail)
    provider = choose("auto", run=run, say=lambda line: None)
    assert provider is not None
    with pytest.raises(Unavailable, match=r"docker is out of order.*local is out of order"):
        provider.start()
