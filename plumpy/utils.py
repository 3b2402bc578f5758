"""Small helpers that several modules share."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import types
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any
from typing import Hashable as _Hashable  # noqa: UP035
from typing import MutableMapping as _MutableMapping  # noqa: UP035

from . import lang
from .settings import check_override, check_protected

__all__ = ["AttributesDict"]

_LOGGER = logging.getLogger(__name__)

protected = lang.protected(check=check_protected)
override = lang.override(check=check_override)

# Old spellings, because the repr of these aliases is part of the interface.
SAVED_STATE_TYPE = _MutableMapping[str, Any]
PID_TYPE = _Hashable


class Frozendict(Mapping[str, Any]):
    """A mapping that cannot be changed; hashable if its values are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._dict: dict[str, Any] = dict(*args, **kwargs)
        self._hash: int | None = None

    def __getitem__(self, key: str) -> Any:
        return self._dict[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._dict

    def copy(self, **add_or_replace: Any) -> Frozendict:
        """Return a copy with some items added or replaced."""
        return self.__class__(self, **add_or_replace)

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} {self._dict!r}>"

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._dict.items()))
        return self._hash


class AttributesFrozendict(Frozendict):
    """A frozen mapping whose items are attributes too, where the class has none of that name."""

    def __init__(self, *args: Any, **kwargs: Any):
        self._dict = dict(*args, **kwargs)
        self._hash = None
        self._initialised: bool = True

    def __getattr__(self, attr: str) -> Any:
        # Looked up in a dictionary that is not there yet while an instance is being unpickled.
        try:
            return self.__dict__["_dict"][attr]
        except KeyError:
            raise AttributeError(
                f"'{self.__class__.__name__}' object has no attribute '{attr}'"
            ) from None

    def __dir__(self) -> list[str]:
        return list(self._dict)


class AttributesDict(types.SimpleNamespace):
    """A namespace whose attributes can be used as items."""

    def __getitem__(self, item: str) -> Any:
        if not isinstance(item, str):
            # what `in` and `for` ask for
            raise TypeError(f"attribute name must be string, not '{type(item).__name__}'")
        try:
            return self.__dict__[item]
        except KeyError:
            raise KeyError(f"No key '{item}'") from None

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __delitem__(self, item: str) -> None:
        delattr(self, item)

    def setdefault(self, key: str, value: Any) -> Any:
        """Return the value of ``key``, set to ``value`` if there was none."""
        return self.__dict__.setdefault(key, value)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Like :meth:`dict.get`."""
        return self.__dict__.get(*args, **kwargs)


def load_function(name: str, instance: Any | None = None) -> Callable[..., Any]:
    """Return the function or class with a dotted name.

    :param instance: if the name leads to a method of its class, the method is bound to it
    :raises ValueError: if there is no such function
    """
    obj = load_object(name)
    if inspect.isfunction(obj):
        if instance is not None and getattr(type(instance), obj.__name__, None) is obj:
            return types.MethodType(obj, instance)  # type: ignore[arg-type]
        return obj
    if inspect.isclass(obj) or inspect.isroutine(obj):
        return obj
    raise ValueError(f"Invalid function name '{name}'")


def load_object(fullname: str) -> Any:
    """Return the object with a dotted name, ``package.module.Class.attribute``.

    Imports what the name says; not for names that come from outside, see
    :class:`plumpy.loaders.DefaultObjectLoader`.

    :raises ValueError: if there is no such object
    """
    obj, remainder = load_module(fullname)
    for name in remainder:
        try:
            obj = getattr(obj, name)
        except AttributeError:
            raise ValueError(f"Could not load object corresponding to '{fullname}'") from None
    return obj


def load_module(fullname: str) -> tuple[types.ModuleType, deque[str]]:
    """Import the longest part of a dotted name that is a module.

    :return: the module, and the rest of the name in parts
    :raises ValueError: if no part is
    """
    parts = fullname.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        return module, deque(parts[count:])
    raise ValueError(f"Could not load a module corresponding to '{fullname}'")


def type_check(obj: Any, expected_type: type) -> None:
    """Raise :class:`TypeError` unless ``obj`` is an instance of ``expected_type``."""
    if not isinstance(obj, expected_type):
        raise TypeError(f"Got object of type '{type(obj)}' when expecting '{expected_type}'")


def is_mutable_property(cls: Any, attribute: str) -> bool:
    """Return whether a class has a property of this name that can be set."""
    attr = getattr(cls, attribute, None)
    return isinstance(attr, property) and attr.fset is not None


def is_coroutine_function(function: Any) -> bool:
    """Return whether calling an object gives a coroutine, by how it was written."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(function.__call__)


def ensure_coroutine(coro_or_fn: Any) -> Callable[..., Awaitable[Any]]:
    """Return a coroutine function that does what a callable does.

    Coroutine functions and objects whose ``__call__`` is one are returned as they are. Others are
    wrapped; they run where they may use :func:`plumpy.sync_await`. Of a class it is the
    ``__call__`` that counts, which gets the instance as its first argument.
    """
    if is_coroutine_function(coro_or_fn):
        return coro_or_fn  # type: ignore[no-any-return]

    from .greenback_bridge import run_with_portal

    function = coro_or_fn.__call__ if isinstance(coro_or_fn, type) else coro_or_fn

    @functools.wraps(function)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        return await run_with_portal(function, *args, **kwargs)

    return wrapped
