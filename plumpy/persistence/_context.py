"""What the saving and loading of objects may refer to but does not store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..loaders import ObjectLoader


class LoadSaveContext:
    """Values that are handed through a save or a load: the loop, the communicator, a runner ...

    Each value is an attribute of the context. Iterating goes over their names.

    :param loader: identifies classes when saving and finds them when loading; ``None`` for the
        loader that a saved state names, or else the global one
    """

    loader: ObjectLoader | None = None

    def __init__(self, loader: ObjectLoader | None = None, **kwargs: Any) -> None:
        self._values = kwargs
        for name, value in kwargs.items():
            setattr(self, name, value)
        if loader is not None:
            self.loader = loader

    def __getattr__(self, item: str) -> Any:
        raise AttributeError(f"item '{item}' not found")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, item: Any) -> bool:
        return item in self._values

    def _with_loader(self, loader: ObjectLoader) -> LoadSaveContext:
        """Return a copy of this context with a loader."""
        copy = LoadSaveContext.__new__(LoadSaveContext)
        attributes = copy.__dict__
        attributes.update(self.__dict__)
        attributes["loader"] = loader
        return copy

    def copyextend(self, **kwargs: Any) -> LoadSaveContext:
        """Return a copy of this context with some values added or replaced."""
        extended = LoadSaveContext.__new__(LoadSaveContext)
        loader = kwargs.pop("loader", self.loader)
        values = {**self._values, **kwargs}
        extended.__dict__.update(values)
        extended._values = values
        extended.loader = loader
        return extended


class PrivateSave(LoadSaveContext):
    """The context of a save whose result is to share nothing with what is saved.

    Code of this package notes in it what was made for that save alone, and therefore need not be
    copied. It is noted with its ``id``, and kept so that the ``id`` stays its own.

    :ivar states: saved states that were made; there may be something else in them
    :ivar values: values that were made with all that is in them
    """

    def __init__(self, loader: ObjectLoader | None, whole: PrivateSave | None = None) -> None:
        self._values = {}
        self.loader = loader
        self.states: dict[int, Any] = {} if whole is None else whole.states
        self.values: dict[int, Any] = {} if whole is None else whole.values


def context_of_part(save_context: LoadSaveContext | None) -> LoadSaveContext | None:
    """Return the context for saving a part of an object by the default loader."""
    if type(save_context) is not PrivateSave:
        return None
    return save_context if save_context.loader is None else PrivateSave(None, save_context)


class ProcessContext(LoadSaveContext):
    """The context in which a part of a process is loaded.

    :param process: that the part belongs to
    """

    def __init__(self, loader: ObjectLoader | None, process: Any) -> None:
        # What the constructor of the parent does, for one name: processes are loaded in bulk.
        self._values = {"process": process}
        self.process = process
        self.loader = loader
