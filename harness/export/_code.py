"""What a statement binds, what it takes from its module, and what it imports."""

from __future__ import annotations
import __future__

import ast
import contextlib
import dis
import re
import sys
import types
from collections.abc import Collection, Iterable, Iterator
from typing import TypeGuard

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
#: What holds statements without being one.
_BRANCHES = (ast.ExceptHandler, ast.match_case)
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_TAKES = re.compile(r"LOAD_(GLOBAL|NAME|FROM_DICT_OR_GLOBALS)|(STORE|DELETE)_GLOBAL")


def names_taken(node: ast.stmt, bindings: Collection[str], *, annotations: bool = True) -> set[str]:
    """Return the names that a statement takes from its module, as the compiler sees them.

    :param bindings: the names that the module binds; one that a class body or a ``global``
        statement binds itself is taken from the module only if it is among them
    :param annotations: whether annotations are evaluated
    """
    module = ast.fix_missing_locations(ast.Module([node], []))
    flags = 0 if annotations else __future__.annotations.compiler_flag
    code = compile(module, "<scenario>", "exec", flags, dont_inherit=True, optimize=0)
    taken: set[str] = set()
    made: set[str] = set()
    stack = [code]
    while stack:
        code = stack.pop()
        instructions = list(dis.get_instructions(code))
        own = {i.argval for i in instructions if i.opname.startswith("STORE_")}
        taken.update(
            i.argval
            for i in instructions
            if _TAKES.fullmatch(i.opname) and (i.argval in bindings or i.argval not in own)
        )
        made.update(i.argval for i in instructions if i.opname == "STORE_GLOBAL")
        stack += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return taken - made.difference(bindings)


def names_bound(statement: ast.stmt) -> set[str]:
    """Return the names that a statement at the top of a module binds."""
    found: set[str] = set()
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update(alias_name(alias) for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
        if isinstance(node, DEFINITIONS):
            found.add(node.name)
        elif not isinstance(node, _SCOPES):
            stack.extend(_parts(node))
    return found


def names_for_type_checkers(statement: ast.stmt) -> set[str]:
    """Return the names that a statement binds for type checkers only."""
    if not _is_for_type_checkers(statement):
        return set()
    return {name for inner in statement.body for name in names_bound(inner)}


def _is_for_type_checkers(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def _parts(node: ast.AST) -> Iterable[ast.AST]:
    """Return what a node is made of, without what is there for type checkers only."""
    return node.orelse if _is_for_type_checkers(node) else ast.iter_child_nodes(node)


def changes(statement: ast.AST, names: Collection[str], modules: Collection[str]) -> bool:
    """Whether a statement acts on one of these names without binding it: ``TABLE["x"] = 1``.

    :param modules: those of the names that an import binds; a decorator of theirs changes nothing
    """
    if isinstance(statement, DEFINITIONS):
        decorators = (d.func if isinstance(d, ast.Call) else d for d in statement.decorator_list)
        found = {root(d) for d in decorators if isinstance(d, ast.Attribute)}
        return bool(found.intersection(names).difference(modules))
    if isinstance(statement, ast.Delete):
        return any(root(target) in names for target in statement.targets)
    if isinstance(statement, ast.Expr):
        called = statement.value.func if isinstance(statement.value, ast.Call) else None
        return isinstance(called, ast.Attribute) and root(called) in names
    if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return any(
            isinstance(t, (ast.Attribute, ast.Subscript)) and root(t) in names for t in targets
        )
    if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
        return False
    parts = (part for part in _parts(statement) if isinstance(part, (ast.stmt, *_BRANCHES)))
    return any(changes(part, names, modules) for part in parts)


def told_of_subclasses(statement: ast.stmt, known: Collection[str]) -> set[str]:
    """Return the name of a class that is told of its subclasses, so is another without them.

    :param known: those that stand above it
    """
    if isinstance(statement, ast.ClassDef) and (
        any(isinstance(s, DEFINITIONS) and s.name == "__init_subclass__" for s in statement.body)
        or any(keyword.arg == "metaclass" for keyword in statement.keywords)
        or is_subclass(statement, known)
    ):
        return {statement.name}
    return set()


def is_subclass(statement: ast.stmt, classes: Collection[str]) -> bool:
    """Whether a statement defines a class that has one of these as a base."""
    return isinstance(statement, ast.ClassDef) and any(
        isinstance(base, ast.Name) and base.id in classes for base in statement.bases
    )


def root(node: ast.AST) -> str | None:
    """Return the name that an expression such as ``a.b[c](d)`` begins with."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def undecorated(test: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
    """Return a copy of a function definition without its decorators."""
    fields = {name: getattr(test, name) for name in test._fields if hasattr(test, name)}
    return ast.copy_location(ast.AsyncFunctionDef(**{**fields, "decorator_list": []}), test)


def names_in_strings(node: ast.AST) -> set[str]:
    """Return the names in annotations that are written as strings."""
    found: set[str] = set()
    for inner in ast.walk(node):
        written = getattr(inner, "annotation", None) or getattr(inner, "returns", None)
        for part in ast.walk(written) if isinstance(written, ast.AST) else ():
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                with contextlib.suppress(SyntaxError, ValueError):
                    text = ast.parse(part.value.strip(), mode="eval")
                    found |= {name.id for name in ast.walk(text) if isinstance(name, ast.Name)}
    return found


def evaluated_annotations(statements: Iterable[ast.stmt]) -> Iterator[ast.expr]:
    """Yield the annotations that are evaluated when the statements run."""
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns:
                yield node.returns
            elif isinstance(node, ast.arg) and node.annotation:
                yield node.annotation
        inner = statement.body if isinstance(statement, ast.ClassDef) else [statement]
        yield from (s.annotation for s in inner if isinstance(s, ast.AnnAssign))


def imports_in(
    statement: ast.AST, *, fallbacks: bool = True
) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield every import statement, however deep.

    :param fallbacks: whether those count that run only where another import has failed
    """
    stack: list[ast.AST] = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif fallbacks or not isinstance(node, ast.ExceptHandler):
            stack.extend(_parts(node))


def modules_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the modules that an import statement names; a relative one begins with a dot."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or "")]


def alias_name(alias: ast.alias) -> str:
    """Return the name that one part of an import statement binds."""
    return alias.asname or alias.name.partition(".")[0]


def is_standard(module: str) -> bool:
    """Whether a module is the standard library's."""
    return module.partition(".")[0] in sys.stdlib_module_names
