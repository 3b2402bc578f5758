"""What listeners hear, and that they are saved with the process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import plumpy
from plumpy import Process, ProcessState
from plumpy.event_helper import EventHelper

from .helpers import Waits, ended, entered, stepping

EVENTS = [name for name in dir(plumpy.ProcessListener) if name.startswith("on_")]


class Hears(plumpy.ProcessListener):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []


def hear(name: str) -> Any:
    def event(self: Hears, process: Process, *args: Any) -> None:
        self.heard.append((name, *args))

    return event


for _name in EVENTS:
    setattr(Hears, _name, hear(_name))


async def test_events_of_a_whole_run() -> None:
    class Emits(Waits):
        @classmethod
        def define(cls, spec: Any) -> None:
            super().define(spec)
            spec.output("o")

        def resumed(self, *args: Any) -> Any:
            self.out("o", 1)

    listener, process = Hears(), Emits()
    process.add_process_listener(listener)
    process.add_process_listener(listener)
    task = stepping(process)
    await entered(process, ProcessState.WAITING)
    await process.pause()
    process.play()
    process.resume()
    await ended(task)
    assert listener.heard == [
        ("on_process_running",),
        ("on_process_waiting",),
        ("on_process_paused",),
        ("on_process_played",),
        ("on_process_running",),
        ("on_output_emitted", "o", 1, False),
        ("on_process_finished", {"o": 1}),
    ]


def test_events_of_other_ends() -> None:
    listener = Hears()
    for end in (lambda p: p.kill("k"), lambda p: p.fail(ValueError("text"), None)):
        process = Process()
        process.add_process_listener(listener)
        end(process)
    message = {"intent": "kill", "message": "k", "force_kill": False}
    assert listener.heard == [("on_process_killed", message), ("on_process_excepted", "text")]


def test_removed_listener_hears_nothing() -> None:
    listener, process = Hears(), Process()
    process.remove_process_listener(listener)
    process.add_process_listener(listener)
    process.remove_process_listener(listener)
    process.kill()
    assert listener.heard == []


def test_only_listeners_can_be_added() -> None:
    with pytest.raises(AssertionError, match="Listener is not of right type"):
        Process().add_process_listener(object())  # type: ignore[arg-type]


class Configured(plumpy.ProcessListener):
    def init(self, **kwargs: Any) -> None:
        super().init(**kwargs)
        self.level = kwargs.get("level")


def test_listener_is_saved_with_the_process() -> None:
    loop = asyncio.new_event_loop()
    process = Process(loop=loop)
    listener = Configured()
    listener.init(level=3)
    process.add_process_listener(listener)
    loaded = plumpy.Bundle(process, dereference=True).unbundle(plumpy.LoadSaveContext(loop=loop))
    assert isinstance(loaded, Process)
    assert [each.level for each in loaded._event_helper.listeners] == [3]
    loop.close()


def test_event_helper_wants_a_type_and_an_event() -> None:
    with pytest.raises(AssertionError):
        EventHelper(None)  # type: ignore[arg-type]
    helper = EventHelper(plumpy.ProcessListener)
    with pytest.raises(ValueError, match="valid event method"):
        helper.fire_event(None)  # type: ignore[arg-type]
    helper.add_listener(Hears())
    helper.remove_all_listeners()
    assert helper.listeners == set()
