"""The url provider: a broker that somebody else runs.

Nothing there is touched but vhosts of this run's own making.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from harness.broker.address import Address
from harness.broker.base import Broker, Provider
from harness.broker.handshake import NotReady, shake_hands
from harness.broker.keeping import Keeper
from harness.broker.management import Management
from harness.broker.processes import Owner
from harness.broker.run import Run
from harness.errors import HarnessError

#: Names the management API: ``http://HOST:PORT``, with a login if it is not the one of the URL.
MANAGEMENT_VARIABLE = "HARNESS_BROKER_MANAGEMENT"
_USUAL_PORTS = {"amqp": ("http", 15672), "amqps": ("https", 15671)}


class UrlBroker(Broker):
    """A broker at a URL; it is not ours to break or to stop."""

    name = "url"


class UrlProvider(Provider):
    """Uses the broker at a URL.

    :param url: ``amqp://`` or ``amqps://``; an argument ``management=http://HOST:PORT`` in its
        query says where the management API is, else :data:`MANAGEMENT_VARIABLE`, else the usual
        port
    :raises HarnessError: if it is not reachable, or refuses the login
    """

    name = "url"

    def __init__(self, url: str, run: Run) -> None:
        self._run = run
        address = Address.parse(url)
        arguments = dict(parse_qsl(address.query))
        scheme, port = _USUAL_PORTS[address.scheme]
        host = f"[{address.host}]" if ":" in address.host else address.host
        place = (
            arguments.pop("management", None)
            or os.environ.get(MANAGEMENT_VARIABLE)
            or f"{scheme}://{host}:{port}"
        )
        self._address = replace(address, query=urlencode(arguments))
        self._management = Management.parse(place, user=address.user, password=address.password)
        try:
            self._version = shake_hands(self._address)
        except NotReady as error:
            raise HarnessError(
                f"no broker answers at {address} ({error}); start it, or check host and port "
                "(a broker of your own: harness broker up)"
            ) from None

    def start(self) -> UrlBroker:
        record = self._run.share(self.name, lambda: self._record(self._run, self._run.owner))
        return UrlBroker(record, self._run, shared=True)

    def start_private(self) -> UrlBroker:
        raise HarnessError(
            f"the broker at {self._address.place} is not the harness's own, so it is not broken "
            "on purpose; use --harness-broker=docker or local"
        )

    def describe(self) -> str:
        return f"{self._version} at {self._address.place}"

    def _record(self, run: Run, owner: Owner | None) -> dict[str, Any]:
        self._management.version()
        management = asdict(self._management)
        keeper = Keeper.start(run, owner, "vhosts", management=management, prefix=run.prefix)
        return {
            "url": self._address.url,
            "management": management,
            "summary": f"{self.describe()} (not ours: only vhosts are made there)",
            "keeper": str(keeper.directory),
        }
