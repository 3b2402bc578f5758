"""RabbitMQ's management HTTP API: the part that makes and drops vhosts.

A request is one short connection: nothing stays open that a fork would share.
"""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from harness.broker.address import hide_password
from harness.errors import HarnessError

_REFUSED = (401, 403)


class NoManagement(HarnessError):
    """The management API cannot be used; the message says why and what would allow it."""


@dataclass(frozen=True)
class Management:
    """One broker's management API.

    :param url: for example ``http://127.0.0.1:15672``; a path in it is kept as a prefix
    :param user: the user who makes the vhosts, and who may use them afterwards
    """

    url: str
    user: str
    password: str
    timeout: float = 10.0

    @classmethod
    def parse(cls, url: str, *, user: str, password: str) -> Management:
        """Read a URL; a login in it wins over ``user`` and ``password``.

        :raises HarnessError: if it is no http or https URL
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise HarnessError(
                f"{hide_password(url)!r} is not the URL of a management API; "
                "write for example http://127.0.0.1:15672"
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        place = host if port is None else f"{host}:{port}"
        return cls(
            f"{parts.scheme}://{place}{parts.path.rstrip('/')}",
            user if parts.username is None else unquote(parts.username),
            password if parts.password is None else unquote(parts.password),
        )

    def version(self) -> str:
        """Return the broker's version.

        :raises NoManagement: if the API does not answer, or refuses the user
        """
        overview = self._ask("GET", "/overview")
        return str(overview["rabbitmq_version"])

    def vhosts(self, prefix: str) -> list[str]:
        """Return the names of the vhosts that begin with ``prefix``."""
        found = self._ask("GET", "/vhosts?columns=name")
        return [each["name"] for each in found if each["name"].startswith(prefix)]

    def make_vhost(self, name: str, users: tuple[str, ...]) -> None:
        """Make a vhost that each of ``users`` may use without limits.

        :raises NoManagement: if this user may not make vhosts
        """
        self._ask("PUT", f"/vhosts/{quote(name, safe='')}", {})
        for user in users:
            self._ask(
                "PUT",
                f"/permissions/{quote(name, safe='')}/{quote(user, safe='')}",
                {"configure": ".*", "write": ".*", "read": ".*"},
            )

    def drop_vhost(self, name: str) -> None:
        """Drop a vhost with all that is in it; one that is gone already is fine."""
        self._ask("DELETE", f"/vhosts/{quote(name, safe='')}", missing_ok=True)

    def connections(self, vhost: str) -> list[str]:
        """Return the names of the connections that are open in a vhost."""
        found = self._ask("GET", f"/vhosts/{quote(vhost, safe='')}/connections?columns=name")
        return [each["name"] for each in found if "name" in each]

    def close_connection(self, name: str) -> None:
        """Have the server close one connection; one that is gone already is fine."""
        self._ask("DELETE", f"/connections/{quote(name, safe='')}", missing_ok=True)

    def _ask(self, method: str, path: str, body: object = None, *, missing_ok: bool = False) -> Any:
        status, reason, data = self._send(method, path, body)
        if status in _REFUSED:
            raise NoManagement(
                f"the management API at {self.url} refuses {self.user!r} ({status} {reason}); "
                f"allow it with: rabbitmqctl set_user_tags {self.user} administrator "
                "(or name another user in HARNESS_BROKER_MANAGEMENT=http://USER:PASSWORD@HOST:15672)"
            )
        if status == http.client.NOT_FOUND and missing_ok:
            return None
        if status >= 300:
            raise NoManagement(
                f"the management API at {self.url} answers {status} {reason} to {method} {path}: "
                f"{data[:200].decode(errors='replace')}"
            )
        try:
            return json.loads(data) if data else None
        except ValueError:
            raise self._silent(f"it answers {data[:40]!r}, not JSON") from None

    def _send(self, method: str, path: str, body: object) -> tuple[int, str, bytes]:
        parts = urlsplit(self.url)
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        assert parts.hostname is not None
        connection = kind(parts.hostname, parts.port, timeout=self.timeout)
        try:
            connection.request(
                method,
                f"{parts.path}/api{path}",
                None if body is None else json.dumps(body),
                headers,
            )
            answer = connection.getresponse()
            return answer.status, answer.reason, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(str(error) or type(error).__name__) from None
        finally:
            connection.close()

    def _silent(self, why: str) -> NoManagement:
        return NoManagement(
            f"no management API at {self.url} ({why}), so no vhost can be made; enable it with: "
            "rabbitmq-plugins enable rabbitmq_management (or say where it is: "
            "HARNESS_BROKER_MANAGEMENT=http://HOST:PORT)"
        )
