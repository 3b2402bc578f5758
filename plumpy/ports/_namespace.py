"""Namespaces: ports by name, in any depth."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Union

from ..utils import AttributesFrozendict
from ._absorb import absorb, strip_namespace
from ._plan import NamespacePlan
from ._port import (
    UNSPECIFIED,
    VALIDATOR_TYPE,
    Epoch,
    Port,
    PortValidationError,
    breadcrumbs_to_port,
)

AnyPort = Union[Port, "PortNamespace"]


class PortNamespace(MutableMapping[str, AnyPort], Port):
    """A mapping of names to ports and further namespaces, which is a port itself.

    :param name: of the namespace
    :param help: for people
    :param required: whether a value for the namespace has to be given if it is not empty
    :param validator: called with the dictionary of all values and this namespace
    :param valid_type: type of the values of undeclared ports; makes the namespace dynamic
    :param default: values to use if none are given
    :param dynamic: whether values of undeclared ports are allowed; ``valid_type`` overrules it
    :param populate_defaults: whether defaults are filled in if no value is given for the namespace
    """

    NAMESPACE_SEPARATOR = "."

    def __init__(
        self,
        name: str = "",
        help: str | None = None,
        required: bool = True,
        validator: VALIDATOR_TYPE | None = None,
        valid_type: Any = None,
        default: Any = UNSPECIFIED,
        dynamic: bool = False,
        populate_defaults: bool = True,
    ) -> None:
        super().__init__(
            name=name, help=help, required=required, validator=validator, valid_type=valid_type
        )
        self._ports: dict[str, AnyPort] = {}
        self._default = default
        self._populate_defaults = populate_defaults
        self._dynamic = dynamic
        self._plan: NamespacePlan | None = None
        if valid_type is not None:
            self.valid_type = valid_type

    def __str__(self) -> str:
        return json.dumps(self.get_description(), sort_keys=True, indent=4)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_plan"] = None
        return state

    def __iter__(self) -> Iterator[str]:
        return iter(self._ports)

    def __len__(self) -> int:
        return len(self._ports)

    def __getitem__(self, key: str) -> AnyPort:
        return self._ports[key]

    def __setitem__(self, key: str, port: AnyPort) -> None:
        if not isinstance(port, Port):
            raise TypeError(f"port needs to be an instance of Port, not {type(port).__name__}")
        self._about_to_change()
        self._ports[key] = port

    def __delitem__(self, key: str) -> None:
        self._about_to_change()
        del self._ports[key]

    @property
    def ports(self) -> dict[str, AnyPort]:
        """The ports by name."""
        if self._stage:
            Epoch.current += 1  # the caller may be about to change them
        return self._ports

    @property
    def default(self) -> Any:
        """Values to use if none are given, or :data:`UNSPECIFIED`."""
        return self._default

    @default.setter
    def default(self, default: Any) -> None:
        self._about_to_change()
        self._default = default

    @property
    def dynamic(self) -> bool:
        """Whether values of undeclared ports are allowed."""
        return self._dynamic

    @dynamic.setter
    def dynamic(self, dynamic: bool) -> None:
        self._about_to_change()
        self._dynamic = dynamic

    @property
    def valid_type(self) -> Any:
        """Type of the values of undeclared ports; setting one makes the namespace dynamic."""
        return self._valid_type

    @valid_type.setter
    def valid_type(self, valid_type: Any) -> None:
        self._about_to_change()
        if valid_type is not None:
            self._dynamic = True
        self._valid_type = valid_type

    @property
    def populate_defaults(self) -> bool:
        """Whether defaults are filled in if no value is given for the namespace."""
        return self._populate_defaults

    @populate_defaults.setter
    def populate_defaults(self, populate_defaults: bool) -> None:
        self._about_to_change()
        self._populate_defaults = populate_defaults

    def has_default(self) -> bool:
        """Return whether there is a default."""
        return self._default is not UNSPECIFIED

    def get_description(self) -> dict[str, dict[str, Any]]:
        """Return what there is to know about the namespace and all that is in it."""
        description: dict[str, dict[str, Any]] = {
            "_attrs": {
                "default": self.default,
                "dynamic": self.dynamic,
                "valid_type": str(self.valid_type),
                "required": str(self.required),
                "help": self.help,
            }
        }
        for name, port in self._ports.items():
            description[name] = port.get_description()
        return description

    def get_port(self, name: str, create_dynamically: bool = False) -> AnyPort:
        """Return the port at a path such as ``namespace.name``.

        :param create_dynamically: deprecated, has no effect
        :raises ValueError: if there is none
        """
        if create_dynamically:
            warnings.warn(
                "the `create_dynamically` argument is deprecated and ignored; dynamic runtime "
                "outputs should be emitted with `Process.out`, which leaves the specification "
                "alone",
                DeprecationWarning,
                stacklevel=2,
            )
        first, _, rest = self._split(name)
        port = self._ports.get(first)
        if port is None:
            raise ValueError(f"port '{first}' does not exist in port namespace '{self.name}'")
        if not rest:
            return port
        if not isinstance(port, PortNamespace):
            raise ValueError(f"port '{first}' in port namespace '{self.name}' is no namespace")
        return port.get_port(rest)

    def create_port_namespace(self, name: str, **kwargs: Any) -> PortNamespace:
        """Return the namespace at a path, after creating what is missing of it.

        :param kwargs: for the constructor of the last namespace of the path, if it is created
        :raises ValueError: if there is a port that is no namespace on the way
        """
        first, _, rest = self._split(name)
        port = self._ports.get(first)
        if port is None:
            port = self[first] = type(self)(first, **({} if rest else kwargs))
        elif not isinstance(port, PortNamespace):
            raise ValueError(f"the name '{first}' in '{self.name}' already contains a Port")
        if rest:
            return port.create_port_namespace(rest, **kwargs)
        return port

    def absorb(
        self,
        port_namespace: PortNamespace,
        exclude: Sequence[str] | None = None,
        include: Sequence[str] | None = None,
        namespace_options: dict[str, Any] | None = None,
    ) -> list[str]:
        """Take over copies of the ports of another namespace, and its properties.

        :param exclude: paths of what not to take; a namespace goes with all that is in it
        :param include: paths of what to take, nothing else
        :param namespace_options: values of properties of this namespace, instead of those of the
            other one
        :return: names at the top level of what was taken
        :raises ValueError: if both ``exclude`` and ``include`` are given, or an option is unknown
        :raises TypeError: if the rules are not a sequence
        """
        return absorb(self, port_namespace, exclude, include, namespace_options)

    def project(self, port_values: Mapping[str, Any]) -> MutableMapping[str, Any]:
        """Return those of the values for whose names there is a port or namespace here."""
        return {name: value for name, value in port_values.items() if name in self._ports}

    def pre_process(self, port_values: MutableMapping[str, Any]) -> AttributesFrozendict:
        """Return the values with defaults filled in, as a frozen dictionary at every level.

        What is no mapping where there is a namespace stays as it is, for :meth:`validate` to
        report.
        """
        if not isinstance(port_values, Mapping):
            raise TypeError(
                f"values for the namespace '{self.name}' have to be a mapping, not {port_values!r}"
            )
        return self._current_plan().fill(port_values)[0]

    def validate(
        self, port_values: Mapping[str, Any] | None = None, breadcrumbs: Sequence[str] = ()
    ) -> PortValidationError | None:
        """Return the first thing that is wrong with the values, if anything is.

        Nothing is wrong with no values at all for a namespace that is not required. Declared ports
        are looked at first, in the order of their definition, then values without a port, then
        the validator of the namespace is called.

        :param breadcrumbs: names of the namespaces that lead to this one
        """
        return self._current_plan().check(port_values, tuple(breadcrumbs))

    def _parse(
        self, port_values: Mapping[str, Any]
    ) -> tuple[AttributesFrozendict, PortValidationError | None]:
        """Return what :meth:`pre_process` does, and what :meth:`validate` says of that.

        :raises TypeError: if ``port_values`` is no mapping
        """
        plan = self._current_plan()
        if plan.is_plain and isinstance(port_values, Mapping):
            parsed, right = plan.fill(port_values)
            return parsed, None if right else plan.check(parsed, ())
        parsed = self.pre_process(port_values)  # type: ignore[arg-type]
        return parsed, self.validate(parsed)

    def validate_ports(
        self, port_values: MutableMapping[str, Any], breadcrumbs: Sequence[str]
    ) -> PortValidationError | None:
        """Take the values of declared ports out of ``port_values`` and check them.

        :param breadcrumbs: names of the namespaces that lead to the ports, this one included
        """
        plan = self._current_plan()
        given = dict(port_values)
        for name in plan.declared:
            port_values.pop(name, None)
        return plan.check_ports(given, tuple(breadcrumbs), plan.checks)

    def validate_dynamic_ports(
        self, port_values: MutableMapping[str, Any], breadcrumbs: Sequence[str] = ()
    ) -> PortValidationError | None:
        """Check values for which there is no port.

        :param breadcrumbs: names of the namespaces that lead to this one
        """
        here = (*breadcrumbs, self.name)
        if port_values and not self.dynamic:
            message = f"Unexpected ports {port_values}, for a non dynamic namespace"
            return PortValidationError(message, breadcrumbs_to_port(here))
        valid_type = self.valid_type
        if valid_type is None:
            return None
        for name, value in port_values.items():
            if isinstance(value, dict):
                error = self.validate_dynamic_ports(value, (*here, name))
                if error is not None:
                    return error
            elif not isinstance(value, valid_type):
                message = (
                    f"Invalid type {type(value)} for dynamic port value: expected {valid_type}"
                )
                return PortValidationError(message, breadcrumbs_to_port((*here, name)))
        return None

    @staticmethod
    def strip_namespace(
        namespace: str, separator: str, rules: Sequence[str] | None = None
    ) -> list[str] | None:
        """Return those rules that are about what is in a namespace, relative to it."""
        return strip_namespace(namespace, separator, rules)

    def _split(self, name: str) -> tuple[str, str, str]:
        if not isinstance(name, str):
            raise ValueError(f"name has to be a string type, not {type(name)}")
        parts = name.partition(self.NAMESPACE_SEPARATOR)
        if not parts[0] or (parts[1] and not parts[2]):
            raise ValueError("name cannot be an empty string")
        return parts

    def _current_plan(self) -> NamespacePlan:
        plan = self._plan
        if plan is None or plan.epoch != Epoch.current:
            plan = self._plan = NamespacePlan(self)
            self._mark(1)
            for port in self._ports.values():
                port._mark(1)
        return plan

    def _mark(self, stage: int) -> None:
        super()._mark(stage)
        if stage == 2:
            for port in self._ports.values():
                port._mark(stage)
