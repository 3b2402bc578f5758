"""Telling listeners what happened."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import persistence

if TYPE_CHECKING:
    from .process_listener import ProcessListener

_LOGGER = logging.getLogger(__name__)


@persistence.auto_persist("_listeners", "_listener_type")
class EventHelper(persistence.Savable):
    """A set of listeners of one type.

    :param listener_type: the class that listeners have to be instances of
    """

    _listeners: set[ProcessListener]

    def __init__(self, listener_type: type[ProcessListener]):
        assert listener_type is not None, "Must provide valid listener type"
        self._listener_type = listener_type
        self._listeners = set()

    def add_listener(self, listener: ProcessListener) -> None:
        """Add a listener; adding it twice is adding it once."""
        assert isinstance(listener, self._listener_type), "Listener is not of right type"
        self._listeners.add(listener)

    def remove_listener(self, listener: ProcessListener) -> None:
        """Remove a listener if it is there."""
        self._listeners.discard(listener)

    def remove_all_listeners(self) -> None:
        """Remove all listeners."""
        self._listeners.clear()

    @property
    def listeners(self) -> set[ProcessListener]:
        """The listeners."""
        return self._listeners

    def fire_event(self, event_function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call a method of all listeners. What they raise is logged and goes no further.

        :param event_function: the method of the listener type, by whose name it is found
        """
        if event_function is None:
            raise ValueError("Must provide valid event method")
        for listener in tuple(self._listeners):
            try:
                getattr(listener, event_function.__name__)(*args, **kwargs)
            except Exception:
                _LOGGER.exception(
                    "Listener '%s' produced an exception on '%s'",
                    listener,
                    event_function.__name__,
                )
