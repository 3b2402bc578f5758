"""What a work chain waits for, in a form that can be saved."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
from typing import TYPE_CHECKING, Any

from .. import persistence
from .._owned import own
from ..utils import SAVED_STATE_TYPE

if TYPE_CHECKING:
    from ..processes import Process

_LOGGER = logging.getLogger("plumpy.workchains")


class Awaitables(dict[Any, "list[str]"], persistence.Savable):
    """Futures and processes, each with the names that its outcome gets in the context.

    How it is saved:

    - A process that has not ended is saved with the chain, as its own saved state. Loading makes it
      anew, and it runs on when the chain does.
    - A future that is done is saved with its outcome.
    - A future that is not done is saved as just that: it cannot be known who was to complete it.
      The loaded chain waits until it is resumed.

    A load context with a mapping ``awaitables`` of pids and names in the context to futures or
    processes overrules the first and the last: those are waited for, and nothing is made anew.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._to_start: list[Process] = []

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def add(self, name: str, awaitable: Any) -> None:
        """Wait for a future or process, for the sake of a name in the context.

        :raises TypeError: if it is neither
        """
        if not is_awaitable(awaitable):
            hint = " (make a task of it)" if asyncio.iscoroutine(awaitable) else ""
            raise TypeError(
                f"cannot wait for `{name}`: {awaitable!r} is neither a future nor a process{hint}"
            )
        self.setdefault(awaitable, []).append(name)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let processes that were made anew run on."""
        while self._to_start:
            process = self._to_start.pop()
            if not process.has_terminated():
                own(loop, loop.create_task(process.step_until_terminated()))

    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        super().save_instance_state(out_state, save_context)
        entries = out_state["entries"] = []
        for awaitable, names in self.items():
            entry: dict[str, Any] = {"names": list(names)}
            process = None if isinstance(awaitable, FUTURES) else awaitable
            if process is not None:
                entry["pid"] = process.pid
            if process is not None and not process.has_terminated():
                # Not to ask for its future: it would have an exception that nobody retrieves.
                entry["process"] = process.save(save_context)
            else:
                future = awaitable if process is None else process.future()
                entry["future"] = persistence.saved_future(future)
            entries.append(entry)

    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        self._to_start = []
        # That of the state that this is a part of refers to nothing but the process.
        load_context = load_context.process._load_context.copyextend(loader=None)
        given = load_context.awaitables if "awaitables" in load_context else {}
        for entry in saved_state["entries"]:
            names = list(entry["names"])
            found = [key for key in (entry.get("pid"), *names) if key is not None and key in given]
            if found:
                self.setdefault(given[found[0]], []).extend(names)
            elif "process" in entry:
                process: Any = persistence.Savable.load(entry["process"], load_context)
                self._to_start.append(process)
                self[process] = names
            else:
                future: Any = persistence.Savable.load(entry["future"], load_context)
                self[future] = names
                if not future.done():
                    _LOGGER.warning(
                        "a loaded work chain waits for %s, a future that nobody completes any "
                        "more: resume it, or load it with `awaitables` in the load context",
                        ", ".join(f"`ctx.{name}`" for name in names),
                    )


FUTURES = (asyncio.Future, concurrent.futures.Future)


def is_awaitable(value: Any) -> bool:
    """Return whether a work chain can wait for something."""
    process_class = _process_class()
    # Processes first, and without asking their metaclass what they are.
    return process_class in type(value).__mro__ or isinstance(value, (*FUTURES, process_class))


@functools.cache
def _process_class() -> type[Process]:
    from ..processes import Process

    return Process


def future_of(awaitable: Any, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """Return an asyncio future that is done when a future or process is."""
    if isinstance(awaitable, asyncio.Future):
        return awaitable
    if isinstance(awaitable, concurrent.futures.Future):
        return asyncio.wrap_future(awaitable, loop=loop)
    future: asyncio.Future[Any] = awaitable.future()
    return future
