"""Which checks of a test could have failed it, and which could not: rules over its source.

Each rule errs towards silence. One check that may fail the test is enough for no finding.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .functions import FunctionNode, called_name

if TYPE_CHECKING:
    from typing import TypeGuard

# What a call that can fail a test tends to be named; more matches mean fewer findings.
_ASSERTING = re.compile(
    r"assert|raises|warns|deprecated|fail|expect|verify|check|should|match", re.I
)
#: Makes a context manager when it is given no more positional arguments than this.
_ENTERED_BY_WITH = {
    "raises": 1,
    "warns": 1,
    "deprecated_call": 0,
    "assertRaises": 1,
    "assertWarns": 1,
    "assertRaisesRegex": 2,
    "assertWarnsRegex": 2,
}
#: Assertions of unittest that hold for any object that is true.
HOLDS_FOR_OBJECTS = {"assertTrue", "assertIsNotNone", "assert_"}
_SWALLOWING = {"Exception", "BaseException", "AssertionError"}
_TELLING = {"print", "debug", "info", "warning", "error", "exception", "log"}
_LAZY = {"map", "filter"}
_UNCALLED = re.compile(r"assert_?[a-zA-Z]")

#: Assertions of a Mock without their ``assert_``: any Mock takes them for attributes of its own.
MOCK_NAMES = frozenset(
    f"{verb}{how}"
    for verb in ("called", "awaited")
    for how in ("", "_once", "_with", "_once_with")
    if how
) | {"has_calls", "has_awaits", "not_called", "not_awaited", "any_call", "any_await"}

_NOTHING = "asserts-nothing"
_SWALLOWED = "swallowed-assertion"


class Check(NamedTuple):
    """Something in a test that is there to fail it.

    :param line: where it stands
    :param kind: the kind of finding that it is if nothing else can fail the test; empty if it can
        fail the test itself
    :param why: what the run showed of it
    """

    line: int
    kind: str = ""
    why: str = ""


class Ran(NamedTuple):
    """What the run showed of one function.

    :param lines: the lines that ran, in the order of their first execution
    :param entered: whether its body was entered, as far as could be seen
    :param failed: whether an AssertionError left it each time that it ran
    """

    lines: list[int]
    entered: bool = True
    failed: bool = False


def checks_of(
    function: FunctionNode, ran: Mapping[FunctionNode, Ran], mocks: frozenset[str] = frozenset()
) -> list[Check]:
    """What there is in the body of a test to fail it.

    :param ran: for the function, and for those inside it that were watched
    :param mocks: the local names that are a ``unittest.mock.Mock``
    """
    return list(_Reader(ran, ran[function].lines, mocks).block(function.body))


def checks_of_function(function: FunctionNode, ran: Mapping[FunctionNode, Ran]) -> list[Check]:
    """What there is in a function that a test takes from its module: at most one check."""
    return list(_Reader(ran, [], frozenset()).function(function))


@functools.lru_cache(maxsize=1024)
def asserts_anything(function: FunctionNode) -> bool:
    """Whether a function has an assertion, be it in a function inside it."""
    return any(
        isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and _is_check(node))
        for node in ast.walk(function)
    )


def swallowed_assertion(function: FunctionNode, lines: list[int]) -> int | None:
    """The line of an ``assert`` that did not hold and was caught by the test itself.

    Only where a handler that does nothing follows at once, outside any loop, which would be a
    retry. One that names AssertionError means it if the block goes on after the assertion: what
    follows may fail the test.
    """
    for attempt in _tries(function.body):
        inside = _extent(attempt.body, lines)
        for node in _hidden_part(attempt):
            if isinstance(node, ast.Assert) and _extent([node], inside[-1:]):
                return node.lineno if _extent(attempt.handlers[0].body, lines) else None
    return None


class _Reader:
    """Goes through a body, statement by statement, for what is there to fail the test."""

    def __init__(
        self, ran: Mapping[FunctionNode, Ran], lines: list[int], mocks: frozenset[str]
    ) -> None:
        self._ran = ran
        self._lines = lines
        self._mocks = mocks
        #: What these show is known; their names say nothing.
        self._watched = {node.name for node in ran}

    def block(self, statements: list[ast.stmt], hidden: bool = False) -> Iterator[Check]:
        """Yield the checks of a block.

        :param hidden: whether a failed assertion goes no further than this block
        """
        dead = False
        for statement in statements:
            if dead:
                yield from self._dead([statement])
            else:
                yield from self._statement(statement, hidden)
            dead = dead or isinstance(statement, (ast.Return, ast.Break, ast.Continue))

    def function(self, node: FunctionNode) -> Iterator[Check]:
        """Yield at most one check for a whole function."""
        checks = list(_checks_in(node))
        if not checks:
            return
        seen = self._ran.get(node)
        if node.decorator_list or seen is None:
            yield Check(node.lineno)
        elif not seen.entered and all(_is_open(part) for part in checks):
            why = f"the only assertion stands in {node.name!r}, whose body was never entered"
            yield Check(min(part.lineno for part in checks), _NOTHING, why)
        elif seen.failed and any(part.lineno == seen.lines[-1] for part in checks):
            why = f"this assertion in {node.name!r} did not hold, which did not fail the test"
            yield Check(seen.lines[-1], _SWALLOWED, why)
        else:
            yield Check(node.lineno)

    def _statement(self, node: ast.stmt, hidden: bool) -> Iterator[Check]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from self.function(node)
        elif isinstance(node, ast.ClassDef):
            yield from self._effective(node)
        elif isinstance(node, ast.Assert):
            yield from self._assertion(node, hidden)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Constant):
            taken, other = (node.body, node.orelse) if node.test.value else (node.orelse, node.body)
            yield from self._dead(other)
            yield from self.block(taken, hidden)
        elif isinstance(node, ast.Try):
            yield from self._attempt(node, hidden)
        elif isinstance(node, ast.With):
            hides = any(_suppresses(item) for item in node.items)
            for item in node.items:
                yield from self._effective(item)
            yield from self.block(node.body, hidden or hides)
        elif isinstance(node, ast.Raise):
            yield Check(node.lineno)
        elif isinstance(node, ast.Expr):
            yield from self._expression(node.value, hidden)
        else:
            yield from self._compound(node, hidden)

    def _attempt(self, node: ast.Try, hidden: bool) -> Iterator[Check]:
        hidden_inside = hidden or any(isinstance(last, ast.Return) for last in node.finalbody)
        part = _hidden_part(node)
        yield from self.block([one for one in node.body if one not in part], hidden_inside)
        yield from self.block(part, True)
        for handler in node.handlers:
            yield from self.block(handler.body, hidden_inside)
        yield from self.block([*node.orelse, *node.finalbody], hidden)

    def _compound(self, node: ast.stmt, hidden: bool) -> Iterator[Check]:
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            # What is hidden in a loop is a retry.
            yield from self._effective(node)
        for part in ast.iter_child_nodes(node):
            if not isinstance(part, ast.stmt):
                yield from self._effective(part)
        for name in ("body", "orelse", "finalbody"):
            yield from self.block(getattr(node, name, []), hidden)

    def _assertion(self, node: ast.Assert, hidden: bool) -> Iterator[Check]:
        if not hidden and isinstance(node.test, ast.Constant) and node.test.value:
            return  # A way to write that nothing was raised.
        why = self._always_holds(node.test)
        if hidden:
            yield from self._shown(
                node,
                _SWALLOWED,
                "whether this assertion holds or not, the block around it hides it",
            )
        elif why:
            yield from self._shown(node, _NOTHING, f"this assertion always holds: {why}")
        else:
            yield Check(node.lineno)

    def _expression(self, value: ast.expr, hidden: bool) -> Iterator[Check]:
        name = called_name(value) if isinstance(value, ast.Call) else ""
        if hidden and _is_method_of_self(value) and name.startswith("assert"):
            why = "whether this assertion holds or not, the block around it hides it"
            yield from self._shown(value, _SWALLOWED, why)
        elif isinstance(value, ast.Call) and len(value.args) <= _ENTERED_BY_WITH.get(name, -1):
            yield from self._shown(value, _NOTHING, f"{name}() was made here and never entered")
        elif isinstance(value, ast.Attribute) and _UNCALLED.match(value.attr):
            why = "this statement names an assertion and does not call it"
            yield from self._shown(value, _NOTHING, why)
        elif isinstance(value, ast.Call) and name in HOLDS_FOR_OBJECTS and value.args:
            why = self._always_holds(value.args[0])
            if why:
                yield from self._shown(value, _NOTHING, f"this assertion always holds: {why}")
            else:
                yield Check(value.lineno)
        elif isinstance(value, ast.GeneratorExp) or (_is_plain(value) and name in _LAZY):
            yield from self._shown(value, _NOTHING, "nothing iterates over what is made here")
        elif any(self._effective(value)):
            yield Check(value.lineno)
        elif self._is_mock_call(value):
            why = f"a Mock takes {name!r} for one of its own attributes; it is no assertion"
            yield from self._shown(value, _NOTHING, why)
        elif _answers(value):
            yield from self._shown(value, _NOTHING, "the value of this comparison is thrown away")

    def _effective(self, node: ast.AST) -> Iterator[Check]:
        """Yield all that is there to fail the test, wherever in it."""
        for part in _checks_in(node):
            if not _is_plain(part) or called_name(part) not in self._watched:
                yield Check(part.lineno)

    def _dead(self, block: list[ast.stmt]) -> Iterator[Check]:
        for statement in block:
            for node in _checks_in(statement):
                if _is_open(node) and not _extent([node], self._lines):
                    yield Check(node.lineno, _NOTHING, "this assertion can never be reached")

    def _shown(self, node: ast.stmt | ast.expr, kind: str, why: str) -> Iterator[Check]:
        if _extent([node], self._lines):
            yield Check(node.lineno, kind, why)

    def _always_holds(self, test: ast.expr) -> str:
        if isinstance(test, ast.Tuple) and test.elts:
            return "it is a tuple that is not empty"
        if isinstance(test, ast.Lambda):
            return "it is a function, which is not called"
        if isinstance(test, ast.GeneratorExp):
            return "it is a generator, which is not iterated over"
        if self._is_mock_call(test):
            return "it is a new Mock"
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
            if any(isinstance(part, ast.Constant) and part.value for part in test.values[1:]):
                return "one side of its `or` is a constant"
            return next(filter(None, map(self._always_holds, test.values)), "")
        return ""

    def _is_mock_call(self, node: ast.expr) -> bool:
        # Since Python 3.12 a Mock refuses these names itself.
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in MOCK_NAMES
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in self._mocks
        )


def _is_check(node: ast.AST) -> TypeGuard[ast.Assert | ast.Raise | ast.Call]:
    if isinstance(node, ast.Call):
        return bool(_ASSERTING.search(called_name(node)))
    return isinstance(node, (ast.Assert, ast.Raise))


def _is_open(node: ast.AST) -> bool:
    """Whether a check may hold: ``assert False`` says that its place must not be reached."""
    if isinstance(node, ast.Assert):
        return any(isinstance(part, (ast.Name, ast.Call)) for part in ast.walk(node.test))
    return _is_method_of_self(node) and called_name(node) != "fail"


def _is_method_of_self(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether an assertion of unittest is called."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "self"
    )


def _checks_in(node: ast.AST) -> Iterator[ast.Assert | ast.Raise | ast.Call]:
    for part in ast.walk(node):
        if _is_check(part):
            yield part


def _answers(node: ast.expr) -> bool:
    """Whether an expression is there for its answer only: a comparison, or several of them."""
    if isinstance(node, ast.BoolOp):
        return all(map(_answers, node.values))
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
        return _answers(node.elt)
    if _is_plain(node) and called_name(node) in ("all", "any"):
        return any(map(_answers, node.args))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    return isinstance(node, ast.Compare) or (_is_plain(node) and called_name(node) == "isinstance")


def _is_plain(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether a function is called by its bare name."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def _suppresses(item: ast.withitem) -> bool:
    call = item.context_expr
    return (
        isinstance(call, ast.Call)
        and called_name(call) == "suppress"
        and any(_swallows(kind) for kind in call.args)
    )


def _swallows(kind: ast.expr | None) -> bool:
    if isinstance(kind, ast.Tuple):
        return any(map(_swallows, kind.elts))
    return kind is None or getattr(kind, "id", "") in _SWALLOWING


def _tries(block: list[ast.stmt]) -> Iterator[ast.Try]:
    for statement in block:
        if isinstance(statement, ast.Try):
            yield statement
        if isinstance(statement, (ast.Try, ast.If, ast.With, ast.AsyncWith)):
            yield from _tries(statement.body)
            yield from _tries(getattr(statement, "orelse", []))


def _hidden_part(attempt: ast.Try) -> list[ast.stmt]:
    """The statements of a try block whose failed assertions go no further.

    A handler that names AssertionError means those that have something after them.
    """
    if attempt.finalbody or attempt.orelse or len(attempt.handlers) != 1:
        return []
    (handler,) = attempt.handlers
    if not _swallows(handler.type) or not all(map(_is_silent, handler.body)):
        return []
    meant = getattr(handler.type, "id", "") == "AssertionError"
    return attempt.body[-1:] if meant else attempt.body


def _is_silent(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    value = getattr(statement, "value", None)
    if isinstance(statement, ast.Return):
        return value is None or isinstance(value, ast.Constant)
    return isinstance(statement, ast.Expr) and (
        isinstance(value, ast.Constant)
        or (isinstance(value, ast.Call) and called_name(value) in _TELLING)
    )


def _extent(block: Sequence[ast.stmt | ast.expr], lines: list[int]) -> list[int]:
    first, last = block[0].lineno, block[-1].end_lineno or block[-1].lineno
    return [line for line in lines if first <= line <= last]
