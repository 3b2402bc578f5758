"""harness doctor: what is here, what is not, and what that would enable."""

from __future__ import annotations

import json
import platform

import pytest

from harness.cli import main
from harness.commands import doctor
from harness.matrix.interpreters import Found


def test_this_interpreter_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = {one["topic"]: one for one in json.loads(capsys.readouterr().out)}
    assert found[f"Python {platform.python_version()}"]["present"]
    assert {"Docker", "RabbitMQ", "uv", "releases"} <= set(found)


def test_each_missing_thing_says_what_it_would_enable(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path_factory.mktemp("empty")))
    monkeypatch.setattr(doctor, "discover", lambda: Found(()))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor.installation, "find", lambda: None)
    monkeypatch.setattr(doctor.installation, "cached", lambda: None)
    monkeypatch.setattr(doctor.packages, "missing_tools", lambda: ["apt-get"])
    findings = {finding.topic: finding for finding in doctor.examine()}
    missing = {topic for topic, finding in findings.items() if not finding.present}
    assert missing == {"Python", "uv", "Docker", "RabbitMQ", "releases"}
    assert all(findings[topic].enables for topic in missing)
    assert "/nowhere/docker.sock" in findings["Docker"].found
    assert main(["doctor"]) == 0
    assert "--  Docker" in capsys.readouterr().out
