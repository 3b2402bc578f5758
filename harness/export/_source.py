"""One file of Python: what binds each of its names, and its statements as they stand."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from harness.export._code import DEFINITIONS, names_bound, names_for_type_checkers

PLAIN_IMPORTS = (ast.Import, ast.ImportFrom)


class Source:
    """The source of one module.

    :raises OSError, SyntaxError, ValueError: if it cannot be read
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.body = ast.parse(self.text).body
        self.bindings: dict[str, list[ast.stmt]] = {}
        self.for_type_checkers: set[str] = set()
        for statement in self.body:
            self.for_type_checkers |= names_for_type_checkers(statement)
            for name in names_bound(statement):
                self.bindings.setdefault(name, []).append(statement)
        self._lines = self.text.splitlines(keepends=True)

    @classmethod
    @functools.lru_cache(maxsize=64)
    def at(cls, path: Path, changed: int) -> Source:
        """Return the source of a file, read once for all scenarios of one file.

        :param changed: when the file was, in nanoseconds
        """
        return cls(path)

    @property
    def has_lazy_annotations(self) -> bool:
        """Whether the module keeps annotations from being evaluated."""
        return any(isinstance(s, ast.ImportFrom) and s.module == "__future__" for s in self.body)

    def lines(self, statement: ast.stmt, *, decorated: bool = True) -> str:
        """Return a statement as it stands, with the comment right above it.

        :param decorated: whether decorators, and what stands above them, belong to it
        """
        first = statement.lineno
        if decorated:
            for decorator in getattr(statement, "decorator_list", ()):
                first = min(first, decorator.lineno)
            while first > 1 and self._lines[first - 2].startswith("#"):
                first -= 1
        text = "".join(self._lines[first - 1 : statement.end_lineno])
        return text.rstrip("\r\n") + "\n"

    def text_of(self, expression: ast.expr) -> str:
        """Return an expression as it stands."""
        return ast.get_source_segment(self.text, expression) or ast.unparse(expression)

    def find(self, package: Path, module: str) -> Path | None:
        """Return the file of a module of the package that this file is in; None for any other.

        :param package: the folder of the outermost package
        :param module: as an import statement names it: absolute, or beginning with a dot
        """
        dots = len(module) - len(module.lstrip("."))
        parts = module[dots:].split(".") if module[dots:] else []
        if dots:
            folder = self.path.parents[dots - 1]
        elif parts[0] == package.name:
            folder, parts = package, parts[1:]
        else:
            return None
        if package not in (folder, *folder.parents):
            return None
        found = folder.joinpath(*parts)
        files = [found / "__init__.py", *([found.with_suffix(".py")] if parts else [])]
        return next((path for path in files if path.is_file()), None)


def outermost_package(path: Path) -> Path | None:
    """Return the folder of the outermost package that a file is in; None for a file by itself."""
    found = None
    for folder in path.parents:
        if (folder / "__init__.py").is_file():
            found = folder
        elif folder != path.parent:  # the file's own folder need not be one of the package's
            break
    return found


def code(statements: list[tuple[Source, ast.stmt]], test: ast.stmt) -> str:
    """Return statements as they stand, with the blank lines that a formatter puts between.

    :param test: the one of them that goes without its decorators
    """
    parts: list[str] = []
    before: tuple[Source, ast.stmt] | None = None
    for source, statement in statements:
        if before is not None:
            wide = isinstance(before[1], DEFINITIONS) or isinstance(statement, DEFINITIONS)
            parts.append("\n\n" if wide else "" if _adjacent(before, (source, statement)) else "\n")
        parts.append(source.lines(statement, decorated=statement is not test))
        before = source, statement
    return "".join(parts)


def _adjacent(one: tuple[Source, ast.stmt], other: tuple[Source, ast.stmt]) -> bool:
    return one[0] is other[0] and one[1].end_lineno == other[1].lineno - 1
