"""A check that a method which overrides another calls it."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

__all__ = ["call_with_super_check", "super_check"]

_F = TypeVar("_F", bound=Callable[..., Any])

#: What may be called in place of a checked method, by the method of the base itself.
unchecked: dict[Any, Callable[..., Any]] = {}


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
    unchecked[wrapper] = wrapped
    return wrapper


def direct(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator for a method that overrides a checked one, and calls it.

    :param function: does what the method and all those above it do, without a check. It is called
        in place of the method where no other class has come in between.
    """

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        method.direct = function  # type: ignore[attr-defined]
        return method

    return wrap


def extends(own: _F) -> _F:
    """Decorator for what a class adds to a checked method: the method first does what the one that
    it overrides does, with the same arguments, and then this."""
    return cast(_F, _Extension(own))


class _Extension:
    """Makes the method as soon as its class, from which to look for the next one, is there."""

    def __init__(self, own: Callable[..., Any]) -> None:
        self._own = own

    def __set_name__(self, owner: type, name: str) -> None:
        own = self._own

        @functools.wraps(own)
        def method(self: Any, *args: Any) -> None:
            getattr(super(owner, self), name)(*args)
            own(self, *args)

        method.own = own  # type: ignore[attr-defined]
        setattr(owner, name, method)


def run_hook(obj: Any, name: str, *args: Any) -> None:
    """Call a checked method, the cheap way where it is known what the call comes to."""
    function = function_of_hook(type(obj), name)
    if function is not None:
        function(obj, *args)
    else:
        call_with_super_check(getattr(obj, name), *args)


def function_of_hook(cls: Any, name: str) -> Callable[..., Any] | None:
    """Return what may be called in place of a checked method of the instances of a class.

    That is known where the base, for which there is something in ``unchecked``, was not overridden
    but by methods made by :func:`extends` or :func:`direct`.
    """
    method = getattr(cls, name)
    function = unchecked.get(method)
    if function is not None:
        return function
    try:
        known, function = cls.__dict__["_plumpy_hooks"][name]
    except KeyError:
        known = None
    if known is not method:
        function = _without_check(cls, name)
        if "_plumpy_hooks" not in cls.__dict__:
            cls._plumpy_hooks = {}
        cls._plumpy_hooks[name] = (method, function)
    return function


def _without_check(cls: Any, name: str) -> Callable[..., Any] | None:
    """Return what may be called in place of a checked method, if anything."""
    chain = [base for base in cls.__mro__ if name in base.__dict__]
    extensions: list[Callable[..., Any]] = []
    for index, base in enumerate(chain):
        method = base.__dict__[name]
        attributes = method.__dict__ if type(method) is types.FunctionType else {}
        if "own" in attributes:
            extensions.append(attributes["own"])
            continue
        function = unchecked.get(method)
        if "direct" in attributes and chain[index:] == [
            above for above in base.__mro__ if name in above.__dict__
        ]:
            function = attributes["direct"]
        return function and _extended(function, extensions)
    return None


def _extended(
    function: Callable[..., Any], extensions: Sequence[Callable[..., Any]]
) -> Callable[..., Any]:
    if not extensions:
        return function
    *rest, last = reversed(extensions)
    if not rest:

        def both(obj: Any, *args: Any) -> None:
            function(obj, *args)
            last(obj, *args)

        return both

    def one_after_the_other(obj: Any, *args: Any) -> None:
        function(obj, *args)
        for own in rest:
            own(obj, *args)
        last(obj, *args)

    return one_after_the_other


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
