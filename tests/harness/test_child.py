"""harness.child: the watchdog, by itself."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from harness import child
from harness.child import Channel, ChildRun, run_in_child
from harness.errors import HarnessError
from harness.outcome import Outcome


def test_each_phase_has_a_limit_of_its_own() -> None:
    def body(channel: Channel) -> None:
        channel.begin("second", 20.0)
        channel.send("reached")
        channel.begin("third", 0.2)
        threading.Event().wait()

    run = run_in_child(body, limit=20.0)
    assert (run.phase, run.hung, run.messages) == ("third", True, ["reached"])


def test_messages_of_any_size_arrive() -> None:
    run = run_in_child(lambda channel: channel.send("x" * 1_000_000), limit=20.0)
    assert [len(message) for message in run.messages] == [1_000_000]
    assert run.failure(1.0) is None


def test_an_exception_of_the_runner_itself_is_a_crash(capfd: pytest.CaptureFixture[str]) -> None:
    def body(channel: Channel) -> None:
        raise RuntimeError("the harness is at fault")

    failure = run_in_child(body, limit=20.0).failure(20.0)
    assert failure is not None
    assert failure.outcome is Outcome.CRASH
    assert "the harness is at fault" in capfd.readouterr().err


def test_the_parent_that_is_interrupted_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = []

    def interrupt(watch: Any) -> ChildRun:
        pids.append(watch._pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(child._Watch, "until_ended", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_in_child(lambda channel: threading.Event().wait(), limit=20.0)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_platform_that_cannot_fork_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    with pytest.raises(HarnessError, match="cannot fork"):
        run_in_child(lambda channel: None, limit=1.0)
