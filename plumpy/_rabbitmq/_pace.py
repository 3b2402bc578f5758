"""How the thread of a communicator leaves the interpreter to the threads of the loops.

A thread that computes keeps the interpreter for 5 ms (:func:`sys.getswitchinterval`) from another
that has just looked for events, in each turn of a loop; and for longer if it does short system
calls meanwhile, because it is back first. So it sleeps a moment between two pieces of its work.
"""

from __future__ import annotations

import threading
import time

#: Seconds of work of a thread between two pauses, and the length of a pause.
_STRETCH = 0.001
_PAUSE = 0.00005


class _Present(threading.local):
    """When the present stretch of work began, by the clock and by the thread's own time."""

    def __init__(self) -> None:
        self.clock = time.monotonic()
        self.worked = time.thread_time()


_present = _Present()


def breathe() -> bool:
    """Pause if this thread has worked for a while without one; return whether that was so."""
    present = _present
    worked = time.thread_time()
    if worked - present.worked < _STRETCH:
        return False
    clock = time.monotonic()
    # Who waited for as long as it worked has left the interpreter to others.
    tireless = 2 * (worked - present.worked) > clock - present.clock
    if tireless:
        time.sleep(_PAUSE)
        clock = time.monotonic()
    present.clock, present.worked = clock, worked
    return tireless
