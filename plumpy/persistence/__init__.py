"""Saving processes and other objects, and keeping what was saved.

:class:`Savable` is the protocol, :class:`Bundle` the saved form of one object, and a
:class:`Persister` keeps bundles: in memory, in pickle files or in an SQLite database.
"""

from __future__ import annotations

from .. import events, futures, loaders, utils  # noqa: F401
from .._public import publish
from ..base.utils import call_with_super_check, super_check  # noqa: F401
from ..utils import PID_TYPE, SAVED_STATE_TYPE  # noqa: F401
from ._bundle import (
    _BUNDLE_TAG,  # noqa: F401
    Bundle,
    _bundle_constructor,
    _bundle_representer,
    uuid_constructor,
    uuid_representer,
)
from ._context import LoadSaveContext
from ._copy import copied as copied
from ._exceptions import ExceptionStandIn as ExceptionStandIn
from ._exceptions import decode_exception as decode_exception
from ._exceptions import encode_exception as encode_exception
from ._future import SavableFuture
from ._future import saved_future as saved_future
from ._memory import InMemoryPersister
from ._persister import PersistedCheckpoint, PersistedPickle, Persister
from ._pickle import PicklePersister
from ._savable import (  # noqa: F401
    META,
    META__CLASS_NAME,
    META__OBJECT_LOADER,
    META__TYPE__METHOD,
    META__TYPE__SAVABLE,
    META__TYPES,
    META__USER,
    Savable,
    SavableClsType,
    _ensure_object_loader,
    auto_persist,
)
from ._sqlite import SqlitePersister as SqlitePersister

__all__ = [
    "Bundle",
    "InMemoryPersister",
    "LoadSaveContext",
    "PersistedCheckpoint",
    "Persister",
    "PicklePersister",
    "Savable",
    "SavableFuture",
    "auto_persist",
]

publish(
    __name__,
    Bundle,
    ExceptionStandIn,
    InMemoryPersister,
    LoadSaveContext,
    PersistedCheckpoint,
    PersistedPickle,
    Persister,
    PicklePersister,
    Savable,
    SavableFuture,
    SqlitePersister,
    _bundle_constructor,
    _bundle_representer,
    auto_persist,
    decode_exception,
    encode_exception,
    uuid_constructor,
    uuid_representer,
)
