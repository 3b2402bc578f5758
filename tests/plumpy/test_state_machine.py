"""State machines of any kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from plumpy.base import StateMachine, TransitionFailed, event
from plumpy.base.state_machine import (
    EventError,
    InvalidStateError,
    State,
    StateEntryFailed,
    StateEventHook,
)


class Stopped(State):
    LABEL = "stopped"
    ALLOWED = {"playing", "broken"}  # noqa: RUF012


class Playing(State):
    LABEL = "playing"
    ALLOWED = {"stopped", "broken"}  # noqa: RUF012

    def __init__(self, player: Player, track: str) -> None:
        super().__init__(player)
        self.track = track


class Broken(State):
    LABEL = "broken"


class Player(StateMachine):
    STATES = (Stopped, Playing, Broken)

    def init(self) -> None:
        super().init()
        self.order: list[str] = []

    @event(from_states=Stopped, to_states=Playing)
    def play(self, track: str) -> str:
        self.transition_to(self.create_state("playing", track))
        return track

    @event(from_states=(Playing,), to_states=(Stopped,))
    def stop(self) -> None:
        self.transition_to(self.create_state("stopped"))

    @event(to_states=Playing)
    def play_nothing(self, result: Any = None) -> Any:
        return result

    @event(to_states=Playing)
    def play_wrongly(self) -> None:
        self.transition_to(self.create_state("broken"))


def test_machine_starts_in_its_first_state() -> None:
    player = Player()
    assert player.state == "stopped"
    assert str(player) == "<Player> (stopped)"
    assert Player.initial_state_label() == "stopped"
    assert Player.get_state_class("playing") is Playing
    assert list(Player.get_states_map()) == ["stopped", "playing", "broken"]


def test_events_lead_from_state_to_state() -> None:
    player = Player()
    assert player.play("song") == "song"
    assert player.state == "playing"
    with pytest.raises(EventError, match="Event play invalid in state playing") as raised:
        player.play("song")
    assert raised.value.event == "play"
    player.stop()
    assert player.state == "stopped"


def test_event_that_misses_its_target() -> None:
    player = Player()
    with pytest.raises(EventError, match="Machine did not transition"):
        player.play_nothing()
    assert player.play_nothing(False) is False
    loop = asyncio.new_event_loop()
    assert player.play_nothing(loop.create_future()).get_loop() is loop
    loop.close()
    with pytest.raises(EventError, match="invalid state transition from stopped to broken"):
        player.play_wrongly()


@pytest.mark.parametrize("states", [3, "x", [int], [None]])
def test_event_wants_states(states: Any) -> None:
    with pytest.raises(TypeError):
        event(from_states=states)
    with pytest.raises(TypeError):
        event(to_states=states)


def test_forbidden_transition() -> None:
    player = Player()
    player.transition_to(player.create_state("broken"))
    with pytest.raises(RuntimeError, match="Cannot transition from broken to stopped"):
        player.transition_to(player.create_state("stopped"))
    assert player.state == "broken"
    player.transition_to(None)


def test_terminal_state_cannot_be_left() -> None:
    state = Broken(Player())
    assert state.is_terminal()
    with pytest.raises(InvalidStateError, match="Cannot exit a terminal state broken"):
        state.do_exit()


def test_unknown_state() -> None:
    with pytest.raises(ValueError, match="rewinding is not a valid state"):
        Player().create_state("rewinding")


def test_wrong_definitions() -> None:
    class Twice(StateMachine):
        STATES = (Stopped, Stopped)

    with pytest.raises(AssertionError, match="Duplicate label 'stopped'"):
        Twice()

    class Without(StateMachine):
        pass

    with pytest.raises(RuntimeError, match="States not defined"):
        Without()


def test_order_of_a_transition() -> None:
    order: list[str] = []

    class Loud(State):
        def enter(self) -> None:
            super().enter()
            order.append(f"enter {self.LABEL}")

        def exit(self) -> None:
            super().exit()
            order.append(f"exit {self.LABEL}")

    class First(Loud):
        LABEL = "first"
        ALLOWED = {"last"}  # noqa: RUF012

    class Last(Loud):
        LABEL = "last"

    class Machine(StateMachine):
        STATES = (First, Last)

        def on_terminated(self) -> None:
            super().on_terminated()
            order.append("terminated")

    def callback(machine: Any, hook: Any, state: Any) -> None:
        order.append(f"{hook.name} {state.label}")

    machine = Machine()
    for hook in StateEventHook:
        machine.add_state_event_callback(hook, callback)
    order.clear()
    machine.transition_to(machine.create_state("last"))
    assert order == [
        "EXITING_STATE last",
        "exit first",
        "ENTERING_STATE last",
        "enter last",
        "ENTERED_STATE first",
        "terminated",
    ]


def test_state_can_send_the_machine_elsewhere_while_it_is_entered() -> None:
    class Diverts(Playing):
        def enter(self) -> None:
            super().enter()
            raise StateEntryFailed(self.create_state("broken"), "a reason", code=1)

    player = Player()
    player.transition_to(Diverts(player, "song"))
    assert player.state == "broken"
    failure = StateEntryFailed(Broken(player), 1, two=2)
    assert (failure.args, failure.kwargs) == ((1,), {"two": 2})


def test_transitions_do_not_nest() -> None:
    player = Player()
    player.add_state_event_callback(
        StateEventHook.EXITING_STATE,
        lambda *_: player.transition_to(player.create_state("broken")),
    )
    with pytest.raises(AssertionError, match="when already transitioning state"):
        player.play("song")


def test_failing_transition_can_be_dealt_with() -> None:
    class Careful(Player):
        failures: list[Any]

        def transition_failed(self, initial_state: Any, final_state: Any, *args: Any) -> None:
            self.failed = (initial_state, final_state, args[0])
            self.transition_to(self.create_state("broken"))

    error = ValueError("a callback failed")

    def fail(machine: Any, hook: Any, state: Any) -> None:
        if state.LABEL == "playing":
            raise error

    player = Careful()
    player.add_state_event_callback(StateEventHook.ENTERING_STATE, fail)
    player.transition_to(player.create_state("playing", "song"))
    assert player.failed == ("stopped", "playing", error)
    assert player.state == "broken"


def test_second_failure_is_raised() -> None:
    class Careless(Player):
        def transition_failed(self, *args: Any) -> None:
            self.transition_to(self.create_state("broken"))

    def fail(machine: Any, hook: Any, state: Any) -> None:
        raise ValueError(f"not {state.label}")

    player = Careless()
    player.add_state_event_callback(StateEventHook.ENTERING_STATE, fail)
    with pytest.raises(ValueError, match="not broken"):
        player.play("song")
    assert player.state == "stopped"
    player.remove_state_event_callback(StateEventHook.ENTERING_STATE, fail)
    player.play("song")


def test_debugging_is_set_or_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player()
    monkeypatch.delenv("PYTHONSMDEBUG", raising=False)
    assert not player.get_debug()
    monkeypatch.setenv("PYTHONSMDEBUG", "1")
    assert player.get_debug()
    player.set_debug(False)
    assert not player.get_debug()


def test_text_of_a_failed_transition() -> None:
    assert str(TransitionFailed("a", "b")) == "a -> b"  # type: ignore[arg-type]
    assert str(TransitionFailed("a", "b", "traceback")) == "a -> b\ntraceback"  # type: ignore[arg-type]
