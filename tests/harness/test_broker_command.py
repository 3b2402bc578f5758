"""``harness broker``: up until it is taken down, also after its keeper was killed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.broker.address import Address
from harness.broker.handshake import NotReady, shake_hands
from harness.broker.installation import cached
from harness.broker.local import LocalProvider
from harness.broker.processes import descendants, started, wait_until
from harness.broker.run import Run, scratch_directory
from harness.commands import broker

lacking = LocalProvider.lacking()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of this test's own, but with the packages that the user's holds already."""
    fetched = cached()
    cache = tmp_path / "loop-harness"
    cache.mkdir()
    if fetched is not None:
        root = next(
            path
            for path in fetched.home.parents
            if path.name == "rabbitmq" and (path / "usr").exists()
        )
        (cache / "rabbitmq").symlink_to(root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HARNESS_BROKER", raising=False)
    yield cache
    cli.main(["broker", "down"])


def test_nothing_up_is_said(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["broker", "status"]) == 0
    assert capsys.readouterr().out == "no broker is up; start one: harness broker up\n"
    assert cli.main(["broker", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is None
    assert cli.main(["broker", "down"]) == 0


@pytest.mark.skipif(lacking is not None, reason=str(lacking))
def test_it_is_up_until_it_is_taken_down(
    own_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["broker", "up", "--provider", "local", "--json"]) == 0
    # As the TMPDIR of another shell; a longer path would not be used.
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    assert not Path((own_cache / "broker-up").read_text()).is_relative_to(scratch_directory())
    up = json.loads(capsys.readouterr().out)
    address = Address.parse(up["amqp"])
    assert shake_hands(address)
    assert cli.main(["broker", "up"]) == 0
    out, err = capsys.readouterr()
    assert up["amqp"] in out
    assert f"pytest --harness-broker='{up['setting']}'" in out
    assert "up already" in err
    assert cli.main(["broker", "up", "--provider", "docker"]) == 2
    assert "harness broker down" in capsys.readouterr().err
    assert cli.main(["broker", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == up

    record = Run.at(Path((own_cache / "broker-up").read_text())).shared("local")
    assert record is not None
    keeper = int((Path(record["keeper"]) / "keeper.pid").read_text())
    kept = descendants(keeper)
    os.kill(keeper, signal.SIGKILL)
    assert wait_until(lambda: started(keeper) is None, 10)
    assert cli.main(["broker", "down"]) == 0
    assert wait_until(lambda: all(started(pid) is None for pid in kept), 10)
    with pytest.raises(NotReady):
        shake_hands(address, timeout=0.5)
    assert not Path(record["keeper"]).parent.exists()


@pytest.mark.parametrize("setting", ["docker", "local"])
def test_what_tests_use_is_what_is_started(
    setting: str, own_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """It was said by pytest only; ``up`` took Docker where the tests were told not to."""
    asked: list[tuple[str, str | None]] = []

    def refuse(setting: str, *, image: str | None, **_: Any) -> None:
        asked.append((setting, image))

    monkeypatch.setattr(broker, "choose", refuse)
    monkeypatch.setenv("HARNESS_BROKER", setting)
    monkeypatch.setenv("HARNESS_IMAGE", "rabbitmq:4")
    assert cli.main(["broker", "up"]) == 2
    assert cli.main(["broker", "up", "--provider", "auto", "--image", "rabbitmq:3"]) == 2
    assert asked == [(setting, "rabbitmq:4"), ("auto", "rabbitmq:3")]


@pytest.mark.parametrize("setting", ["podman", "none", "amqp://me:secret@host/"])
def test_what_cannot_be_started_is_one_line_and_status_2(
    setting: str, own_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("HARNESS_BROKER", setting)
    assert cli.main(["broker", "up"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"harness broker: HARNESS_BROKER is '{setting.replace('secret', '***')}'"
    )
    assert "--provider auto|docker|local" in error
    assert error.count("\n") == 1


def test_a_dead_engine_is_one_line_and_status_2(
    own_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    for command in (["up", "--provider", "docker"], ["build-image"]):
        assert cli.main(["broker", *command]) == 2
        assert capsys.readouterr().err.count("\n") == 1
