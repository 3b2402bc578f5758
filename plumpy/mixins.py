"""Extensions for processes."""

from __future__ import annotations

from typing import Any, Optional

from . import persistence
from .utils import SAVED_STATE_TYPE, AttributesDict

__all__ = ["ContextMixin"]


class ContextMixin(persistence.Savable):
    """Adds a context: values that live, and are saved, with the process.

    Put it before the process class in the list of bases.
    """

    CONTEXT: str = "_context"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._context: AttributesDict | None = AttributesDict()

    @property
    def ctx(self) -> Optional[AttributesDict]:  # noqa: UP045
        """The context."""
        return self._context

    def save_instance_state(
        self, out_state: SAVED_STATE_TYPE, save_context: persistence.LoadSaveContext | None
    ) -> None:
        super().save_instance_state(out_state, save_context)
        self._store_context(out_state)

    def _store_context(self, out_state: SAVED_STATE_TYPE) -> None:
        if self._context is not None:
            out_state[self.CONTEXT] = self._context.__dict__

    def load_instance_state(
        self, saved_state: SAVED_STATE_TYPE, load_context: persistence.LoadSaveContext
    ) -> None:
        super().load_instance_state(saved_state, load_context)
        self._restore_context(saved_state)

    def _restore_context(self, saved_state: SAVED_STATE_TYPE) -> None:
        if self.CONTEXT in saved_state:
            self._context = AttributesDict(**saved_state[self.CONTEXT])
