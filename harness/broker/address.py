"""AMQP URLs, read and changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit

from harness.errors import HarnessError

_SCHEMES = {"amqp": 5672, "amqps": 5671}
_EXAMPLE = "amqp://guest:guest@127.0.0.1:5672/"


@dataclass(frozen=True)
class Address:
    """Where a broker listens and who asks.

    :param query: connection arguments (``heartbeat=2``), without the question mark
    """

    scheme: str
    host: str
    port: int
    user: str
    password: str
    vhost: str = "/"
    query: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an ``amqp://`` or ``amqps://`` URL; what it leaves out has RabbitMQ's defaults.

        :raises HarnessError: if it is no such URL
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise HarnessError(
                f"{hide_password(url)!r} is not a URL ({error}); write for example {_EXAMPLE}"
            ) from None
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise HarnessError(
                f"{hide_password(url)!r} is not an amqp:// or amqps:// URL with a host; "
                f"write for example {_EXAMPLE}"
            )
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port or _SCHEMES[parts.scheme],
            user="guest" if parts.username is None else unquote(parts.username),
            password="guest" if parts.password is None else unquote(parts.password),
            vhost="/" if parts.path in ("", "/") else unquote(parts.path[1:]),
            query=parts.query,
        )

    def at(self, vhost: str) -> Address:
        """Return the same broker's ``vhost``."""
        return replace(self, vhost=vhost)

    @property
    def place(self) -> str:
        """Host and port, for messages: no secret in it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL, with the password."""
        path = "" if self.vhost == "/" else quote(self.vhost, safe="")
        query = f"?{self.query}" if self.query else ""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{self.scheme}://{login}@{self.place}/{path}{query}"

    def __str__(self) -> str:
        return hide_password(self.url)


def hide_password(url: str) -> str:
    """Return a URL that may be printed."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, login = head.rpartition("//")
    if not at or ":" not in login:
        return url
    return f"{scheme}{slashes}{login.partition(':')[0]}:***@{tail}"
