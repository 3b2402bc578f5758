"""Who keeps what waits alive.

asyncio refers weakly to its tasks: one that waits for something that nobody else refers to can be
collected, and vanishes. Here everything under way is referenced by the loop that runs it. The
references are kept on the loop itself, so they end with it.
"""

from __future__ import annotations

import asyncio
from typing import Any

_ATTRIBUTE = "_plumpy_under_way"


def under_way(loop: asyncio.AbstractEventLoop) -> dict[int, Any]:
    """Return what is under way on a loop, by id."""
    try:
        return loop.__dict__[_ATTRIBUTE]  # type: ignore[no-any-return]
    except KeyError:
        return loop.__dict__.setdefault(_ATTRIBUTE, {})  # type: ignore[no-any-return]


def own(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    """Keep a task alive until it is done."""
    tasks = under_way(loop)
    key = id(task)
    tasks[key] = task
    task.add_done_callback(lambda _: tasks.pop(key, None))
