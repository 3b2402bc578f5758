"""The module a scenario stands in: which of its statements the scenario needs, as they stand."""

from __future__ import annotations

import ast
import builtins
import inspect
import types
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.export._code import (
    DEFINITIONS,
    alias_name,
    changes,
    imports_in,
    modules_of,
    names_bound,
    names_taken,
    root,
    undecorated,
)
from harness.scenario import Scenario

#: The one fixture that a script can have: an AMQP URL, read from the environment.
FIXTURE = "amqp_url"
#: Packages of this project, of which no script has any part.
STAYS_HERE = frozenset({"harness", "scenarios", "conftest", "tests"})
_MODULE_NAMES = frozenset({"__name__", "__doc__", "__debug__", "__builtins__"})


def refusal(record: Scenario, what: str) -> HarnessError:
    """Make the error that says why a scenario cannot be exported."""
    return HarnessError(f"scenario {record.id!r} cannot be exported: {what}")


class Module:
    """The source of one scenario.

    :param record: the scenario
    :raises HarnessError: if the function cannot stand by itself
    """

    def __init__(self, record: Scenario) -> None:
        self._record = record
        self.function = self._check_function()
        self._path = Path(self.function.__code__.co_filename)
        try:
            self._source = self._path.read_text(encoding="utf-8")
            self._tree = ast.parse(self._source)
        except (OSError, SyntaxError, ValueError) as error:
            raise refusal(record, f"its source {self._path} cannot be read ({error})") from None
        self._lines = self._source.splitlines(keepends=True)
        self._bindings: dict[str, list[ast.stmt]] = {}
        for statement in self._tree.body:
            for name in names_bound(statement):
                self._bindings.setdefault(name, []).append(statement)
        self.test = self._find_test()
        #: Every name that the scenario takes from the module.
        self.names: set[str] = set()
        #: The statements that bind them, in the module's order; the test itself is not among them.
        self.needed = self._follow()

    @property
    def has_lazy_annotations(self) -> bool:
        """Whether the module keeps annotations from being evaluated."""
        return any(
            isinstance(s, ast.ImportFrom) and s.module == "__future__" for s in self._tree.body
        )

    @property
    def prepare(self) -> ast.expr | None:
        """The expression given as ``prepare=``; None if the record has none."""
        if self._record.prepare is None:
            return None
        for decorator in self.test.decorator_list:
            for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
                if keyword.arg == "prepare" and self._made_the_record(decorator):
                    return keyword.value
        raise refusal(self._record, "its prepare= is not written in the @scenario(...) above it")

    def text_of(self, expression: ast.expr) -> str:
        """Return an expression as it stands."""
        return ast.get_source_segment(self._source, expression) or ast.unparse(expression)

    def code(self, statements: Sequence[ast.stmt]) -> str:
        """Return statements as they stand, with the blank lines that a formatter puts between."""
        parts: list[str] = []
        before: ast.stmt | None = None
        for statement in statements:
            first, last = self._first_line(statement), _last_line(statement)
            if before is not None:
                wide = isinstance(before, DEFINITIONS) or isinstance(statement, DEFINITIONS)
                together = _last_line(before) + 1 == first
                parts.append("\n\n" if wide else "" if together else "\n")
            parts.append("".join(self._lines[first - 1 : last]).rstrip("\r\n") + "\n")
            before = statement
        return "".join(parts)

    def _first_line(self, statement: ast.stmt) -> int:
        """Return where a statement begins, with its decorators and the comment right above it."""
        first = statement.lineno
        if statement is self.test:
            return first
        for decorator in getattr(statement, "decorator_list", ()):
            first = min(first, decorator.lineno)
        while first > 1 and self._lines[first - 2].startswith("#"):
            first -= 1
        return first

    def _check_function(self) -> types.FunctionType:
        function = inspect.unwrap(self._record.function)
        if not isinstance(function, types.FunctionType):
            raise refusal(self._record, f"{function!r} is not a plain function")
        if function.__code__.co_freevars:
            names = ", ".join(function.__code__.co_freevars)
            raise refusal(
                self._record, f"it closes over {names}; make that a constant of the module"
            )
        if "." in function.__qualname__:
            raise refusal(
                self._record, f"{function.__qualname__} must stand at the top of its module"
            )
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name != FIXTURE and parameter.default is parameter.empty:
                raise refusal(
                    self._record,
                    f"it takes the fixture {parameter.name!r}, and a script can only have "
                    f"{FIXTURE}; make what it gives in the body",
                )
        return function

    def _find_test(self) -> ast.AsyncFunctionDef:
        name = self.function.__name__
        found = [
            s for s in self._tree.body if isinstance(s, ast.AsyncFunctionDef) and s.name == name
        ]
        if not found:
            raise refusal(self._record, f"{self._path} holds no 'async def {name}' at its top")
        starts = [min([s.lineno, *(d.lineno for d in s.decorator_list)]) for s in found]
        first = self.function.__code__.co_firstlineno
        test = found[starts.index(first)] if first in starts else found[-1]
        for decorator in test.decorator_list:
            if root(decorator) != "pytest" and not self._made_the_record(decorator):
                raise refusal(
                    self._record,
                    f"its decorator @{ast.unparse(decorator)} cannot come along; drop it",
                )
        return test

    def _made_the_record(self, decorator: ast.expr) -> bool:
        if not isinstance(decorator, ast.Call):
            return False
        if any(
            keyword.arg == "id"
            and isinstance(keyword.value, ast.Constant)
            and keyword.value.value == self._record.id
            for keyword in decorator.keywords
        ):
            return True
        value = self.function.__globals__.get(root(decorator) or "")
        return getattr(value, "__module__", getattr(value, "__name__", "")).startswith("harness")

    def _follow(self) -> list[ast.stmt]:
        chosen: set[ast.stmt] = set()
        queue: list[tuple[str, str]] = []

        def need(node: ast.stmt, by: str) -> None:
            for statement in imports_in(node):
                self._check_modules(modules_of(statement), by)
            queue.extend((name, by) for name in sorted(names_taken(node, self._bindings)))

        need(undecorated(self.test), self.test.name)
        if (prepare := self.prepare) is not None:
            need(ast.Expr(prepare), "prepare")
        while queue:
            name, by = queue.pop()
            if name in self.names:
                continue
            self.names.add(name)
            if name not in self._bindings:
                self._check_known(name, by)
            for statement in self._bindings.get(name, ()):
                if isinstance(statement, (ast.Import, ast.ImportFrom)):
                    chosen.add(statement)
                    used = [a for a in statement.names if alias_name(a) == name]
                    self._check_modules(modules_of(_cut(statement, used)), by)
                    if used[0].name == "*":
                        raise refusal(self._record, f"{by} may use {ast.unparse(statement)}")
                elif statement is not self.test and statement not in chosen:
                    chosen.add(statement)
                    need(statement, name)
            if not queue:  # then what fills a table or sets an attribute that came along
                for statement in self._tree.body:
                    if statement not in chosen and changes(statement, self.names):
                        chosen.add(statement)
                        need(statement, f"line {statement.lineno}")
        return [statement for statement in self._tree.body if statement in chosen]

    def imports(self) -> list[ast.Import | ast.ImportFrom]:
        """Return the plain imports that are needed, cut down to what is used of them."""
        plain = [s for s in self.needed if isinstance(s, (ast.Import, ast.ImportFrom))]
        # A submodule that nothing spells out is left away where its parent is imported by itself.
        used = self._dotted()
        parents = {a.name for s in plain for a in s.names if "." not in a.name}
        found: list[ast.Import | ast.ImportFrom] = []
        for statement in plain:
            names = [a for a in statement.names if alias_name(a) in self.names]
            if isinstance(statement, ast.Import):
                names = [
                    a
                    for a in names
                    if a.asname or a.name in parents | used or alias_name(a) not in parents
                ]
            if names:
                found.append(_cut(statement, names))
        return found

    def _dotted(self) -> set[str]:
        """Return every ``a.b`` that the scenario's code spells out."""
        return {
            ast.unparse(node)
            for statement in [*self.needed, self.test]
            for node in ast.walk(statement)
            if isinstance(node, ast.Attribute)
        }

    def _check_known(self, name: str, by: str) -> None:
        if "*" in self._bindings:
            star = ast.unparse(self._bindings["*"][0])
            raise refusal(self._record, f"{by} uses {name}, perhaps of '{star}'; import it by name")
        if not hasattr(builtins, name) and name not in _MODULE_NAMES:
            raise refusal(
                self._record, f"{by} uses {name}, which {self._path.name} does not define"
            )

    def _check_modules(self, modules: Sequence[str], by: str) -> None:
        for module in modules:
            top = module.partition(".")[0]
            # A test of pytest itself, or of its plugin, has it as the library under test.
            runner = top == "pytest" and not (self._record.library or "").startswith("pytest")
            if top in STAYS_HERE or module.startswith(".") or runner:
                raise refusal(
                    self._record,
                    f"{by} uses {module}, and a script has only the standard library and the "
                    f"library under test; move what it needs into {self._path.name}",
                )


def _cut(
    statement: ast.Import | ast.ImportFrom, used: list[ast.alias]
) -> ast.Import | ast.ImportFrom:
    if isinstance(statement, ast.Import):
        return ast.Import(used)
    return ast.ImportFrom(statement.module, used, statement.level)


def _last_line(statement: ast.stmt) -> int:
    return statement.end_lineno or statement.lineno
