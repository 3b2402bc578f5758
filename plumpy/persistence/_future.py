"""A future that can be stored with the process that it belongs to."""

from __future__ import annotations

import asyncio
from typing import Any

from ..events import get_or_create_event_loop
from ..exceptions import PersistenceError
from ..utils import SAVED_STATE_TYPE
from ._context import LoadSaveContext
from ._exceptions import decode_exception, encode_exception, storable_exception
from ._savable import Savable, auto_persist

_EXCEPTION = "exception"
# An exception that pickle cannot rebuild is `exception` by name and message only; this is the rest.
_EXCEPTION_TEXT = "exception_text"


@auto_persist("_state", "_result")
class SavableFuture(asyncio.Future[Any], Savable):
    """An asyncio future that can be saved and loaded, whether pending, done or cancelled."""

    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: LoadSaveContext | None
    ) -> None:
        super().save_instance_state(out_state, save_context)
        if self.done() and not self.cancelled() and (exc := self.exception()) is not None:
            out_state[_EXCEPTION] = storable_exception(exc)
            out_state[_EXCEPTION_TEXT] = encode_exception(exc)

    @classmethod
    def recreate_from(
        cls, saved_state: SAVED_STATE_TYPE, load_context: LoadSaveContext | None = None
    ) -> SavableFuture:
        """Make the future anew, on the loop of the context or else of the caller."""
        if load_context is None:
            load_context = LoadSaveContext()
        loop = load_context.loop if "loop" in load_context else get_or_create_event_loop()
        future = cls(loop=loop)
        future.load_instance_state(saved_state, load_context)
        return future

    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: LoadSaveContext | None
    ) -> None:
        self._ensure_persist_configured()
        state = saved_state["_state"]
        if state == "FINISHED":
            if _EXCEPTION_TEXT in saved_state:
                self.set_exception(decode_exception(saved_state[_EXCEPTION_TEXT]))
            elif _EXCEPTION in saved_state:
                self.set_exception(saved_state[_EXCEPTION])
            else:
                self.set_result(saved_state["_result"])
                return
            self.exception()  # asyncio's warning about it was due in the run that saved it
        elif state == "CANCELLED":
            self.cancel()
        elif state != "PENDING":
            raise PersistenceError(f"a saved future is in the unknown state {state!r}")
