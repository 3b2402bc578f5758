"""What a process does to its loop, and to others, by telling a communicator of its life."""

import asyncio
import os
import tempfile
import threading
from typing import Any, List

import kiwipy

import plumpy
from harness.scenario import scenario
from scenarios._processes import check_asyncio


@scenario(
    id="B23",
    title="Creating a process holds up the loop until the broker has answered",
    source="https://github.com/aiidateam/aiida-core/issues/4841",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_creating_a_process_does_not_wait_for_the_broker() -> None:
    """Symptom: 200 processes are made in 3.5 s in which nothing else runs; TimeoutError under load.

    Cause: the constructor subscribes, and waits for the broker in the thread of the loop.
    Fix: what a process has to say waits in a queue of its own, not in the loop.
    """

    class Slow(kiwipy.LocalCommunicator):
        """Takes a call only when the loop has turned, as a broker far away takes its time."""

        def __init__(self) -> None:
            super().__init__()
            self.turned = threading.Event()
            self.held = False
            self.subscribed = threading.Event()

        def add_rpc_subscriber(self, *args: Any, **options: Any) -> Any:
            self.held = not self.turned.wait(2)
            self.subscribed.set()
            return super().add_rpc_subscriber(*args, **options)

    communicator, loop = Slow(), asyncio.get_event_loop()
    loop.call_soon(communicator.turned.set)
    process = plumpy.Process(communicator=communicator)
    assert await loop.run_in_executor(None, communicator.subscribed.wait, 5)
    process.kill()
    assert not communicator.held, "the loop stood still while a process subscribed"


@scenario(
    id="B24",
    title="Each broadcast is offered to each process of each worker",
    source="https://github.com/aiidateam/aiida-core/issues/3540",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_number_of_listeners_does_not_grow_with_the_processes() -> None:
    """Symptom: submitting gets slower with every worker; 1,000 processes handle 60 broadcasts/s.

    Cause: each process subscribes to all broadcasts; n processes make n * n calls for each change
    of state.
    Fix: one listener for each communicator, which knows whom a broadcast is for.
    """

    class Counts(kiwipy.LocalCommunicator):
        """Counts who wants to hear all broadcasts."""

        def __init__(self) -> None:
            super().__init__()
            self.listeners = 0

        def add_broadcast_subscriber(self, *args: Any, **options: Any) -> Any:
            self.listeners += 1
            return super().add_broadcast_subscriber(*args, **options)

    communicator = Counts()
    processes = [plumpy.Process(communicator=communicator) for _ in range(20)]
    listeners = communicator.listeners
    for process in processes:
        process.kill()
    assert listeners <= 1, "%d listeners for 20 processes" % listeners


@scenario(
    id="E18",
    title="A broadcast with arguments by keyword is an IndexError in a wrapped filter",
    source="https://github.com/aiidateam/plumpy/blob/master/src/plumpy/communications.py",
    present=("plumpy>=0.19,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_wrapped_filter_takes_arguments_by_keyword() -> None:
    """Symptom: "tuple index out of range" when a process with a wrapped LocalCommunicator is made.

    Cause: the wrapper looks for the sender and the subject among the positional arguments.
    Fix: it names its parameters.
    """
    heard: List[Any] = []
    inner = kiwipy.LocalCommunicator()
    wrapped = plumpy.wrap_communicator(inner, asyncio.get_event_loop())
    wanted = kiwipy.BroadcastFilter(lambda _, body, *rest: heard.append(body), subject="news")
    wrapped.add_broadcast_subscriber(wanted)
    inner.broadcast_send("old", subject="other")
    inner.broadcast_send("new", subject="news")
    for _ in range(10):
        await asyncio.sleep(0)
    assert heard == ["new"]


@scenario(
    id="E19",
    title="A process excepts because nobody could be told that it runs",
    source="https://github.com/aiidateam/aiida-core/issues/5031",
    present=("plumpy>=0.16,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
    prepare=check_asyncio,
)
async def test_lost_connection_does_not_except_a_process() -> None:
    """Symptom: jobs that run fine are EXCEPTED with ConnectionError or ChannelInvalidStateError.

    Cause: the broadcast of the new state is part of the transition, and only some errors of it are
    caught.
    Fix: the broadcast goes to a queue; its errors are retried and logged.
    """

    class Unreachable(kiwipy.LocalCommunicator):
        """Has lost its connection when the first process runs."""

        def broadcast_send(
            self, body: Any, sender: Any = None, subject: Any = None, **rest: Any
        ) -> Any:
            if str(subject).endswith("running"):
                raise ConnectionResetError("the broker is gone")
            return super().broadcast_send(body, sender=sender, subject=subject, **rest)

    class Finishes(plumpy.Process):
        """Has one step."""

        def run(self) -> Any:
            return 5

    process = Finishes(communicator=Unreachable())
    await process.step_until_terminated()
    assert process.state is plumpy.ProcessState.FINISHED, process.exception()


@scenario(
    id="S3",
    title="A task can call any function: it names a class that is none",
    source="https://github.com/aiidateam/plumpy/blob/master/src/plumpy/process_comms.py",
    present=("plumpy>=0.11.4,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_launch_task_runs_processes_only() -> None:
    """Symptom: whoever may write to the task queue runs code as the user of the worker.

    Cause: the launcher loads the name that the task gives and calls what it finds.
    Fix: what is found has to be a subclass of Process.
    """
    folder = os.path.join(tempfile.mkdtemp(), "made")
    arguments = {"process_class": "os:mkdir", "persist": False, "nowait": True}
    arguments.update(init_args=[folder], init_kwargs=None)
    launcher = plumpy.ProcessLauncher()
    try:
        await launcher(kiwipy.LocalCommunicator(), {"task": "launch", "args": arguments})
    except Exception:
        pass
    assert not os.path.exists(folder), "the task made a directory"


@scenario(
    id="S7",
    title="An error answer shows the sender the files and lines of the worker",
    source="https://github.com/aiidateam/plumpy/blob/master/src/plumpy/processes.py",
    present=("plumpy>=0.24,<=0.26.1",),
    shown_in=("0.26.1",),
    python=">=3.9",
)
async def test_error_answer_has_no_traceback() -> None:
    """Symptom: paths and source lines of the worker in the answer to whoever sent a message.

    Cause: the answer is made of the formatted traceback.
    Fix: the traceback goes to the log, the text of the error to the sender.
    """

    class Refuses(plumpy.Process):
        """Cannot be killed."""

        def kill(self, *args: Any, **options: Any) -> Any:
            raise ValueError("on purpose")

    communicator = kiwipy.LocalCommunicator()
    process = Refuses(communicator=communicator)
    future = communicator.rpc_send(str(process.pid), {"intent": "kill", "message": None})
    while hasattr(future, "done"):
        while not future.done():
            await asyncio.sleep(0)
        if future.exception() is not None:
            break
        future = future.result()
    text = str(future.exception())
    assert "on purpose" in text
    assert "Traceback" not in text
    assert ", line " not in text
