"""The specification of a process: which inputs it takes and which outputs it has."""

from __future__ import annotations

import json
import logging
import typing
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .ports import InputPort, OutputPort, Port, PortNamespace

if TYPE_CHECKING:
    from .processes import Process

EXPOSED_TYPE = typing.Dict[  # noqa: UP006
    typing.Optional[str],  # noqa: UP045
    typing.Dict[typing.Type["Process"], typing.Sequence[str]],  # noqa: UP006
]


class ProcessSpec:
    """The inputs and outputs of a process class, filled in by :meth:`Process.define`.

    Names with dots are paths: namespaces on the way are created. A subclass may bring its own port
    classes as the ``..._TYPE`` attributes.
    """

    NAME_INPUTS_PORT_NAMESPACE: str = "inputs"
    NAME_OUTPUTS_PORT_NAMESPACE: str = "outputs"
    PORT_NAMESPACE_TYPE = PortNamespace
    INPUT_PORT_TYPE = InputPort
    OUTPUT_PORT_TYPE = OutputPort

    def __init__(self) -> None:
        self._ports = self.PORT_NAMESPACE_TYPE()
        self._ports.create_port_namespace(self.NAME_INPUTS_PORT_NAMESPACE)
        self._ports.create_port_namespace(self.NAME_OUTPUTS_PORT_NAMESPACE)
        self._sealed = False
        self._logger = logging.getLogger(__name__)
        # the names that were exposed, by namespace and by the process class that they are from
        self._exposed_inputs: EXPOSED_TYPE = defaultdict(_names_by_class)
        self._exposed_outputs: EXPOSED_TYPE = defaultdict(_names_by_class)

    def __str__(self) -> str:
        return json.dumps(self.get_description(), sort_keys=True, indent=4)

    @property
    def namespace_separator(self) -> str:
        """What separates the parts of the path of a port."""
        return self.PORT_NAMESPACE_TYPE.NAMESPACE_SEPARATOR

    @property
    def logger(self) -> logging.Logger:
        """The logger for specifications."""
        return self._logger

    @property
    def ports(self) -> PortNamespace:
        """The namespace that holds those of inputs and of outputs."""
        return self._ports

    @property
    def inputs(self) -> PortNamespace:
        """The namespace of the inputs."""
        namespace = self._ports[self.NAME_INPUTS_PORT_NAMESPACE]
        assert isinstance(namespace, PortNamespace)
        return namespace

    @property
    def outputs(self) -> PortNamespace:
        """The namespace of the outputs."""
        namespace = self._ports[self.NAME_OUTPUTS_PORT_NAMESPACE]
        assert isinstance(namespace, PortNamespace)
        return namespace

    @property
    def sealed(self) -> bool:
        """Whether a process with this specification may exist already."""
        return self._sealed

    def seal(self) -> None:
        """Allow no more definitions.

        What is changed all the same, through the namespaces or by exposing, gives a warning.
        """
        if not self._sealed:
            self._sealed = True
            self._ports._mark(2)

    def get_description(self) -> dict[str, Any]:
        """Return what there is to know about all ports."""
        description: dict[str, Any] = {}
        for name, port in self._ports.items():
            description[name] = port.get_description()
        return description

    def input(self, name: str, **kwargs: Any) -> None:
        """Define an input.

        :param name: its name or path
        :param kwargs: for the constructor of the port class
        :raises RuntimeError: if the specification is sealed
        :raises ValueError: if there is a port that is no namespace on the way
        """
        self._create_port(self.inputs, self.INPUT_PORT_TYPE, name, **kwargs)

    def output(self, name: str, **kwargs: Any) -> None:
        """Define an output; see :meth:`input`."""
        self._create_port(self.outputs, self.OUTPUT_PORT_TYPE, name, **kwargs)

    def input_namespace(self, name: str, **kwargs: Any) -> None:
        """Define a namespace for inputs; see :meth:`input`."""
        self._create_port(self.inputs, self.PORT_NAMESPACE_TYPE, name, **kwargs)

    def output_namespace(self, name: str, **kwargs: Any) -> None:
        """Define a namespace for outputs; see :meth:`input`."""
        self._create_port(self.outputs, self.PORT_NAMESPACE_TYPE, name, **kwargs)

    def has_input(self, name: str) -> bool:
        """Return whether there is an input of this name, at the top level."""
        return name in self.inputs

    def has_output(self, name: str) -> bool:
        """Return whether there is an output of this name, at the top level."""
        return name in self.outputs

    def expose_inputs(
        self,
        process_class: type[Process],
        namespace: str | None = None,
        exclude: Sequence[str] | None = None,
        include: Sequence[str] | None = None,
        namespace_options: dict[str, Any] | None = None,
    ) -> None:
        """Take over the inputs of another process class.

        :param process_class: where they are from
        :param namespace: path to put them below; ``None`` for the top level
        :param exclude: paths of inputs not to take
        :param include: paths of the only inputs to take
        :param namespace_options: properties for the namespace that they are put into
        """
        self._expose_ports(
            process_class=process_class,
            source=process_class.spec().inputs,
            destination=self.inputs,
            expose_memory=self._exposed_inputs,
            namespace=namespace,
            exclude=exclude,
            include=include,
            namespace_options=namespace_options,
        )

    def expose_outputs(
        self,
        process_class: type[Process],
        namespace: str | None = None,
        exclude: Sequence[str] | None = None,
        include: Sequence[str] | None = None,
        namespace_options: dict[str, Any] | None = None,
    ) -> None:
        """Take over the outputs of another process class; see :meth:`expose_inputs`."""
        self._expose_ports(
            process_class=process_class,
            source=process_class.spec().outputs,
            destination=self.outputs,
            expose_memory=self._exposed_outputs,
            namespace=namespace,
            exclude=exclude,
            include=include,
            namespace_options=namespace_options,
        )

    @staticmethod
    def _expose_ports(
        process_class: type[Process],
        source: PortNamespace,
        destination: PortNamespace,
        expose_memory: EXPOSED_TYPE,
        namespace: str | None,
        exclude: Sequence[str] | None,
        include: Sequence[str] | None,
        namespace_options: dict[str, Any] | None = None,
    ) -> None:
        target = destination.create_port_namespace(namespace) if namespace else destination
        names = target.absorb(source, exclude, include, namespace_options)
        expose_memory[namespace][process_class] = names

    def _create_port(
        self,
        port_namespace: PortNamespace,
        port_class: type[Port],
        name: str,
        **kwargs: Any,
    ) -> None:
        if self._sealed:
            which = "input" if port_namespace is self.inputs else "output"
            raise RuntimeError(f"Cannot add an {which} port after the spec has been sealed")
        path, dot, last = name.rpartition(self.namespace_separator)
        if not last:
            raise ValueError(f"name cannot be an empty string: {name!r}")
        if dot:
            port_namespace = port_namespace.create_port_namespace(path)
        port: Any = port_class(last, **kwargs)
        port_namespace[last] = port


def _names_by_class() -> dict[Any, Any]:
    return defaultdict(list)
