"""Processes that can be paused, killed, saved and continued, on one asyncio loop."""

import logging

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
from .communications import *  # noqa: F403
from .events import *  # noqa: F403
from .exceptions import *  # noqa: F403
from .futures import *  # noqa: F403
from .greenback_bridge import *  # noqa: F403
from .loaders import *  # noqa: F403
from .mixins import *  # noqa: F403
from .persistence import *  # noqa: F403
from .ports import *  # noqa: F403
from .process_comms import *  # noqa: F403
from .process_listener import *  # noqa: F403
from .process_states import *  # noqa: F403
from .processes import *  # noqa: F403
from .utils import *  # noqa: F403
from .workchains import *  # noqa: F403

#: Sorts after every release of the package that this one takes the place of, within its series.
__version__ = "0.26.2"

__all__ = [
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
