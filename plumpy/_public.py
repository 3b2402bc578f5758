"""The public path of what lives in a private module of a package."""

from __future__ import annotations

from typing import Any


def publish(module_name: str, *objects: Any) -> None:
    """Make ``module_name`` the module that classes and functions say they are from.

    Identifiers in checkpoints, pickles and YAML tags name objects by it, so it has to be the
    public path whatever file the object is written in.
    """
    for obj in objects:
        obj.__module__ = module_name
