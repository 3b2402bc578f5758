"""Where a suspended task is: all its coroutines; get_stack() has the outermost only."""

# ruff: noqa: UP035 - Python 3.6 runs this file

import types
from typing import Any, Iterator


def awaited_frames(task: Any) -> Iterator[types.FrameType]:
    """Yield the frame of each coroutine that a task is in, outermost first.

    The one that runs ends them: what it has called is in the stack of its thread.

    :param task: an asyncio task, also one whose coroutine is a generator (Python before 3.11)
    """
    awaited = getattr(task, "_coro", None)
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            return
        yield frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
