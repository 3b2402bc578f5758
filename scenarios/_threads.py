"""Threads whose order is forced, so that what depends on it happens every time."""

import threading


def slow_callers(loop):
    """Make who hands work to the loop go on only when the loop has done it and sleeps again.

    That is one of the orders that two threads may take, and the one in which a wake-up gets lost.
    """
    select, hand_over, asleep = loop._selector.select, loop.call_soon_threadsafe, threading.Event()

    def watched(timeout=None):
        if timeout is None:
            asleep.set()
        try:
            return select(timeout)
        finally:
            asleep.clear()

    def patient(*args, **options):
        asleep.wait(1)
        asleep.clear()
        handle = hand_over(*args, **options)
        asleep.wait(1)
        return handle

    loop._selector.select = watched
    loop.call_soon_threadsafe = patient
