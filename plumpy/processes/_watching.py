"""Those who wait for the outcome of a process without a future.

They learn of it where the future would get it. A callback is cheaper, and comes a turn of the loop
sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._process import Process

#: Called with the process, its exception if it has one, and else its outputs. Must not raise.
Watcher = Callable[["Process", "BaseException | None", Any], None]


def watch(process: Process, loop: asyncio.AbstractEventLoop, watcher: Watcher) -> bool:
    """Have a function called with the outcome of a process.

    :param loop: of the caller
    :return: whether it will be called; else the caller has to ask the future
    """
    if process._loop is not loop or process._closed or process.has_terminated():
        return False
    if process._lazy_future is not None and process._lazy_future.done():
        return False
    if process._watchers is None:
        process._watchers = []
    process._watchers.append(watcher)
    return True


def unwatch(process: Process, watcher: Watcher) -> None:
    """Undo :func:`watch`, unless the function was called already."""
    if process._watchers is not None and watcher in process._watchers:
        process._watchers.remove(watcher)


def tell(process: Process, error: BaseException | None, outputs: Any = None) -> None:
    """Say what the outcome is; that of a process whose future was cancelled is ``CancelledError``
    of asyncio."""
    watchers, process._watchers = process._watchers, None
    for watcher in watchers or ():
        watcher(process, error, outputs)
