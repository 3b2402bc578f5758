"""Members of a process that come into being when they are asked for.

There may be very many processes; most are never asked for their UUID or future, or listened to.
The names are those under which the members are saved.
"""

from __future__ import annotations

import functools
import uuid
import weakref
from typing import TYPE_CHECKING, Any

from .. import persistence, process_states, utils
from .._uuids import random_uuid
from ..event_helper import EventHelper
from ..loaders import DefaultObjectLoader, get_object_loader
from ..persistence._savable import META, META__CLASS_NAME, Lazy
from ..process_listener import ProcessListener
from ..utils import SAVED_STATE_TYPE
from . import _control, _hooks

if TYPE_CHECKING:
    from ._process import Process


def _get_uuid(self: Process) -> uuid.UUID | None:
    if self._lazy_uuid is None and self._creation_time is not None:
        self._lazy_uuid = random_uuid()
    return self._lazy_uuid


def _set_uuid(self: Process, value: uuid.UUID | None) -> None:
    self._lazy_uuid = value


def _get_pid(self: Process) -> Any:
    return self._lazy_pid if self._lazy_pid is not None else _get_uuid(self)


def _set_pid(self: Process, value: Any) -> None:
    self._lazy_pid = value


def _get_inputs(self: Process) -> utils.AttributesFrozendict | None:
    if self._lazy_inputs is None and self._creation_time is not None:
        self._lazy_inputs = utils.AttributesFrozendict()
    return self._lazy_inputs


def _set_inputs(self: Process, value: utils.AttributesFrozendict | None) -> None:
    self._lazy_inputs = value


def _get_outputs(self: Process) -> dict[str, Any]:
    outputs = self._lazy_outputs
    if outputs is None:
        outputs = self._lazy_outputs = {}
    return outputs


def _set_outputs(self: Process, value: dict[str, Any]) -> None:
    self._lazy_outputs = value


def _get_event_helper(self: Process) -> EventHelper:
    helper = self._lazy_event_helper
    if helper is None:
        helper = self._lazy_event_helper = EventHelper(ProcessListener)
    return helper


def _set_event_helper(self: Process, value: EventHelper) -> None:
    self._lazy_event_helper = value


def _get_future(self: Process) -> persistence.SavableFuture:
    future = self._lazy_future
    if future is None:
        future = persistence.SavableFuture(loop=self._loop)
        _settle(self, future)
        _set_future(self, future)
    return future


def _set_future(self: Process, value: persistence.SavableFuture) -> None:
    self._lazy_future = value
    if not value.done():
        # The future may outlive the process, and must not keep it.
        value.add_done_callback(functools.partial(_control.future_done, weakref.ref(self)))


def _settle(process: Process, future: persistence.SavableFuture) -> None:
    """Give the future the outcome of the process, if it has one already."""
    state = process._state
    if isinstance(state, process_states.Finished):
        future.set_result(_get_outputs(process))
    elif isinstance(state, process_states.Excepted):
        future.set_exception(state.exception or Exception("the process excepted"))
        future.exception()
    elif isinstance(state, process_states.Killed):
        future.set_exception(_hooks.killed_error(state.msg))
        future.exception()


# --- what is not there yet, as it is saved


def _no_listeners() -> SAVED_STATE_TYPE:
    return {
        META: {META__CLASS_NAME: "plumpy.event_helper:EventHelper"},
        "_listeners": set(),
        "_listener_type": ProcessListener,
    }


def _pending() -> SAVED_STATE_TYPE:
    return {
        META: {META__CLASS_NAME: "plumpy.persistence:SavableFuture"},
        "_state": "PENDING",
        "_result": None,
    }


def _has_no_listeners(self: Process, save_context: persistence.LoadSaveContext | None) -> bool:
    return (
        self._lazy_event_helper is None
        and (save_context is None or save_context.loader is None)
        and type(get_object_loader()) is DefaultObjectLoader
    )


def _is_pending(self: Process, _save_context: persistence.LoadSaveContext | None) -> bool:
    state = self._state
    return (
        self._lazy_future is None
        and state is not None
        and (bool(state.ALLOWED) or not state.is_terminal())
        and type(get_object_loader()) is DefaultObjectLoader
    )


uuid_member = property(_get_uuid, _set_uuid)
pid_member = property(_get_pid, _set_pid)
parsed_inputs = property(_get_inputs, _set_inputs)
outputs = property(_get_outputs, _set_outputs)
event_helper = Lazy(_get_event_helper, _set_event_helper, _no_listeners, _has_no_listeners)
future = Lazy(_get_future, _set_future, _pending, _is_pending)
