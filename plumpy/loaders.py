"""Turning objects into identifiers and identifiers into objects.

An identifier is what a checkpoint or a task message names a class by: ``module:name``. Identifiers
come from outside, so a module that this program has not imported yet is looked at before it is
imported: see :meth:`DefaultObjectLoader.load_object`.
"""

from __future__ import annotations

import abc
import ast
import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from typing import Any

__all__ = ["DefaultObjectLoader", "ObjectLoader", "get_object_loader", "set_object_loader"]

OBJECT_LOADER: ObjectLoader | None = None


class ObjectLoader(metaclass=abc.ABCMeta):
    """How identifiers and objects (classes first of all) are turned into each other."""

    @abc.abstractmethod
    def load_object(self, identifier: str) -> Any:
        """Return the object that ``identifier`` names.

        :raises ValueError: if there is no such object
        """

    @abc.abstractmethod
    def identify_object(self, obj: Any) -> str:
        """Return the identifier of ``obj``.

        :raises ValueError: if the identifier could not be loaded again
        """


class DefaultObjectLoader(ObjectLoader):
    """Identifiers of the form ``module:name`` for objects at the top level of a module."""

    def load_object(self, identifier: str) -> Any:
        """Return the object that ``identifier`` names.

        A module that is not imported yet is imported only if it is no part of the standard library
        and its source, read without running it, binds the name: a made-up identifier cannot run the
        top level of an unrelated module.

        :raises ValueError: if the identifier is malformed or does not lead to an object
        """
        module_name, colon, name = identifier.partition(":")
        try:
            return sys.modules[module_name].__dict__[name]
        except (KeyError, AttributeError):
            pass
        if not colon or ":" in name:
            raise ValueError(
                f"identifier `{identifier}` has an invalid format: expected `module:name`"
            )
        module = sys.modules.get(module_name)
        if module is None:
            refusal = _reason_not_to_import(module_name, name)
            if refusal:
                raise ValueError(f"object `{name}` from identifier `{identifier}` {refusal}")
            try:
                module = importlib.import_module(module_name)
            except ImportError as exc:
                raise ValueError(
                    f"module `{module_name}` from identifier `{identifier}` could not be loaded: "
                    f"{exc}"
                ) from exc
        try:
            return getattr(module, name)
        except AttributeError:
            raise ValueError(
                f"object `{name}` from identifier `{identifier}` could not be loaded: "
                f"module `{module_name}` has no such attribute"
            ) from None

    def identify_object(self, obj: Any) -> str:
        """Return ``module:name`` for a class or function.

        :raises ValueError: if that identifier does not lead back to something loadable, as for
            classes defined inside a function or another class
        """
        module_name, name = obj.__module__, obj.__name__
        identifier = f"{module_name}:{name}"
        found = getattr(sys.modules.get(module_name), name, None)
        if found is obj:
            return identifier
        # A decorated function stands in for a class that was built from it (AiiDA's process
        # functions), so only another class of the same name is a clash.
        if found is None or isinstance(found, type):
            raise ValueError(
                f"object `{obj.__qualname__}` from identifier `{identifier}` could not be loaded: "
                "only objects at the top level of a module can be"
            )
        return identifier


def get_object_loader() -> ObjectLoader:
    """Return the loader used where no other is given."""
    global OBJECT_LOADER
    if OBJECT_LOADER is None:
        OBJECT_LOADER = DefaultObjectLoader()
    return OBJECT_LOADER


def set_object_loader(loader: ObjectLoader | None) -> None:
    """Set the loader used where no other is given; ``None`` goes back to the default one."""
    global OBJECT_LOADER
    OBJECT_LOADER = loader


def _reason_not_to_import(module_name: str, name: str) -> str | None:
    """Say why a module must not be imported for the sake of one of its names, if so."""
    if not all(part.isidentifier() for part in module_name.split(".")) or not name.isidentifier():
        return "is not made of Python names"
    if module_name.partition(".")[0] in sys.stdlib_module_names:
        return "could not be loaded: import the standard module first if it is really meant"
    spec = _find_spec_without_importing(module_name)
    if spec is None or spec.loader is None:
        return f"could not be loaded: there is no module `{module_name}`"
    try:
        source = spec.loader.get_source(module_name)  # type: ignore[attr-defined]
        tree = ast.parse(source or "")
    except (AttributeError, ImportError, SyntaxError, ValueError):
        source = None
    if source is None:
        return f"could not be loaded: `{module_name}` has no readable source; import it first"
    if not _binds(tree, name):
        return f"could not be loaded: `{module_name}` does not define it"
    return None


def _find_spec_without_importing(module_name: str) -> ModuleSpec | None:
    """Find a module like the import system does, but leave its parent packages alone."""
    path = None
    full_name = ""
    spec: ModuleSpec | None = None
    for part in module_name.split("."):
        full_name = f"{full_name}.{part}" if full_name else part
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            spec = find_spec(full_name, path, None) if find_spec else None
            if spec is not None:
                break
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def _binds(tree: ast.Module, name: str) -> bool:
    """Tell whether the top level of a module binds a name, as far as its text shows."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name in (name, "__getattr__"):
                return True
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            if name in bound or "*" in bound:
                return True
        elif isinstance(node, ast.Name):
            if node.id == name and isinstance(node.ctx, ast.Store):
                return True
        else:
            pending.extend(ast.iter_child_nodes(node))
    return False
