"""Declarations about methods that can be checked while the program runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def protected(check: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare that a method is called from inside its class hierarchy only.

    :param check: whether calls are checked; a call from outside raises :class:`RuntimeError`
    """

    def wrap(func: Callable[..., Any]) -> Callable[..., Any]:
        if isinstance(func, property):
            return property(
                wrap(func.fget) if func.fget else None,
                wrap(func.fset) if func.fset else None,
                wrap(func.fdel) if func.fdel else None,
            )
        if not inspect.isfunction(func):
            raise TypeError("unsupported callable")
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


def _definer(cls: type, function: Callable[..., Any]) -> type:
    """Return the class in the hierarchy of ``cls`` whose body holds ``function``."""
    for base in cls.__mro__:
        if function in vars(base).values():
            return base
    return cls


def override(check: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare that a method overrides one of a base class.

    :param check: whether that is checked when the method is called; :class:`RuntimeError` if not so
    """

    def wrap(func: Callable[..., Any]) -> Callable[..., Any]:
        if isinstance(func, property):
            return property(
                wrap(func.fget) if func.fget else None,
                wrap(func.fset) if func.fset else None,
                wrap(func.fdel) if func.fdel else None,
            )
        if not inspect.isfunction(func):
            raise TypeError("unsupported callable")
        if not check:
            return func

        @functools.wraps(func)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if not args:
                raise RuntimeError("Can only use the override decorator on member functions")
            cls = type(args[0])
            definer = _definer(cls, checked)
            above = cls.__mro__[cls.__mro__.index(definer) + 1 :]
            if not any(func.__name__ in vars(base) for base in above):
                raise RuntimeError(f"Function {func} does not override a superclass method")
            return func(*args, **kwargs)

        return checked

    return wrap


class __NULL:
    """Stands for no value where None is one. Equal to its copies."""

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, self.__class__)

    __hash__ = None  # type: ignore[assignment]


NULL = __NULL()
