"""Finite state machines whose states are objects."""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from types import TracebackType
from typing import Any, ClassVar, Dict, Optional, Set, Type, Union, cast  # noqa: UP035
from typing import Callable as _Callable  # noqa: UP035
from typing import Hashable as _Hashable  # noqa: UP035

from .utils import call_with_super_check, run_hook, super_check

__all__ = ["StateMachine", "StateMachineMeta", "TransitionFailed", "event"]

_LOGGER = logging.getLogger(__name__)

LABEL_TYPE = Union[None, enum.Enum, str]  # noqa: UP007 - its repr is part of the interface
EVENT_CALLBACK_TYPE = _Callable[["StateMachine", _Hashable, Optional["State"]], None]


class StateMachineError(Exception):
    """Base class of errors of a state machine."""


class StateEntryFailed(Exception):
    """Raised while a state is entered: go to another state instead.

    :param state: the state to go to
    """

    def __init__(self, state: State, *args: Any, **kwargs: Any) -> None:
        super().__init__("failed to enter state")
        self.state = state
        self.args = args
        self.kwargs = kwargs


class InvalidStateError(Exception):
    """The operation does not fit the state that the machine is in."""


class EventError(StateMachineError):
    """An event came in a state that does not know it, or failed to reach its target state.

    :param evt: the name of the event
    :param msg: what went wrong
    """

    def __init__(self, evt: str, msg: str):
        super().__init__(msg)
        self.event = evt


class TransitionFailed(Exception):
    """A transition failed.

    :param initial_state: where it started
    :param final_state: where it was to lead
    :param traceback_str: the traceback of the reason, as text
    """

    def __init__(
        self,
        initial_state: State,
        final_state: State | None = None,
        traceback_str: str | None = None,
    ) -> None:
        self.initial_state = initial_state
        self.final_state = final_state
        self.traceback_str = traceback_str
        super().__init__(self._format_msg())

    def _format_msg(self) -> str:
        message = f"{self.initial_state} -> {self.final_state}"
        return f"{message}\n{self.traceback_str}" if self.traceback_str is not None else message


def event(
    from_states: str | type[State] | Iterable[type[State]] = "*",
    to_states: str | type[State] | Iterable[type[State]] = "*",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator for a method that is an event of a state machine.

    The call raises :class:`EventError` in other states than ``from_states``, or if it ends outside
    ``to_states`` although its result is neither False nor a future. ``'*'`` stands for every state.
    May be used without arguments: ``@event``.
    """
    if inspect.isfunction(from_states):
        return cast(Any, event()(from_states))
    sources = _state_classes("from_states", from_states)
    targets = _state_classes("to_states", to_states)

    def wrapper(wrapped: Callable[..., Any]) -> Callable[..., Any]:
        name = wrapped.__name__

        @functools.wraps(wrapped)
        def transition(self: Any, *args: Any, **kwargs: Any) -> Any:
            initial = self._state
            if sources is not None and not isinstance(initial, sources):
                raise EventError(name, f"Event {name} invalid in state {initial.LABEL}")
            result = wrapped(self, *args, **kwargs)
            if (
                targets is None
                or result is False
                or asyncio.isfuture(result)
                or isinstance(self._state, targets)
            ):
                return result
            if self._state is initial:
                raise EventError(name, "Machine did not transition")
            raise EventError(
                name,
                f"Event produced invalid state transition from {initial.LABEL} "
                f"to {self._state.LABEL}",
            )

        return transition

    return wrapper


def _state_classes(argument: str, states: Any) -> tuple[type[State], ...] | None:
    """Return state classes as a tuple; None stands for all of them."""
    if states == "*":
        return None
    if inspect.isclass(states):
        states = (states,)
    classes: tuple[type[State], ...] = tuple(states)
    if not all(issubclass(state, State) for state in classes):
        raise TypeError(f"{argument}: {list(classes)}")
    return classes


class State:
    """A state of a machine.

    :cvar LABEL: what the state is called; unique within its machine
    :cvar ALLOWED: labels of the states that may follow; empty for a terminal state
    """

    __slots__ = ("__weakref__", "in_state", "state_machine")

    LABEL: LABEL_TYPE = None
    ALLOWED: Set[LABEL_TYPE] = set()  # noqa: UP006, RUF012

    def __init__(self, state_machine: StateMachine, *args: Any, **kwargs: Any):
        self.state_machine = state_machine
        self.in_state: bool = False

    def __str__(self) -> str:
        return str(self.LABEL)

    @classmethod
    def is_terminal(cls) -> bool:
        """Return whether no state can follow."""
        return not cls.ALLOWED

    @property
    def label(self) -> LABEL_TYPE:
        """What the state is called."""
        return self.LABEL

    @super_check
    def enter(self) -> None:
        """Hook: the state is about to become the current one."""

    def execute(self) -> Any:
        """Do what is to be done in this state; return the next one, or None to stay.

        A machine may allow it to be a coroutine function.
        """
        return None

    @super_check
    def exit(self) -> None:
        """Hook: the state is about to be left."""
        if self.is_terminal():
            raise InvalidStateError(f"Cannot exit a terminal state {self.LABEL}")

    def create_state(self, state_label: Hashable, *args: Any, **kwargs: Any) -> State:
        """Make a state of the machine that this one belongs to."""
        return self.state_machine.create_state(state_label, *args, **kwargs)

    def do_enter(self) -> None:
        """Run :meth:`enter` and check that overriding methods called it."""
        if type(self).enter is not _ENTER:
            run_hook(self, "enter")
        self.in_state = True

    def do_exit(self) -> None:
        """Run :meth:`exit` and check that overriding methods called it."""
        if type(self).exit is not _EXIT or not self.ALLOWED:
            run_hook(self, "exit")
        self.in_state = False


_ENTER = State.enter
_EXIT = State.exit


class StateEventHook(enum.Enum):
    """The moments of a transition that callbacks can be attached to."""

    ENTERING_STATE = 0
    ENTERED_STATE = 1
    EXITING_STATE = 2


_ENTERING = StateEventHook.ENTERING_STATE
_ENTERED = StateEventHook.ENTERED_STATE
_EXITING = StateEventHook.EXITING_STATE


class StateMachineMeta(type):
    """Puts a new machine into its initial state, then calls ``init``."""

    def __call__(cls, *args: Any, **kwargs: Any) -> StateMachine:
        machine: StateMachine = super().__call__(*args, **kwargs)
        machine.transition_to(machine.create_initial_state())
        call_with_super_check(machine.init)
        return machine


class StateMachine(metaclass=StateMachineMeta):
    """A machine that is in one of its states.

    :cvar STATES: the classes of the states, the initial one first; :meth:`get_states` may compute
        them instead
    """

    STATES: Optional[Sequence[Type[State]]] = None  # noqa: UP006, UP045
    _STATES_MAP: ClassVar[Optional[Dict[Hashable, Type[State]]]] = None  # noqa: UP006, UP045

    # Set on the instance only while they differ, because there are many instances.
    _state: State | None = None
    _transitioning = False
    _transition_failing = False
    _debug: bool | None = None
    _event_callbacks: dict[Hashable, list[EVENT_CALLBACK_TYPE]] | None = None
    _called = 0
    #: What most instances get in the course of their life.
    _usual_attributes: ClassVar[tuple[str, ...]] = ("_state", "_transitioning")
    #: What was asked for in the middle of a transition, to be done when it is over.
    _after_transition: list[Callable[[], Any]] | None = None

    @classmethod
    def get_states(cls) -> Sequence[type[State]]:
        """Return the classes of the states, the initial one first.

        :raises RuntimeError: if the class defines none
        """
        if cls.STATES is not None:
            return cls.STATES
        raise RuntimeError("States not defined")

    @classmethod
    def initial_state_label(cls) -> LABEL_TYPE:
        """Return the label of the initial state."""
        cls.__ensure_built()
        assert cls.STATES is not None
        return cls.STATES[0].LABEL

    @classmethod
    def get_states_map(cls) -> dict[Hashable, type[State]]:
        """Return the classes of the states by label."""
        cls.__ensure_built()
        assert cls._STATES_MAP is not None
        return cls._STATES_MAP

    @classmethod
    def get_state_class(cls, label: LABEL_TYPE) -> type[State]:
        """Return the class of the state called ``label``."""
        return cls.get_states_map()[label]

    @classmethod
    def __ensure_built(cls) -> None:
        if "_STATES_MAP" in cls.__dict__:
            return
        states = cls.get_states()
        states_map: dict[Hashable, type[State]] = {}
        for state_cls in states:
            assert state_cls.LABEL not in states_map, f"Duplicate label '{state_cls.LABEL}'"
            states_map[state_cls.LABEL] = state_cls
        cls.STATES = states
        cls._STATES_MAP = states_map
        cls.__reserve()

    @classmethod
    def __reserve(cls) -> None:
        """Have room for the usual attributes in all instances, by setting them in the first one.

        CPython keeps attributes in an array, without a dictionary for each instance. How many fit
        is settled by the names that were there when the first few instances were made.
        """
        if cls.__new__ is object.__new__ and not hasattr(cls, "__del__"):
            first = object.__new__(cls)
            for name in cls._usual_attributes:
                object.__setattr__(first, name, None)

    def __init__(self) -> None:
        super().__init__()
        cls = type(self)
        if "_STATES_MAP" not in cls.__dict__:
            cls.__ensure_built()

    @super_check
    def init(self) -> None:
        """Hook: the machine is in its initial state, or has been loaded from a saved one."""

    def __str__(self) -> str:
        return f"<{type(self).__name__}> ({self.state})"

    def create_initial_state(self) -> State:
        """Make the state that the machine starts in."""
        return self.get_state_class(self.initial_state_label())(self)

    @property
    def state(self) -> LABEL_TYPE:
        """The label of the current state."""
        return self._state.LABEL if self._state is not None else None

    def add_state_event_callback(self, hook: Hashable, callback: EVENT_CALLBACK_TYPE) -> None:
        """Have a callback called in every transition.

        :param hook: a :class:`StateEventHook`
        :param callback: gets the machine, the hook, and the state: the one that is being entered
            or that comes next, or the one that was left
        """
        if self._event_callbacks is None:
            self._event_callbacks = {}
        self._event_callbacks.setdefault(hook, []).append(callback)

    def remove_state_event_callback(self, hook: Hashable, callback: EVENT_CALLBACK_TYPE) -> None:
        """Undo :meth:`add_state_event_callback`.

        :raises ValueError: if the callback was not set
        """
        try:
            (self._event_callbacks or {})[hook].remove(callback)
        except (KeyError, ValueError):
            raise ValueError(f"Callback not set for hook '{hook}'") from None

    def _fire_state_event(self, hook: Hashable, state: State | None) -> None:
        if self._event_callbacks is not None:
            for callback in tuple(self._event_callbacks.get(hook, ())):
                callback(self, hook, state)

    @super_check
    def on_terminated(self) -> None:
        """Hook: the machine has entered a terminal state."""

    def transition_to(self, new_state: State | None, **kwargs: Any) -> None:
        """Leave the current state for another one.

        :param new_state: the state to enter; with None nothing happens
        :raises AssertionError: if called from within a transition
        """
        if new_state is None:
            return
        assert not self._transitioning, "Cannot call transition_to when already transitioning state"
        initial = self._state
        label: LABEL_TYPE = None
        self._transitioning = True
        try:
            label = new_state.LABEL
            try:
                self._change_state(new_state)
            except StateEntryFailed as redirection:
                new_state = redirection.state
                label = new_state.LABEL
                self._change_state(new_state)
            if not new_state.ALLOWED:
                run_hook(self, "on_terminated")
        except Exception as exc:
            if self._transition_failing:
                raise
            self._transitioning = False
            self._transition_failing = True
            self.transition_failed(
                initial.LABEL if initial is not None else None,
                label,
                exc,
                cast(TracebackType, exc.__traceback__),
            )
        finally:
            if self._transition_failing:
                self._transition_failing = False
            self._transitioning = False
        if self._after_transition is not None:
            self._run_after_transition()

    def _run_after_transition(self) -> None:
        pending, self._after_transition = self._after_transition, None
        for function in pending or ():
            function()

    def transition_failed(
        self,
        initial_state: Hashable,
        final_state: Hashable,
        exception: Exception,
        trace: TracebackType,
    ) -> None:
        """Deal with an exception from within a transition; here by raising it again.

        :param initial_state: label of the state that was to be left
        :param final_state: label of the state that was to be entered
        """
        raise exception.with_traceback(trace)

    def get_debug(self) -> bool:
        """Return whether debugging is on: as set, else by the environment (``PYTHONSMDEBUG``)."""
        if self._debug is None:
            return not sys.flags.ignore_environment and bool(os.environ.get("PYTHONSMDEBUG"))
        return self._debug

    def set_debug(self, enabled: bool) -> None:
        """Turn debugging on or off for this machine."""
        self._debug = enabled

    def create_state(self, state_label: Hashable, *args: Any, **kwargs: Any) -> State:
        """Make a state of this machine.

        :param state_label: label of the state; the other arguments go to its constructor
        :raises ValueError: if there is no such state
        """
        # The map was built for this class when it got its first instance.
        state_class = (self._STATES_MAP or {}).get(state_label)
        if state_class is None:
            raise ValueError(f"{state_label} is not a valid state")
        return state_class(self, *args, **kwargs)

    def _change_state(self, next_state: State) -> None:
        """Leave the current state and enter the next one.

        While a failed transition is being dealt with the current state stays as it is, whatever it
        allows: it has been left already, or could not be.
        """
        last_state = self._state
        if last_state is not None and not self._transition_failing:
            if next_state.LABEL not in last_state.ALLOWED:
                raise illegal(last_state, next_state)
            self._fire_state_event(_EXITING, next_state)
            last_state.do_exit()
        self._fire_state_event(_ENTERING, next_state)
        next_state.do_enter()
        self._state = next_state
        self._fire_state_event(_ENTERED, last_state)


def illegal(last_state: State, next_state: State) -> RuntimeError:
    """Return the error for a transition that the states do not allow."""
    return RuntimeError(f"Cannot transition from {last_state.LABEL} to {next_state.LABEL}")
