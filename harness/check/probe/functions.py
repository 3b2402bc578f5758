"""What a test function is: the code object of its body, and its source as a syntax tree."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterable, Iterator
from types import CodeType, ModuleType
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
        else:
            # Read from the instance: a Mock would invent the attributes.
            own = getattr(function, "__dict__", {})
            wrapped = getattr(own.get("hypothesis"), "inner_test", function)
            function = own.get("__wrapped__", wrapped)
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


def inside(code: CodeType) -> Iterator[CodeType]:
    """The functions that a body defines, and those that these define."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if not constant.co_name.startswith("<"):
                yield constant
            yield from inside(constant)


def named(function: Any, places: Iterable[Any] = ()) -> Iterator[Any]:
    """What a function, or one inside it, takes by name from its module.

    :param places: where else the names are looked up
    """
    code = body_of(function)
    if code is None:
        return
    namespaces = [getattr(innermost(function), "__globals__", {}), *map(vars, places)]
    for name in {name for one in (code, *inside(code)) for name in one.co_names}:
        yield from (space[name] for space in namespaces if name in space)


def taken(function: Any, places: Iterable[Any] = ()) -> Iterator[Any]:
    """The functions that a function may call, also through a module or a class that it names.

    :param places: where else the names are looked up: the class of a method, and its bases
    """
    modules = [value for value in named(function) if type(value) is ModuleType]
    for value in named(function, (*places, *modules)):
        if issubclass(type(value), type):
            yield from vars(value).values()
        else:
            yield value


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
