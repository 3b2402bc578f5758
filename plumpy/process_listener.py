"""What others can hear about a process."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Optional

from . import persistence
from .utils import SAVED_STATE_TYPE, protected

if TYPE_CHECKING:
    from .processes import Process

__all__ = ["ProcessListener"]


@persistence.auto_persist("_params")
class ProcessListener(persistence.Savable, metaclass=abc.ABCMeta):
    """Gets told what happens to the processes it was added to. Override what is of interest.

    A listener is saved with the process: override :meth:`init` for what has to be set up again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._params: dict[str, Any] = {}

    @protected
    def init(self, **kwargs: Any) -> None:
        """Set the listener up; called with the saved parameters when it is loaded.

        :param kwargs: parameters to save with the listener
        """
        self._params = kwargs

    def load_instance_state(
        self,
        saved_state: SAVED_STATE_TYPE,
        load_context: Optional[persistence.LoadSaveContext],  # noqa: UP045
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        self.init(**saved_state["_params"])

    def on_process_created(self, process: Process) -> None:
        """The process has been created and ``init`` has run, or it has been loaded."""

    def on_process_running(self, process: Process) -> None:
        """The process is running."""

    def on_process_waiting(self, process: Process) -> None:
        """The process is waiting."""

    def on_process_paused(self, process: Process) -> None:
        """The process has been paused."""

    def on_process_played(self, process: Process) -> None:
        """The process goes on after a pause."""

    def on_output_emitted(
        self, process: Process, output_port: str, value: Any, dynamic: bool
    ) -> None:
        """The process has emitted an output.

        :param output_port: the name it was emitted under
        :param dynamic: whether no port is declared for it
        """

    def on_process_finished(self, process: Process, outputs: Any) -> None:
        """The process has finished."""

    def on_process_excepted(self, process: Process, reason: str) -> None:
        """The process has ended by an exception.

        :param reason: the text of the exception
        """

    def on_process_killed(self, process: Process, msg: str) -> None:
        """The process has been killed.

        :param msg: the message that the kill came with
        """
