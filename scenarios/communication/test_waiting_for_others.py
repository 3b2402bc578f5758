"""Waiting for a process that runs elsewhere: by broadcast, by polling, by both."""

import asyncio
import concurrent.futures
import time
from typing import Any

import kiwipy

from harness.scenario import scenario
from scenarios._processes import check_asyncio


def _plant_blind_poll() -> None:
    """Make a look at a process see nothing."""
    globals()["look"] = lambda pid: None


def look(pid):
    """Tell the final state of a process, as a look into the checkpoints would."""
    from plumpy import ProcessState

    return ProcessState.FINISHED


@scenario(
    id="W01",
    title="Who subscribes to the end of a process after its end waits for ever",
    source="https://github.com/aiidateam/aiida-core/issues/4150",
    present=("kiwipy>=0.3.1",),
    python=">=3.9",
)
async def test_end_of_a_process_is_heard_by_who_subscribes_late() -> None:
    """Symptom: a parent waits for a child that has ended long ago.

    Cause: a broadcast reaches those who are subscribed at that moment; nothing is kept.
    Workaround: subscribe first and then look once, and look again from time to time.
    """
    loop, communicator = asyncio.get_event_loop(), kiwipy.LocalCommunicator()
    heard = loop.create_future()
    communicator.broadcast_send(None, sender="child", subject="state_changed.running.finished")
    communicator.add_broadcast_subscriber(lambda *_, **__: heard.set_result(True))
    await asyncio.wait([heard], timeout=0.2)
    assert heard.done(), "the broadcast was missed, and there will be no other"


@scenario(
    id="W02",
    title="The poll interval as a back-up: a missed broadcast is made up for",
    source="https://github.com/aiidateam/aiida-core/issues/4150",
    library="plumpy",
    planted=_plant_blind_poll,
    python=">=3.9",
)
async def test_missed_broadcast_is_made_up_for_by_polling() -> None:
    """Symptom: none: a guard for the way that works, when the broadcast came before the waiter.

    Cause: the waiter subscribes, and then looks at the process itself, at once and again at each
    interval.
    """
    from plumpy.waiting import ProcessWaiter

    communicator = kiwipy.LocalCommunicator()
    communicator.broadcast_send(None, sender="child", subject="state_changed.running.finished")
    async with ProcessWaiter(communicator, look, interval=0.01) as waits:
        assert (await waits.wait("child")).value == "finished"


@scenario(
    id="W03",
    title="The poll interval as the only mechanism",
    source="https://github.com/aiidateam/aiida-core/issues/4150",
    library="plumpy",
    planted=_plant_blind_poll,
    python=">=3.9",
)
async def test_polling_alone_sees_the_end_of_a_process() -> None:
    """Symptom: none; it works without a broker, and costs one look per interval.

    Cause: the end is stored, and a look finds it whenever it comes.
    """
    from plumpy.waiting import ProcessWaiter

    async with ProcessWaiter(None, look, interval=0.01) as waits:
        assert (await waits.wait("child")).value == "finished"


def _plant_deaf_communicator() -> None:
    """Make a communicator whose broadcasts reach nobody."""
    kiwipy.LocalCommunicator.broadcast_send = lambda *args, **options: True


@scenario(
    id="W04",
    title="A broadcast ends the wait without any poll",
    source="https://github.com/aiidateam/aiida-core/issues/4150",
    library="plumpy",
    planted=_plant_deaf_communicator,
    python=">=3.9",
)
async def test_broadcast_alone_ends_the_wait() -> None:
    """Symptom: none; who subscribed in time needs no poll.

    Cause: the last transition of a process is broadcast.
    """
    from plumpy.waiting import ProcessWaiter

    communicator = kiwipy.LocalCommunicator()
    async with ProcessWaiter(communicator) as waits:
        waiting = asyncio.ensure_future(waits.wait("child"))
        await asyncio.sleep(0.05)
        communicator.broadcast_send(None, sender="child", subject="state_changed.running.finished")
        assert (await waiting).value == "finished"


@scenario(
    id="B12p",
    title="A wrapped subscriber's answer is lost until the loop wakes up, without any broker",
    source="https://docs.python.org/3/library/asyncio-dev.html#concurrency-and-multithreading",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_every_answer_of_a_wrapped_subscriber_is_delivered() -> None:
    """Symptom: the answer to a message comes with the next unrelated event of the loop, or never.

    Cause: the answer is an asyncio future of the loop, and the communicator's thread adds a
    callback to it; if it is done by then, call_soon() is called from that thread, which wakes
    nobody.
    Fix: futures are only touched in the thread of their loop.
    """
    from plumpy.communications import convert_to_comm

    loop = asyncio.get_event_loop()
    converted = convert_to_comm(lambda communicator, message: message, loop)
    hand_over = loop.call_soon_threadsafe

    def rests_when_it_has_handed_over(*args: Any, **options: Any) -> Any:
        handle = hand_over(*args, **options)
        time.sleep(0.05)  # meanwhile the loop does what it was given, and sleeps
        return handle

    def communicator_thread() -> int:
        for number in range(5):
            try:
                converted(None, number).result(timeout=1)
            except concurrent.futures.TimeoutError:
                return number
        return 5

    vars(loop)["call_soon_threadsafe"] = rests_when_it_has_handed_over
    answered = await loop.run_in_executor(None, communicator_thread)
    assert answered == 5, "answer %d was not delivered" % answered
