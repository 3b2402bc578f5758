"""Controlling processes that run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import kiwipy

from plumpy import _crossing, _sending, _thread_futures, loaders
from plumpy._messages import (
    PID_TYPE,
    Intent,
    MessageBuilder,
    MessageType,
    ProcessResult,
    ProcessStatus,
    create_continue_body,
    create_create_body,
    create_launch_body,
)


class RemoteProcessController:
    """Controls processes that run elsewhere, for coroutines.

    Every method waits for the final answer and never blocks the loop. They raise
    :class:`kiwipy.UnroutableError` if nobody answers for the process,
    :class:`kiwipy.RemoteException` if the other side failed, and :class:`kiwipy.TimeoutError` or
    an error of the connection if the message could not be sent.
    """

    def __init__(self, communicator: kiwipy.Communicator) -> None:
        """
        :param communicator: sends the messages; may be wrapped for a loop
        """
        self._communicator = communicator

    async def get_status(self, pid: PID_TYPE) -> ProcessStatus:
        """Return the status of a process."""
        return await self._call(pid, MessageBuilder.status())

    async def pause_process(self, pid: PID_TYPE, msg_text: str | None = None) -> ProcessResult:
        """Pause a process and return whether it is paused.

        :param msg_text: its status while it is paused
        """
        return await self._call(pid, MessageBuilder.pause(msg_text))

    async def play_process(self, pid: PID_TYPE) -> ProcessResult:
        """Let a paused process go on and return whether it does."""
        return await self._call(pid, MessageBuilder.play())

    async def kill_process(
        self, pid: PID_TYPE, msg_text: str | None = None, force_kill: bool = False
    ) -> ProcessResult:
        """Kill a process and return whether it is killed.

        :param msg_text: the reason
        :param force_kill: do not wait for the step under way
        """
        return await self._call(pid, MessageBuilder.kill(msg_text, force_kill))

    async def launch_process(
        self,
        process_class: Any,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
        persist: bool = False,
        loader: loaders.ObjectLoader | None = None,
        nowait: bool = False,
        no_reply: bool = False,
    ) -> ProcessResult:
        """Start a new process on a worker; parameters as for :func:`create_launch_body`.

        :param no_reply: return None as soon as the task is sent
        :return: the outputs of the process, or its pid if ``nowait``
        """
        body = create_launch_body(process_class, init_args, init_kwargs, persist, loader, nowait)
        return await self._task(body, no_reply)

    async def continue_process(
        self, pid: PID_TYPE, tag: str | None = None, nowait: bool = False, no_reply: bool = False
    ) -> ProcessResult | None:
        """Continue a process from its checkpoint on a worker.

        :param tag: the tag of the checkpoint
        :param nowait: do not wait for the end of the process
        :param no_reply: return None as soon as the task is sent
        :return: the outputs of the process, or its pid if ``nowait``
        """
        return await self._task(create_continue_body(pid, tag, nowait), no_reply)

    async def execute_process(
        self,
        process_class: Any,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
        loader: loaders.ObjectLoader | None = None,
        nowait: bool = False,
        no_reply: bool = False,
    ) -> ProcessResult:
        """Create and save a process on a worker, then continue it there or on another.

        Parameters and result as for :meth:`launch_process`.
        """
        body = create_create_body(process_class, init_args, init_kwargs, True, loader)
        pid = await self._task(body, False)
        return await self.continue_process(pid, nowait=nowait, no_reply=no_reply)

    async def _call(self, pid: PID_TYPE, msg: MessageType) -> Any:
        return await _sending.call_and_wait(self._communicator, str(pid), msg)

    async def _task(self, body: dict[str, Any], no_reply: bool) -> Any:
        return await _sending.send_task_and_wait(self._communicator, body, no_reply)


class RemoteProcessThreadController:
    """Controls processes that run elsewhere, for programs without a loop.

    Methods return thread futures. The result of such a future may be a future again: the first one
    tells that the process got the message, the next that it has done what it was asked to;
    :func:`plumpy.futures.unwrap_kiwi_future` leads to the final answer. Sending raises
    :class:`kiwipy.UnroutableError` if nobody answers for the process.
    """

    def __init__(self, communicator: kiwipy.Communicator) -> None:
        """
        :param communicator: sends the messages; may be wrapped for a loop
        """
        self._communicator = communicator

    def get_status(self, pid: PID_TYPE) -> kiwipy.Future:
        """Ask for the status of a process."""
        return self._call(pid, MessageBuilder.status())

    def pause_process(self, pid: PID_TYPE, msg_text: str | None = None) -> kiwipy.Future:
        """Pause a process.

        :param msg_text: its status while it is paused
        """
        return self._call(pid, MessageBuilder.pause(msg_text))

    def pause_all(self, msg_text: str | None) -> None:
        """Pause every process of every worker.

        :param msg_text: their status while they are paused
        """
        _sending.broadcast(self._communicator, MessageBuilder.pause(msg_text), subject=Intent.PAUSE)

    def play_process(self, pid: PID_TYPE) -> kiwipy.Future:
        """Let a paused process go on."""
        return self._call(pid, MessageBuilder.play())

    def play_all(self) -> None:
        """Let every paused process of every worker go on."""
        _sending.broadcast(self._communicator, None, subject=Intent.PLAY)

    def kill_process(
        self, pid: PID_TYPE, msg_text: str | None = None, force_kill: bool = False
    ) -> kiwipy.Future:
        """Kill a process.

        :param msg_text: the reason
        :param force_kill: do not wait for the step under way
        """
        return self._call(pid, MessageBuilder.kill(msg_text, force_kill))

    def kill_all(self, msg_text: str | None) -> None:
        """Kill every process of every worker.

        :param msg_text: the reason
        """
        _sending.broadcast(self._communicator, MessageBuilder.kill(msg_text), subject=Intent.KILL)

    def launch_process(
        self,
        process_class: Any,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
        persist: bool = False,
        loader: loaders.ObjectLoader | None = None,
        nowait: bool = False,
        no_reply: bool = False,
    ) -> PID_TYPE | ProcessResult | None:
        """Start a new process on a worker; parameters as for :func:`create_launch_body`.

        :param no_reply: return None
        :return: a future for the outputs of the process, or for its pid if ``nowait``
        """
        body = create_launch_body(process_class, init_args, init_kwargs, persist, loader, nowait)
        return self.task_send(body, no_reply=no_reply)

    def continue_process(
        self, pid: PID_TYPE, tag: str | None = None, nowait: bool = False, no_reply: bool = False
    ) -> PID_TYPE | ProcessResult | None:
        """Continue a process from its checkpoint on a worker.

        :param tag: the tag of the checkpoint
        :param nowait: do not wait for the end of the process
        :param no_reply: return None
        :return: a future for the outputs of the process, or for its pid if ``nowait``
        """
        return self.task_send(create_continue_body(pid, tag, nowait), no_reply=no_reply)

    def execute_process(
        self,
        process_class: Any,
        init_args: Sequence[Any] | None = None,
        init_kwargs: dict[str, Any] | None = None,
        loader: loaders.ObjectLoader | None = None,
        nowait: bool = False,
        no_reply: bool = False,
    ) -> PID_TYPE | ProcessResult | None:
        """Create and save a process on a worker, then continue it there or on another.

        Parameters as for :meth:`launch_process`.

        :return: a future for what :meth:`continue_process` returns
        """
        body = create_create_body(process_class, init_args, init_kwargs, True, loader)
        created = _thread_futures.flatten(self.task_send(body))
        execution = kiwipy.Future()

        def go_on(done: kiwipy.Future) -> None:
            if done.cancelled():
                _thread_futures.cancel(execution)
                return
            try:
                pid = done.result()
                result = self.continue_process(pid, nowait=nowait, no_reply=no_reply)
            except Exception as exc:
                _thread_futures.fail(execution, exc)
            else:
                _thread_futures.succeed(execution, result)

        # Sending may block, and a communicator that answers from its own thread would block itself.
        created.add_done_callback(
            lambda done: _crossing.call_aside(self._communicator, go_on, done)
        )
        return execution

    def task_send(self, message: Any, no_reply: bool = False) -> Any | None:
        """Send a task.

        :param message: the body
        :param no_reply: ask for no answer
        :return: a future for the answer, or None if ``no_reply``
        """
        return _sending.send_task(self._communicator, message, no_reply)

    def _call(self, pid: PID_TYPE, msg: MessageType) -> kiwipy.Future:
        return _sending.call(self._communicator, str(pid), msg)
