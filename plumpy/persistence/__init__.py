"""Saving processes and other objects, and keeping what was saved.

:class:`Savable` is the protocol, :class:`Bundle` the saved form of one object, and a
:class:`Persister` keeps bundles: in memory, in pickle files or in an SQLite database.
"""

from __future__ import annotations

from .. import events as events
from .. import futures as futures
from .. import loaders as loaders
from .. import utils as utils
from .._public import publish
from ..base.utils import call_with_super_check as call_with_super_check
from ..base.utils import super_check as super_check
from ..utils import PID_TYPE as PID_TYPE
from ..utils import SAVED_STATE_TYPE as SAVED_STATE_TYPE
from ._bundle import (
    _BUNDLE_TAG as _BUNDLE_TAG,
)
from ._bundle import (
    Bundle,
    _bundle_constructor,
    _bundle_representer,
    uuid_constructor,
    uuid_representer,
)
from ._context import LoadSaveContext
from ._exceptions import ExceptionStandIn, decode_exception, encode_exception
from ._future import SavableFuture
from ._savable import (
    META as META,
)
from ._savable import (
    META__CLASS_NAME as META__CLASS_NAME,
)
from ._savable import (
    META__OBJECT_LOADER as META__OBJECT_LOADER,
)
from ._savable import (
    META__TYPE__METHOD as META__TYPE__METHOD,
)
from ._savable import (
    META__TYPE__SAVABLE as META__TYPE__SAVABLE,
)
from ._savable import (
    META__TYPES as META__TYPES,
)
from ._savable import (
    META__USER as META__USER,
)
from ._savable import (
    Savable,
    auto_persist,
)
from ._savable import (
    SavableClsType as SavableClsType,
)
from ._savable import (
    _ensure_object_loader as _ensure_object_loader,
)

__all__ = [
    "Bundle",
    "LoadSaveContext",
    "Savable",
    "SavableFuture",
    "auto_persist",
]

publish(
    __name__,
    Bundle,
    ExceptionStandIn,
    LoadSaveContext,
    Savable,
    SavableFuture,
    _bundle_constructor,
    _bundle_representer,
    auto_persist,
    decode_exception,
    encode_exception,
    uuid_constructor,
    uuid_representer,
)
