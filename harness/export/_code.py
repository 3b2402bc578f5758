"""What a statement binds, what it takes from its module, and what it imports."""

from __future__ import annotations

import ast
import dis
import re
import sys
import types
from collections.abc import Collection, Iterable, Iterator

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_TAKES = re.compile(r"LOAD_(GLOBAL|NAME|FROM_DICT_OR_GLOBALS)|(STORE|DELETE)_GLOBAL")


def names_taken(node: ast.stmt, bindings: Collection[str]) -> set[str]:
    """Return the names that a statement takes from its module, as the compiler sees them.

    :param bindings: the names that the module binds; one that a class body or a ``global``
        statement binds itself is taken from the module only if it is among them
    """
    module = ast.fix_missing_locations(ast.Module([node], []))
    code = compile(module, "<scenario>", "exec", dont_inherit=True, optimize=0)
    taken: set[str] = set()
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
        stack += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return taken


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
            stack.extend(ast.iter_child_nodes(node))
    return found


def changes(statement: ast.stmt, names: Collection[str]) -> bool:
    """Whether a statement acts on one of these names without binding it: ``TABLE["x"] = 1``."""
    if isinstance(statement, ast.Expr):
        called = statement.value.func if isinstance(statement.value, ast.Call) else None
        return isinstance(called, ast.Attribute) and root(called) in names
    if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return any(
            isinstance(t, (ast.Attribute, ast.Subscript)) and root(t) in names for t in targets
        )
    return False


def root(node: ast.AST) -> str | None:
    """Return the name that an expression such as ``a.b[c](d)`` begins with."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def undecorated(test: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
    """Return a copy of a function definition without its decorators."""
    fields = {name: getattr(test, name) for name in test._fields if hasattr(test, name)}
    return ast.copy_location(ast.AsyncFunctionDef(**{**fields, "decorator_list": []}), test)


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
    stack = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif fallbacks or not isinstance(node, ast.ExceptHandler):
            stack.extend(ast.iter_child_nodes(node))


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
