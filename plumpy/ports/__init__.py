"""Ports and namespaces of ports: what the inputs and outputs of a process have to be like."""

from __future__ import annotations

from .._public import publish
from ..utils import AttributesFrozendict as AttributesFrozendict
from ..utils import is_mutable_property as is_mutable_property
from ..utils import type_check as type_check
from ._namespace import PortNamespace
from ._port import (
    UNSPECIFIED,
    InputPort,
    OutputPort,
    Port,
    PortValidationError,
    breadcrumbs_to_port,
)
from ._port import (
    VALIDATOR_SIGNATURE_DEPRECATION_WARNING as VALIDATOR_SIGNATURE_DEPRECATION_WARNING,
)
from ._port import (
    VALIDATOR_TYPE as VALIDATOR_TYPE,
)

__all__ = [
    "UNSPECIFIED",
    "InputPort",
    "OutputPort",
    "Port",
    "PortNamespace",
    "PortValidationError",
]

publish(
    __name__,
    InputPort,
    OutputPort,
    Port,
    PortNamespace,
    PortValidationError,
    breadcrumbs_to_port,
)
