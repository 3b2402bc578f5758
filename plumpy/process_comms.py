"""Messages that control processes, the controllers that send them, and the launcher for tasks."""

# ruff: noqa: PLC0414 - the redundant names are how a module re-exports what is not in __all__

from __future__ import annotations

import logging

from plumpy import communications as communications
from plumpy import futures as futures
from plumpy import loaders as loaders
from plumpy import persistence as persistence
from plumpy._controllers import RemoteProcessController, RemoteProcessThreadController
from plumpy._launcher import ProcessLauncher
from plumpy._messages import ARGS_KEY as ARGS_KEY
from plumpy._messages import CONTINUE_TASK as CONTINUE_TASK
from plumpy._messages import CREATE_TASK as CREATE_TASK
from plumpy._messages import FORCE_KILL_KEY as FORCE_KILL_KEY
from plumpy._messages import INTENT_KEY as INTENT_KEY
from plumpy._messages import KWARGS_KEY as KWARGS_KEY
from plumpy._messages import LAUNCH_TASK as LAUNCH_TASK
from plumpy._messages import MESSAGE_TEXT_KEY as MESSAGE_TEXT_KEY
from plumpy._messages import NOWAIT_KEY as NOWAIT_KEY
from plumpy._messages import PERSIST_KEY as PERSIST_KEY
from plumpy._messages import PID_KEY as PID_KEY
from plumpy._messages import PID_TYPE as PID_TYPE
from plumpy._messages import PROCESS_CLASS_KEY as PROCESS_CLASS_KEY
from plumpy._messages import TAG_KEY as TAG_KEY
from plumpy._messages import TASK_ARGS as TASK_ARGS
from plumpy._messages import TASK_KEY as TASK_KEY
from plumpy._messages import Intent as Intent
from plumpy._messages import MessageBuilder, create_continue_body, create_launch_body
from plumpy._messages import MessageType as MessageType
from plumpy._messages import ProcessResult as ProcessResult
from plumpy._messages import ProcessStatus as ProcessStatus
from plumpy._messages import create_create_body as create_create_body
from plumpy._public import publish

__all__ = [
    "MessageBuilder",
    "ProcessLauncher",
    "RemoteProcessController",
    "RemoteProcessThreadController",
    "create_continue_body",
    "create_launch_body",
]

LOGGER = logging.getLogger(__name__)

publish(
    __name__,
    Intent,
    MessageBuilder,
    ProcessLauncher,
    RemoteProcessController,
    RemoteProcessThreadController,
    create_continue_body,
    create_create_body,
    create_launch_body,
)
