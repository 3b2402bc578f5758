"""A worker as a program: what it runs on, and what ends it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import os
import signal
import time
from typing import Any

from plumpy.worker._worker import Worker

_LOGGER = logging.getLogger("plumpy.worker")

#: What stops a worker: in good order, then without waiting for steps, then at once.
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SIGNALS = 2


def run_until_signal(worker: Worker) -> bool:
    """Run a worker until a signal comes; tell whether no thread of its steps is left."""
    # What was imported stays: the collector need not go through it while processes wait.
    gc.collect()
    gc.freeze()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    threads = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="plumpy step")
    loop.set_default_executor(threads)
    received = 0

    def on_signal(number: int, _: Any) -> None:
        # Not by the loop, which a step may block: the last word is the user's.
        nonlocal received
        received += 1
        if received > _SIGNALS:
            os._exit(128 + number)
        loop.call_soon_threadsafe(worker.stop)

    before = {number: signal.signal(number, on_signal) for number in _STOPPING}
    try:
        working = loop.create_task(worker.run())
        while not working.done():
            try:
                loop.run_until_complete(working)
            except (SystemExit, KeyboardInterrupt) as exc:
                # Of a task or callback that a step left behind: those of signals are ours.
                _LOGGER.error("%r does not end a worker", exc)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        loop.close()
    threads.shutdown(wait=False)
    end = time.monotonic() + 1.0
    for thread in threads._threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads._threads)
