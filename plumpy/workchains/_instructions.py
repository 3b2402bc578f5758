"""Instructions: what an outline is made of."""

from __future__ import annotations

import abc
import collections
import inspect
import re
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..utils import SAVED_STATE_TYPE
from ._steppers import (
    Stepper,
    _BlockStepper,
    _FunctionStepper,
    _IfStepper,
    _ReturnStepper,
    _WhileStepper,
    holds,
)

if TYPE_CHECKING:
    from ._workchain import WorkChain

PREDICATE_TYPE = typing.Callable[["WorkChain"], bool]
WC_COMMAND_TYPE = typing.Callable[["WorkChain"], Any]
EXIT_CODE_TYPE = int


class _Instruction(metaclass=abc.ABCMeta):
    """A part of an outline."""

    @abc.abstractmethod
    def create_stepper(self, workchain: WorkChain) -> Stepper:
        """Return a stepper at the beginning of this part."""

    @abc.abstractmethod
    def recreate_stepper(self, saved_state: SAVED_STATE_TYPE, workchain: WorkChain) -> Stepper:
        """Return a stepper where the saved one was."""

    @abc.abstractmethod
    def get_description(self) -> Any:
        """Return what there is to know about this part, as plain values."""

    def __str__(self) -> str:
        return str(self.get_description())


class _FunctionCall(_Instruction):
    """One step.

    :param func: called with the work chain as its only argument
    """

    def __init__(self, func: WC_COMMAND_TYPE) -> None:
        if not callable(func):
            raise TypeError(f"func is not a function, got {type(func)}")
        # `*args` may follow, as in many decorators
        if len(inspect.getfullargspec(func).args) != 1:
            raise TypeError(f"Step must take one argument only: self, unlike {func!r}")
        self._fn = func

    @property
    def function(self) -> WC_COMMAND_TYPE:
        """The function that is called."""
        return self._fn

    def create_stepper(self, workchain: WorkChain) -> _FunctionStepper:
        return _FunctionStepper(workchain, self._fn)

    def recreate_stepper(
        self, saved_state: SAVED_STATE_TYPE, workchain: WorkChain
    ) -> _FunctionStepper:
        return _FunctionStepper.restored(saved_state, workchain, self)

    def get_description(self) -> str:
        text = self._fn.__name__
        if self._fn.__doc__:
            text += "(" + re.sub(r"\s+", " ", self._fn.__doc__).strip() + ")"
        return text


class _Block(_Instruction, Sequence[_Instruction]):
    """Instructions one after the other.

    :param instructions: instructions, or functions to be called
    """

    def __init__(self, instructions: Sequence[_Instruction | WC_COMMAND_TYPE]) -> None:
        self._instruction = [_ensure_instruction(item) for item in instructions]

    def __getitem__(self, index: Any) -> Any:
        return self._instruction[index]

    def __len__(self) -> int:
        return len(self._instruction)

    def create_stepper(self, workchain: WorkChain) -> _BlockStepper:
        return _BlockStepper(self, workchain)

    def recreate_stepper(
        self, saved_state: SAVED_STATE_TYPE, workchain: WorkChain
    ) -> _BlockStepper:
        return _BlockStepper.restored(saved_state, workchain, self)

    def get_description(self) -> list[Any]:
        return [instruction.get_description() for instruction in self._instruction]


class _Conditional:
    """A condition and a body, which is given by calling it once.

    :param parent: the instruction that this is a part of
    :param predicate: called with the work chain
    :param label: what it is called in an outline
    """

    def __init__(self, parent: _Instruction, predicate: PREDICATE_TYPE, label: str) -> None:
        self._parent = parent
        self._predicate = predicate
        self._body: _Block | None = None
        self._label = label

    @property
    def body(self) -> _Block:
        """What to do while or if the condition holds."""
        assert self._body is not None, "Instructions have not yet been set"
        return self._body

    @property
    def predicate(self) -> PREDICATE_TYPE:
        """Called with the work chain."""
        return self._predicate

    def is_true(self, workchain: WorkChain) -> bool:
        """Evaluate the condition."""
        return holds(self._predicate, workchain)

    def __call__(self, *instructions: _Instruction | WC_COMMAND_TYPE) -> _Instruction:
        assert self._body is None, "Instructions have already been set"
        self._body = _Block(instructions)
        return self._parent

    def __str__(self) -> str:
        return f"{self._label}({self._predicate.__name__})"


class _If(_Instruction, Sequence[_Conditional]):
    """The first of several bodies whose condition holds."""

    def __init__(self, condition: PREDICATE_TYPE) -> None:
        self._ifs = [_Conditional(self, condition, label=if_.__name__)]
        self._sealed = False

    def __getitem__(self, idx: Any) -> Any:
        return self._ifs[idx]

    def __len__(self) -> int:
        return len(self._ifs)

    def __call__(self, *commands: _Instruction | WC_COMMAND_TYPE) -> _If:
        self._ifs[0](*commands)
        return self

    def elif_(self, condition: PREDICATE_TYPE) -> _Conditional:
        """Add a condition that is looked at if those before do not hold; call the result."""
        self._ifs.append(_Conditional(self, condition, label="elif_"))
        return self._ifs[-1]

    def else_(self, *commands: _Instruction | WC_COMMAND_TYPE) -> _If:
        """Add what is to be done if no condition holds."""
        assert not self._sealed, "there is an else_ already"
        conditional = _Conditional(self, lambda _: True, label="else_")
        conditional(*commands)
        self._ifs.append(conditional)
        self._sealed = True
        return self

    def create_stepper(self, workchain: WorkChain) -> _IfStepper:
        return _IfStepper(self, workchain)

    def recreate_stepper(self, saved_state: SAVED_STATE_TYPE, workchain: WorkChain) -> _IfStepper:
        return _IfStepper.restored(saved_state, workchain, self)

    def get_description(self) -> typing.OrderedDict[str, Any]:
        description: typing.OrderedDict[str, Any] = collections.OrderedDict()
        for index, conditional in enumerate(self._ifs):
            label = "elif" if index else "if"
            key = f"{label}({conditional.predicate.__name__})"
            description[key] = conditional.body.get_description()
        return description


class _While(_Conditional, _Instruction, Sequence["_While"]):
    """A body that is repeated while a condition holds."""

    def __init__(self, predicate: PREDICATE_TYPE) -> None:
        super().__init__(self, predicate, label=while_.__name__)

    def __getitem__(self, idx: Any) -> Any:
        if idx not in (0, -1):
            raise IndexError("a while_ has one part")
        return self

    def __len__(self) -> int:
        return 1

    def create_stepper(self, workchain: WorkChain) -> _WhileStepper:
        return _WhileStepper(self, workchain)

    def recreate_stepper(
        self, saved_state: SAVED_STATE_TYPE, workchain: WorkChain
    ) -> _WhileStepper:
        return _WhileStepper.restored(saved_state, workchain, self)

    def get_description(self) -> dict[str, Any]:
        return {f"while({self.predicate.__name__})": self.body.get_description()}


class _Return(_Instruction):
    """The end of the chain.

    :param exit_code: the result of the chain
    """

    def __init__(self, exit_code: EXIT_CODE_TYPE | None = None) -> None:
        self._exit_code = exit_code

    @property
    def exit_code(self) -> EXIT_CODE_TYPE | None:
        """The result of the chain."""
        return self._exit_code

    def __call__(self, exit_code: EXIT_CODE_TYPE) -> _Return:
        return _Return(exit_code)

    def create_stepper(self, workchain: WorkChain) -> _ReturnStepper:
        return _ReturnStepper(self, workchain)

    def recreate_stepper(
        self, saved_state: SAVED_STATE_TYPE, workchain: WorkChain
    ) -> _ReturnStepper:
        return _ReturnStepper.restored(saved_state, workchain, self)

    def get_description(self) -> str:
        return "Return from the outline immediately"


def _ensure_instruction(command: Any) -> _Instruction:
    return command if isinstance(command, _Instruction) else _FunctionCall(command)


def if_(condition: PREDICATE_TYPE) -> _If:
    """A conditional in an outline: ``if_(cls.c)(cls.a, cls.b).elif_(cls.d)(...).else_(...)``.

    :param condition: called with the work chain; the body is gone through if the result is true
    """
    return _If(condition)


def while_(condition: PREDICATE_TYPE) -> _While:
    """A loop in an outline: ``while_(cls.condition)(cls.first_step, cls.second_step)``.

    :param condition: called with the work chain before each round
    """
    return _While(condition)


# The end of the chain, in an outline: `return_`, or `return_(code)` for a result
return_ = _Return()
