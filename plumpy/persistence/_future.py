"""A future that can be stored with the process that it belongs to."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

from ..events import get_or_create_event_loop
from ..exceptions import PersistenceError
from ..loaders import get_object_loader
from ..utils import SAVED_STATE_TYPE
from ._context import LoadSaveContext
from ._copy import snapshot
from ._exceptions import decode_exception, encode_exception, storable_exception
from ._savable import META, META__CLASS_NAME, Savable, auto_persist

_EXCEPTION = "exception"
# An exception that pickle cannot rebuild is `exception` by name and message only; this is the rest.
_EXCEPTION_TEXT = "exception_text"


@auto_persist("_state", "_result")
class SavableFuture(asyncio.Future[Any], Savable):
    """An asyncio future that can be saved and loaded, whether pending, done or cancelled."""

    def save(self, save_context: LoadSaveContext | None = None) -> SAVED_STATE_TYPE:
        """Return the saved state of this future."""
        return saved_future(self) if type(self) is SavableFuture else super().save(save_context)

    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: LoadSaveContext | None
    ) -> None:
        super().save_instance_state(out_state, save_context)
        out_state.update(_saved_exception(self))

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


def saved_future(future: asyncio.Future[Any] | concurrent.futures.Future[Any]) -> SAVED_STATE_TYPE:
    """Return the saved state of any future; it is loaded as a :class:`SavableFuture`."""
    done = future.done()
    failed = done and (future.cancelled() or future.exception() is not None)
    return {
        META: {META__CLASS_NAME: get_object_loader().identify_object(SavableFuture)},
        "_state": "CANCELLED" if future.cancelled() else "FINISHED" if done else "PENDING",
        "_result": snapshot(future.result()) if done and not failed else None,
        **_saved_exception(future),
    }


def _saved_exception(
    future: asyncio.Future[Any] | concurrent.futures.Future[Any],
) -> dict[str, Any]:
    if not future.done() or future.cancelled() or (exc := future.exception()) is None:
        return {}
    storable = storable_exception(exc)
    if storable is exc:
        return {_EXCEPTION: exc}
    return {_EXCEPTION: storable, _EXCEPTION_TEXT: encode_exception(exc)}
