"""What the lines that ran could show: rules over the source of one test body.

Every rule errs towards silence: a body that could fail in any way is left alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from .functions import FunctionNode, called_name, walk_body

# What a call that can fail a test tends to be named; more matches mean fewer findings.
_ASSERTING = re.compile(
    r"assert|raises|warns|deprecated|fail|expect|verify|check|should|match", re.I
)
_EXPECTING = re.compile(r"raises|warns|deprecated|suppress|catch", re.I)
_TELLING = {"print", "debug", "info", "warning", "error", "exception", "log"}
_SWALLOWING = {"Exception", "BaseException", "AssertionError"}
#: Assertions of unittest that hold for any object, as a coroutine is one.
_HOLDS_FOR_OBJECTS = {"assertTrue", "assertIsNotNone", "assert_"}
_UNCALLED = re.compile(r"assert_?[a-zA-Z]")

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


def cannot_fail(function: FunctionNode, ran: list[int]) -> str | None:
    """Say why no run of this body can fail, if every statement that ran works on constants only.

    :param ran: the lines that were executed
    """
    lines = set(ran)
    constants: set[str] = set()
    asserted: int | None = None
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
        elif not isinstance(statement, (ast.Pass, ast.Break, ast.Continue)):
            return None
    if asserted is not None:
        return f"the assertion on line {asserted} compares constants"
    return "no statement that ran can fail"


def swallowed_assertion(function: FunctionNode, ran: list[int]) -> int | None:
    """The line of an ``assert`` that did not hold and was caught by the test itself.

    Only where a handler that does nothing follows at once, outside any loop, which would be a
    retry. One that names AssertionError means it if the block goes on after the assertion: what
    follows may fail the test.
    """
    for attempt in _tries(function.body):
        handler = _swallower(attempt)
        inside = _extent(attempt.body, ran)
        if handler is None or not inside or not _extent(handler.body, ran):
            continue
        meant = getattr(handler.type, "id", "") == "AssertionError"
        for node in attempt.body[-1:] if meant else attempt.body:
            if isinstance(node, ast.Assert) and _extent([node], [inside[-1]]):
                return node.lineno
    return None


def hidden_assertion(function: FunctionNode, ran: list[int]) -> int | None:
    """The line of an ``assert`` that ran in a ``suppress()`` of its failure, outside any loop.

    None if the test has anything else that is there to fail it.
    """
    for statement in _statements(function.body):
        if isinstance(statement, (ast.For, ast.AsyncFor, ast.While)):
            return None
        if not isinstance(statement, ast.With):
            continue
        calls = [item.context_expr for item in statement.items]
        hides = any(
            isinstance(call, ast.Call)
            and called_name(call) == "suppress"
            and any(getattr(kind, "id", "") in _SWALLOWING for kind in call.args)
            for call in calls
        )
        for node in statement.body if hides else ():
            if isinstance(node, ast.Assert) and _extent([node], ran):
                return None if asserts_anything(function, node.lineno) else node.lineno
    return None


def uncalled_assertion(function: FunctionNode, ran: list[int]) -> int | None:
    """The line of a statement that ran and names an assertion without calling it.

    None if the test has anything else that is there to fail it.
    """
    if asserts_anything(function, besides=0):
        return None
    for statement in _statements(function.body):
        value = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(value, ast.Attribute) and _UNCALLED.match(value.attr):
            return statement.lineno if _extent([statement], ran) else None
    return None


def _tries(block: list[ast.stmt]) -> Iterator[ast.Try]:
    for statement in block:
        if isinstance(statement, ast.Try):
            yield statement
        if isinstance(statement, (ast.Try, ast.If, ast.With, ast.AsyncWith)):
            yield from _tries(statement.body)
            yield from _tries(getattr(statement, "orelse", []))


def _swallower(attempt: ast.Try) -> ast.ExceptHandler | None:
    if attempt.finalbody or attempt.orelse or len(attempt.handlers) != 1:
        return None
    handler = attempt.handlers[0]
    if handler.type is not None and getattr(handler.type, "id", "") not in _SWALLOWING:
        return None
    for statement in handler.body:
        value = getattr(statement, "value", None)
        silent = isinstance(statement, ast.Pass) or (
            isinstance(statement, ast.Expr)
            and (
                isinstance(value, ast.Constant)
                or (isinstance(value, ast.Call) and called_name(value) in _TELLING)
            )
        )
        if not silent:
            return None
    return handler


def _extent(block: list[ast.stmt], ran: list[int]) -> list[int]:
    first, last = block[0].lineno, block[-1].end_lineno or block[-1].lineno
    return [line for line in ran if first <= line <= last]


def asserts_anything(function: FunctionNode, besides: int) -> bool:
    """Whether the body has something that is there to fail it.

    :param besides: a line that does not count
    """
    for node in walk_body(function):
        if isinstance(node, ast.Assert) and node.lineno != besides:
            return True
        if isinstance(node, ast.Call) and _ASSERTING.search(called_name(node)):
            return True
        if isinstance(node, ast.Raise):
            return True
    return False


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
        holds = called_name(parent) in _HOLDS_FOR_OBJECTS
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
