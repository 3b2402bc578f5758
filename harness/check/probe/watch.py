"""See which lines of some code objects run: ``sys.monitoring``, or ``sys.settrace`` before 3.12."""

from __future__ import annotations

import inspect
import sys
import threading
import weakref
from types import CodeType, FrameType
from typing import Any

from .checks import MOCK_NAMES


class Watcher:
    """Records, for watched code objects only, that the body was entered and which lines ran.

    A coroutine that is created and closed without being started does not count as entered.

    Everything is kept by the identity of the code object: equal ones may come from two files.
    """

    def __init__(self) -> None:
        self._ever: set[int] = set()
        #: Holds the code objects, so that no identity is used twice.
        self._watched: dict[int, CodeType] = {}
        #: Lines of the current test, each once, in the order of their first execution.
        self._lines: dict[int, list[int]] = {}
        self._entered: set[int] = set()
        self._returned: dict[int, weakref.ref[Any]] = {}
        self._ended: set[int] = set()
        self._failed: set[int] = set()
        self._mocks: dict[int, frozenset[str]] = {}

    def watch(self, code: CodeType) -> None:
        """Observe this code object from now on."""
        self._watched[id(code)] = code

    def begin(self) -> None:
        """Forget what the previous test did and start observing."""
        self._lines.clear()
        self._entered.clear()
        self._returned.clear()
        self._ended.clear()
        self._failed.clear()
        self._mocks.clear()

    def end(self) -> None:
        """Stop observing."""

    @property
    def blind(self) -> bool:
        """Whether something took the observation away: then "not seen" proves nothing."""
        return False

    def ever_entered(self, code: CodeType) -> bool:
        """Whether the body ran since it is watched, in whichever test."""
        return id(code) in self._ever

    def entered(self, code: CodeType) -> bool:
        """Whether the body ran in the current test, be it only its first line."""
        return id(code) in self._entered

    def lines(self, code: CodeType) -> list[int]:
        """The lines that ran in the current test."""
        return self._lines.get(id(code), [])

    def returned(self, code: CodeType) -> bool:
        """Whether the body returned a coroutine."""
        return id(code) in self._returned

    def returned_unstarted(self, code: CodeType) -> bool:
        """Whether the body returned a coroutine that is still alive and has not been started."""
        reference = self._returned.get(id(code))
        value = reference() if reference is not None else None
        return value is not None and inspect.getcoroutinestate(value) == inspect.CORO_CREATED

    def failed(self, code: CodeType) -> bool:
        """Whether an AssertionError left the body each time that it ran in the current test."""
        return id(code) in self._failed - self._ended

    def mocks(self, code: CodeType) -> frozenset[str]:
        """The local names that were a Mock when the body returned, if it calls them by mistake."""
        return self._mocks.get(id(code), frozenset())

    def _on_entered(self, code: CodeType) -> None:
        self._entered.add(id(code))
        self._ever.add(id(code))

    def _on_return(self, code: CodeType, value: object, frame: FrameType) -> None:
        self._ended.add(id(code))
        mock: Any = sys.modules.get("unittest.mock")
        if mock is not None and not MOCK_NAMES.isdisjoint(code.co_names):
            self._mocks[id(code)] = frozenset(
                name
                for name, local in frame.f_locals.items()
                if issubclass(type(local), mock.NonCallableMock)
            )
        # Weakly: the moment at which an unawaited coroutine is dropped must not change.
        if inspect.iscoroutine(value):
            self._returned[id(code)] = weakref.ref(value)

    def _on_left(self, code: CodeType, error: type) -> None:
        if id(code) in self._watched and issubclass(error, AssertionError):
            self._failed.add(id(code))


class TracingWatcher(Watcher):
    """The way before Python 3.12; gives way to a debugger or coverage that is there already."""

    def __init__(self) -> None:
        super().__init__()
        self._active = False
        #: The kind of exception that goes through a frame at this moment.
        self._raised: dict[int, type] = {}
        threading.settrace(self._global)

    def begin(self) -> None:
        super().begin()
        self._raised.clear()
        self._active = sys.gettrace() is None
        if self._active:
            sys.settrace(self._global)

    def end(self) -> None:
        if self._active and not self.blind:
            sys.settrace(None)
        self._active = False

    @property
    def blind(self) -> bool:
        # Bound methods are equal, not identical, from one access to the next.
        return not self._active or sys.gettrace() != self._global

    def _global(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._local if id(frame.f_code) in self._watched else None

    def _local(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        # Not on "call": closing a coroutine that was never started causes that event as well.
        if event == "exception":
            self._raised[id(frame)] = argument[0]
            return self._local
        raised = self._raised.pop(id(frame), None)
        if event == "line":
            self._on_entered(code)
            lines = self._lines.setdefault(id(code), [])
            if frame.f_lineno not in lines:
                lines.append(frame.f_lineno)
        elif event == "return" and raised is not None:
            self._on_left(code, raised)
        elif event == "return":
            self._on_return(code, argument, frame)
        return self._local


class MonitoringWatcher(Watcher):
    """The way from Python 3.12 on: events of the watched code objects only, in every thread."""

    def __init__(self, tool: int) -> None:
        super().__init__()
        monitoring: Any = getattr(sys, "monitoring")  # noqa: B009 (older Pythons have none)
        self._monitoring = monitoring
        self._tool = tool
        events = monitoring.events
        self._events = events.PY_START | events.PY_RETURN | events.LINE
        monitoring.register_callback(tool, events.PY_START, self._start)
        monitoring.register_callback(tool, events.PY_RETURN, self._return)
        monitoring.register_callback(tool, events.LINE, self._line)
        monitoring.register_callback(tool, events.PY_UNWIND, self._unwind)
        self._restart = False

    def watch(self, code: CodeType) -> None:
        if id(code) not in self._watched:
            self._monitoring.set_local_events(self._tool, code, self._events)
        elif id(code) in self._ever:
            # Lines switched off by an earlier run of the same body, under other parameters.
            self._restart = True
        super().watch(code)

    def begin(self) -> None:
        super().begin()
        if self._restart:
            self._monitoring.restart_events()
        self._restart = False
        # Of every function: this kind cannot be had for some only.
        self._monitoring.set_events(self._tool, self._monitoring.events.PY_UNWIND)

    def end(self) -> None:
        self._monitoring.set_events(self._tool, 0)

    def release(self) -> None:
        """Give the tool number back."""
        self._monitoring.free_tool_id(self._tool)

    def _start(self, code: CodeType, offset: int) -> None:
        self._on_entered(code)

    def _return(self, code: CodeType, offset: int, value: object) -> None:
        self._on_return(code, value, sys._getframe(1))

    def _unwind(self, code: CodeType, offset: int, error: BaseException) -> None:
        self._on_left(code, type(error))

    def _line(self, code: CodeType, line: int) -> Any:
        self._lines.setdefault(id(code), []).append(line)
        return self._monitoring.DISABLE


def make_watcher() -> Watcher:
    """The best watcher that this interpreter has free."""
    monitoring: Any | None = getattr(sys, "monitoring", None)
    if monitoring is not None:
        for tool in (4, 3):  # the numbers that no kind of tool is given by convention
            if monitoring.get_tool(tool) is None:
                monitoring.use_tool_id(tool, "loop-harness check")
                return MonitoringWatcher(tool)
    return TracingWatcher()
