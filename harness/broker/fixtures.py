"""The pytest fixtures that need a broker.

The harness plugin puts a run's :class:`BrokerSource` into the configuration's stash under
:data:`SOURCE`; the broker starts with the first test that asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from harness.broker import (
    Broker,
    Provider,
    Unavailable,
    begin_run,
    check_setting,
    choose,
    finish_run,
    why_not,
)
from harness.errors import HarnessError

if TYPE_CHECKING:
    import kiwipy
    import kiwipy.rmq

#: Names of the fixtures that need a broker: a test that uses one of them is skipped without one.
FIXTURES = frozenset({"broker", "private_broker", "amqp_url", "communicator", "loop_communicator"})


class BrokerSource:
    """The one broker of a pytest run, chosen when the first test asks for it.

    Make it in ``pytest_configure``, also in the controller of pytest-xdist: the broker ends with
    the controller.

    :param setting: see :func:`harness.broker.choose`
    :param image: image for Docker
    :param say: told what takes long
    :raises pytest.UsageError: if the setting can be seen to be wrong without asking anybody
    """

    def __init__(
        self,
        setting: str,
        *,
        image: str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        try:
            check_setting(setting)
        except HarnessError as error:
            raise pytest.UsageError(f"--harness-broker: {error}") from None
        begin_run()
        self._setting = setting
        self._image = image
        self._say = say
        self._provider: Provider | None = None
        self._broker: Broker | None = None
        self._reason: str | None = None
        self._error: HarnessError | None = None

    @property
    def reason(self) -> str | None:
        """Why there is no broker and how to get one; None as long as that is not known."""
        return self._reason

    def prepare(self) -> Broker | None:
        """Return the running broker, or None if there is none to be had; :attr:`reason` says why.

        Call it before the process forks, so that the children find it started.

        :raises HarnessError: if the setting is wrong, or names a broker that cannot be had
        """
        if self._error is not None:
            raise self._error  # one test has waited for it in vain; the others need not
        if self._broker is None and self._reason is None:
            try:
                self._provider = choose(self._setting, image=self._image, say=self._say)
                self._broker = None if self._provider is None else self._provider.start()
                self._reason = None if self._broker is not None else why_not()
            except HarnessError as error:
                if self._setting != "auto" or not isinstance(error, Unavailable):
                    self._error = error
                    raise
                self._reason = str(error)
        return self._broker

    def private(self) -> Broker | None:
        """Return another broker that nobody else uses; the caller stops it.

        :raises HarnessError: as :meth:`prepare`, and for a broker that is not the harness's own
        """
        if self.prepare() is None or self._provider is None:
            return None
        return self._provider.start_private()

    def describe(self) -> str:
        """Return one line for the summary."""
        run = begin_run()
        for kind in ("docker", "local", "url"):
            # Also what a worker of pytest-xdist has started: its controller writes the summary.
            record = run.shared(kind)
            if record is not None:
                return f"{kind}: {record['summary']}"
        return self._reason or "not needed by any test"

    def finish(self) -> None:
        """End the broker, in the process that owns the run; again is fine."""
        finish_run()
        self._broker = None


SOURCE = pytest.StashKey[BrokerSource]()


def _had(request: pytest.FixtureRequest, get: Callable[[BrokerSource], Broker | None]) -> Broker:
    source = request.config.stash[SOURCE]
    try:
        found = get(source)
    except HarnessError as error:
        pytest.fail(str(error), pytrace=False)
    if found is None:
        pytest.skip(source.reason or why_not())
    return found


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Broker:
    """The running RabbitMQ of this run, shared by its tests; skips where there is none."""
    return _had(request, BrokerSource.prepare)


@pytest.fixture
def private_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A RabbitMQ that no other test uses, to be paused, killed or cut off; starts in seconds."""
    found = _had(request, BrokerSource.private)
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def amqp_url(broker: Broker, request: pytest.FixtureRequest) -> Iterator[str]:
    """AMQP URL of a fresh vhost that belongs to this test alone."""
    url = broker.new_vhost(request.node.name)
    try:
        yield url
    finally:
        broker.drop_vhost(url)


@pytest.fixture
def communicator(amqp_url: str) -> Iterator[kiwipy.rmq.RmqThreadCommunicator]:
    """A kiwipy communicator on this test's own vhost; its thread ends with the test."""
    import kiwipy.rmq

    made = kiwipy.rmq.RmqThreadCommunicator.connect(connection_params={"url": amqp_url})
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
async def loop_communicator(communicator: kiwipy.rmq.RmqThreadCommunicator) -> Any:
    """``communicator`` with its callbacks run by this test's event loop."""
    from plumpy.communications import LoopCommunicator

    return LoopCommunicator(communicator, asyncio.get_running_loop())
