"""Releases arrive one by one, those that take no installing first."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.matrix import supply as module
from harness.matrix.installers import IndexFailed
from harness.matrix.interpreters import Interpreter, this_interpreter
from harness.matrix.releases import Release, fetch
from harness.matrix.supply import Place, Supply


def wanted(*releases: str) -> dict[Place, Interpreter]:
    here = this_interpreter()
    return {("demo", release, here.tag): here for release in releases}


def supply(*releases: str, offline: bool = False) -> Supply:
    return Supply(wanted(*releases), offline=offline, say=lambda line: None)


def test_everything_arrives_and_then_nothing(demo: Any) -> None:
    for version in ("1.0", "1.1", "1.2"):
        demo.release(version)
    with supply("1.0", "1.1", "1.2") as releases:
        found = releases.rest()
        assert releases.is_over
        assert releases.arrivals() == {}
    assert sorted(found) == sorted(wanted("1.0", "1.1", "1.2"))
    assert all(isinstance(one, Release) for one in found.values())


def test_what_is_kept_comes_before_what_is_installed(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "1.1", "1.2"):
        demo.release(version)
    fetch("demo", "1.2")
    monkeypatch.setattr(module, "_INSTALLERS", 1)
    order: list[str] = []
    obtain = module.obtain

    def noted(library: str, release: str, *rest: Any, **options: Any) -> Release:
        order.append(release)
        return obtain(library, release, *rest, **options)

    monkeypatch.setattr(module, "obtain", noted)
    with supply("1.0", "1.1", "1.2") as releases:
        releases.rest()
    assert order == ["1.2", "1.0", "1.1"]


def test_release_that_cannot_be_had_arrives_as_the_reason(demo: Any) -> None:
    Path(demo.wheels.path, "demo-1.1-py3-none-any.whl").write_bytes(b"no zip")
    with supply("1.1") as releases:
        (found,) = releases.rest().values()
    assert "demo==1.1 cannot be installed" in str(found)


def test_error_of_our_own_is_a_reason_too(demo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that never arrives would be waited for without end."""

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("not thought of")

    monkeypatch.setattr(module, "obtain", fail)
    with supply("1.0") as releases:
        (found,) = releases.rest().values()
    assert isinstance(found, HarnessError)
    assert "not thought of" in str(found)


def test_index_that_fails_again_and_again_is_not_asked_for_the_rest(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(library: str, release: str, *_: Any, offline: bool, **__: Any) -> None:
        if offline:
            raise HarnessError("not in the cache")
        asked.append(release)
        raise IndexFailed(f"{release} cannot be had")

    monkeypatch.setattr(module, "obtain", fail)
    monkeypatch.setattr(module, "_INSTALLERS", 1)
    with supply("1.0", "1.1", "1.2") as releases:
        found = list(map(str, releases.rest().values()))
    assert asked == ["1.0"]
    not_tried = "not tried, because it was so before: 1.0 cannot be had"
    assert found == ["1.0 cannot be had", not_tried, not_tried]


def test_leaving_early_stops_what_is_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is not begun, neither for another interpreter nor of another release."""
    begun: list[str] = []
    is_begun, is_stopped = threading.Event(), threading.Event()

    def slow(library: str, release: str, *_: Any, **__: Any) -> None:
        begun.append(release)
        is_begun.set()
        assert is_stopped.wait(60)
        raise IndexFailed("killed")

    monkeypatch.setattr(module, "obtain", slow)
    monkeypatch.setattr(module, "_INSTALLERS", 1)
    monkeypatch.setattr(module, "stop_installers", is_stopped.set)
    places = wanted("1.0", "1.1")
    places["demo", "1.0", "another interpreter's"] = this_interpreter()
    with Supply(places, offline=False, say=lambda line: None) as releases:
        assert is_begun.wait(60)
        assert not releases.is_over
    assert begun == ["1.0"]
