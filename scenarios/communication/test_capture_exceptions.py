"""kiwipy.capture_exceptions: when an exception is captured, when it escapes, when it is lost."""

import asyncio
import concurrent.futures

from harness.scenario import scenario


def _plant_blind_capture() -> None:
    """Make kiwipy.capture_exceptions() let everything through."""
    import contextlib

    import kiwipy

    kiwipy.capture_exceptions = lambda future: contextlib.suppress()


@scenario(
    id="K00",
    title="capture_exceptions() sets an exception of the block on the future",
    source="https://github.com/aiidateam/kiwipy/blob/develop/src/kiwipy/futures.py",
    library="kiwipy",
    planted=_plant_blind_capture,
    python=">=3.9",
)
async def test_exception_of_the_block_is_on_the_future() -> None:
    """Symptom: none: this is what it is for. The block ends normally, the exception is raised by
    whoever asks the future for its result.

    Cause: a context manager around the block catches Exception.
    """
    import kiwipy

    future: "concurrent.futures.Future[None]" = concurrent.futures.Future()
    with kiwipy.capture_exceptions(future):
        raise KeyError("on purpose")
    assert isinstance(future.exception(timeout=0), KeyError)


@scenario(
    id="K01",
    title="With capture_exceptions() the future of run_coroutine_threadsafe() says 'no error'",
    source="https://github.com/aiidateam/kiwipy/blob/develop/src/kiwipy/futures.py",
    present=("kiwipy>=0.3.1",),
    python=">=3.9",
)
async def test_threadsafe_future_shows_a_captured_exception() -> None:
    """Symptom: nothing happens at the call; the exception is on another future, later.

    Cause: the block swallows the exception, so the coroutine ends normally with None.
    Workaround: ask the future that capture_exceptions() was given.
    """
    import kiwipy

    loop, captured = asyncio.get_event_loop(), asyncio.get_event_loop().create_future()

    async def fails() -> None:
        with kiwipy.capture_exceptions(captured):
            raise KeyError("on purpose")

    future = asyncio.run_coroutine_threadsafe(fails(), loop)
    await asyncio.wrap_future(future)
    assert isinstance(captured.exception(), KeyError)
    assert future.exception() is not None, "the concurrent future says that all went well"


@scenario(
    id="K02",
    title="capture_exceptions() does not capture a cancellation: the future stays pending",
    source="https://github.com/aiidateam/kiwipy/blob/develop/src/kiwipy/futures.py",
    present=("kiwipy>=0.3.1",),
    python=">=3.9",
)
async def test_cancelled_job_completes_its_future() -> None:
    """Symptom: whoever waits for the future of a cancelled job waits for ever.

    Cause: "except Exception", and CancelledError is a BaseException since Python 3.8.
    Workaround: a done-callback of the task that cancels the future.
    """
    import kiwipy

    future = asyncio.get_event_loop().create_future()

    async def job() -> None:
        with kiwipy.capture_exceptions(future):
            await asyncio.sleep(60)

    task = asyncio.ensure_future(job())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert future.done(), "the job was cancelled, and its future is pending"


@scenario(
    id="K04",
    title="SystemExit in a job leaves its future pending",
    source="https://github.com/aiidateam/kiwipy/blob/develop/src/kiwipy/futures.py",
    present=("kiwipy>=0.3.1",),
    python=">=3.9",
)
async def test_exit_in_a_job_completes_its_future() -> None:
    """Symptom: whoever waits for the job in another thread hangs, while the program ends.

    Cause: SystemExit and KeyboardInterrupt are BaseExceptions and not captured.
    Workaround: none but a time-out for the wait.
    """
    import kiwipy

    future: "concurrent.futures.Future[None]" = concurrent.futures.Future()
    try:
        with kiwipy.capture_exceptions(future):
            raise SystemExit(3)
    except SystemExit:
        pass
    assert future.done(), "the job ended the program, and its future is pending"
