"""Ports: what one input or output of a process has to be like."""

from __future__ import annotations

import functools
import inspect
import json
import typing
import warnings
from collections.abc import Callable, Sequence
from typing import Any

VALIDATOR_SIGNATURE_DEPRECATION_WARNING = """the validator `{}` has a signature that only takes a single argument.
    This has been deprecated and the new signature is `validator(value, port)` where the `port` argument will be the
    port instance to which the validator has been assigned."""  # noqa: E501

VALIDATOR_TYPE = typing.Callable[[Any, "Port"], typing.Optional[str]]  # noqa: UP045

# What a port is validated with when it has no value. An empty tuple is a legitimate value,
# so always compare with `is`: the empty tuple of CPython is one object, this one.
UNSPECIFIED: tuple[()] = ()


class PortValidationError(Exception):
    """Says what is wrong with the value of a port.

    :param message: what is wrong
    :param port: path of the port, such as ``inputs.namespace.name``
    """

    def __init__(self, message: str, port: str) -> None:
        super().__init__(f"Error occurred validating port '{port}': {message}")
        self._message = message
        self._port = port

    @property
    def message(self) -> str:
        """What is wrong."""
        return self._message

    @property
    def port(self) -> str:
        """Path of the port."""
        return self._port


class Epoch:
    """Counts the changes of ports after which compiled plans are out of date."""

    current = 0


class Port:
    """The specification of one value.

    :param name: of the port
    :param valid_type: the type, or tuple of types, that a value must be an instance of
    :param help: for people
    :param required: whether there has to be a value
    :param validator: called with the value and this port; returns ``None`` or what is wrong
    """

    # 0: free; 1: a compiled plan relies on this port; 2: so does a sealed specification
    _stage = 0

    def __init__(
        self,
        name: str,
        valid_type: Any = None,
        help: str | None = None,
        required: bool = True,
        validator: VALIDATOR_TYPE | None = None,
    ) -> None:
        self._name = name
        self._valid_type = valid_type
        self._help = help
        self._required = required
        self._validator = validator

    def __str__(self) -> str:
        return json.dumps(self.get_description())

    def __getstate__(self) -> dict[str, Any]:
        # a copy is in nobody's plan
        state = self.__dict__.copy()
        state.pop("_stage", None)
        return state

    def get_description(self) -> dict[str, Any]:
        """Return what there is to know about the port, as text."""
        description = {"name": f"{self.name}", "required": str(self.required)}
        if self.valid_type:
            description["valid_type"] = f"{self.valid_type}"
        if self.help:
            description["help"] = f"{self.help.strip()}"
        return description

    @property
    def name(self) -> str:
        """Name of the port."""
        return self._name

    @property
    def valid_type(self) -> Any:
        """The type, or tuple of types, that a value must be an instance of; ``None`` for any."""
        return self._valid_type

    @valid_type.setter
    def valid_type(self, valid_type: Any) -> None:
        self._about_to_change()
        self._valid_type = valid_type

    @property
    def help(self) -> str | None:
        """What the port is for."""
        return self._help

    @help.setter
    def help(self, help: str | None) -> None:
        self._help = help

    @property
    def required(self) -> bool:
        """Whether there has to be a value."""
        return self._required

    @required.setter
    def required(self, required: bool) -> None:
        self._about_to_change()
        self._required = required

    @property
    def validator(self) -> VALIDATOR_TYPE | None:
        """Called with the value and this port; returns ``None`` or what is wrong."""
        return self._validator

    @validator.setter
    def validator(self, validator: VALIDATOR_TYPE | None) -> None:
        self._about_to_change()
        self._validator = validator

    def validate(self, value: Any, breadcrumbs: Sequence[str] = ()) -> PortValidationError | None:
        """Say what is wrong with a value, if anything is.

        :param value: the value, or :data:`UNSPECIFIED` for none
        :param breadcrumbs: names of the namespaces that lead to this port
        :return: the error; it is not raised
        :raises AssertionError: if the validator returns neither ``None`` nor text
        """
        message: str | None = None
        if value is UNSPECIFIED:
            if self.required:
                message = f"required value was not provided for '{self.name}'"
        elif self.valid_type is not None and not isinstance(value, self.valid_type):
            message = wrong_type_message(self.name, value, self.valid_type)
        elif self.validator is not None:
            message = call_validator(self.validator, value, self)
        if message is None:
            return None
        return PortValidationError(message, breadcrumbs_to_port((*breadcrumbs, self.name)))

    def _about_to_change(self) -> None:
        stage = self._stage
        if stage:
            Epoch.current += 1
            if stage == 2:
                warnings.warn(
                    f"port '{self._name}' is changed although the specification that it is part "
                    "of is sealed: processes that exist already were checked without the change",
                    UserWarning,
                    stacklevel=3,
                )

    def _mark(self, stage: int) -> None:
        """Raise the stage of this port and of those below it."""
        self._stage = max(self._stage, stage)


class InputPort(Port):
    """A port with a default, which may be a callable that makes one per process.

    A port with a default is not required. A default that is not callable must itself be valid.

    :raises ValueError: if the default is not valid
    """

    def __init__(
        self,
        name: str,
        valid_type: Any = None,
        help: str | None = None,
        default: Any = UNSPECIFIED,
        required: bool = True,
        validator: VALIDATOR_TYPE | None = None,
    ) -> None:
        super().__init__(
            name,
            valid_type=valid_type,
            help=help,
            required=self.required_override(required, default),
            validator=validator,
        )
        if default is not UNSPECIFIED and not callable(default):
            error = self.validate(default)
            if error:
                raise ValueError(f"Invalid default value: {error.message}")
        self._default = default

    @staticmethod
    def required_override(required: bool, default: Any) -> bool:
        """Return whether a port is required, given what was asked for and the default."""
        return required if default is UNSPECIFIED else False

    def has_default(self) -> bool:
        """Return whether there is a default."""
        return self._default is not UNSPECIFIED

    @property
    def default(self) -> Any:
        """The default value, or a callable that returns one.

        :raises RuntimeError: if there is none
        """
        if self._default is UNSPECIFIED:
            raise RuntimeError("No default")
        return self._default

    @default.setter
    def default(self, default: Any) -> None:
        self._about_to_change()
        self._default = default

    def get_description(self) -> dict[str, str]:
        """Return what there is to know about the port, as text."""
        description = super().get_description()
        if self.has_default():
            description["default"] = f"{self.default}"
        return description


class OutputPort(Port):
    """A port for one output of a process."""


def breadcrumbs_to_port(breadcrumbs: Sequence[str]) -> str:
    """Join the names that lead to a port into its path."""
    return ".".join(breadcrumbs)


def wrong_type_message(name: str, value: Any, valid_type: Any) -> str:
    """Say that a value has the wrong type."""
    return f"value '{name}' is not of the right type. Got '{type(value)}', expected '{valid_type}'"


def call_validator(validator: Callable[..., Any], value: Any, port: Port) -> str | None:
    """Call a validator with one or two arguments, whichever it takes.

    :raises AssertionError: if it returns neither ``None`` nor text
    """
    if takes_port(validator):
        message = validator(value, port)
    else:
        name = getattr(validator, "__name__", type(validator).__name__)
        warnings.warn(VALIDATOR_SIGNATURE_DEPRECATION_WARNING.format(name), stacklevel=4)
        message = validator(value)
    if message is not None and not isinstance(message, str):
        raise validator_returned(message, port)
    return message


def validator_returned(message: Any, port: Port) -> AssertionError:
    """Return the error for a validator that returned neither ``None`` nor text."""
    return AssertionError(
        f"Validator returned non string type: {message!r} for port '{port.name}'; "
        "it has to return None if the value is valid, or else a text that says what is wrong"
    )


def takes_port(validator: Callable[..., Any]) -> bool:
    """Return whether a validator takes the port as its second argument."""
    try:
        return _takes_port(validator)
    except TypeError:  # not hashable
        return _takes_port.__wrapped__(validator)


@functools.lru_cache(maxsize=4096)
def _takes_port(validator: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(validator).parameters.values()
    except (TypeError, ValueError):  # built in, says nothing about its arguments
        return not isinstance(validator, type)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) >= 2:
        return True
    return not positional and any(p.kind is p.VAR_POSITIONAL for p in parameters)
