"""Exceptions as text, and back without running anything that the text says.

The text is YAML in the form that PyYAML gives to exceptions (``!!python/object/apply:...``), which
plumpy 0.26.1 writes and reads. Reading it here builds an exception only if its class is there
already or can be found like any other identified class, without calling a constructor written in
Python, from plain values. Whatever else the text asks for becomes an :class:`ExceptionStandIn`.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

import yaml

from ..loaders import DefaultObjectLoader

_APPLY = "tag:yaml.org,2002:python/object/apply:"
_NEW = "tag:yaml.org,2002:python/object/new:"
_OBJECT = "tag:yaml.org,2002:python/object:"
_PLAIN = (type(None), bool, int, float, str, bytes)


class ExceptionStandIn(Exception):
    """Takes the place of an exception that could be kept as text only.

    :ivar type_name: full name of the class that the exception had
    :ivar text: what ``str()`` of the exception gave, or the stored text where that is unknown
    """

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(type_name, text)
        self.type_name = type_name
        self.text = text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


def encode_exception(exc: BaseException) -> str:
    """Return an exception as text: its class, arguments and those attributes that are plain values.

    Never fails: an argument that is no plain value is kept as its ``repr``, an attribute that is
    not is left out, and of an exception whose class could not be found again, its name and message.
    """
    if isinstance(exc, ExceptionStandIn):
        # 0.26.1 has no such class: an Exception of two words reads as the same text there
        return _dump("builtins.Exception", [str(exc)], {})
    cls = type(exc)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if _find_exception_class(name) is not cls:
        return _dump("builtins.Exception", [f"{name}: {_text(exc)}"], {})
    args: tuple[Any, ...] = exc.args
    state: dict[str, Any] = dict(vars(exc))
    if not _is_python_code(cls.__reduce__):
        try:
            reduced = exc.__reduce__()
        except Exception:
            reduced = ""
        if isinstance(reduced, tuple) and reduced[0] is cls:
            args = reduced[1]
            if len(reduced) > 2 and isinstance(reduced[2], dict):
                state = reduced[2]
    try:
        return _dump(
            name,
            [value if _is_plain(value) else _safe_repr(value) for value in args],
            {key: value for key, value in state.items() if _is_plain(value)},
        )
    except (yaml.YAMLError, UnicodeError, RecursionError):
        return _dump("builtins.Exception", [f"{name}: {_text(exc)!a}"], {})


def storable_exception(exc: BaseException) -> BaseException:
    """Return an exception that survives pickling and copying: the same one if it does, or else what
    can be made of its text."""
    attempts: list[Callable[[], BaseException]] = [
        lambda: exc,
        lambda: decode_exception(encode_exception(exc)),
    ]
    for attempt in attempts:
        try:
            candidate = attempt()
            copied = pickle.loads(pickle.dumps(candidate))
        except Exception:
            continue
        if type(copied) is type(exc):
            return candidate
    return Exception(f"{type(exc).__module__}.{type(exc).__qualname__}: {_text(exc)}")


def decode_exception(text: str) -> BaseException:
    """Return the exception that :func:`encode_exception`, or plumpy 0.26.1, wrote.

    Never raises and never runs code named by the text: what cannot be rebuilt is returned as an
    :class:`ExceptionStandIn`.
    """
    try:
        result = yaml.load(text, Loader=_ExceptionLoader)
    except Exception:
        result = None
    if isinstance(result, BaseException):
        return result
    return ExceptionStandIn("exception that cannot be loaded", text.strip())


class _ExceptionLoader(yaml.SafeLoader):
    """Plain values, tuples and exceptions, nothing else."""


class _ExceptionDumper(yaml.SafeDumper):
    """The counterpart of the loader."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _construct_exception(
    loader: _ExceptionLoader, suffix: str, node: yaml.nodes.Node
) -> BaseException:
    args: Any = ()
    state: Any = {}
    if isinstance(node, yaml.SequenceNode):
        args = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        fields = loader.construct_mapping(node, deep=True)
        if node.tag.startswith(_OBJECT):
            state = fields
        else:
            args, state = fields.get("args", ()), fields.get("state", {})
    else:
        raise yaml.constructor.ConstructorError(None, None, "no exception", node.start_mark)
    return _build(suffix, tuple(args), state if isinstance(state, dict) else {})


def _build(name: str, args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    cls = _find_exception_class(name)
    if cls is None:
        return ExceptionStandIn(name, ", ".join(map(str, args)))
    try:
        exc = _without_constructor(cls, args)
        for key, value in state.items():
            if key.startswith("__") and key != "__notes__":
                continue
            if isinstance(getattr(cls, key, None), types.MemberDescriptorType):
                setattr(exc, key, value)
            else:
                exc.__dict__[key] = value
    except Exception:
        return ExceptionStandIn(name, ", ".join(map(str, args)))
    return exc


def _without_constructor(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Make an exception as its nearest built-in base would, leaving out ``__init__`` in Python."""
    base: type[BaseException] = next(
        base
        for base in cls.__mro__
        if "__init__" in vars(base) and not _is_python_code(vars(base)["__init__"])
    )
    exc = base.__new__(cls, *args)
    vars(base)["__init__"](exc, *args)
    return exc


def _find_exception_class(name: str) -> type[BaseException] | None:
    module_name, _, class_name = name.rpartition(".")
    try:
        found = DefaultObjectLoader().load_object(f"{module_name}:{class_name}")
    except ValueError:
        found = None
        # a class inside another class, of a module that is there already
        module = sys.modules.get(module_name.rpartition(".")[0])
        outer = getattr(module, module_name.rpartition(".")[2], None)
        if isinstance(outer, type):
            found = vars(outer).get(class_name)
    except Exception:
        return None
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    return None


def _is_python_code(function: Any) -> bool:
    return isinstance(function, types.FunctionType | types.MethodType)


def _is_plain(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth > 20:
        return False
    if kind in (list, tuple):
        return all(_is_plain(item, depth + 1) for item in value)
    if kind is dict:
        return all(
            type(key) in _PLAIN and _is_plain(item, depth + 1) for key, item in value.items()
        )
    return False


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__module__}.{type(value).__qualname__} object>"


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        return ", ".join(map(_safe_repr, exc.args))


def _dump(name: str, args: list[Any], state: dict[str, Any]) -> str:
    value = {"args": args, "state": state} if state else args
    text: str = yaml.dump(_Apply(_APPLY + name, value), Dumper=_ExceptionDumper)
    return text


class _Apply:
    def __init__(self, tag: str, value: Any) -> None:
        self.tag = tag
        self.value = value


def _represent_apply(dumper: _ExceptionDumper, data: _Apply) -> yaml.nodes.Node:
    if isinstance(data.value, dict):
        return dumper.represent_mapping(data.tag, data.value)
    return dumper.represent_sequence(data.tag, data.value)


def _represent_tuple(dumper: _ExceptionDumper, data: tuple[Any, ...]) -> yaml.nodes.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:python/tuple", data)


def _construct_tuple(loader: _ExceptionLoader, node: yaml.nodes.Node) -> tuple[Any, ...]:
    assert isinstance(node, yaml.SequenceNode)
    return tuple(loader.construct_sequence(node, deep=True))


_ExceptionDumper.add_representer(_Apply, _represent_apply)
_ExceptionDumper.add_representer(tuple, _represent_tuple)
_ExceptionLoader.add_constructor("tag:yaml.org,2002:python/tuple", _construct_tuple)
for _tag in (_APPLY, _NEW, _OBJECT):
    _ExceptionLoader.add_multi_constructor(_tag, _construct_exception)
