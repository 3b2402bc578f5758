"""What a test function is: the code object of its body, and its source as a syntax tree."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any, Union

FunctionNode = Union[ast.FunctionDef, ast.AsyncFunctionDef]  # noqa: UP007 (Python 3.8)

_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def innermost(function: Any) -> Any:
    """Follow methods, partials, ``functools.wraps`` and Hypothesis down to the written function."""
    seen = set()
    while id(function) not in seen:
        seen.add(id(function))
        if isinstance(function, (staticmethod, classmethod)) or inspect.ismethod(function):
            function = function.__func__
        elif isinstance(function, (functools.partial, functools.partialmethod)):
            function = function.func
        elif hasattr(getattr(function, "hypothesis", None), "inner_test"):
            function = function.hypothesis.inner_test
        else:
            # Read from the instance: a Mock would invent the attribute.
            function = getattr(function, "__dict__", {}).get("__wrapped__", function)
    return function


def body_of(function: Any) -> CodeType | None:
    """The code object of the body, or None for what has no Python body."""
    code = getattr(innermost(function), "__code__", None)
    return code if isinstance(code, CodeType) else None


def is_async(code: CodeType) -> bool:
    """Whether calling it makes a coroutine or an asynchronous generator instead of running it."""
    return bool(code.co_flags & (_COROUTINE | inspect.CO_ASYNC_GENERATOR))


def is_generator(code: CodeType) -> bool:
    """Whether calling it makes a generator of either kind."""
    return bool(code.co_flags & _GENERATOR) and not code.co_flags & _COROUTINE


@functools.lru_cache(maxsize=256)
def _functions(path: str) -> dict[int, list[FunctionNode]]:
    try:
        with open(path, "rb") as stream:
            tree = ast.parse(stream.read())
    except (OSError, SyntaxError, ValueError):
        return {}
    found: dict[int, list[FunctionNode]] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            found.setdefault(first, []).append(node)
    return found


def source_of(code: CodeType) -> FunctionNode | None:
    """The syntax tree of a function, or None where the file does not have it."""
    for node in _functions(code.co_filename).get(code.co_firstlineno, []):
        if node.name == code.co_name:
            return node
    return None


def walk_body(function: FunctionNode) -> Iterator[ast.AST]:
    """Every node that runs in the function's own frame: not what nested functions contain."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


def called_name(call: ast.Call) -> str:
    """The last part of what is called: ``"get"`` for ``client.get()``."""
    target = call.func
    if isinstance(target, ast.Attribute):
        return target.attr
    return target.id if isinstance(target, ast.Name) else ""
