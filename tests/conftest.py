"""What tests of several rooms share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have what broken connections leave behind collected where its warnings are expected.

    aiormq leaves the streams of a connection that was broken to the garbage collector; a test that
    breaks some takes this fixture and the mark that ignores PytestUnraisableExceptionWarning.
    """
    yield
    # pytest keeps what the test was given, connections included, until after the last fixture.
    request.node.funcargs.clear()
    gc.collect()
