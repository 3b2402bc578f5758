"""Values as JSON text, and back, without ever running anything that the text names.

What JSON has no form for is an object with one member, whose name starts with ``$`` and says what
it is. Classes are stored by their identifiers, savable objects as their saved states and exceptions
as in :mod:`plumpy.persistence._exceptions`. A value of any other class is refused when it is saved.
"""

from __future__ import annotations

import base64
import collections
import datetime
import decimal
import enum
import fractions
import json
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from ..exceptions import PersistenceError
from ..loaders import ObjectLoader, get_object_loader
from ..utils import AttributesDict, AttributesFrozendict
from ._bundle import Bundle, restored_bundle
from ._exceptions import decode_exception, encode_exception
from ._paths import readable
from ._savable import Savable

# What is encoded has no cycles any more.
to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

_AS_IS: frozenset[type] = frozenset({type(None), bool, int, str})
_all_as_is = _AS_IS.issuperset
_all_text = frozenset({str}).issuperset


def dumps(value: Any, loader: ObjectLoader | None = None) -> str:
    """Return a value as text.

    :param loader: identifies classes; ``None`` for the global loader
    :raises PersistenceError: naming by its path the part of the value that has no form as text
    """
    try:
        encoded = _Encoder(loader or get_object_loader()).encode(value)
    except _RefusedError as refused:
        path = readable("".join(reversed(refused.steps)).lstrip("."))
        message = f"cannot save `{path}`: {refused}" if path else str(refused)
        raise PersistenceError(message) from refused.__cause__
    return to_json(encoded)


def loads(text: str, loader: ObjectLoader | None = None) -> Any:
    """Return the value that :func:`dumps` was given.

    :param loader: finds classes; ``None`` for the global loader
    :raises PersistenceError: if the text is damaged, or names a class that is gone
    """
    try:
        decoder = _Decoder(loader or get_object_loader())
        return json.loads(text, object_hook=decoder.decode)
    except PersistenceError:
        raise
    except Exception as exc:
        raise PersistenceError(f"a stored value cannot be read: {exc}") from exc


# Values without parts: their class, the tag, how they become plain and how they come back.
_SCALARS: list[tuple[type, str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    (bytes, "$bytes", lambda v: base64.b64encode(v).decode(), base64.b64decode),
    (
        bytearray,
        "$bytearray",
        lambda v: base64.b64encode(v).decode(),
        lambda v: bytearray(base64.b64decode(v)),
    ),
    (complex, "$complex", repr, complex),
    (range, "$range", lambda v: [v.start, v.stop, v.step], lambda v: range(*v)),
    (uuid.UUID, "$uuid", str, uuid.UUID),
    (decimal.Decimal, "$decimal", str, decimal.Decimal),
    (fractions.Fraction, "$fraction", str, fractions.Fraction),
    (datetime.date, "$date", datetime.date.isoformat, datetime.date.fromisoformat),
    (
        datetime.timedelta,
        "$timedelta",
        lambda v: [v.days, v.seconds, v.microseconds],
        lambda v: datetime.timedelta(*v),
    ),
    (zoneinfo.ZoneInfo, "$zone", lambda v: v.key, zoneinfo.ZoneInfo),
    (pathlib.PosixPath, "$path", str, pathlib.Path),
    (pathlib.WindowsPath, "$path", str, pathlib.Path),
    (pathlib.PurePosixPath, "$posixpath", str, pathlib.PurePosixPath),
    (pathlib.PureWindowsPath, "$windowspath", str, pathlib.PureWindowsPath),
]

# Values with parts: their class, the tag, what they are made of and how they are made of it.
_CONTAINERS: list[tuple[type, str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    (tuple, "$tuple", list, tuple),
    (set, "$set", list, set),
    (frozenset, "$frozenset", list, frozenset),
    (collections.OrderedDict, "$ordereddict", dict, collections.OrderedDict),
    (AttributesFrozendict, "$frozendict", dict, AttributesFrozendict),
    (AttributesDict, "$attributesdict", vars, lambda v: AttributesDict(**v)),
    (Bundle, "$bundle", dict, restored_bundle),
    (
        datetime.datetime,
        "$datetime",
        lambda v: [v.replace(tzinfo=None).isoformat(), v.tzinfo, v.fold],
        lambda v: datetime.datetime.fromisoformat(v[0]).replace(tzinfo=v[1], fold=v[2]),
    ),
    (
        datetime.time,
        "$time",
        lambda v: [v.replace(tzinfo=None).isoformat(), v.tzinfo, v.fold],
        lambda v: datetime.time.fromisoformat(v[0]).replace(tzinfo=v[1], fold=v[2]),
    ),
    (
        datetime.timezone,
        "$timezone",
        lambda v: list(v.__getinitargs__()),
        lambda v: datetime.timezone(*v),
    ),
]

_ENCODE_SCALAR = {cls: (tag, encode) for cls, tag, encode, _ in _SCALARS}
_ENCODE_CONTAINER = {cls: (tag, parts) for cls, tag, parts, _ in _CONTAINERS}
_DECODE_SCALAR = {tag: decode for _, tag, _, decode in _SCALARS}
_DECODE_CONTAINER = {tag: build for _, tag, _, build in _CONTAINERS}


class _RefusedError(Exception):
    """A value cannot be stored.

    :ivar steps: the path to it, innermost step first
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.steps: list[str] = []

    def at(self, step: str) -> _RefusedError:
        """Return this error for what the value is a part of."""
        self.steps.append(step)
        return self


class _Encoder:
    """Encodes one value."""

    def __init__(self, loader: ObjectLoader) -> None:
        self._loader = loader
        #: The ids of the values that are being encoded.
        self._open: set[int] = set()

    def encode(self, value: Any) -> Any:
        kind = type(value)
        if kind in _AS_IS:
            return value
        if kind is float:
            return value if value - value == 0 else {"$float": repr(value)}
        if kind in _ENCODE_SCALAR:
            tag, to_plain = _ENCODE_SCALAR[kind]
            return {tag: to_plain(value)}
        identity = id(value)
        if identity in self._open:
            raise _RefusedError("it refers to itself")
        self._open.add(identity)
        encoded: Any
        if kind is dict:
            encoded = self._mapping(value)
        elif kind is list:
            encoded = self._items(value)
        else:
            encoded = self._encode_with_parts(value, kind)
        self._open.discard(identity)
        return encoded

    def _encode_with_parts(self, value: Any, kind: type) -> Any:
        if kind in _ENCODE_CONTAINER:
            tag, parts = _ENCODE_CONTAINER[kind]
            content = parts(value)
            return {
                tag: self._mapping(content) if isinstance(content, dict) else self._items(content)
            }
        if isinstance(value, enum.Enum):
            return {"$enum": [self._identify(kind), value.name]}
        if isinstance(value, type):
            return {"$class": self._identify(value)}
        if isinstance(value, BaseException):
            return {"$exception": encode_exception(value)}
        if isinstance(value, Savable):
            return {"$savable": self._mapping(dict(value.save()))}
        raise _RefusedError(
            f"there is no way to store a {kind.__module__}.{kind.__qualname__}; "
            "keep what it is made of instead, as plain values"
        )

    def _items(self, values: list[Any]) -> list[Any]:
        encoded = []
        for index, item in enumerate(values):
            if type(item) in _AS_IS:
                encoded.append(item)
                continue
            try:
                encoded.append(self.encode(item))
            except _RefusedError as refused:
                raise refused.at(f"[{index}]") from refused.__cause__
        return encoded

    def _mapping(self, values: dict[Any, Any]) -> dict[str, Any]:
        if (
            len(values) > 1
            and _all_as_is(map(type, values.values()))
            and _all_text(map(type, values))
        ):
            return values
        encoded = {}
        for key, item in values.items():
            if type(key) is not str:
                return self._pairs(values)
            if type(item) in _AS_IS:
                encoded[key] = item
                continue
            try:
                encoded[key] = self.encode(item)
            except _RefusedError as refused:
                raise refused.at(f".{key}") from refused.__cause__
        if len(encoded) == 1 and key.startswith("$"):
            return self._pairs(values)
        return encoded

    def _pairs(self, values: dict[Any, Any]) -> dict[str, Any]:
        pairs = []
        for key, item in values.items():
            try:
                pairs.append([self.encode(key), self.encode(item)])
            except _RefusedError as refused:
                raise refused.at(f"[{key!r}]") from refused.__cause__
        return {"$dict": pairs}

    def _identify(self, cls: type) -> str:
        try:
            identifier = self._loader.identify_object(cls)
            found = self._loader.load_object(identifier)
        except (ValueError, ImportError) as exc:
            raise _RefusedError(str(exc)) from exc
        if found is not cls:
            raise _RefusedError(f"`{identifier}` names something else than {cls!r}")
        return identifier


class _Decoder:
    """Decodes JSON objects, from the innermost ones on."""

    def __init__(self, loader: ObjectLoader) -> None:
        self._loader = loader

    def decode(self, value: dict[str, Any]) -> Any:
        if len(value) == 1:
            ((tag, content),) = value.items()
            if tag.startswith("$"):
                return self._decode_tagged(tag, content)
        return value

    def _decode_tagged(self, tag: str, content: Any) -> Any:
        if tag in _DECODE_CONTAINER:
            return _DECODE_CONTAINER[tag](content)
        if tag in _DECODE_SCALAR:
            return _DECODE_SCALAR[tag](content)
        if tag == "$dict":
            return dict(content)
        if tag == "$float":
            return float(content)
        if tag == "$class":
            return self._class(content, type)
        if tag == "$enum":
            return self._class(content[0], enum.Enum)[content[1]]
        if tag == "$exception":
            return decode_exception(content)
        if tag == "$savable":
            return Savable.load(content)
        raise PersistenceError(f"a stored value is a {tag}, which this release does not know")

    def _class(self, identifier: str, base: type) -> Any:
        found = self._loader.load_object(identifier)
        if not isinstance(found, type) or not (base is type or issubclass(found, base)):
            raise PersistenceError(f"`{identifier}` is not a class that is a kind of {base}")
        return found
