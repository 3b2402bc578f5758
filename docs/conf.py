"""Sphinx configuration: ``sphinx-build -W -n docs docs/_build``."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from sphinx.util import inspect

project = "loop-harness"
author = "The loop-harness authors"
copyright = "2026, the loop-harness authors"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "alabaster"
html_title = "loop-harness"
html_theme_options = {
    "description": "Reproduce event-loop bugs: one async test function, every release and Python",
    "fixed_sidebar": True,
}
highlight_language = "text"

autodoc_default_options = {
    "members": True,
    "undoc-members": True,
    "show-inheritance": True,
    "member-order": "bysource",
}
autodoc_typehints = "signature"
python_use_unqualified_type_names = True


def _resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Find what is documented under another path than the one it was referred to by.

    The reference describes everything once, in the module that it says it is from; docstrings name
    it as users do: ``plumpy.Process``. Names outside plumpy are shown and lead nowhere: the
    documentation is built without asking other sites.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    name = target.removeprefix("plumpy.")
    if name == target and "." in target:
        return contnode
    try:
        obj = functools.reduce(getattr, name.split("."), importlib.import_module("plumpy"))
    except AttributeError:
        return contnode if name == target else None
    module, path = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if module is None or path is None:
        return contnode
    domain = env.get_domain("py")
    found = domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"{module}.{path}", node, contnode
    )
    return found or contnode


def _constructor(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: Any, returns: Any
) -> tuple[str, Any] | None:
    """Show what a constructor takes where a metaclass hides it."""
    if what != "class" or type(obj).__call__ is type.__call__ or obj.__init__ is object.__init__:
        return None
    shown = inspect.signature(obj.__init__, bound_method=True)
    return inspect.stringify_signature(shown), returns


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", _constructor)
    app.connect("missing-reference", _resolve)
