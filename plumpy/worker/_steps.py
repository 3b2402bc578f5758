"""What the steps of a process can ask of the worker that runs it."""

from __future__ import annotations

import uuid
import weakref
from typing import TYPE_CHECKING, Any

from plumpy.communications import LoopCommunicator
from plumpy.exceptions import PersistenceError
from plumpy.loaders import get_object_loader
from plumpy.persistence._codec import dumps
from plumpy.process_spec import ProcessSpec
from plumpy.processes import Process
from plumpy.worker._running import Running, running_of

if TYPE_CHECKING:
    from plumpy.worker._worker import Worker

#: The workers of this program, by the communicator that their processes have.
workers: weakref.WeakKeyDictionary[LoopCommunicator, Worker] = weakref.WeakKeyDictionary()


def record(key: str, value: Any, process: Process | None = None) -> bool:
    """Record something that a step did, once for the process however often the step is repeated.

    To be called in a step of a process that a worker runs. The value is stored in the worker's
    database before this returns.

    :param key: what was done; unique within the process
    :param value: anything that can be saved
    :param process: the process; the current one by default
    :return: True if it is new, False if it was recorded before, as by a worker that died
    :raises PersistenceError: if the database fails; if the process ends by that, it is repeated
        from its last checkpoint
    :raises LeaseLost: if another worker runs the process by now; the step should not go on
    :raises RuntimeError: if no worker runs the process
    """
    running = _running_of(process)
    text = dumps(value)
    try:
        return running.worker.ledger.record(running.lease, key, text)
    except PersistenceError as exc:
        running.fault = exc
        raise


async def record_async(key: str, value: Any, process: Process | None = None) -> bool:
    """Like :func:`record`, for asynchronous steps: the loop goes on while the value is stored.

    While the database fails, this waits until it works again.
    """
    running = _running_of(process)
    text = dumps(value)
    ledger = running.worker.ledger
    try:
        return await running.worker.persistently(lambda: ledger.record(running.lease, key, text))
    except PersistenceError as exc:
        running.fault = exc
        raise


def _running_of(process: Process | None) -> Running:
    process = process if process is not None else Process.current()
    running = None if process is None else running_of(process)
    if running is None:
        raise RuntimeError("only a process that is run by a worker can record what it did")
    return running


def submit(process_class: type[Process], inputs: dict[str, Any] | None = None) -> Process:
    """Have another process run by any worker of the queue, and wait for it in this one.

    To be called in a step of a process that a worker runs. What it returns is a process of this
    program that ends as the other one does, with its outputs; a work chain may wait for it:

    .. code-block:: python

        return ToContext(child=submit(Child, {"a": 1}))

    If the waiting process is taken over by another worker, it waits there; the other process is not
    started a second time. Processes that wait need no slot.

    :raises RuntimeError: if no worker runs the present process
    """
    parent = Process.current()
    if parent is None or _worker_of(parent) is None:
        raise RuntimeError("only a process that is run by a worker can submit others to its queue")
    loader = get_object_loader()
    child: Process = parent.launch(
        Submitted,
        inputs={
            "process_class": loader.identify_object(process_class),
            "process_inputs": inputs,
            "process_pid": str(uuid.uuid4()),
        },
    )
    return child


def _worker_of(process: Process) -> Worker | None:
    communicator = process._communicator
    return workers.get(communicator) if isinstance(communicator, LoopCommunicator) else None


class Submitted(Process):
    """Stands for a process that some worker runs; see :func:`submit`."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.input("process_class", valid_type=str)
        spec.input("process_inputs", required=False)
        spec.input("process_pid", valid_type=str)
        spec.outputs.dynamic = True

    async def run(self) -> None:
        """Send the task, wait for the end, and end in the same way."""
        worker = _worker_of(self)
        if worker is None:
            raise RuntimeError("no worker runs this process any more")
        inputs = self.inputs
        assert inputs is not None
        response = await worker.run_elsewhere(
            inputs.process_class, inputs.get("process_inputs"), inputs.process_pid
        )
        if "result" not in response:
            raise RuntimeError(
                f"process {inputs.process_pid}: {response.get('exception') or 'was cancelled'}"
            )
        for label, value in (response["result"] or {}).items():
            self.out(label, value)
