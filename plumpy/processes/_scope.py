"""Which process the code that runs now belongs to."""

from __future__ import annotations

import contextvars
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._process import Process


class ProcessStack:
    """The processes whose code is being run, one within the other; immutable.

    It refers weakly to them: a context lives on in timers and callbacks, a process must not.
    """

    __slots__ = ("_below", "_top")

    def __init__(self, top: weakref.ref[Process] | None, below: ProcessStack | None):
        self._top = top
        self._below = below

    @property
    def top(self) -> Process | None:
        """The innermost process, if it is still there."""
        return self._top() if self._top is not None else None

    def __len__(self) -> int:
        depth = 0
        stack = self._below
        while stack is not None:
            depth += 1
            stack = stack._below
        return depth

    def __iter__(self) -> Iterator[Process | None]:
        """From the outermost to the innermost."""
        references = []
        stack: ProcessStack | None = self
        while stack is not None and stack._top is not None:
            references.append(stack._top)
            stack = stack._below
        return (reference() for reference in reversed(references))

    def __getitem__(self, index: int) -> Process | None:
        if index == -1 and self._top is not None:
            return self.top
        return list(self)[index]

    def __repr__(self) -> str:
        return f"<ProcessStack {list(self)}>"


_EMPTY = ProcessStack(None, None)
PROCESS_STACK: contextvars.ContextVar[ProcessStack] = contextvars.ContextVar(
    "process stack", default=_EMPTY
)


def enter(process: Process) -> contextvars.Token[ProcessStack]:
    """Put a process on top of the stack; the token is for ``PROCESS_STACK.reset``."""
    return PROCESS_STACK.set(ProcessStack(weakref.ref(process), PROCESS_STACK.get()))
