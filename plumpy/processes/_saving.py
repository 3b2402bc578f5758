"""Saving a process and loading it again."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from .. import events, persistence, utils
from ..persistence._context import context_of_part
from ..persistence._savable import load_own_members, save_own_members
from ..utils import SAVED_STATE_TYPE

if TYPE_CHECKING:
    from ._process import Process


class BundleKeys:
    """Keys of a saved process, beside the names of its members."""

    INPUTS_RAW = "INPUTS_RAW"
    INPUTS_PARSED = "INPUTS_PARSED"
    OUTPUTS = "OUTPUTS"


_RAW = BundleKeys.INPUTS_RAW
_PARSED = BundleKeys.INPUTS_PARSED
_OUTPUTS = BundleKeys.OUTPUTS
_STATE = "_state"
#: Not among the members that are saved by name: releases before this one do not save it.
_UUID = "_uuid"


def save(
    process: Process,
    out_state: SAVED_STATE_TYPE,
    save_context: persistence.LoadSaveContext | None,
) -> None:
    """Add what is not a plain member."""
    state: Any = process._state
    out_state[_STATE] = state.save(context_of_part(save_context))
    uuid_ = process._uuid
    if uuid_ is not None:
        out_state[_UUID] = uuid_
    raw = process._raw_inputs
    if raw is not None:
        out_state[_RAW] = process.encode_input_args(raw)
    parsed = process._parsed_inputs
    if parsed is not None:
        out_state[_PARSED] = process.encode_input_args(parsed)
    if process._lazy_outputs:
        out_state[_OUTPUTS] = process.encode_input_args(process._lazy_outputs)


def prepare(
    process: Process, load_context: persistence.LoadSaveContext
) -> persistence.LoadSaveContext:
    """Set up what loading the members needs: the loop of their futures first of all."""
    cls = type(process)
    if "_STATES_MAP" not in cls.__dict__:
        process.get_states_map()
    spec = process.spec()
    if not spec.sealed:
        spec.seal()
    given = load_context._values
    if "loop" in given:
        process._loop = given["loop"]
    else:
        process._loop = events.get_or_create_event_loop()
        load_context = load_context.copyextend(loop=process._loop)
    if "logger" in given:
        process._logger = given["logger"]
    if "communicator" in given:
        process._communicator = given["communicator"]
    return load_context


def load(process: Process, saved_state: SAVED_STATE_TYPE) -> None:
    """Set up what is not a plain member."""
    state = process._state = process.recreate_state(saved_state[_STATE])
    saved_uuid = saved_state.get(_UUID)
    if saved_uuid is None and isinstance(process._pid, uuid.UUID):
        saved_uuid = process._pid
    process._uuid = saved_uuid
    if _RAW in saved_state:
        process._raw_inputs = _frozen(process.decode_input_args(saved_state[_RAW]))
    if _PARSED in saved_state:
        process._parsed_inputs = _frozen(process.decode_input_args(saved_state[_PARSED]))
    if _OUTPUTS in saved_state:
        process._outputs = dict(process.decode_input_args(saved_state[_OUTPUTS]))
    if process._paused is not None and state.is_terminal():
        process._paused = None  # earlier releases could pause what had ended


def save_all(
    process: Process,
    out_state: SAVED_STATE_TYPE,
    save_context: persistence.LoadSaveContext | None,
) -> None:
    save_own_members(process, out_state, save_context)
    save(process, out_state, save_context)


def load_all(
    process: Process, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
) -> None:
    load_own_members(process, saved_state, prepare(process, load_context))
    load(process, saved_state)


def _frozen(decoded: Any) -> utils.AttributesFrozendict:
    # what was decoded is a copy already
    frozen = utils.AttributesFrozendict
    return decoded if type(decoded) is frozen else frozen(decoded)
