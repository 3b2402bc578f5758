"""Namespaces compiled into flat tables, so that filling in and checking values is plain loops.

A plan holds as long as no port that it was made from changes: setters of such ports advance
:class:`~plumpy.ports._port.Epoch`, and a plan of an older epoch is made anew. Ports of classes that
override what a plan would do are called instead of inlined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..utils import AttributesFrozendict
from ._copy_of_default import copy_of_default
from ._port import (
    UNSPECIFIED,
    Epoch,
    InputPort,
    Port,
    PortValidationError,
    breadcrumbs_to_port,
    call_validator,
    takes_port,
    validator_returned,
    wrong_type_message,
)

if TYPE_CHECKING:
    from ._namespace import PortNamespace

# Namespaces that are inlined, and ports and namespaces that are called because their class does
# something of its own
_NAMESPACE, _OWN_PORT, _OWN_NAMESPACE = range(3)

# What `isinstance` of the abstract class would take longer to say
_MAPPINGS = frozenset({dict, AttributesFrozendict})

# Ports that are inlined: name, valid type, validator, the port, whether it is required
_Run = list[tuple[str, Any, "Callable[..., Any] | None", Any, bool]]

#: How often the types of values are noted: where they differ each time, nothing is gained.
_MANY_SHAPES = 4


class _Check(NamedTuple):
    name: str
    kind: int
    port: Any
    plan: NamespacePlan | None


class _Fill(NamedTuple):
    name: str
    port: Any
    plan: NamespacePlan | None
    default: Any
    # whether the default is what it is: neither called nor copied
    is_constant: bool


class NamespacePlan:
    """What a namespace does to values, in the order of its ports."""

    __slots__ = (
        "by_types",
        "checks",
        "declared",
        "dynamic_check",
        "epoch",
        "fills",
        "is_plain",
        "name",
        "namespace",
        "other_checks",
        "required",
        "shape",
        "shapes_to_note",
        "validator",
    )

    def __init__(self, namespace: PortNamespace) -> None:
        self.epoch = Epoch.current
        self.namespace = namespace
        self.is_plain = _is_plain_namespace(type(namespace))
        self.name = namespace.name
        self.required = namespace.required
        self.validator = namespace.validator
        self.dynamic_check = not namespace.dynamic or (
            namespace.valid_type is not None or _overrides_dynamic_check(type(namespace))
        )
        self.declared = frozenset(namespace)
        self.checks: list[_Run | _Check] = []
        self.fills: list[_Fill] = []
        for name, port in namespace.items():
            self._add(name, port)
        #: Names and types of values that were right, if the types alone decide that.
        self.shape: tuple[tuple[str, ...], tuple[type, ...]] | None = None
        self.shapes_to_note = _MANY_SHAPES
        #: What is to be checked of such values all the same.
        self.other_checks = [
            [part for part in check if part[2] is not None] if isinstance(check, list) else check
            for check in self.checks
        ]
        self.other_checks = [check for check in self.other_checks if check]
        #: Whether types alone can decide that values are right, here and in what is in here.
        self.by_types = self.validator is None and all(
            isinstance(check, _Check) and check.kind == _NAMESPACE for check in self.other_checks
        )

    def _add(self, name: str, port: Any) -> None:
        cls = type(port)
        if hasattr(cls, "pre_process"):
            inline = _is_plain_namespace(cls)
            plan = port._current_plan() if inline else None
            self.checks.append(_Check(name, _NAMESPACE if inline else _OWN_NAMESPACE, port, plan))
            self.fills.append(_Fill(name, port, plan, UNSPECIFIED, False))
            return
        validator = port.validator
        if _is_plain_port(cls) and (validator is None or takes_port(validator)):
            if not self.checks or not isinstance(self.checks[-1], list):
                self.checks.append([])
            run = self.checks[-1]
            assert isinstance(run, list)
            run.append((name, port.valid_type, validator, port, port.required))
        else:
            self.checks.append(_Check(name, _OWN_PORT, port, None))
        if isinstance(port, InputPort) and port.has_default():
            default = port.default
            constant = not callable(default) and copy_of_default(default) is default
            self.fills.append(_Fill(name, port, None, default, constant))

    def fill(self, values: Mapping[str, Any]) -> tuple[AttributesFrozendict, bool]:
        """Return the values with defaults filled in: given ones first, in the order given.

        :return: the values, and whether they are known to be right without being checked
        """
        filled = dict(values._dict if type(values) is AttributesFrozendict else values)
        right = self.by_types
        for name, port, plan, default, is_constant in self.fills:
            if is_constant:
                if name not in filled:
                    filled[name] = default
            elif default is not UNSPECIFIED:
                if name not in filled:
                    filled[name] = default() if callable(default) else copy_of_default(default)
            else:
                if name in filled:
                    value = filled[name]
                    if type(value) not in _MAPPINGS and not isinstance(value, Mapping):
                        right = False
                        continue  # left to the check, which says what is wrong with it
                elif not port.populate_defaults:
                    right = False
                    continue
                elif port.has_default():
                    value = port.default
                    value = value() if callable(value) else copy_of_default(value)
                elif len(port):
                    value = {}
                else:
                    right = False
                    continue
                if plan is not None:
                    filled[name], inner_right = plan.fill(value)
                    right = right and inner_right
                else:
                    filled[name] = port.pre_process(value)
        return frozen(filled), right and self._has_known_shape(filled)

    def _has_known_shape(self, given: dict[str, Any]) -> bool:
        shape = self.shape
        return (
            shape is not None
            and shape[1] == tuple(map(type, given.values()))
            and shape[0] == tuple(given)
        )

    def check(self, values: Any, breadcrumbs: tuple[str, ...]) -> PortValidationError | None:
        """Return the first thing that is wrong with the values, if anything is.

        :param breadcrumbs: names of the namespaces around this one
        """
        kind = type(values)
        given: dict[str, Any]
        if kind is AttributesFrozendict:
            given = values._dict
        elif kind is dict:
            given = values
        elif values is None or values is UNSPECIFIED:
            given = {}
        elif isinstance(values, Mapping):
            given = dict(values)
        else:
            return not_a_mapping(values, (*breadcrumbs, self.name))
        if not given and not self.required:
            return None
        error: PortValidationError | None = None
        if self._has_known_shape(given):
            if self.other_checks:
                error = self.check_ports(given, (*breadcrumbs, self.name), self.other_checks)
        else:
            error = self.check_ports(given, (*breadcrumbs, self.name), self.checks)
            if error is None and self.dynamic_check and not self.declared.issuperset(given):
                rest = {name: given[name] for name in given if name not in self.declared}
                error = self.namespace.validate_dynamic_ports(rest, breadcrumbs)
            if error is None and self.shapes_to_note:
                self._note_shape(given)
        if error is not None:
            return error
        if self.validator is not None:
            # a dictionary of its own, which it may change
            message = call_validator(self.validator, dict(given), self.namespace)
            if message is not None:
                return PortValidationError(message, breadcrumbs_to_port((*breadcrumbs, self.name)))
        return None

    def _note_shape(self, given: dict[str, Any]) -> None:
        """Remember names and types of values that are right, if others like them are so too."""
        self.shapes_to_note -= 1
        if self.dynamic_check and not self.declared.issuperset(given):
            return
        for check in self.checks:
            if isinstance(check, list):
                for name, valid_type, *_ in check:
                    if name in given and not _decides(type(given[name]), valid_type):
                        return
        self.shape = tuple(given), tuple(map(type, given.values()))

    def check_ports(
        self, given: dict[str, Any], here: tuple[str, ...], checks: list[_Run | _Check]
    ) -> PortValidationError | None:
        """Return the first thing that is wrong with the values of declared ports.

        :param here: names of the namespaces that lead to the ports, this one included
        :param checks: those of this plan, or some of them
        """
        get = given.get
        for check in checks:
            if isinstance(check, list):
                for name, valid_type, validator, port, required in check:
                    value = get(name, UNSPECIFIED)
                    if value is UNSPECIFIED:
                        if not required:
                            continue
                        message = f"required value was not provided for '{port.name}'"
                    elif valid_type is not None and not isinstance(value, valid_type):
                        message = wrong_type_message(port.name, value, valid_type)
                    elif validator is None or (message := validator(value, port)) is None:
                        continue
                    elif not isinstance(message, str):
                        raise validator_returned(message, port)
                    return PortValidationError(message, breadcrumbs_to_port((*here, port.name)))
                continue
            name, kind, port, plan = check
            value = get(name, UNSPECIFIED)
            error: PortValidationError | None
            if kind == _OWN_PORT:
                error = port.validate(value, here)
            elif value is None:
                error = not_a_mapping(value, (*here, port.name))
            elif kind == _OWN_NAMESPACE:
                error = port.validate(None if value is UNSPECIFIED else value, here)
            else:
                assert plan is not None
                error = plan.check(value, here)
            if error is not None:
                return error
        return None


def frozen(filled: dict[str, Any]) -> AttributesFrozendict:
    """Return the very dictionary as a frozen one."""
    result = AttributesFrozendict.__new__(AttributesFrozendict)
    result._dict = filled
    result._hash = None
    result._initialised = True
    return result


def not_a_mapping(value: Any, breadcrumbs: tuple[str, ...]) -> PortValidationError:
    """Say that something else was given for a namespace."""
    message = f"specified value is of type {type(value)} which is not sub class of `Mapping`"
    return PortValidationError(message, breadcrumbs_to_port(breadcrumbs))


def _decides(kind: type, valid_type: Any) -> bool:
    """Return whether every value of a type is right for a port, going by its type alone.

    Classes that have a say in what their instances are, such as abstract ones, are only relied on
    where there is no doubt. The type of a value that stands for none decides nothing.
    """
    if kind is type(UNSPECIFIED):
        return False
    if valid_type is None or kind is valid_type:
        return True
    if isinstance(valid_type, tuple):
        return any(_decides(kind, part) for part in valid_type)
    return type(valid_type) is type and valid_type in kind.__mro__


def _is_plain_port(cls: type) -> bool:
    return _same(cls, Port, ("validate", "name", "required", "valid_type", "validator"))


def _is_plain_namespace(cls: type) -> bool:
    from ._namespace import PortNamespace

    return _same(
        cls,
        PortNamespace,
        (
            "__getitem__",
            "__iter__",
            "__len__",
            "dynamic",
            "items",
            "name",
            "pre_process",
            "required",
            "valid_type",
            "validate",
            "validate_ports",
            "validator",
        ),
    )


def _overrides_dynamic_check(cls: type) -> bool:
    from ._namespace import PortNamespace

    return not _same(cls, PortNamespace, ("validate_dynamic_ports",))


def _same(cls: type, base: type, names: tuple[str, ...]) -> bool:
    return all(getattr(cls, name) is getattr(base, name) for name in names)
