"""In the child: tells its parent, through shared memory, what a loop waits for."""

# ruff: noqa: UP006, UP035, UP045 - Python 3.6 runs this file

import mmap
import selectors
import signal
import struct
import threading
import time
from typing import Any, Callable, Dict, List, Optional

#: Selects done; threads in one that only another thread of the process can end; when the first of
#: those or an alarm ends (monotonic seconds).
SHARED = struct.Struct("=QQd")
#: Behind that: how often it changed whether the latest select was a mere look, with no timer and
#: nothing outside that could ever be seen by it. Odd: it was. A row of such leaves it untouched.
CHANGES = struct.Struct("=Q")
FOREVER = float("inf")


def tell_of_waits(shared: mmap.mmap) -> None:
    """Tell the resident about every select and alarm: how many, and when they end by themselves."""
    waits: Dict[int, float] = {}
    alarms: Dict[int, float] = {}
    done = [0]
    changes = [0]

    def publish() -> None:
        wakes = min(list(waits.values()) + list(alarms.values()) + [FOREVER])
        SHARED.pack_into(shared, 0, done[0], len(waits), wakes)

    def tell_whether_closed(is_closed: bool) -> None:
        if changes[0] % 2 != is_closed:
            changes[0] += 1
            CHANGES.pack_into(shared, SHARED.size, changes[0])

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def watched_select(self: selectors.BaseSelector, timeout: Optional[float] = None) -> Any:
            done[0] += 1
            loops = loops_if_alone(self)
            if timeout is not None and timeout <= 0:
                tell_whether_closed(loops is not None and not any(map(has_timers, loops)))
                publish()
                return original(self, timeout)
            tell_whether_closed(False)
            ident = threading.get_ident()
            if loops is not None:
                waits[ident] = FOREVER if timeout is None else time.monotonic() + timeout
            publish()
            try:
                return original(self, timeout)
            finally:
                waits.pop(ident, None)
                publish()

        watched_select.__name__ = "select"
        watched_select.__doc__ = original.__doc__
        return watched_select

    def telling(original: Callable[..., Any], which: Optional[int]) -> Callable[..., Any]:
        def set_timer(*arguments: Any) -> Any:
            result = original(*arguments)
            timer = arguments[0] if which is None else which
            left = signal.getitimer(timer)[0]
            alarms[timer] = time.monotonic() + left if left else FOREVER
            publish()
            return result

        set_timer.__name__ = original.__name__
        set_timer.__doc__ = original.__doc__
        return set_timer

    publish()
    for name in ("EpollSelector", "PollSelector", "SelectSelector"):
        cls = getattr(selectors, name, None)
        if cls is not None and "select" in vars(cls):
            setattr(cls, "select", wrapped(cls.select))  # noqa: B010
    vars(signal)["alarm"] = telling(signal.alarm, signal.ITIMER_REAL)
    vars(signal)["setitimer"] = telling(signal.setitimer, None)


def loops_if_alone(selector: selectors.BaseSelector) -> Optional[List[Any]]:
    """Return the loops whose self-pipe is all that a selector watches; None if there is more."""
    loops = []
    for key in selector.get_map().values():
        reader = key.data[0] if isinstance(key.data, tuple) and key.data else None
        callback = getattr(reader, "_callback", None)
        if getattr(callback, "__name__", "") != "_read_from_self" or key.events != 1:
            return None
        loops.append(getattr(callback, "__self__", None))
    return loops


def has_timers(loop: Any) -> bool:
    return bool(getattr(loop, "_scheduled", True))
