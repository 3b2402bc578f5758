"""Emitting outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..ports import PortNamespace

if TYPE_CHECKING:
    from ._process import Process

SEPARATOR = PortNamespace.NAMESPACE_SEPARATOR


def emit(process: Process, output_port: str, value: Any) -> None:
    """See :meth:`plumpy.Process.out`."""
    process.on_output_emitting(output_port, value)
    *path, name = output_port.split(SEPARATOR)
    namespace: Any = process.spec().outputs
    declared: list[str] = []
    for part in path:
        port = namespace.get(part)
        if port is None:
            break
        if not isinstance(port, PortNamespace):
            raise ValueError(
                f"port '{part}' in port namespace '{namespace.name}' is not a namespace"
            )
        namespace = port
        declared.append(part)
    undeclared = path[len(declared) :]
    port = None if undeclared else namespace.get(name)
    if port is not None:
        error = port.validate(value, tuple(declared) if isinstance(port, PortNamespace) else ())
    else:
        nested = {name: value}
        for part in reversed(undeclared):
            nested = {part: nested}
        error = namespace.validate_dynamic_ports(nested, tuple(declared[:-1]))
    if error is not None:
        where = error.port
        if undeclared and namespace.dynamic:
            where = output_port if declared else f"{namespace.name}{SEPARATOR}{output_port}"
        raise ValueError(f"Error validating output '{value}' for port '{where}': {error.message}")
    _put(process._outputs, path, name, value, output_port)
    process.on_output_emitted(output_port, value, port is None)


def _put(outputs: dict[str, Any], path: list[str], name: str, value: Any, label: str) -> None:
    for part in path:
        nested = outputs.setdefault(part, {})
        if not isinstance(nested, dict):
            raise ValueError(
                f"Error validating output '{value}' for port '{label}': "
                f"'{part}' is an output itself, and cannot hold others"
            )
        outputs = nested
    outputs[name] = value
