"""Processes."""

# ruff: noqa: F401 - what is importable from here is part of the interface

from __future__ import annotations

from aio_pika.exceptions import ChannelInvalidStateError, ConnectionClosed

from .. import (
    events,
    exceptions,
    futures,
    persistence,
    ports,
    process_comms,
    process_states,
    utils,
)
from .._public import publish
from ..base import state_machine
from ..base.state_machine import StateEntryFailed, StateMachine, TransitionFailed, event
from ..base.utils import call_with_super_check, super_check
from ..event_helper import EventHelper
from ..greenback_bridge import run_until_complete, run_with_portal
from ..process_comms import FORCE_KILL_KEY, MESSAGE_TEXT_KEY, MessageBuilder, MessageType
from ..process_listener import ProcessListener
from ..process_spec import ProcessSpec
from ..utils import PID_TYPE, SAVED_STATE_TYPE, protected
from ._process import (
    _LOGGER,
    Process,
    ProcessStateMachineMeta,
    T,
    ensure_not_closed,
)
from ._saving import BundleKeys
from ._scope import PROCESS_STACK

__all__ = ["BundleKeys", "Process", "ProcessSpec", "TransitionFailed"]

publish(__name__, BundleKeys, Process, ProcessStateMachineMeta, ensure_not_closed)
