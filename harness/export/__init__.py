"""Scenario function -> one stand-alone script: the standard library and the library under test.

The function's own lines come over byte for byte. What it uses is followed by name through its
module; what cannot come along is an error that names it, never a script that fails elsewhere.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.metadata
import importlib.util
import inspect
import math
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from harness.export._code import (
    DEFINITIONS,
    alias_name,
    evaluated_annotations,
    imports_in,
    is_standard,
    modules_of,
    names_bound,
)
from harness.export._module import FIXTURE, STAYS_HERE, Module, oldest_python, refusal
from harness.export._source import code
from harness.report.text import one_line
from harness.scenario import Scenario

__all__ = ["FIXTURE", "FIXTURE_VARIABLE", "export", "forks", "oldest_python"]

#: The environment variable that a script reads the value of ``amqp_url`` from.
FIXTURE_VARIABLE = "AMQP_URL"
#: Width of the lines that the exporter writes itself: that of this project's scenarios.
_WIDTH = 100
Newest = Callable[[str], str | None]
_THIS_PROJECT = "loop-harness"
#: The newest published release of what this project's distribution carries in place of it.
_CARRIED = {"plumpy": "0.26.1"}
#: Modules that a project has only with an extra.
_EXTRAS = {"kiwipy.rmq": ("kiwipy", "rmq")}
_RUNNER_IMPORTS = ("asyncio", "faulthandler", "gc", "os", "signal", "sys", "traceback", "unittest")
#: First Python that can evaluate ``list[int]``, and ``int | None``.
_SUBSCRIPTS, _UNIONS = Version("3.9"), Version("3.10")

#: What stands before a release that a specifier may hold itself.
_WITH = ("==", ">=", "<=", "~=")
#: Modules of the standard library that Python 3.6, or the newest, does not have.
_NOT_EVERYWHERE = frozenset(
    [
        "_contextvars",
        "annotationlib",
        "asynchat",
        "asyncore",
        "cgi",
        "compression",
        "contextvars",
        "dataclasses",
        "distutils",
        "graphlib",
        "imp",
        "importlib.metadata",
        "importlib.resources",
        "multiprocessing.shared_memory",
        "pipes",
        "smtpd",
        "telnetlib",
        "tomllib",
        "zoneinfo",
    ]
)

# Names begin with an underscore so that they hide nothing of the scenario's module. The watchdog is
# an alarm and no thread: a thread would be one more than the scenario has under the harness.

_RUNNER = """\
if __name__ == "__main__":

    def _hang(*_):
        faulthandler.dump_traceback()
        for task in gc.get_objects():
            coro = hasattr(type(task), "print_stack") and getattr(task, "_coro", None)
            while getattr(coro, "cr_await", None):
                traceback.print_stack(coro.cr_frame, limit=1)
                coro = coro.cr_await
        print("hang: the scenario did not return", file=sys.stderr, flush=True)
        os._exit(1)

    signal.signal(getattr(signal, "SIGALRM", signal.SIGTERM), _hang)
    getattr(signal, "alarm", faulthandler.dump_traceback_later)({limit})  # Windows has no alarm
{reads}\
    try:
        if {unfit}:
            raise ImportError("{needs}")
{before}\
        _loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_loop)
        {run}
        _status, _line = 0, "healthy"
    except (ImportError, SyntaxError, unittest.SkipTest) as _why:
        _status, _line = 125, f"cannot run: {{_why}}"
    except BaseException as _bug:
        traceback.print_exc()
        _said = str(_bug) or traceback.extract_tb(_bug.__traceback__)[-1].line
        _status, _line = 1, f"bug: {{type(_bug).__name__}}: {{_said}}"
    sys.stdout.flush()
    print(" ".join(_line.split()), file=sys.stderr, flush=True)
    os._exit(_status)  # 0 healthy, 1 bug, 125 cannot run here
"""


def export(
    record: Scenario, release: str | None = None, *, newest: Newest = lambda project: None
) -> str:
    """Return the script of one scenario.

    It exits with 0 (healthy), 1 (bug: the last line on stderr begins with ``bug:`` or ``hang:``) or
    125 (``cannot run:``). A scenario that takes ``amqp_url`` reads it from ``AMQP_URL``.

    :param record: the scenario
    :param release: release of its library that the header pins; default: one that the record shows
        with the bug, else the one that is installed
    :param newest: finds the newest release of a project that is not installed here, or None, and
        then the header does not pin it
    :raises HarnessError: naming whatever cannot come along
    """
    if release is not None:
        _check_release(record, release)
    module = Module(record)
    oldest, lazy = module.oldest, module.keeps_lazy_annotations
    brought = module.brought()
    statements = [statement for _, statement in brought]
    if not lazy:
        _check_annotations(record, statements, oldest)
    imports = module.imports()
    _check_meanings(record, module)
    own = ast.Import([ast.alias(name) for name in _RUNNER_IMPORTS])
    standard, foreign = _sorted_imports([own, *imports])
    pieces = [
        _header(record, _dependencies(record, [*imports, *statements], release, newest)),
        *(["from __future__ import annotations"] if lazy else []),
        "\n".join(standard),
        *([_guarded(foreign)] if foreign else []),
    ]
    wide = isinstance(statements[0], DEFINITIONS)
    text = "\n\n".join(pieces) + ("\n\n\n" if wide else "\n\n")
    text += code(brought, module.test) + "\n\n" + _runner(record, module)
    _check_syntax(record, text, oldest)
    return text


def forks(record: Scenario) -> list[str]:
    """Return the projects that a scenario imports where that of its library is missing.

    :raises HarnessError: naming whatever cannot come along
    """
    module = Module(record)
    statements = [*(statement for _, statement in module.needed), module.test]
    first = _projects(statements)
    if record.library not in first:
        return []
    return [project for project in _projects(statements, fallbacks=True) if project not in first]


def _header(record: Scenario, dependencies: Sequence[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in dependencies)
    title = f"{record.id}: {one_line(record.title)}"
    about = [
        *textwrap.wrap(title, _WIDTH - 3, break_long_words=False, break_on_hyphens=False),
        f"Source: {one_line(record.source, 1000)}",
    ]
    doc = "\n".join(about).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    pythons = str(record.python) or ">=3.6"
    return (
        f'# /// script\n# requires-python = "{pythons}"\n# dependencies = [{listed}]\n# ///\n'
        f'"""{doc}\n"""'
    )


def _runner(record: Scenario, module: Module) -> str:
    unfit, needs = ["not __debug__"], "needs Python without -O"
    if condition := _version_condition(record.python):
        unfit.append(condition)
        needs = f"needs Python {record.python} without -O"
    reads, before, arguments = "", "", ""
    parameters = inspect.signature(module.function).parameters
    if FIXTURE in parameters:
        reads = f'    _url = os.environ.get("{FIXTURE_VARIABLE}")\n'
        unfit.append("not _url")
        needs += f", and {FIXTURE_VARIABLE}, the URL of a RabbitMQ"
        first = next(iter(parameters.values()))
        by_place = first.name == FIXTURE and first.kind is not first.KEYWORD_ONLY
        arguments = "_url" if by_place else f"{FIXTURE}=_url"
    if (prepare := module.prepare) is not None:
        called = module.source.text_of(prepare)
        if not isinstance(prepare, (ast.Name, ast.Attribute)):
            called = f"({called})"
        before += f"        {called}()\n"
    run = f"_loop.run_until_complete({module.test.name}({arguments}))"
    if len(run) > _WIDTH - 8:
        called = f"            {module.test.name}({arguments})"
        run = f"_loop.run_until_complete(\n{called}\n        )"
    return _RUNNER.format(
        run=run,
        limit=max(1, math.ceil(record.limit)),
        unfit=" or ".join(unfit),
        needs=needs,
        reads=reads,
        before=before,
    )


def _version_condition(pythons: SpecifierSet) -> str:
    """Return an expression that is true where the record says the scenario cannot run.

    It agrees with :class:`SpecifierSet` on every final release; empty if none is excluded.
    """
    conditions = []
    for specifier in sorted(pythons, key=str):
        prefix = specifier.version.endswith(".*")
        parts = Version(specifier.version.removesuffix(".*")).release
        if specifier.operator == "~=":
            conditions += [_excluded(">=", parts, False), _excluded("==", parts[:-1], True)]
        else:
            conditions.append(_excluded(specifier.operator, parts, prefix))
    return " or ".join(condition for condition in conditions if condition)


def _excluded(operator: str, parts: tuple[int, ...], prefix: bool) -> str:
    if operator == ">=" and parts <= (3, 6):
        return ""
    opposite = {">=": "<", "<": ">=", "<=": ">", ">": "<=", "==": "!=", "===": "!=", "!=": "=="}
    long = parts if prefix or operator in (">=", "<") else (*parts, 0, 0)[:3]
    return f"sys.version_info[:{len(long)}] {opposite[operator]} {long!r}"


def _dependencies(
    record: Scenario, statements: Sequence[ast.stmt], release: str | None, newest: Newest
) -> list[str]:
    pins = {project: _installed(project) for project in _projects(statements)}
    if record.library is not None:
        pins = {record.library: None, **pins}
        pins[record.library] = release or _known_release(record, record.library)
    pins = {project: pin or newest(project) for project, pin in pins.items()}
    imported = {m for s in statements for node in imports_in(s) for m in modules_of(node)}
    extras = {project: extra for module, (project, extra) in _EXTRAS.items() if module in imported}
    wanted = {name: f"{name}[{extras[name]}]" if name in extras else name for name in pins}
    return [f"{wanted[name]}=={pin}" if pin else wanted[name] for name, pin in pins.items()]


def _known_release(record: Scenario, library: str) -> str | None:
    """Choose a bad release: one that is shown, the installed one, or one that ``present`` names."""
    known = [interval.releases for interval in record.present if interval.library == library]
    bounds = {one.version for releases in known for one in releases if one.operator in _WITH}
    named = sorted(map(Version, (bound for bound in bounds if not bound.endswith("*"))))
    here = _installed(library)
    for release in (*record.shown_in[::-1], here, *map(str, named[::-1])):
        if release and any(one.contains(release, prereleases=True) for one in known):
            return release
    return here or next(iter(record.shown_in), None)


def _projects(statements: Iterable[ast.stmt], *, fallbacks: bool = False) -> list[str]:
    """Return the PyPI projects whose modules are imported anywhere in some statements."""
    found: dict[str, None] = {}
    for statement in statements:
        for node in imports_in(statement, fallbacks=fallbacks):
            for module in modules_of(node):
                top = module.partition(".")[0]
                if not is_standard(top) and top not in STAYS_HERE:
                    # plumpy is part of this project's own distribution, too.
                    names = [name for name in _projects_with(top) if name != _THIS_PROJECT]
                    found[canonicalize_name(names[0] if names else top)] = None
    return list(found)


def _projects_with(module: str) -> Sequence[str]:
    """Return the installed projects that have a module."""
    # To look through them all takes longer than the rest of an export.
    is_here = module in sys.modules or importlib.util.find_spec(module) is not None
    return _projects_of_modules().get(module, ()) if is_here else ()


@functools.cache
def _projects_of_modules() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _installed(project: str) -> str | None:
    try:
        return importlib.metadata.version(project)
    except importlib.metadata.PackageNotFoundError:
        return _CARRIED.get(project)


def _sorted_imports(
    imports: Iterable[ast.Import | ast.ImportFrom],
) -> tuple[list[str], list[str]]:
    """Return the lines of the imports that work on every Python, and of the others, each sorted.

    Modules share a line: a reader counts lines, and nobody looks for a module there.
    """
    plain: tuple[set[str], set[str]] = (set(), set())
    lines: tuple[list[str], list[str]] = ([], [])
    members: dict[str, list[str]] = {}
    for statement in imports:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                if alias.asname is None:
                    plain[not _is_everywhere(alias.name)].add(alias.name)
                else:
                    lines[not _is_everywhere(alias.name)].append(f"import {ast.unparse(alias)}")
        elif statement.module is not None and statement.module != "__future__":
            names = members.setdefault(statement.module, [])
            names += [text for a in statement.names if (text := ast.unparse(a)) not in names]
    for module in sorted(members):
        indent = "" if _is_everywhere(module) else "    "
        line = f"from {module} import {', '.join(members[module])}"
        if len(indent + line) > _WIDTH:
            inside = "".join(f"    {name},\n" for name in members[module])
            line = f"from {module} import (\n{inside})"
        lines[not _is_everywhere(module)].append(line)
    for found, modules in zip(lines, plain, strict=True):
        width = _WIDTH - len("    import ")
        shared = textwrap.wrap(", ".join(sorted(modules)), width, break_on_hyphens=False)
        found[:0] = [f"import {line.rstrip(',')}" for line in shared]
    return lines


def _is_everywhere(module: str) -> bool:
    """Whether each Python from 3.6 on has a module."""
    return is_standard(module) and not _NOT_EVERYWHERE.intersection(
        (module, module.partition(".")[0])
    )


def _guarded(imports: Sequence[str]) -> str:
    """Return imports whose failure, whatever it is, means that the script cannot run here."""
    inside = textwrap.indent("\n".join(imports), "    ")
    return (
        f"try:\n{inside}\nexcept Exception as error:\n"
        '    print(f"cannot run: {error}", file=sys.stderr)\n'
        "    raise SystemExit(125) from None"
    )


# Holding the record to its word


def _check_release(record: Scenario, release: str) -> None:
    if record.library is None:
        raise refusal(record, f"release {release!r} was asked for, and it tests Python itself")
    try:
        Version(release)
    except InvalidVersion:
        raise refusal(
            record, f"{release!r} is not a release number; write for example 1.3.3"
        ) from (None)


def _check_meanings(record: Scenario, module: Module) -> None:
    """Refuse a name of the scenario's that the script needs for a module."""
    for _, statement in module.needed:
        for name in sorted(names_bound(statement).intersection(_RUNNER_IMPORTS)):
            plain = isinstance(statement, ast.Import) and any(
                alias.asname is None and alias_name(alias) == name for alias in statement.names
            )
            if not plain:
                text = ast.unparse(statement).partition("\n")[0]
                raise refusal(record, f"'{text}' hides the module {name}; rename it")


def _check_annotations(record: Scenario, statements: Iterable[ast.stmt], oldest: Version) -> None:
    """Refuse an annotation that the script evaluates and an interpreter it claims cannot."""
    for annotation in evaluated_annotations(statements):
        for node in ast.walk(annotation):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
                since = _UNIONS
            elif isinstance(node, ast.Subscript) and isinstance(
                getattr(builtins, getattr(node.value, "id", ""), None), type
            ):
                since = _SUBSCRIPTS
            else:
                continue
            if oldest < since:
                raise refusal(
                    record,
                    f"the annotation {ast.unparse(annotation)} needs Python {since}, and the "
                    f"record claims {oldest}; drop it or write python='>={since}'",
                )


def _check_syntax(record: Scenario, text: str, oldest: Version) -> None:
    try:
        # ast knows no older grammar than 3.7's.
        ast.parse(text, feature_version=(3, max(7, oldest.minor)))
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise refusal(
            record,
            f"Python {oldest}, which the record claims, cannot read it ({error.msg}: {line!r}); "
            "write python= with the first that can",
        ) from None
