"""Work chains: processes whose steps are given by an outline."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .. import mixins, persistence, process_states, processes
from ..base.utils import direct, extends
from ..events import get_or_create_event_loop
from ..futures import CancelledError
from ..persistence._context import context_of_part
from ..process_spec import ProcessSpec
from ..processes import _saving, _watching
from ..utils import PID_TYPE, SAVED_STATE_TYPE
from ._awaitables import FUTURES, Awaitables, future_of
from ._instructions import (
    WC_COMMAND_TYPE,
    _Block,
    _ensure_instruction,
    _FunctionCall,
    _Instruction,
)
from ._steppers import STEPPER_STATE, Stepper, _PropagateReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    import kiwipy

ToContext = dict


class WorkChainSpec(ProcessSpec):
    """The specification of a work chain: its inputs, its outputs and its outline."""

    def __init__(self) -> None:
        super().__init__()
        self._outline: _Instruction | None = None

    def get_description(self) -> dict[str, Any]:
        """Return what there is to know about ports and outline."""
        description = super().get_description()
        if self._outline is not None:
            description["outline"] = self._outline.get_description()
        return description

    def outline(self, *commands: _Instruction | WC_COMMAND_TYPE) -> None:
        """Set the steps of the work chain.

        :param commands: methods of the class, or ``if_``, ``while_`` and ``return_``
        :raises TypeError: if something else is given, or a function that does not take exactly the
            work chain
        """
        # The only one is the outline itself: that is how its stepper is saved and described.
        self._outline = _ensure_instruction(commands[0]) if len(commands) == 1 else _Block(commands)

    def get_outline(self) -> _Instruction | _FunctionCall:
        """Return the steps of the work chain."""
        assert self._outline is not None, "outline not yet loaded"
        return self._outline


class Waiting(process_states.Waiting):
    """Waits for futures and processes, and puts their outcome into the context of the work chain.

    What is waited for is the ``data`` of the state. If one fails the work chain excepts with that
    exception; if one is cancelled, with :class:`plumpy.CancelledError`.

    :param awaiting: futures and processes, with the name or names that each gets in the context
    """

    __slots__ = ("_failure", "_watched", "_watched_processes")

    def __init__(
        self,
        process: WorkChain,
        done_callback: Callable[..., Any] | None,
        msg: str | None = None,
        awaiting: dict[Any, Any] | None = None,
    ) -> None:
        super().__init__(process, done_callback, msg, _as_awaitables(awaiting))
        self._failure: BaseException | None = None
        self._watched: dict[asyncio.Future[Any], list[Any]] | None = None
        self._watched_processes: Sequence[processes.Process] = ()

    @property
    def _awaiting(self) -> Awaitables | None:
        awaiting: Awaitables | None = self.data
        return awaiting

    @extends
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        self.data = _as_awaitables(self.data)
        self._failure = None
        self._watched = None
        self._watched_processes = ()

    @extends
    def enter(self) -> None:
        self._watch()

    @extends
    def exit(self) -> None:
        for process in self._watched_processes:
            _watching.unwatch(process, self._process_ended)
        if self._watched:
            for future in self._watched:
                future.remove_done_callback(self._awaitable_done)
        self._watched = None
        self._watched_processes = ()

    # The same function, which a step need not call: it knows what it comes to.
    execute = process_states.Waiting.execute

    def must_wait(self) -> asyncio.Future[None] | None:
        if self._failure is None:
            self._watch()
            if self.data is not None and not self.data:
                self.resume()
        return super().must_wait()

    def end_wait(self) -> process_states.State:
        if self._failure is not None and self._interruption is None:
            raise self._failure
        return super().end_wait()

    def _watch(self) -> None:
        """Have this state called back by what it waits for, also if it was loaded."""
        awaiting = self._awaiting
        if self._watched is not None or not awaiting:
            return
        loop: asyncio.AbstractEventLoop = self.state_machine.loop  # type: ignore[attr-defined]
        self._watched = {}
        watched_processes = []
        for awaitable in awaiting:
            if not isinstance(awaitable, FUTURES) and _watching.watch(
                awaitable, loop, self._process_ended
            ):
                watched_processes.append(awaitable)
            else:
                self._watched.setdefault(future_of(awaitable, loop), []).append(awaitable)
        self._watched_processes = watched_processes
        for future in self._watched:
            future.add_done_callback(self._awaitable_done)
        awaiting.start(loop)

    def _awaitable_done(self, future: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        awaitables = self._watched.pop(future, None) if self._watched else None
        if awaitables is not None:
            self._have_outcome(awaitables, error, None if error is not None else future.result())

    def _process_ended(
        self, process: processes.Process, error: BaseException | None, outputs: Any
    ) -> None:
        self._have_outcome([process], error, outputs)

    def _have_outcome(
        self, awaitables: list[Any], error: BaseException | None, result: Any
    ) -> None:
        awaiting = self._awaiting
        if awaiting is None or self._failure is not None:
            return
        names = [name for awaitable in awaitables for name in awaiting[awaitable]]
        if isinstance(error, asyncio.CancelledError):
            error = CancelledError(f"what `ctx.{names[0]}` was waited for was cancelled")
        if error is None:
            try:
                context = self.state_machine.ctx  # type: ignore[attr-defined]
                for name in names:
                    context[name] = result
            except Exception as exc:  # a context of somebody's own
                error = exc
        if error is not None:
            self._failure = error
            self.resume()
            return
        for awaitable in awaitables:
            del awaiting[awaitable]
        if not awaiting:
            self.resume()


def _as_awaitables(awaiting: Any) -> Awaitables | None:
    if awaiting is None or isinstance(awaiting, Awaitables):
        return awaiting
    return Awaitables(
        (awaitable, [names] if isinstance(names, str) else list(names))
        for awaitable, names in awaiting.items()
    )


def _with_loop(load_context: persistence.LoadSaveContext) -> persistence.LoadSaveContext:
    if "loop" in load_context:
        return load_context
    return load_context.copyextend(loop=get_or_create_event_loop())


def _save_chain(
    chain: WorkChain,
    out_state: SAVED_STATE_TYPE,
    save_context: persistence.LoadSaveContext | None,
) -> None:
    _saving.save_all(chain, out_state, save_context)
    chain._store_context(out_state)
    chain._save_stepper(out_state, save_context)


def _load_chain(
    chain: WorkChain, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
) -> None:
    chain._load_context = load_context = _with_loop(load_context)
    _saving.load_all(chain, saved_state, load_context)
    chain._restore_context(saved_state)
    chain._restore_stepper(saved_state)


class WorkChain(mixins.ContextMixin, processes.Process):
    """A process whose steps are the methods named in the outline of its specification.

    A step that returns nothing, or a dictionary such as ``ToContext(name=future)``, is followed by
    the next one; what any other step returns is the result of the work chain. The values of the
    dictionary are futures or processes: the next step begins when all of them are done, and finds
    their results in the context. Steps may be asynchronous.
    """

    _spec_class = WorkChainSpec
    #: Of the load that is under way.
    _load_context: persistence.LoadSaveContext | None = None
    _STEPPER_STATE = STEPPER_STATE
    _CONTEXT = "CONTEXT"

    def __init__(
        self,
        inputs: dict[str, Any] | None = None,
        pid: PID_TYPE | None = None,
        logger: logging.Logger | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        communicator: kiwipy.Communicator | None = None,
    ) -> None:
        super().__init__(
            inputs=inputs, pid=pid, logger=logger, loop=loop, communicator=communicator
        )

    @classmethod
    def get_state_classes(cls) -> dict[Hashable, type[process_states.State]]:
        states = super().get_state_classes()
        states[process_states.ProcessState.WAITING] = Waiting
        return states

    @classmethod
    def spec(cls) -> WorkChainSpec:
        """Return the specification of the class."""
        spec = super().spec()
        assert isinstance(spec, WorkChainSpec)
        return spec

    def on_create(self) -> None:
        super().on_create()
        self._awaitables = Awaitables()
        self._stepper: Stepper | None = self.spec().get_outline().create_stepper(self)

    @direct(_save_chain)
    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext | None
    ) -> None:
        super().save_instance_state(out_state, save_context)
        self._save_stepper(out_state, save_context)

    def _save_stepper(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext | None
    ) -> None:
        if self._stepper is not None:
            out_state[self._STEPPER_STATE] = self._stepper.save(context_of_part(save_context))

    @direct(_load_chain)
    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        self._load_context = load_context = _with_loop(load_context)
        super().load_instance_state(saved_state, load_context)
        self._restore_stepper(saved_state)

    def _restore_stepper(self, saved_state: SAVED_STATE_TYPE) -> None:
        self._load_context = None
        self._awaitables = Awaitables()
        self._stepper = None
        stepper_state = saved_state.get(self._STEPPER_STATE)
        if stepper_state is not None:
            self._stepper = self.spec().get_outline().recreate_stepper(stepper_state, self)

    def to_context(self, **kwargs: asyncio.Future[Any] | processes.Process) -> None:
        """Wait for futures or processes after the present step.

        :param kwargs: each with the name that its outcome gets in the context: the result of a
            future, the outputs of a process
        :raises TypeError: for anything else
        """
        for name, awaitable in kwargs.items():
            self._awaitables.add(name, awaitable)

    async def run(self) -> Any:
        """Take the first step."""
        return self._do_step()

    def _do_step(self) -> Any:
        if self._awaitables:
            self._awaitables = Awaitables()
        assert self._stepper is not None
        try:
            finished, result = self._stepper.step()
        except _PropagateReturn as returned:
            return returned.exit_code
        if isinstance(result, dict):
            self.to_context(**result)
        elif result is not None:
            return result
        if self._awaitables:
            return process_states.Wait(self._do_step, "Waiting before next step", self._awaitables)
        return None if finished else process_states.Continue(self._do_step)
