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
        if kwargs:
            self.__dict__.update(kwargs)
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


class ProcessContext(LoadSaveContext):
    """The context in which a part of a process is loaded.

    :param process: that the part belongs to
    """

    def __init__(self, loader: ObjectLoader | None, process: Any) -> None:
        # What the constructor of the parent does, for one name: processes are loaded in bulk.
        self._values = {"process": process}
        self.process = process
        self.loader = loader
