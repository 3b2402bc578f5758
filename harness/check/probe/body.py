"""What the lines that ran could show: rules over the source of one test body.

Every rule errs towards silence: a body that could fail in any way is left alone.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from .checks import HOLDS_FOR_OBJECTS
from .functions import FunctionNode, called_name, walk_body

_EXPECTING = re.compile(r"raises|warns|deprecated|suppress|catch", re.I)
_RAISING = {"raises", "assertRaises", "assertRaisesRegex", "suppress"}

_STOCK = sysconfig.get_path("stdlib")

_PURE: tuple[type[ast.AST], ...] = (
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.Dict,
    ast.Set,
    ast.BoolOp,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.Attribute,
    ast.IfExp,
    ast.boolop,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.expr_context,
)


class CoroutineUse(NamedTuple):
    """What becomes of a coroutine in the body: ``dropped``, ``returned`` or ``asserted``."""

    how: str
    line: int


def _statements(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in block:
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from _statements(handler.body)


def _ran(statement: ast.stmt, lines: set[int]) -> bool:
    last = statement.end_lineno or statement.lineno
    if isinstance(statement, (ast.If, ast.While)):
        last = statement.test.end_lineno or statement.lineno
    elif isinstance(statement, (ast.For, ast.AsyncFor)):
        last = statement.iter.end_lineno or statement.lineno
    elif isinstance(statement, (ast.With, ast.AsyncWith, ast.Try)):
        last = statement.lineno
    return any(line in lines for line in range(statement.lineno, last + 1))


def _is_pure(expression: ast.expr | None, constants: set[str]) -> bool:
    """Whether the value depends on nothing outside: it is the same in every run."""
    if expression is None or isinstance(expression, ast.Lambda):
        return True
    for node in ast.walk(expression):
        if isinstance(node, ast.Name):
            if node.id not in constants:
                return False
        elif not isinstance(node, _PURE):
            return False
    return True


def _is_stock_exception(expression: ast.expr, names: Mapping[str, Any]) -> bool:
    """Whether it names an exception of Python's own, or several: nothing that is under test."""
    if isinstance(expression, ast.Tuple):
        return all(_is_stock_exception(part, names) for part in expression.elts)
    path = []
    step = expression
    while isinstance(step, ast.Attribute):
        path.append(step.attr)
        step = step.value
    if not isinstance(step, ast.Name):
        return False
    value = names.get(step.id, getattr(builtins, step.id, None))
    for attribute in reversed(path):
        value = getattr(value, attribute, None) if isinstance(value, ModuleType) else None
    if not isinstance(value, type) or not issubclass(value, BaseException):
        return False
    file = getattr(sys.modules.get(value.__module__), "__file__", None) or _STOCK
    return file.startswith(_STOCK) and "-packages" not in file


def _given(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _raises_itself(statement: ast.stmt, names: Mapping[str, Any], constants: set[str]) -> bool:
    """Whether it expects, or is, an exception that only the test itself can raise."""
    if isinstance(statement, ast.Raise):
        kind = statement.exc
        if isinstance(kind, ast.Call):
            if not all(_is_pure(one, constants) for one in _given(kind)):
                return False
            kind = kind.func
        stock = kind is not None and _is_stock_exception(kind, names)
        return stock and _is_pure(statement.cause, constants)
    if not isinstance(statement, ast.With):
        return False
    for item in statement.items:
        call = item.context_expr
        if not isinstance(call, ast.Call) or called_name(call) not in _RAISING:
            return False
        for one in _given(call):
            if not _is_pure(one, constants) and not _is_stock_exception(one, names):
                return False
        if isinstance(item.optional_vars, ast.Name):
            constants.add(item.optional_vars.id)
        elif item.optional_vars is not None:
            return False
    return True


def cannot_fail(
    function: FunctionNode, ran: list[int], names: Mapping[str, Any] = MappingProxyType({})
) -> str | None:
    """Say why no run of this body can fail, if every statement that ran works on constants only.

    :param ran: the lines that were executed
    :param names: what the module of the function defines
    """
    lines = set(ran)
    constants: set[str] = set()
    asserted: int | None = None
    raised: int | None = None
    for statement in _statements(function.body):
        if not _ran(statement, lines):
            continue
        if isinstance(statement, ast.Assert):
            if not _is_pure(statement.test, constants):
                return None
            asserted = statement.lineno
        elif isinstance(statement, ast.Assign):
            if not _is_pure(statement.value, constants):
                return None
            for target in statement.targets:
                if not isinstance(target, ast.Name):
                    return None
                constants.add(target.id)
        elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            defaults = [*statement.args.defaults, *statement.args.kw_defaults]
            if statement.decorator_list or not all(_is_pure(item, constants) for item in defaults):
                return None
        elif isinstance(statement, (ast.If, ast.While)):
            if not _is_pure(statement.test, constants):
                return None
        elif isinstance(statement, ast.For):
            if not _is_pure(statement.iter, constants) or not isinstance(
                statement.target, ast.Name
            ):
                return None
            constants.add(statement.target.id)
        elif isinstance(statement, (ast.Return, ast.Expr)):
            if not _is_pure(statement.value, constants):
                return None
        elif isinstance(statement, (ast.Raise, ast.With)):
            if not _raises_itself(statement, names, constants):
                return None
            raised = statement.lineno
        elif not isinstance(statement, (ast.Pass, ast.Break, ast.Continue)):
            return None
    if raised is not None:
        return f"the exception is raised by the test itself, on line {raised}, and by nothing else"
    if asserted is not None:
        return f"the assertion on line {asserted} compares constants"
    return "no statement that ran can fail"


def coroutine_use(function: FunctionNode, line: int, name: str) -> CoroutineUse | None:
    """What the body does with the coroutine that the call on this line made.

    None if it hands it on to something else, which may well be the point of the test.

    :param line: where the coroutine was created
    :param name: what was called
    """
    parents: dict[ast.AST, ast.AST] = {}
    calls: list[ast.Call] = []
    for node in walk_body(function):
        for child in ast.iter_child_nodes(node):
            parents[child] = node
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or node.lineno):
            calls.append(node)
    named = [call for call in calls if called_name(call) == name]
    if len(named) != 1 or _in_expecting_block(named[0], parents):
        return None
    return _use_of(function, named[0], parents)


def _in_expecting_block(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    step: ast.AST | None = node
    while step is not None:
        if isinstance(step, (ast.With, ast.AsyncWith)):
            for item in step.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and _EXPECTING.search(called_name(call)):
                    return True
        step = parents.get(step)
    return False


def _use_of(
    function: FunctionNode, expression: ast.AST, parents: dict[ast.AST, ast.AST]
) -> CoroutineUse | None:
    step = expression
    while isinstance(parents.get(step), (ast.Compare, ast.BoolOp, ast.UnaryOp)):
        step = parents[step]
    parent = parents.get(step)
    line = getattr(step, "lineno", 0)
    if isinstance(parent, ast.Expr) and step is expression:
        return CoroutineUse("dropped", line)
    if isinstance(parent, ast.Return) and step is expression:
        return CoroutineUse("returned", line)
    if isinstance(parent, ast.Assert) and step is parent.test:
        return CoroutineUse("asserted", line)
    if isinstance(parent, ast.Call) and [step] == parent.args[:1]:
        holds = called_name(parent) in HOLDS_FOR_OBJECTS
        return CoroutineUse("asserted", line) if holds else None
    if isinstance(parent, ast.Assign) and step is expression and len(parent.targets) == 1:
        target = parent.targets[0]
        if isinstance(target, ast.Name):
            return _use_of_name(function, target.id, line, parents)
    return None


def _use_of_name(
    function: FunctionNode, name: str, line: int, parents: dict[ast.AST, ast.AST]
) -> CoroutineUse | None:
    uses = []
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == name:
            if isinstance(node.ctx, ast.Store):
                continue
            use = _use_of(function, node, parents) if node in parents else None
            if use is None:
                return None
            uses.append(use)
    return uses[0] if uses else CoroutineUse("dropped", line)
