"""What goes down a channel: methods that the broker answers, methods that it does not, messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import kiwipy
import pamqp.frame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from plumpy import _thread_futures


class Operation:
    """Something to be written. ``on_end`` is told once how it went: None or an error."""

    __slots__ = ("_ended", "on_end", "waiters")
    #: Whether the broker answers it, in the order of the asking.
    asks = False

    def __init__(self, on_end: Callable[[BaseException | None], None] | None = None) -> None:
        self.on_end = on_end
        self.waiters: list[Flush] = []
        self._ended = False

    def frames(self, channel: Any) -> bytes | None:
        """Return what to write; None if there is nothing to be said any more."""
        raise NotImplementedError

    def end(self, error: BaseException | None = None) -> None:
        """Tell everyone who waits."""
        if self._ended:
            return
        self._ended = True
        for waiter in self.waiters:
            waiter.one_less()
        self.waiters = []
        # Often it refers to this operation: it is let go of, so that neither waits to be collected.
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(error)


class Ask(Operation):
    """A method that the broker answers."""

    __slots__ = ("dropped", "method", "written")
    asks = True

    def __init__(
        self,
        method: Callable[[Any], Any],
        on_end: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        """
        :param method: returns the pamqp command, given the channel that it is written to, or None
            if there is nothing to be asked any more
        """
        super().__init__(on_end)
        self.method = method
        self.written = False
        self.dropped = False

    def frames(self, channel: Any) -> bytes | None:
        if self.dropped:
            return None
        self.written = True
        method = self.method(channel)
        return None if method is None else pamqp.frame.marshal(method, channel.number)


class Tell(Operation):
    """A method without an answer, for one channel only: it is void once that is lost."""

    __slots__ = ("channel", "method")

    def __init__(self, channel: Any, method: Any) -> None:
        super().__init__()
        self.channel = channel
        self.method = method

    def frames(self, channel: Any) -> bytes | None:
        if channel is not self.channel:
            return None
        return pamqp.frame.marshal(self.method, channel.number)


class Publish(Operation):
    """A publication, which the broker confirms."""

    __slots__ = ("body", "exchange", "expires", "mandatory", "properties", "routing_key")

    def __init__(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: commands.Basic.Properties,
        *,
        mandatory: bool = False,
        expires: float = float("inf"),
        on_end: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        """
        :param mandatory: end with an error if no queue gets it; needs a message id
        :param expires: the monotonic time after which it is not worth to be sent
        """
        super().__init__(on_end)
        self.exchange = exchange
        self.routing_key = routing_key
        self.body = body
        self.properties = properties
        self.mandatory = mandatory
        self.expires = expires

    def frames(self, channel: Any) -> bytes | None:
        if time.monotonic() > self.expires:
            return None
        number = channel.number
        method = commands.Basic.Publish(
            exchange=self.exchange, routing_key=self.routing_key, mandatory=self.mandatory
        )
        header = ContentHeader(body_size=len(self.body), properties=self.properties)
        parts = [pamqp.frame.marshal(method, number), pamqp.frame.marshal(header, number)]
        size = channel.max_content_size
        for start in range(0, len(self.body), size):
            part = ContentBody(self.body[start : start + size])
            parts.append(pamqp.frame.marshal(part, number))
        return b"".join(parts)


class Flush:
    """Waits for a number of operations."""

    def __init__(self, future: kiwipy.Future) -> None:
        self.future = future
        self.missing = 0

    def one_less(self) -> None:
        self.missing -= 1
        if self.missing <= 0:
            _thread_futures.succeed(self.future, True)
