"""Steppers: where a work chain is in its outline.

A stepper belongs to one instruction and one work chain, which is any object that its steps can be
called with. Steppers of instructions with a body have the stepper of the present part of it as
their child.
"""

from __future__ import annotations

import abc
import inspect
import warnings
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

from .. import persistence
from ..base.utils import extends
from ..exceptions import PersistenceError
from ..greenback_bridge import has_portal, sync_await
from ..persistence._context import context_of_part
from ..utils import SAVED_STATE_TYPE

if TYPE_CHECKING:
    from ._instructions import (
        PREDICATE_TYPE,
        WC_COMMAND_TYPE,
        _Block,
        _FunctionCall,
        _If,
        _Instruction,
        _Return,
        _While,
    )
    from ._workchain import WorkChain

STEPPER_STATE = "stepper_state"

_StepperT = TypeVar("_StepperT", bound="Stepper")


class _PropagateReturn(BaseException):
    """Leaves the outline at once, out of any depth."""

    def __init__(self, exit_code: Any) -> None:
        super().__init__()
        self.exit_code = exit_code


class Stepper(persistence.Savable, metaclass=abc.ABCMeta):
    """Goes through an instruction step by step.

    :param workchain: the argument for the steps
    """

    def __init__(self, workchain: WorkChain) -> None:
        self._workchain = workchain

    @abc.abstractmethod
    def step(self) -> tuple[bool, Any]:
        """Take one step.

        :return: whether that was the last one, and what the function that was called returned
        """

    @classmethod
    def restored(
        cls: type[_StepperT], saved_state: SAVED_STATE_TYPE, workchain: WorkChain, instruction: Any
    ) -> _StepperT:
        """Return a stepper for an instruction, where the saved one was."""
        stepper = cls.__new__(cls)
        stepper._workchain = workchain
        stepper._restore(saved_state, instruction)
        return stepper

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        self._workchain = load_context.workchain
        self._restore(saved_state, load_context.instruction)

    def _restore(self, saved_state: SAVED_STATE_TYPE, instruction: Any) -> None:
        """Go where the saved stepper was; what it belongs to is known."""


class _FunctionStepper(Stepper):
    """Calls a function; its one step."""

    def __init__(self, workchain: WorkChain, fn: WC_COMMAND_TYPE) -> None:
        self._workchain = workchain
        self._fn = fn

    def __str__(self) -> str:
        return self._fn.__name__

    @extends
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        out_state["_fn"] = self._fn.__name__

    def _restore(self, saved_state: SAVED_STATE_TYPE, instruction: _FunctionCall) -> None:
        name = saved_state["_fn"]
        expected = instruction.function
        if name == expected.__name__:
            self._fn = expected
            return
        # The outline has changed since. The step goes on if it is still a method of the chain.
        found = getattr(type(self._workchain), name, None)
        if not inspect.isfunction(found):
            raise PersistenceError(
                f"the checkpoint of {type(self._workchain).__name__} is at the step `{name}`, "
                "which is not one of its methods"
            )
        self._fn = found

    def step(self) -> tuple[bool, Any]:
        return True, _call(self._fn, self._workchain)


class _WithChild(Stepper):
    """A stepper for an instruction with a body."""

    _child_stepper: Stepper | None

    def _str(self, label: str) -> str:
        return f"{label}({self._child_stepper})" if self._child_stepper is not None else label

    @extends
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext
    ) -> None:
        if self._child_stepper is not None:
            out_state[STEPPER_STATE] = self._child_stepper.save(context_of_part(save_context))

    def _restore_child(self, saved_state: SAVED_STATE_TYPE, instruction: _Instruction) -> None:
        child_state = saved_state.get(STEPPER_STATE)
        self._child_stepper = (
            None
            if child_state is None
            else instruction.recreate_stepper(child_state, self._workchain)
        )

    def _step_child(self) -> tuple[bool, Any]:
        assert self._child_stepper is not None
        finished, result = self._child_stepper.step()
        if finished:
            self._child_stepper = None
        return finished, result


@persistence.auto_persist("_pos")
class _BlockStepper(_WithChild):
    """Goes through instructions one after the other."""

    def __init__(self, block: _Block, workchain: WorkChain) -> None:
        self._workchain = workchain
        self._block = block
        self._pos = 0
        instructions = block._instruction
        if not instructions:
            raise IndexError("a body of an outline has no steps")
        self._child_stepper = instructions[0].create_stepper(workchain)

    def __str__(self) -> str:
        return f"{self._pos}:{self._child_stepper}"

    def step(self) -> tuple[bool, Any]:
        if self._child_stepper is None:
            return True, None  # everything was done, and the chain waited for what the last began
        finished, result = self._child_stepper.step()
        if finished:
            self.next_instruction()
            finished = self._child_stepper is None
        return finished, result

    def next_instruction(self) -> None:
        """Go to the next instruction, or behind the last one."""
        instructions = self._block._instruction
        assert self._pos < len(instructions), "Can't advance further, already finished"
        self._pos += 1
        self._child_stepper = None
        if self._pos < len(instructions):
            self._child_stepper = instructions[self._pos].create_stepper(self._workchain)

    def _restore(self, saved_state: SAVED_STATE_TYPE, instruction: _Block) -> None:
        self._block = instruction
        self._pos = position = saved_state["_pos"]
        parts = instruction._instruction
        if position > len(parts):
            raise PersistenceError(
                f"the checkpoint of {type(self._workchain).__name__} is at step {position} of a "
                f"body that has {len(parts)}: the outline is not the one it was saved with"
            )
        self._child_stepper = None
        if position < len(parts):
            self._restore_child(saved_state, parts[position])


@persistence.auto_persist("_pos")
class _IfStepper(_WithChild):
    """Looks for a condition that holds, and goes through its body."""

    def __init__(self, if_instruction: _If, workchain: WorkChain) -> None:
        self._workchain = workchain
        self._if_instruction = if_instruction
        self._pos = 0
        self._child_stepper = None

    def __str__(self) -> str:
        return self._str(str(self._if_instruction[min(self._pos, len(self._if_instruction) - 1)]))

    def step(self) -> tuple[bool, Any]:
        if self._child_stepper is None:
            for conditional in self._if_instruction:
                if conditional.is_true(self._workchain):
                    break
                self._pos += 1
            else:
                return True, None
            self._child_stepper = conditional.body.create_stepper(self._workchain)
        return self._step_child()

    def _restore(self, saved_state: SAVED_STATE_TYPE, instruction: _If) -> None:
        self._if_instruction = instruction
        self._pos = saved_state["_pos"]
        self._child_stepper = None
        if STEPPER_STATE in saved_state:
            self._restore_child(saved_state, instruction[self._pos].body)


class _WhileStepper(_WithChild):
    """Goes through a body again and again for as long as a condition holds."""

    def __init__(self, while_instruction: _While, workchain: WorkChain) -> None:
        self._workchain = workchain
        self._while_instruction = while_instruction
        self._child_stepper = None

    def __str__(self) -> str:
        return self._str(str(self._while_instruction))

    def step(self) -> tuple[bool, Any]:
        if self._child_stepper is None:
            if not self._while_instruction.is_true(self._workchain):
                return True, None
            self._child_stepper = self._while_instruction.body.create_stepper(self._workchain)
        return False, self._step_child()[1]

    def _restore(self, saved_state: SAVED_STATE_TYPE, instruction: _While) -> None:
        self._while_instruction = instruction
        self._restore_child(saved_state, instruction.body)


class _ReturnStepper(Stepper):
    """Leaves the outline."""

    def __init__(self, return_instruction: _Return, workchain: WorkChain) -> None:
        self._workchain = workchain
        self._return_instruction = return_instruction

    def __str__(self) -> str:
        return "return_"

    def step(self) -> tuple[bool, Any]:
        raise _PropagateReturn(self._return_instruction.exit_code)

    def _restore(self, saved_state: SAVED_STATE_TYPE, instruction: _Return) -> None:
        self._return_instruction = instruction


def holds(predicate: PREDICATE_TYPE, workchain: WorkChain) -> bool:
    """Evaluate a condition of an outline."""
    result: Any = _call(predicate, workchain)
    if not hasattr(result, "__bool__"):
        warnings.warn(
            f"The conditional predicate `{predicate.__name__}` returned `{result}` which is not "
            "boolean-like. The return value should be `True` or `False` or implement the "
            "`__bool__` method. This behavior is deprecated and will soon start raising an "
            "exception.",
            UserWarning,
            stacklevel=4,
        )
    return bool(result)


def _call(function: Any, workchain: WorkChain) -> Any:
    """Call a function of an outline, and if it is asynchronous, wait for it here.

    The position in the outline must not advance before: a checkpoint that is made meanwhile leads
    to the step being taken again, not to its being left out.
    """
    result = function(workchain)
    if isinstance(result, CoroutineType) and has_portal():
        return sync_await(result)
    return result
