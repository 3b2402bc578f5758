"""Processes that can be paused, killed, saved and continued, on one asyncio loop."""

# ruff: noqa: F401, F403 - what is importable from here is part of the interface

import logging
import sys

from . import (
    base,
    communications,
    events,
    exceptions,
    futures,
    greenback_bridge,
    lang,
    loaders,
    mixins,
    persistence,
    ports,
    process_comms,
    process_listener,
    process_states,
    processes,
    settings,
    utils,
    workchains,
)
from .communications import *
from .events import *
from .exceptions import *
from .futures import *
from .greenback_bridge import *
from .loaders import *
from .mixins import *
from .persistence import *
from .ports import *
from .process_comms import *
from .process_listener import *
from .process_states import *
from .processes import *
from .utils import *
from .workchains import *

#: Sorts after every release of the package that this one takes the place of, within its series.
__version__ = "0.26.2"

__all__ = [  # noqa: PLE0604
    *events.__all__,
    *exceptions.__all__,
    *processes.__all__,
    *utils.__all__,
    *futures.__all__,
    *mixins.__all__,
    *persistence.__all__,
    *communications.__all__,
    *process_comms.__all__,
    *process_listener.__all__,
    *workchains.__all__,
    *loaders.__all__,
    *ports.__all__,
    *process_states.__all__,
    *greenback_bridge.__all__,
]


class NullHandler(logging.Handler):
    """A handler that does nothing with log records."""

    def emit(self, record: logging.LogRecord) -> None:
        """Drop the record."""


logging.getLogger("plumpy").addHandler(NullHandler())

if "kiwipy.rmq" in sys.modules:
    # Now, and not when the first process is made, which may hold up a loop for it.
    from . import _rabbitmq
