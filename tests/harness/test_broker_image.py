"""An image is built from Debian's packages alone; an official one is preferred to it."""

from __future__ import annotations

import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.broker import image, packages
from harness.broker.docker import DockerProvider, engine
from harness.broker.handshake import shake_hands
from harness.broker.processes import Owner
from harness.broker.run import Run
from harness.errors import HarnessError

lacking = DockerProvider.lacking()


class Engine:
    """An engine with some images and a registry that answers or does not."""

    def __init__(self, *, has: dict[str, str], registry: bool) -> None:
        self.has = has
        self.registry = registry
        self.images = SimpleNamespace(get=self.get, list=self.list)
        self.api = SimpleNamespace(pull=self.pull)

    def get(self, name: str) -> None:
        from docker.errors import ImageNotFound

        if name not in self.has:
            raise ImageNotFound(name)

    def list(self, name: str) -> list[Any]:
        return [
            SimpleNamespace(tags=[tag], attrs={"Created": made})
            for tag, made in self.has.items()
            if tag.startswith(f"{name}:")
        ]

    def pull(self, name: str, **_: object) -> list[dict[str, str]]:
        return [{"status": "done"} if self.registry else {"error": "no such host"}]


def provided(engine: Engine, wanted: str | None = None) -> str:
    client: Any = engine
    return image.provide(client, wanted, lambda line: None)


def test_the_official_image_is_preferred() -> None:
    here = {image.OFFICIAL: "2020", f"{image.BUILT}:1": "2021"}
    assert provided(Engine(has=here, registry=False)) == image.OFFICIAL


def test_the_newest_of_those_built_here_comes_before_a_pull() -> None:
    here = {f"{image.BUILT}:2": "2022", f"{image.BUILT}:1": "2021"}
    assert provided(Engine(has=here, registry=True)) == f"{image.BUILT}:2"


def test_without_any_the_official_one_is_pulled() -> None:
    assert provided(Engine(has={}, registry=True)) == image.OFFICIAL


def test_without_a_registry_one_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "build", lambda client, say: "built")
    monkeypatch.setattr(packages, "missing_tools", list)
    assert provided(Engine(has={}, registry=False)) == "built"


def test_without_registry_and_apt_it_is_told_what_was_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packages, "missing_tools", lambda: ["apt-get"])
    with pytest.raises(HarnessError, match=r"no such host.*without apt.*--harness-broker=local"):
        provided(Engine(has={}, registry=False))


def test_an_image_asked_for_by_name_is_not_replaced() -> None:
    here = {image.OFFICIAL: "2020"}
    assert provided(Engine(has={"mine": ""}, registry=False), "mine") == "mine"
    with pytest.raises(HarnessError, match="'mine' is not on this machine"):
        provided(Engine(has=here, registry=False), "mine")


def test_the_archive_gives_rabbitmq_its_own_directories_and_root_the_rest(tmp_path: Path) -> None:
    image._skeleton(tmp_path / "root")
    (tmp_path / "root" / "etc" / "rabbitmq" / "x.conf").write_text("")
    image._pack(tmp_path / "root", tmp_path / "root.tar")
    with tarfile.open(tmp_path / "root.tar") as archive:
        owners = {entry.name: entry.uid for entry in archive}
    ours = {name for name, uid in owners.items() if uid == image.USER_ID}
    assert ours == {*image._OF_RABBITMQ, "etc/rabbitmq/x.conf"}
    assert owners["usr/bin"] == 0


@pytest.mark.skipif(lacking is not None, reason=str(lacking))
@pytest.mark.skipif(bool(packages.missing_tools()), reason="needs apt and dpkg")
def test_an_image_of_debian_packages_serves_amqp() -> None:
    with engine() as client:
        name = image.build(client, print)
        assert client.images.get(name).attrs["Size"] < 150e6
    run = Run.new(owner=Owner.me())
    broker = DockerProvider(run, print, name).start_private()
    try:
        assert name.removeprefix(f"{image.BUILT}:") in shake_hands(broker.address)
    finally:
        broker.stop()
