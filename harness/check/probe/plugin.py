"""The pytest plugin: what each test did, one JSON line per event, and which of them are vacuous."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

import pytest

from . import body, checks
from .coroutines import UnawaitedRecorder
from .functions import (
    FunctionNode,
    body_of,
    innermost,
    is_async,
    is_generator,
    source_of,
)
from .surroundings import Fixture, Watch, children_ended
from .watch import make_watcher

# Words of pytest and its plugins when they skip, instead of run, what they cannot run.
_NO_RUNNER = re.compile(r"async def|coroutine|no async plugin", re.I)
_NO_GENERATORS = re.compile(r"generator|yield tests", re.I)


class Plugin:
    """Registered with pytest by :mod:`.launch`.

    :param events: file that JSON lines are appended to
    :param temp: directory for what plugins would otherwise write into the project
    """

    def __init__(self, events: str, temp: str) -> None:
        self._events = events
        self._temp = temp
        self._watcher = make_watcher()
        self._recorder = UnawaitedRecorder()
        self._watch: Watch | None = None
        #: By identity, as equal code objects may belong to two fixtures.
        self._async_fixtures: dict[int, CodeType] = {}

    def _emit(self, event: str, **data: Any) -> None:
        # Opened each time: a test may run in a forked child, or close every descriptor it finds.
        with open(self._events, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": event, **data}) + "\n")

    # The run

    @pytest.hookimpl(hookwrapper=True)
    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> Iterator[None]:
        # Before pytest-cov reads it: it would write its data file into the project.
        early_config.known_args_namespace.no_cov = True
        yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Iterator[None]:
        storage = "file://" + os.path.join(self._temp, "benchmarks")
        for name, value in {
            "benchmark_storage": storage,
            "continue_on_collection_errors": True,
            "log_file": os.devnull,
            "maxfail": 0,
            "numprocesses": 0,
            "dist": "no",
            "tx": [],
            "stepwise": False,
            "usepdb": False,
            "xmlpath": None,
        }.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
        distributions = {
            str(distribution.project_name): str(distribution.version)
            for _, distribution in config.pluginmanager.list_plugin_distinfo()
        }
        self._emit(
            "started",
            python=platform.python_version(),
            executable=sys.executable,
            pytest=pytest.__version__,
            plugins=distributions,
            rootdir=str(getattr(config, "rootpath", "")),
        )
        yield

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell of what could not be collected; the rest goes on."""
        if report.failed:
            self._emit("collect-error", nodeid=report.nodeid, message=str(report.longrepr))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell how many tests there are."""
        self._emit("collected", count=len(session.items))

    # One test

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._emit("begin", nodeid=item.nodeid)
        self._watch = None
        if isinstance(item, pytest.Function):
            self._watch = Watch(item)
            if self._watch.code is not None:
                for code in (self._watch.code, *self._watch.inside, *self._watch.beside):
                    self._watcher.watch(code)
            for function in self._watch.async_setups():
                self._watcher.watch(function)
        self._recorder.begin()
        self._watcher.begin()
        try:
            yield
        finally:
            self._watcher.end()
            self._recorder.end()
            self._watch = None
            self._emit("end")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self) -> Iterator[None]:
        if self._watch is not None:
            self._watch.children = children_ended()
        yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        code = body_of(fixturedef.func)
        if code is not None and is_async(code):
            self._watcher.watch(code)
            self._async_fixtures[id(code)] = code
        yield
        cached = fixturedef.cached_result
        if self._watch is not None and cached is not None and cached[2] is None:
            self._note_fixture(self._watch, fixturedef.argname, cached[0])

    def _note_fixture(self, watch: Watch, name: str, value: object) -> None:
        code = getattr(value, "cr_code", None) or getattr(value, "ag_code", None)
        if code is None or id(code) not in self._async_fixtures:
            return
        if all(fixture.code is not code for fixture in watch.fixtures):
            watch.fixtures.append(Fixture(name, code))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Iterator[None]:
        outcome: Any = yield
        watch = self._watch
        if watch is None or watch.item is not item:
            return
        report = outcome.get_result()
        if report.when == "call" or report.outcome != "passed":
            if not watch.outcome or report.outcome == "failed":
                watch.outcome = _outcome_of(report)
                watch.reason = _reason_of(report)
                watch.skipped_by_plugin = report.when == "call" and _is_plugins_skip(call.excinfo)
            watch.blind = self._watcher.blind
        if report.when == "teardown":
            for finding in self._findings(watch):
                self._emit("finding", nodeid=item.nodeid, **finding)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell the outcome: what is logged is final, and is so in the parent of a forked test."""
        if report.outcome in ("failed", "skipped") or report.when == "call":
            self._emit("outcome", nodeid=report.nodeid, outcome=_outcome_of(report))

    # What it shows

    def _findings(self, watch: Watch) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if watch.code is None:
            return found
        passed = watch.outcome in ("passed", "xpassed")
        if self._watcher.entered(watch.code):
            if passed:
                found += self._shown_by_body(watch, watch.code)
            elif self._watcher.returned(watch.code) and _was_not_run(watch):
                seen = f"{_skipped(watch)}; nothing awaited the coroutine that it returned"
                found.append(self._finding("coroutine-not-awaited", watch.code, seen))
        else:
            found += self._never_entered(watch, watch.code)
        if passed and not watch.blind:
            found += self._fixtures_unawaited(watch)
        return found

    def _finding(self, kind: str, code: CodeType, seen: str, line: int = 0) -> dict[str, Any]:
        source = source_of(code)
        line = line or (source.lineno if source else code.co_firstlineno)
        return {"kind": kind, "file": code.co_filename, "line": line, "seen": seen}

    def _never_entered(self, watch: Watch, code: CodeType) -> list[dict[str, Any]]:
        passed = watch.outcome in ("passed", "xpassed")
        dropped = any(unawaited.code is code for unawaited in self._recorder.seen)
        # Without a dropped coroutine a body may have run unseen: in a child, or under a debugger.
        if not dropped and (watch.blind or watch.children != children_ended()):
            return []
        not_run = watch.outcome in ("xfailed", "skipped") and _NO_GENERATORS.search(watch.reason)
        by_runner = is_async(code) and _was_not_run(watch)
        if not passed and not by_runner and not (is_generator(code) and not_run):
            return []
        seen = f"{watch.outcome if passed else _skipped(watch)}, body never entered"
        if dropped:
            seen += "; its coroutine was created and dropped"
        marks = sorted({"asyncio", "anyio", "trio"} & {m.name for m in watch.item.iter_markers()})
        if is_generator(code):
            kind = "generator-test"
        elif not is_async(code):
            kind = "never-entered"
        elif watch.is_testcase():
            kind = "async-in-testcase"
            if marks:
                seen += f"; the mark {marks[0]!r} has no effect in a unittest.TestCase"
        elif watch.wrapped:
            kind = "coroutine-not-awaited"
            seen += "; its decorator awaits nothing"
        else:
            kind = "unhandled-async"
            if marks:
                seen += f"; no plugin handles the mark {marks[0]!r}"
        return [self._finding(kind, code, seen)]

    def _shown_by_body(self, watch: Watch, code: CodeType) -> list[dict[str, Any]]:
        source = source_of(code)
        found = [] if source is None or watch.blind else self._checks(watch, code, source)
        can_fail = any(not check.kind for check in found)
        for unawaited in self._recorder.seen:
            if unawaited.code is None or unawaited.expected or self._is_filtered(watch):
                continue
            inside = unawaited.creator == code.co_name and unawaited.file == code.co_filename
            if not inside or source is None:
                continue
            what = unawaited.code.co_name
            use = body.coroutine_use(source, unawaited.line, what)
            if use is None:
                continue
            if use.how == "dropped" and can_fail:
                continue
            seen = f"passed; the coroutine {what!r} was {_USES[use.how]}, its body never entered"
            return [self._finding("coroutine-not-awaited", code, seen, unawaited.line)]
        if self._watcher.returned_unstarted(code):
            seen = "passed; the coroutine that it returned was never started"
            return [self._finding("coroutine-not-awaited", code, seen)]
        if source is None or watch.blind:
            return []
        lines = self._watcher.lines(code)
        swallowed = checks.swallowed_assertion(source, lines)
        if swallowed is not None:
            seen = "passed; this assertion did not hold and the test caught it"
            return [self._finding("swallowed-assertion", code, seen, swallowed)]
        if found and not can_fail:
            return [self._finding(found[0].kind, code, f"passed; {found[0].why}", found[0].line)]
        if watch.is_all_there_is():
            names = getattr(innermost(watch.raw), "__globals__", {})
            why = body.cannot_fail(source, lines, names)
            if why is not None:
                return [self._finding("asserts-nothing", code, f"passed; {why}")]
        return []

    def _checks(self, watch: Watch, code: CodeType, source: FunctionNode) -> list[checks.Check]:
        """All that is there to fail the test, in its body and in what it calls."""
        ran: dict[FunctionNode, checks.Ran] = {source: checks.Ran(self._watcher.lines(code))}
        # A body that is entered in a child process is not seen to be.
        unseen = watch.children != children_ended()
        for one in (*watch.inside, *watch.beside):
            node = source_of(one)
            if node is not None:
                entered = unseen or self._watcher.entered(one)
                failed = self._watcher.failed(one)
                ran[node] = checks.Ran(self._watcher.lines(one), entered, failed)
        found = checks.checks_of(source, ran, self._watcher.mocks(code))
        for one in watch.beside:
            node = source_of(one)
            if node is not None and ran[node].entered:
                found += checks.checks_of_function(node, ran)
        if found and all(check.kind for check in found) and watch.others_assert():
            found.append(checks.Check(source.lineno))
        return found

    def _fixtures_unawaited(self, watch: Watch) -> list[dict[str, Any]]:
        for name, value in (getattr(watch.item, "funcargs", None) or {}).items():
            self._note_fixture(watch, name, value)
        found = [
            self._finding(
                "async-fixture-not-awaited",
                fixture.code,
                f"passed with fixture {fixture.name!r} being a bare {_kind_of(fixture.code)}, "
                "its body never entered",
            )
            for fixture in watch.fixtures
            if not self._watcher.ever_entered(fixture.code)
        ]
        found += [
            self._finding(
                "async-fixture-not-awaited",
                code,
                f"passed; {code.co_name!r} is async and its body was never entered",
            )
            for code in watch.async_setups()
            if not self._watcher.ever_entered(code)
        ]
        return found

    @staticmethod
    def _is_filtered(watch: Watch) -> bool:
        return any(
            "never awaited" in str(argument) or "RuntimeWarning" in str(argument)
            for mark in watch.item.iter_markers("filterwarnings")
            for argument in mark.args
        )


_OUTCOMES = os.path.join("_pytest", "outcomes.py")
_PYTHON = os.path.join("_pytest", "python.py")
_USES = {
    "dropped": "created and dropped",
    "returned": "returned to nobody who awaits it",
    "asserted": "asserted on, which always holds",
}


def _outcome_of(report: Any) -> str:
    expected = hasattr(report, "wasxfail")
    if report.outcome == "skipped":
        return "xfailed" if expected else "skipped"
    if report.outcome == "failed":
        return "failed" if report.when == "call" else "error"
    return "xpassed" if expected else "passed"


def _reason_of(report: Any) -> str:
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail)
    longrepr = report.longrepr
    return str(longrepr[2]) if isinstance(longrepr, tuple) else ""


def _was_not_run(watch: Watch) -> bool:
    """Whether pytest or a plugin skipped the test for want of anything that runs it."""
    if watch.outcome != "skipped" or not watch.skipped_by_plugin:
        return False
    return bool(_NO_RUNNER.search(watch.reason))


def _is_plugins_skip(excinfo: Any) -> bool:
    """Whether pytest itself, or a plugin's hook, raised it: not the test, nor its decorators."""
    raised = [step.frame.code.raw for step in excinfo.traceback] if excinfo is not None else []
    places = [code for code in raised if not code.co_filename.endswith(_OUTCOMES)]
    return bool(places) and (
        places[-1].co_name.startswith("pytest_") or places[-1].co_filename.endswith(_PYTHON)
    )


def _skipped(watch: Watch) -> str:
    reason = re.sub(r"^(Skipped: |reason: )", "", watch.reason)
    return f"{watch.outcome} ({_one_line(reason)})"


def _one_line(text: str) -> str:
    first = text.strip().splitlines()[0] if text.strip() else ""
    return first[:157] + "..." if len(first) > 160 else first


def _kind_of(code: CodeType) -> str:
    return "async generator" if is_generator(code) else "coroutine"
