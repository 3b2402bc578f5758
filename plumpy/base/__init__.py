"""State machines and the check that overriding methods call their base."""

from .state_machine import StateMachine, StateMachineMeta, TransitionFailed, event
from .utils import call_with_super_check, super_check

__all__ = [
    "StateMachine",
    "StateMachineMeta",
    "TransitionFailed",
    "call_with_super_check",
    "event",
    "super_check",
]
