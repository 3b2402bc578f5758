"""A check that a method which overrides another calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["call_with_super_check", "super_check"]


def super_check(wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for the method of a base class that overriding methods must reach by ``super()``.

    Such methods are called through :func:`call_with_super_check`; a direct call raises
    :class:`AssertionError`.
    """

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        count = getattr(self, "_called", 0)
        if count < 1:
            raise AssertionError(
                f"The function '{wrapped.__name__}' was not called through call_with_super_check"
            )
        wrapped(self, *args, **kwargs)
        self._called = count - 1

    # Not functools.wraps: what __wrapped__ leads to would be taken for the signature of the hook.
    wrapper.__name__ = wrapped.__name__
    wrapper.__qualname__ = wrapped.__qualname__
    wrapper.__doc__ = wrapped.__doc__
    wrapper.__module__ = wrapped.__module__
    wrapper.unchecked = wrapped  # type: ignore[attr-defined]
    return wrapper


def run_hook(obj: Any, name: str, *args: Any) -> None:
    """Call a checked method, the cheap way where nothing overrides it.

    A function with the attribute ``unchecked`` is the base itself: there is nothing to check, and
    the attribute is what it comes to.
    """
    unchecked = getattr(getattr(type(obj), name), "unchecked", None)
    if unchecked is not None:
        unchecked(obj, *args)
    else:
        call_with_super_check(getattr(obj, name), *args)


def call_with_super_check(wrapped: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call a bound method and check that the base it overrides was reached.

    :raises AssertionError: if it was not
    """
    self = wrapped.__self__  # type: ignore[attr-defined]
    before = getattr(self, "_called", 0)
    try:
        self._called = before + 1
        wrapped(*args, **kwargs)
        reached = self._called == before
    finally:
        # A method that raised has left its mark: the next direct call would slip through.
        self._called = before
    if not reached:
        raise AssertionError(
            f"Base '{wrapped.__name__}' was not called from '{self.__class__}'\n"
            "Hint: Did you forget to call the super?"
        )
