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
        self.loader = loader

    def __getattr__(self, item: str) -> Any:
        # `_values` itself is missing while a context is being copied or unpickled
        values = self.__dict__.get("_values", {})
        try:
            return values[item]
        except KeyError:
            raise AttributeError(f"item '{item}' not found") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, item: Any) -> bool:
        return item in self._values

    def copyextend(self, **kwargs: Any) -> LoadSaveContext:
        """Return a copy of this context with some values added or replaced."""
        extended = LoadSaveContext.__new__(LoadSaveContext)
        extended.loader = kwargs.pop("loader", self.loader)
        extended._values = {**self._values, **kwargs}
        return extended
