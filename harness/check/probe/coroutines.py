"""Hear of every coroutine that is thrown away without having been awaited."""

from __future__ import annotations

import sys
import traceback
import warnings
from types import CodeType
from typing import Any, NamedTuple


class Unawaited(NamedTuple):
    """One coroutine that was created and dropped.

    :param code: its body
    :param file: where it was created, if known
    :param line: line of that place; 0 if not known
    :param creator: name of the function that created it
    :param expected: whether the test was collecting or filtering warnings at that moment
    """

    code: CodeType | None
    file: str
    line: int
    creator: str
    expected: bool


class UnawaitedRecorder:
    """Stands in for the function that CPython calls for each of them, and warns like it."""

    def __init__(self) -> None:
        self.seen: list[Unawaited] = []
        self._depth: int | None = None
        self._handling: tuple[int, int] = (0, 0)
        self._hook = "_warn_unawaited_coroutine"
        if hasattr(warnings, self._hook):
            setattr(warnings, self._hook, self._warn)

    def begin(self) -> None:
        """Forget the previous test and ask where each coroutine is created."""
        self.seen.clear()
        self._depth = sys.get_coroutine_origin_tracking_depth()
        if self._depth == 0:
            sys.set_coroutine_origin_tracking_depth(1)
        # Inside pytest's own collection of warnings, outside that of the test and its fixtures.
        self._handling = self._how()

    def end(self) -> None:
        """Give the interpreter its own depth back."""
        if self._depth == 0 and sys.get_coroutine_origin_tracking_depth() == 1:
            sys.set_coroutine_origin_tracking_depth(0)
        self._depth = None

    @staticmethod
    def _how() -> tuple[int, int]:
        return id(warnings.filters), id(getattr(warnings, "_showwarnmsg_impl", None))

    def _warn(self, coroutine: Any) -> None:
        origin = getattr(coroutine, "cr_origin", None)
        file, line, creator = origin[0] if origin else ("", 0, "")
        code = getattr(coroutine, "cr_code", None)
        expected = self._how() != self._handling
        self.seen.append(Unawaited(code, file, line, creator, expected))
        text = f"coroutine '{coroutine.__qualname__}' was never awaited"
        # An origin that is there only because begin() asked for it is not the project's text.
        if origin and (self._depth != 0 or sys.get_coroutine_origin_tracking_depth() > 1):
            frames = [traceback.FrameSummary(*frame) for frame in reversed(origin)]
            stack = "".join(traceback.format_list(frames)).rstrip("\n")
            text += f"\nCoroutine created at (most recent call last)\n{stack}"
        # Level 2 is the frame that dropped it: this function stands in for the interpreter's own.
        warnings.warn(text, RuntimeWarning, stacklevel=2, source=coroutine)
