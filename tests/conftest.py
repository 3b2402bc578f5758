"""What tests of several rooms share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def collected() -> Iterator[None]:
    """Have what broken connections leave behind collected where its warnings are expected.

    aiormq leaves the streams of a connection that was broken to the garbage collector; a test that
    breaks some takes this fixture and the mark that ignores PytestUnraisableExceptionWarning.
    """
    yield
    gc.collect()
