"""The pytest fixtures that need a broker; cheap to import, because every run of pytest does."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError

if TYPE_CHECKING:
    import kiwipy
    import kiwipy.rmq

    from harness.broker.base import Broker
    from harness.broker.source import BrokerSource
    from plumpy.communications import LoopCommunicator

#: Names of the fixtures that need a broker: a test that uses one of them is skipped without one.
FIXTURES = frozenset({"broker", "private_broker", "amqp_url", "communicator", "loop_communicator"})
_SOURCE = pytest.StashKey["BrokerSource"]()


def source_of(config: pytest.Config) -> BrokerSource:
    """Return the source of this run's broker, made when first asked for.

    :raises pytest.UsageError: for a ``--harness-broker`` that cannot be meant
    """
    if _SOURCE not in config.stash:
        from harness.broker.source import BrokerSource
        from harness.pytest_plugin import setting

        try:
            config.stash[_SOURCE] = BrokerSource(
                setting(config, "broker"),
                image=setting(config, "image") or None,
                say=functools.partial(_say, config),
            )
        except HarnessError as error:
            raise pytest.UsageError(f"--harness-broker: {error}") from None
    return config.stash[_SOURCE]


def describe(config: pytest.Config) -> str:
    """Say in one line which broker this run used."""
    return source_of(config).describe()


def finish(config: pytest.Config) -> None:
    """End the broker of this run, if it has one."""
    if _SOURCE in config.stash:
        config.stash[_SOURCE].finish()


def _say(config: pytest.Config, line: str) -> None:
    """Tell the person who waits, past pytest's capture."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        print(f"harness: {line}", file=sys.stderr, flush=True)


def _had(config: pytest.Config, broker: Callable[[BrokerSource], Broker | None]) -> Broker:
    source = source_of(config)
    try:
        found = broker(source)
    except HarnessError as error:
        pytest.fail(str(error), pytrace=False)
    if found is None:
        pytest.skip(source.reason or "there is no broker")
    return found


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Broker:
    """The running RabbitMQ of this run, shared by its tests; skips where there is none."""
    return _had(request.config, lambda source: source.prepare())


@pytest.fixture
def private_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A RabbitMQ that no other test uses, to be paused, killed or cut off; starts in seconds."""
    found = _had(request.config, lambda source: source.private())
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
async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.fixture
def loop_communicator(
    communicator: kiwipy.rmq.RmqThreadCommunicator, request: pytest.FixtureRequest
) -> LoopCommunicator:
    """``communicator`` with its callbacks run by the event loop of this test or scenario."""
    from plumpy.communications import LoopCommunicator

    make_loop = getattr(request.node, "make_loop", None)  # a scenario brings its own
    loop = make_loop() if make_loop else request.getfixturevalue("_running_loop")
    return LoopCommunicator(communicator, loop)
