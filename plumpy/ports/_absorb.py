"""Taking ports over from one namespace into another, all or some of them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..utils import is_mutable_property

if TYPE_CHECKING:
    from ._namespace import PortNamespace


def absorb(
    target: PortNamespace,
    source: PortNamespace,
    exclude: Sequence[str] | None,
    include: Sequence[str] | None,
    namespace_options: dict[str, Any] | None,
) -> list[str]:
    """Do what :meth:`plumpy.ports.PortNamespace.absorb` says."""
    if exclude is not None and include is not None:
        raise ValueError("exclude and include are mutually exclusive")
    exclude = _as_rules("exclude", exclude)
    include = _as_rules("include", include)
    if include is not None and not include:
        warnings.warn(
            "an empty `include` takes over everything; leave it out if that is meant",
            UserWarning,
            stacklevel=4,
        )
        include = None
    options = dict(namespace_options or {})
    for name in mutable_properties():
        setattr(target, name, options.pop(name) if name in options else getattr(source, name))
    if options:
        raise ValueError(
            f"the namespace_options {list(options)}, is not a supported PortNamespace property"
        )
    return _take(target, source, exclude, include)


def mutable_properties() -> list[str]:
    """Return the names of the settable properties of the namespaces of plumpy itself."""
    from ._namespace import PortNamespace

    return [name for name in dir(PortNamespace) if is_mutable_property(PortNamespace, name)]


def strip_namespace(
    namespace: str, separator: str, rules: Sequence[str] | None
) -> list[str] | None:
    """Return those rules that are about what is in a namespace, relative to it."""
    if rules is None:
        return None
    prefix = namespace + separator
    return [rule[len(prefix) :] for rule in rules if rule.startswith(prefix)]


def _take(
    target: PortNamespace,
    source: PortNamespace,
    exclude: Sequence[str] | None,
    include: Sequence[str] | None,
) -> list[str]:
    from ._namespace import PortNamespace

    taken = []
    for name, port in source.items():
        if exclude is not None and name in exclude:
            continue
        wanted_whole = include is None or name in include
        if isinstance(port, PortNamespace):
            separator = target.NAMESPACE_SEPARATOR
            inner = None if wanted_whole else strip_namespace(name, separator, include)
            if not wanted_whole and not inner:
                continue
            copied = copy.copy(port)
            copied._ports = {}
            _take(copied, port, strip_namespace(name, separator, exclude), inner)
            target[name] = copied
        elif wanted_whole:
            target[name] = copy.deepcopy(port)
        else:
            continue
        taken.append(name)
    return taken


def _as_rules(name: str, rules: Any) -> Sequence[str] | None:
    if rules is None:
        return None
    if isinstance(rules, str):
        # one rule: taken as a sequence of characters it would match by accident
        return (rules,)
    if not isinstance(rules, Sequence):
        raise TypeError(
            f"Got object of type '{type(rules)}' when expecting 'typing.Sequence': "
            f"`{name}` is a list or tuple of port names"
        )
    return rules
