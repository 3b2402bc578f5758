"""A worker: runs processes from a task queue, on as many machines as one likes.

A task is acknowledged as soon as its process is saved, so that no time limit of the broker applies
to the process. From then on the ledger beside the checkpoints says who runs it. If that worker
dies, its lease expires and another worker goes on from the last checkpoint. A process is run by one
worker at a time, however often its task is delivered.
"""

from __future__ import annotations

from plumpy._ledger import LeaseLost
from plumpy._public import publish
from plumpy.worker._steps import Submitted, record, record_async, submit
from plumpy.worker._worker import Worker

__all__ = ["LeaseLost", "Submitted", "Worker", "record", "record_async", "submit"]

publish(__name__, Submitted, Worker, record, record_async, submit)
