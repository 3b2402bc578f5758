"""Work chains: processes whose steps are given by an outline.

An outline is a list of methods, with conditionals and loops between them, of which the position is
part of every checkpoint.
"""

from __future__ import annotations

from .. import lang, mixins, persistence, process_states, processes  # noqa: F401
from .._public import publish
from ..utils import PID_TYPE, SAVED_STATE_TYPE  # noqa: F401
from ._awaitables import Awaitables as Awaitables
from ._instructions import (
    EXIT_CODE_TYPE,  # noqa: F401
    PREDICATE_TYPE,  # noqa: F401
    WC_COMMAND_TYPE,  # noqa: F401
    _Block,
    _Conditional,
    _ensure_instruction,
    _FunctionCall,
    _If,
    _Instruction,
    _Return,
    _While,
    if_,
    return_,
    while_,
)
from ._steppers import (
    STEPPER_STATE as STEPPER_STATE,
)
from ._steppers import (
    Stepper as Stepper,
)
from ._steppers import (
    _BlockStepper,
    _FunctionStepper,
    _IfStepper,
    _PropagateReturn,
    _ReturnStepper,
    _WhileStepper,
)
from ._workchain import ToContext, Waiting, WorkChain, WorkChainSpec

__all__ = ["ToContext", "WorkChain", "WorkChainSpec", "if_", "return_", "while_"]

publish(
    __name__,
    Awaitables,
    Stepper,
    Waiting,
    WorkChain,
    WorkChainSpec,
    _Block,
    _BlockStepper,
    _Conditional,
    _FunctionCall,
    _FunctionStepper,
    _If,
    _IfStepper,
    _Instruction,
    _PropagateReturn,
    _Return,
    _ReturnStepper,
    _While,
    _WhileStepper,
    _ensure_instruction,
    if_,
    while_,
)
