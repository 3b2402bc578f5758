"""What tests of several rooms share."""

import gc
import sys
from collections.abc import Iterator

import pytest


def pytest_configure(config: pytest.Config) -> None:
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
