"""Connecting a command to RabbitMQ, and saying in one line what is in the way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

import aiormq
import kiwipy
from aiormq.exceptions import ConnectionClosed, ProbableAuthenticationError
from kiwipy.rmq import RmqThreadCommunicator
from pamqp import commands

from plumpy import _codec
from plumpy._rabbitmq._client import declare_task_queue
from plumpy._rabbitmq._pipeline import Settings

_LOGGER = logging.getLogger(__name__)

DEFAULT_QUEUE = "kiwipy.tasks"
#: Seconds that connecting may take.
_CONNECT_TIMEOUT = 10.0
_PORTS = {"amqp": 5672, "amqps": 5671}


class UsageError(Exception):
    """Something that the person who typed the command can put right; the text says how."""


@contextlib.contextmanager
def connected(
    url: str, heartbeat: int | None = None, queue: str | None = None
) -> Iterator[kiwipy.Communicator]:
    """Connect to a broker for the time of a with block.

    If the connection is lost, it is tried again and again, and what is in the way is logged.

    :param heartbeat: in seconds; that of the URL or the broker's own by default
    :param queue: the task queue, if it is to be used
    :raises UsageError: if that is not possible
    """
    # What they have to say is said here.
    for noisy in ("aiormq", "aio_pika"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    shown = without_password(url)
    if url.partition("://")[0] not in ("amqp", "amqps"):
        raise UsageError(f"{shown!r} is no broker: expected amqp://USER:PASSWORD@HOST/VHOST")
    if heartbeat is not None:
        url = f"{url}{'&' if '?' in url else '?'}heartbeat={heartbeat}"

    async def try_out() -> None:
        # kiwipy's communicator leaves a thread behind when it cannot connect.
        connection = await asyncio.wait_for(aiormq.connect(url), _CONNECT_TIMEOUT)
        await connection.close()

    async def try_queue(name: str) -> None:
        connection = await asyncio.wait_for(aiormq.connect(url), _CONNECT_TIMEOUT)
        try:
            channel = await connection.channel()
            await declare_task_queue(channel, Settings(communicator), name)
        finally:
            await connection.close()

    try:
        asyncio.run(try_out())
        communicator = RmqThreadCommunicator(
            url, task_queue=queue or DEFAULT_QUEUE, decoder=_codec.decode_safely
        )
    except Exception as exc:
        raise UsageError(f"cannot connect to {shown}: {_reason(exc)}") from None
    try:
        if queue is not None:
            try:
                asyncio.run(try_queue(queue))
            except Exception as exc:
                text = f"cannot use the queue {queue!r} of {shown}: {_reason(exc)}"
                raise UsageError(text) from None
        with _reconnecting_aloud(Settings(communicator).connection):
            yield communicator
    finally:
        communicator.close()


@contextlib.contextmanager
def _reconnecting_aloud(connection: Any) -> Iterator[None]:
    """Say once, for each loss of a connection, what keeps it from coming back.

    :param connection: of aio_pika, which tells only its log, at every attempt
    """
    teller = _Teller(connection.url)
    log = logging.getLogger("aio_pika.robust_connection")
    log.setLevel(logging.WARNING)
    log.propagate = False
    log.addHandler(teller)
    connection.reconnect_callbacks.add(teller.works_again)
    try:
        yield
    finally:
        log.removeHandler(teller)


class _Teller(logging.Handler):
    """Takes what aio_pika logs of its attempts; each text is logged once until one succeeds."""

    def __init__(self, url: Any) -> None:
        super().__init__()
        self._place = f"{url.host}:{url.port or _PORTS[url.scheme]}"
        self._user = url.user or "guest"
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        arguments = record.args if isinstance(record.args, tuple) else ()
        error = raised or next((each for each in arguments if isinstance(each, Exception)), None)
        if error is None:
            return
        reason = _reason(error)
        if reason in self._said:
            return
        self._said.add(reason)
        if _refused(error):
            _LOGGER.error(
                "the broker at %s refuses the user %r: %s; trying again",
                self._place,
                self._user,
                reason,
            )
        else:
            _LOGGER.warning("cannot reach the broker at %s: %s; trying again", self._place, reason)

    def works_again(self, *_: Any) -> None:
        """Note that there is a connection."""
        if self._said:
            self._said.clear()
            _LOGGER.info("connected again to the broker at %s", self._place)


def _close_of(exc: BaseException) -> commands.Connection.Close | None:
    """Return with what the broker ended a connection that was just being made."""
    return next((each for each in exc.args if isinstance(each, commands.Connection.Close)), None)


def _refused(exc: BaseException) -> bool:
    return _close_of(exc) is not None or isinstance(
        exc, (ProbableAuthenticationError, ConnectionClosed)
    )


def _reason(exc: BaseException) -> str:
    if isinstance(exc, asyncio.TimeoutError):
        return f"no answer within {_CONNECT_TIMEOUT:g} s"
    close = _close_of(exc)
    text = " ".join(str(close.reply_text if close else exc).split())
    return text.rstrip(".") or type(exc).__name__


def without_password(url: str) -> str:
    """Return a URL as it may be printed."""
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    shown = f"{scheme}{separator}{user.partition(':')[0]}{at}{host}"
    return re.sub(r"(password=)[^&\s]*", r"\1...", shown)
