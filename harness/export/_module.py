"""The module a scenario stands in: which of its statements the scenario needs, as they stand."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from harness.errors import HarnessError
from harness.export._code import (
    alias_name,
    changes,
    imports_in,
    is_subclass,
    modules_of,
    names_in_strings,
    names_taken,
    root,
    told_of_subclasses,
    undecorated,
)
from harness.export._source import PLAIN_IMPORTS, Source, outermost_package
from harness.scenario import Scenario

#: The one fixture that a script can have: an AMQP URL, read from the environment.
FIXTURE = "amqp_url"
#: Packages of this project, of which no script has any part.
STAYS_HERE = frozenset({"harness", "scenarios", "conftest", "tests"})
_LAZY_ANNOTATIONS = Version("3.7")
_MODULE_NAMES = frozenset({"__name__", "__doc__", "__debug__", "__builtins__"})


def oldest_python(pythons: SpecifierSet) -> Version:
    """Return the oldest minor version of Python that a record claims, 3.6 at the least."""
    for minor in range(6, 100):
        if any(pythons.contains(f"3.{minor}.{micro}", prereleases=True) for micro in range(40)):
            return Version(f"3.{minor}")
    return Version("3.6")


def refusal(record: Scenario, what: str) -> HarnessError:
    """Make the error that says why a scenario cannot be exported."""
    return HarnessError(f"scenario {record.id!r} cannot be exported: {what}")


class Module:
    """The module of one scenario, and what it takes from the helper modules of its package.

    :param record: the scenario
    :raises HarnessError: if the function cannot stand by itself
    """

    def __init__(self, record: Scenario) -> None:
        self._record = record
        self.oldest = oldest_python(record.python)
        self.function = self._check_function()
        path = Path(self.function.__code__.co_filename)
        self._package = outermost_package(path)
        self._sources: dict[Path, Source] = {}
        self.source = self._read(path)
        self.test = self._find_test()
        #: What each name means that the scenario takes from a module, and where it is bound.
        self._meanings: dict[str, tuple[str, Source]] = {}
        #: The statements that bind them, helper modules first and each in its module's order; the
        #: test itself is not among them.
        self.needed = self._follow()

    def _read(self, path: Path) -> Source:
        if path not in self._sources:
            try:
                self._sources[path] = Source.at(path, path.stat().st_mtime_ns)
            except (OSError, SyntaxError, ValueError) as error:
                raise refusal(self._record, f"its source {path} cannot be read ({error})") from None
        return self._sources[path]

    @property
    def keeps_lazy_annotations(self) -> bool:
        """Whether a module of these keeps annotations from being evaluated, and the script too."""
        return self.oldest >= _LAZY_ANNOTATIONS and any(
            source.has_lazy_annotations for source in self._sources.values()
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

    def brought(self) -> list[tuple[Source, ast.stmt]]:
        """Return the test and what it needs, without plain imports."""
        found = [(source, s) for source, s in self.needed if not isinstance(s, PLAIN_IMPORTS)]
        place = sum(source is not self.source or s.lineno < self.test.lineno for source, s in found)
        found.insert(place, (self.source, self.test))
        return found

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
                    f"it takes the argument {parameter.name!r}, and a script can only have the "
                    f"fixture {FIXTURE}; make what another one gives in the body, and of a "
                    "parametrized test a scenario for each value",
                )
        return function

    def _find_test(self) -> ast.AsyncFunctionDef:
        name = self.function.__name__
        found = [
            s for s in self.source.body if isinstance(s, ast.AsyncFunctionDef) and s.name == name
        ]
        if not found:
            raise refusal(
                self._record, f"{self.source.path} holds no 'async def {name}' at its top"
            )
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

    def _follow(self) -> list[tuple[Source, ast.stmt]]:
        chosen: dict[Source, set[ast.stmt]] = {self.source: set()}
        helpers: dict[Source, list[Source]] = {}
        queue: list[tuple[Source, str, str]] = []

        def need(source: Source, node: ast.stmt, by: str) -> None:
            for statement in imports_in(node):
                self._check_modules(modules_of(statement), by)
            names = names_taken(node, source.bindings)
            names |= names_in_strings(node).intersection(source.bindings)
            if source.has_lazy_annotations and self.keeps_lazy_annotations:
                # What only an annotation names comes along if it can.
                only = names - names_taken(node, source.bindings, annotations=False)
                names -= {name for name in only if name not in source.bindings}
            queue.extend((source, name, by) for name in sorted(names))

        need(self.source, undecorated(self.test), self.test.name)
        if (prepare := self.prepare) is not None:
            need(self.source, ast.Expr(prepare), "prepare")
        seen: set[tuple[Source, str]] = set()
        while queue:
            source, name, by = queue.pop()
            if (source, name) in seen:
                continue
            seen.add((source, name))
            if name not in source.bindings:
                self._check_known(source, name, by)
                self._mean(name, "built in", source)
            for statement in source.bindings.get(name, ()):
                if isinstance(statement, PLAIN_IMPORTS):
                    used = next(a for a in statement.names if alias_name(a) == name)
                    helper = self._helper(source, statement, used, by)
                    if helper is None:
                        chosen[source].add(statement)
                        self._mean(name, _meaning(statement, used), source)
                    else:
                        chosen.setdefault(helper, set())
                        helpers.setdefault(source, []).append(helper)
                        queue.append((helper, name, by))
                elif statement is not self.test and statement not in chosen[source]:
                    chosen[source].add(statement)
                    self._mean(name, "", source)
                    need(source, statement, name)
            if not queue:  # then what fills a table or sets an attribute that came along
                for source, known in chosen.items():
                    names = {name for where, name in seen if where is source}
                    imported = (s for s in known if isinstance(s, PLAIN_IMPORTS))
                    modules = {alias_name(a) for s in imported for a in s.names}
                    told: set[str] = set()
                    for statement in source.body:
                        acts = changes(statement, names, modules) or is_subclass(statement, told)
                        if acts and statement not in known and statement is not self.test:
                            known.add(statement)
                            need(source, statement, f"line {statement.lineno}")
                        if statement in known:
                            told |= told_of_subclasses(statement, told)
        return [
            (source, statement)
            for source in _helpers_first(self.source, helpers)
            for statement in source.body
            if statement in chosen[source]
        ]

    def _helper(
        self, source: Source, statement: ast.Import | ast.ImportFrom, used: ast.alias, by: str
    ) -> Source | None:
        """Return the module of the scenario's own package that an import takes a name from."""
        (module,) = modules_of(_cut(statement, [used]))
        if self._package is None or (path := source.find(self._package, module)) is None:
            self._check_modules([module], by)
            return None
        inner = f"{module}{'.' if module.strip('.') else ''}{used.name}"
        is_module = used.name not in self._read(path).bindings and source.find(self._package, inner)
        if isinstance(statement, ast.Import) or used.asname not in (None, used.name) or is_module:
            raise refusal(
                self._record,
                f"{by} uses '{ast.unparse(_cut(statement, [used]))}'; a helper comes along by its "
                f"own name only, as in 'from {inner if is_module else module} import NAME'",
            )
        return self._read(path)

    def _mean(self, name: str, meaning: str, source: Source) -> None:
        """Refuse a name that two modules, which become one in the script, use for two things."""
        other, where = self._meanings.setdefault(name, (meaning, source))
        if source is not where and (not meaning or meaning != other):
            raise refusal(
                self._record,
                f"{where.path.name} and {source.path.name} both have a {name}; rename one",
            )

    def imports(self) -> list[ast.Import | ast.ImportFrom]:
        """Return the plain imports that are needed, cut down to what is used of them."""
        plain = [s for _, s in self.needed if isinstance(s, PLAIN_IMPORTS)]
        # A submodule that nothing spells out is left away where its parent is imported by itself.
        used = self._dotted()
        parents = {a.name for s in plain for a in s.names if "." not in a.name}
        found: list[ast.Import | ast.ImportFrom] = []
        for statement in plain:
            names = [a for a in statement.names if alias_name(a) in self._meanings]
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
            for statement in [*(s for _, s in self.needed), self.test]
            for node in ast.walk(statement)
            if isinstance(node, ast.Attribute)
        }

    def _check_known(self, source: Source, name: str, by: str) -> None:
        for star in source.bindings.get("*", ()):
            if isinstance(star, ast.ImportFrom) and self._gives(star, name):
                raise refusal(
                    self._record, f"{by} uses {name} of '{ast.unparse(star)}'; import it by name"
                )
        if name in source.for_type_checkers:
            raise refusal(
                self._record,
                f"{by} uses {name}, which {source.path.name} has for type checkers only; write the "
                "annotation as a string",
            )
        if not hasattr(builtins, name) and name not in _MODULE_NAMES:
            raise refusal(
                self._record, f"{by} uses {name}, which {source.path.name} does not define"
            )

    def _gives(self, star: ast.ImportFrom, name: str) -> bool:
        """Whether a name comes from ``from module import *``."""
        (relative,) = modules_of(star)
        package = self.function.__globals__.get("__package__") or ""
        try:
            module = sys.modules[importlib.util.resolve_name(relative, package)]
        except (ImportError, KeyError):  # imported by another module of the package
            return not hasattr(builtins, name)
        public = getattr(module, "__all__", None)
        return name in (vars(module) if public is None else public) and name not in _MODULE_NAMES

    def _check_modules(self, modules: Sequence[str], by: str) -> None:
        for module in modules:
            top = module.partition(".")[0]
            # A test of pytest itself, or of its plugin, has it as the library under test.
            runner = top == "pytest" and not (self._record.library or "").startswith("pytest")
            own = self._package is not None and top == self._package.name
            if runner:
                raise refusal(
                    self._record,
                    f"{by} uses {module}, which a script does not have; write 'try: ... except' "
                    "for pytest.raises, and raise unittest.SkipTest for pytest.skip",
                )
            if top in STAYS_HERE or own or module.startswith("."):
                raise refusal(
                    self._record,
                    f"{by} uses {module}, and a script has only the standard library and the "
                    f"library under test; move what it needs into {self.source.path.name}, or to a "
                    "module of the same package and import it at the top",
                )


def _cut(
    statement: ast.Import | ast.ImportFrom, used: list[ast.alias]
) -> ast.Import | ast.ImportFrom:
    if isinstance(statement, ast.Import):
        return ast.Import(used)
    return ast.ImportFrom(statement.module, used, statement.level)


def _meaning(statement: ast.Import | ast.ImportFrom, used: ast.alias) -> str:
    if isinstance(statement, ast.Import) and used.asname is None:
        return f"import {alias_name(used)}"
    return ast.unparse(_cut(statement, [used]))


def _helpers_first(source: Source, helpers: Mapping[Source, Sequence[Source]]) -> list[Source]:
    """Return the modules in an order in which each comes behind those that it takes names from."""
    found: list[Source] = []

    def visit(one: Source, above: frozenset[Source]) -> None:
        for helper in helpers.get(one, ()):
            if helper not in above:
                visit(helper, above | {one})
        if one not in found:
            found.append(one)

    visit(source, frozenset())
    return found
