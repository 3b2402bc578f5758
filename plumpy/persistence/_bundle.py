"""The saved state of one object with everything that belongs to it, and its YAML form."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Mapping
from typing import Any

import yaml

from ..exceptions import PersistenceError
from ._context import LoadSaveContext, PrivateSave
from ._copy import IMMUTABLE, copied, snapshot
from ._savable import FORMAT_VERSION, META, META__VERSION, Savable

_BUNDLE_TAG = "!plumpy:Bundle"
_UUID_TAG = "!uuid"


class Bundle(dict[str, Any]):
    """The saved state of a savable object as a dictionary that knows how to load it again.

    :param savable: what to save
    :param save_context: handed to its ``save``
    :param dereference: copy every value, so that the bundle shares nothing with the object
    :raises PersistenceError: if a value cannot be copied; the message names it by its path
    """

    def __init__(
        self,
        savable: Savable,
        save_context: LoadSaveContext | None = None,
        dereference: bool = False,
    ) -> None:
        state = savable.save(save_context)
        state.setdefault(META, {}).setdefault(META__VERSION, FORMAT_VERSION)
        self.update(copied_values(state) if dereference else state)

    def unbundle(self, load_context: LoadSaveContext | None = None) -> Savable:
        """Make the object that was saved.

        :raises PersistenceError: if a newer release wrote the bundle in a format unknown here
        :raises ValueError: if the class of the object cannot be found
        """
        version = self[META].get(META__VERSION, 0) if META in self else 0
        if type(version) is not int or version > FORMAT_VERSION:
            raise PersistenceError(
                f"the bundle has format {version!r}, this release reads up to {FORMAT_VERSION}: "
                "load it with the release that wrote it, or a later one"
            )
        return Savable.load(self, load_context)


def copied_values(state: Any) -> dict[str, Any]:
    """Return a saved state with a copy of every value.

    :raises PersistenceError: naming the value that cannot be copied
    """
    memo: dict[int, Any] = {}
    try:
        return {
            key: value if type(value) in IMMUTABLE else snapshot(value, memo)
            for key, value in state.items()
        }
    except Exception:
        return {key: copied(value, key) for key, value in state.items()}


def detached(state: Any, context: PrivateSave) -> dict[str, Any]:
    """Return a saved state that shares nothing with the object; what was made for it stays.

    :param context: of the save
    :raises PersistenceError: naming the value that cannot be copied
    """
    try:
        if id(state) not in context.states:
            return snapshot(state)  # type: ignore[no-any-return]
        _detach(state, context.states, context.values, {})
    except Exception:
        return copied_values(state)
    return state  # type: ignore[no-any-return]


def _detach(
    state: Any, states: Mapping[int, Any], values: Mapping[int, Any], memo: dict[int, Any]
) -> None:
    meta = state[META]
    for key, part in state.items():
        if type(part) in IMMUTABLE or part is meta:
            continue
        identity = id(part)
        if identity in states:
            _detach(part, states, values, memo)
        elif identity not in values:
            state[key] = snapshot(part, memo)


def restored_bundle(values: Any) -> Bundle:
    """Return a bundle with these items."""
    bundle = Bundle.__new__(Bundle)
    bundle.update(values)
    return bundle


def _bundle_representer(dumper: Any, node: Any) -> Any:
    return dumper.represent_mapping(_BUNDLE_TAG, node)


def _bundle_constructor(loader: Any, data: Any) -> Generator[Bundle, None, None]:
    # in two steps, so that what is inside may refer to the bundle itself
    bundle = Bundle.__new__(Bundle)
    yield bundle
    bundle.update(loader.construct_mapping(data))


def uuid_representer(dumper: Any, data: uuid.UUID) -> Any:
    """Represent a UUID as a scalar with the tag ``!uuid``."""
    return dumper.represent_scalar(_UUID_TAG, str(data))


def uuid_constructor(loader: Any, node: Any) -> uuid.UUID:
    """Construct a UUID from a scalar with the tag ``!uuid``."""
    return uuid.UUID(loader.construct_scalar(node))


yaml.add_representer(Bundle, _bundle_representer)
yaml.add_constructor(_BUNDLE_TAG, _bundle_constructor)
yaml.add_representer(uuid.UUID, uuid_representer)
yaml.add_constructor(_UUID_TAG, uuid_constructor)
