"""What tests of several rooms share."""

import gc
import signal
import sys
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # A shell ignores SIGINT for what it runs in the background, and children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "breaks_connections: what its connections leave behind is no fault of the test"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Collect what broken connections leave behind before another test is blamed for it.

    aiormq leaves the streams of a connection that was broken to the garbage collector; pytest keeps
    what a test was given and what it logged, connections included, until after its last fixture.
    """
    result = yield
    if item.get_closest_marker("breaks_connections"):
        before, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            gc.collect()
        finally:
            sys.unraisablehook = before
    return result
