"""RabbitMQ's programs are found, or fetched once for all runs; a node gets only what it needs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from harness.broker import installation, packages
from harness.broker.installation import Installation, link_plugins, needed_plugins


def plugin(directory: Path, name: str, *needs: str) -> None:
    ebin = directory / f"{name}-1.0" / "ebin"
    ebin.mkdir(parents=True)
    applications = ",".join(["kernel", "stdlib", *needs])
    text = f"{{application,{name},[\n {{applications,[{applications}]}}]}}."
    (ebin / f"{name}.app").write_text(text)


def test_plugins_are_followed_through_what_they_need(tmp_path: Path) -> None:
    plugin(tmp_path, "rabbit", "ra")
    plugin(tmp_path, "ra", "rabbit")
    plugin(tmp_path, "rabbitmq_mqtt", "rabbit")
    assert set(needed_plugins(tmp_path)) == {"rabbit", "ra"}
    link_plugins(tmp_path, tmp_path / "links")
    assert (tmp_path / "links" / "ra-1.0" / "ebin" / "ra.app").exists()
    assert not (tmp_path / "links" / "rabbitmq_mqtt-1.0").exists()


def test_packed_plugins_are_all_taken(tmp_path: Path) -> None:
    (tmp_path / "rabbit-1.0.ez").write_bytes(b"")
    (tmp_path / "other-1.0.ez").write_bytes(b"")
    assert set(needed_plugins(tmp_path)) == {"rabbit", "other"}


def test_an_installed_server_is_found_behind_its_wrapper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "rabbitmq_server-1.2.3"
    (home / "plugins" / "rabbit-1.2.3").mkdir(parents=True)
    (home / "sbin").mkdir()
    bin = tmp_path / "bin"
    bin.mkdir()
    for path in (home / "sbin" / "rabbitmq-server", bin / "erl"):
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    (bin / "rabbitmq-server").symlink_to(home / "sbin" / "rabbitmq-server")
    monkeypatch.setenv("PATH", str(bin))
    assert installation.find() == Installation(home)
    assert Installation(home).version == "1.2.3"
    (bin / "erl").unlink()
    assert installation.find() is None


@pytest.mark.skipif(bool(packages.missing_tools()), reason="needs apt and dpkg")
def test_two_runs_at_once_fetch_the_packages_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert installation.cached() is None
    said: list[str] = []
    found: list[Installation] = []
    threads = [
        threading.Thread(target=lambda: found.append(installation.fetch(said.append)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert found[0] == found[1] == installation.cached()
    assert len([line for line in said if "as" in line and "Debian packages" in line]) == 1
    assert os.access(found[0].program("rabbitmqctl"), os.R_OK)
    assert sorted(path.name for path in (tmp_path / "loop-harness").iterdir())[-2:] == [
        "rabbitmq",
        "rabbitmq.lock",
    ]
