"""Declarations about methods that can be checked while the program runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def protected(check: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare that a method is called from inside its class hierarchy only.

    :param check: whether calls are checked; a call from outside raises :class:`RuntimeError`
    :raises RuntimeError: for a property, which has to be decorated inside, or a free function
    """

    def wrap(func: Callable[..., Any]) -> Callable[..., Any]:
        _demand_member_function(func, "protected")
        if not check:
            return func

        @functools.wraps(func)
        def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            frame = inspect.currentframe()
            caller = frame.f_back if frame is not None else None
            try:
                caller_self = caller.f_locals.get("self") if caller is not None else None
                if not isinstance(caller_self, _definer(type(self), checked)):
                    raise RuntimeError(
                        f"Cannot access protected function {func.__name__} "
                        "from outside class hierarchy"
                    )
            finally:
                del frame, caller
            return func(self, *args, **kwargs)

        return checked

    return wrap


def _demand_member_function(func: Any, decorator: str) -> None:
    """Raise an error for what cannot be a method, whether calls are checked or not.

    :raises RuntimeError: for a property, and for a function that has no place for ``self``
    :raises TypeError: for what has no signature
    """
    if isinstance(func, property):
        raise RuntimeError(f"{decorator.capitalize()} must go after @property decorator")
    if not inspect.getfullargspec(func).args:
        raise RuntimeError(f"Can only use the {decorator} decorator on member functions")


def _definer(cls: type, function: Callable[..., Any]) -> type:
    """Return the class in the hierarchy of ``cls`` whose body holds ``function``."""
    for base in cls.__mro__:
        if function in vars(base).values():
            return base
    return cls


def override(check: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare that a method overrides one of a base class.

    :param check: whether that is checked when the method is called; :class:`RuntimeError` if not so
    :raises RuntimeError: for a property, which has to be decorated inside, or a free function
    """

    def wrap(func: Callable[..., Any]) -> Callable[..., Any]:
        _demand_member_function(func, "override")
        if not check:
            return func

        @functools.wraps(func)
        def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            cls = type(self)
            definer = _definer(cls, checked)
            above = cls.__mro__[cls.__mro__.index(definer) + 1 :]
            if not any(func.__name__ in vars(base) for base in above):
                raise RuntimeError(f"Function {func} does not override a superclass method")
            return func(self, *args, **kwargs)

        return checked

    return wrap


class __NULL:
    """Stands for no value where None is one. Equal to its copies."""

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, self.__class__)

    __hash__ = None  # type: ignore[assignment]


NULL = __NULL()
