"""Scenarios as pytest items: collected, run in a forked child, and judged."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shlex
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import pytest
from _pytest.runner import runtestprotocol
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from harness import child, isolation
from harness.errors import HarnessError
from harness.export import export
from harness.matrix import releases
from harness.matrix.installers import NotForThisPython
from harness.matrix.interpreters import this_interpreter
from harness.matrix.runner import Run, Runner
from harness.matrix.scripts import with_extras
from harness.outcome import Observation, Outcome, Verdict, judge
from harness.pytest_fixtures import FIXTURES, source_of
from harness.pytest_plugin import flag
from harness.report import terminal
from harness.report.model import Report, Result, ScenarioInfo, describe_build
from harness.scenario import Scenario

#: Seconds that fixtures may take to set up, and to tear down; a broker may have to come up.
FIXTURE_LIMIT = 60.0

_PARENT = os.getpid()


class ScenarioItem(pytest.Function):
    """One scenario in one release of the library under test.

    pytest sees a plain function: whether a plugin for async tests is there, and what it would do
    with the body, makes no difference.
    """

    record: Scenario
    #: Release to run in; None is what is installed.
    release: str | None
    #: Of how many equal items this is one, as pytest-repeat asks for.
    count: int
    #: The threads that ran before the body.
    threads: Collection[threading.Thread] = ()
    #: What the exported script showed, where that is what runs.
    observation: Observation | None = None

    @classmethod
    def make(
        cls,
        collector: pytest.Module,
        name: str,
        record: Scenario,
        release: str | None,
        step: int = 1,
        count: int = 1,
    ) -> ScenarioItem:
        parts = [] if release is None else [f"{record.library} {release}"]
        parts += [f"{step}-{count}"] if count > 1 else []
        shown = f"{name}[{'-'.join(parts)}]" if parts else name
        item: ScenarioItem = cls.from_parent(
            collector, name=shown, callobj=_as_plain_function(record)
        )
        item.record = record
        item.release = release
        item.count = count
        item.extra_keyword_matches.add(record.id)
        item.add_marker("scenario")
        item.add_marker(record.family)
        return item

    def make_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that the body will run on, made before its time for a fixture."""
        if self.obj.loop is None:
            self.obj.loop = asyncio.new_event_loop()
        loop: asyncio.AbstractEventLoop = self.obj.loop
        return loop

    def runtest(self) -> None:
        if self.release is None:
            self.threads = threading.enumerate()
            try:
                super().runtest()
            except KeyboardInterrupt as error:
                if os.getpid() == _PARENT:
                    raise
                # Ctrl-C does not reach a child, so this is what the body shows. pytest would end.
                raise _Interrupted from error
        else:
            arguments = {name: self.funcargs[name] for name in self._fixtureinfo.argnames}
            try:
                self.observation = run_in_release(self.record, self.release, arguments)
            except NotForThisPython as error:
                self.observation = Observation(Outcome.NOT_APPLICABLE, str(error))
            except HarnessError as error:  # of the library it says nothing
                self.observation = Observation(Outcome.BROKEN, str(error))


class _Interrupted(Exception):
    """Stands for the KeyboardInterrupt of a body."""


def _as_plain_function(record: Scenario) -> Callable[..., None]:
    @functools.wraps(record.function)
    def run(**arguments: Any) -> None:
        __tracebackhide__ = True
        isolation.drive(record, arguments, run.loop)  # type: ignore[attr-defined]

    run.loop = None  # type: ignore[attr-defined]
    return run


def run_in_release(record: Scenario, release: str, arguments: Mapping[str, Any]) -> Observation:
    """Run the exported script of a scenario against one release of its library.

    :param arguments: what the body is called with
    :raises HarnessError: if the release cannot be had, or the scenario cannot be exported
    """
    if record.library is None:
        raise HarnessError(f"scenario {record.id!r} is about Python itself and has no releases")
    script = export(record, release)
    run = Run(
        name=record.function.__name__,
        script=script,
        interpreter=this_interpreter(),
        path=(str(releases.fetch(with_extras(script, record.library), release)),),
        limit=record.limit,
    )
    seen: list[Observation] = []
    with _environment(arguments), Runner(jobs=1) as runner:
        runner.run([run], lambda _, ran: seen.append(ran.observation))
    return seen[0]


@contextlib.contextmanager
def _environment(arguments: Mapping[str, Any]) -> Iterator[None]:
    """Hand a script the arguments of its scenario: ``amqp_url`` is ``AMQP_URL`` there."""
    variables = {name.upper(): str(value) for name, value in arguments.items()}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Session:
    """What one run of pytest knows of its scenarios.

    :raises HarnessError: for options that cannot be meant
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._releases = _pinned(
            [*config.getoption("harness_release"), *config.getini("harness_release")]
        )
        self._channel: child.Channel | None = None

    # Collection

    def collect(
        self, collector: pytest.Module, name: str, record: Scenario
    ) -> Sequence[ScenarioItem]:
        """Make the items of one scenario: the installed release, and those its record shows."""
        family = record.family
        marks = getattr(record.function, "pytestmark", ())
        if any(mark.name == "parametrize" for mark in marks):
            raise HarnessError(
                f"scenario {record.id!r} is parametrized; write a scenario for each value"
            )
        if not family.isidentifier():
            raise HarnessError(
                f"scenario {record.id!r}: its folder {family!r} names the family and is used as "
                "a pytest marker; use letters, digits and '_'"
            )
        self._config.addinivalue_line("markers", f"{family}: scenarios of this family")
        wanted: Sequence[str | None] | None = self._releases.get(record.library or "")
        if wanted is None:
            shown = () if flag(self._config, "installed-only") else record.shown_in
            here = record.library and installed_release(record.library)
            wanted = [None, *(release for release in shown if release != here)]
        count = _count(collector, record)
        return [
            ScenarioItem.make(collector, name, record, release, step, count)
            for release in wanted
            for step in range(1, max(1, count) + 1)
        ]

    def check_ids(self, items: Iterable[pytest.Item]) -> None:
        """Refuse two scenarios of one id: a report could not tell them apart."""
        seen: dict[str, Scenario] = {}
        for item in items:
            if isinstance(item, ScenarioItem):
                first = seen.setdefault(item.record.id, item.record)
                if first is not item.record:
                    raise pytest.UsageError(
                        f"scenario id {item.record.id!r} is used twice, by {_where(first)} and "
                        f"{_where(item.record)}; give one of them another id"
                    )

    def listing(self, items: Iterable[pytest.Item]) -> list[str]:
        """Return a line for each scenario: id, family, title and where its bug is known to be."""
        records = {i.record.id: i.record for i in items if isinstance(i, ScenarioItem)}
        infos = [ScenarioInfo.of(record) for record in records.values()]
        width = max((len(info.id) for info in infos), default=0)
        lines = [
            f"{info.id:{width}}  {info.family}: {info.title}  [{terminal.listed_present(info)}]"
            for info in infos
        ]
        return [*lines, f"{len(lines)} scenarios"]

    # Running

    def run(self, item: pytest.Item) -> bool | None:
        """Run a scenario item and log its reports; None leaves any other item to pytest."""
        if not isinstance(item, ScenarioItem):
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        if why := _why_not(item):
            reports = [_report(item, "setup", "skipped", why)]
        elif item.release is not None or item.config.getoption("usepdb"):
            # The body of a released library runs in an interpreter of its own anyway, and a
            # debugger needs the terminal that only this process has.
            reports = runtestprotocol(item, log=False, nextitem=None)
        else:
            reports = self._in_child(item)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def enter(self, item: pytest.Item, phase: str) -> None:
        """Start the clock of a phase; only a child has one."""
        if self._channel is not None and isinstance(item, ScenarioItem):
            self._channel.begin(phase, item.record.limit if phase == "call" else FIXTURE_LIMIT)

    def reported(
        self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        """Judge a phase that pytest has just run; a child leaves the judging to its parent."""
        if not isinstance(item, ScenarioItem):
            return
        seen = None
        if call.when == "call":
            error = None if call.excinfo is None else call.excinfo.value
            if error is not None and isinstance(error, (KeyboardInterrupt, pytest.exit.Exception)):
                return
            seen = item.observation if error is None else None
            seen = seen or _observation(item, error, report)
        if self._channel is None:
            if seen is not None:
                self._conclude(item, report, seen)
            return
        data = item.ihook.pytest_report_to_serializable(config=item.config, report=report)
        self._channel.send({"report": data, "seen": None if seen is None else seen.to_json()})

    def _in_child(self, item: ScenarioItem) -> list[pytest.TestReport]:
        if FIXTURES.intersection(item.fixturenames):
            self._start_broker(item.config)

        def body(channel: child.Channel) -> None:
            self._channel = channel
            runtestprotocol(item, log=False, nextitem=None)

        run = child.run_in_child(body, limit=FIXTURE_LIMIT)
        limit = item.record.limit if run.phase == "call" else FIXTURE_LIMIT
        reports = []
        for message in run.messages:
            report: pytest.TestReport = item.ihook.pytest_report_from_serializable(
                config=item.config, data=message["report"]
            )
            if isinstance(report.longrepr, list):  # JSON made a list of what pytest unpacks
                report.longrepr = tuple(report.longrepr)
            reports.append(report)
            if message["seen"] is not None:
                seen = isolation.finish(Observation.from_json(message["seen"]), run, "")
                self._conclude(item, report, seen)
        failure = run.failure(limit)
        if failure is not None:
            output = _printed(item.config)
            report = _report(item, run.phase, "failed", failure.message)
            report.duration = run.seconds
            if output:
                report.sections.append(("Captured output", output))
            if run.phase == "call":
                self._conclude(item, report, isolation.finish(failure, run, output))
            reports.append(report)
        return reports

    def _conclude(
        self, item: ScenarioItem, report: pytest.TestReport, observation: Observation
    ) -> None:
        """Turn what was seen into what pytest is told."""
        record = item.record
        library, release = record.library, item.release
        if library is not None and release is None:
            release = installed_release(library)
        known = {} if library is None or release is None else {library: release}
        info = ScenarioInfo.of(record)
        again = f"--count {item.count} " if item.count > 1 else ""
        result = Result(
            scenario=record.id,
            python=platform.python_version(),
            build=describe_build(),
            library=library,
            release=release,
            verdict=judge(
                observation.outcome,
                present=record.is_present(known),
                can_fail=record.can_fail,
            ),
            observation=observation,
            command=f"pytest {again}{shlex.quote(item.nodeid)}",
        )
        if result.verdict.is_failure or observation.outcome is Outcome.BROKEN:
            report.outcome = "failed"
            report.longrepr = terminal.failure_text(info, result)
        elif result.verdict is Verdict.INCONCLUSIVE:
            report.outcome = "skipped"
            report.longrepr = _skip_reason(item, terminal.seen(result))
        else:
            report.outcome = "passed"
            report.longrepr = None
        part = Report({}, (info,), (result,))
        report.harness_result = part.to_json()  # type: ignore[attr-defined]

    def _start_broker(self, config: pytest.Config) -> None:
        """Start the broker in this process, so that every child finds the same one."""
        with contextlib.suppress(HarnessError):  # set-up says it, in the test that needs it
            source_of(config).prepare()


def installed_release(library: str) -> str | None:
    """Return the release of a project that ``import`` finds here; None if there is none."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        name = library.replace("-", "_")
        if importlib.util.find_spec(name) is None:
            return None
        return getattr(importlib.import_module(name), "__version__", None)


def _pinned(requirements: Iterable[str]) -> dict[str, tuple[str, ...]]:
    pins: dict[str, tuple[str, ...]] = {}
    for text in requirements:
        try:
            requirement = Requirement(text)
            (pin,) = requirement.specifier
            exact = pin.operator == "==" and not pin.version.endswith(".*")
        except (InvalidRequirement, ValueError):
            exact = False
        if not exact:
            raise HarnessError(
                f"--harness-release is {text!r}; name one release, as in nest-asyncio==1.3.3"
            )
        name = canonicalize_name(requirement.name)
        pins[name] = (*pins.get(name, ()), pin.version)
    return pins


def _count(collector: pytest.Module, record: Scenario) -> int:
    """Return how often pytest-repeat is asked to run a scenario; once where it is not active."""
    plugins = collector.config.pluginmanager
    if not (plugins.hasplugin("repeat") or plugins.hasplugin("pytest_repeat")):
        return 1
    marks = [*getattr(record.function, "pytestmark", ()), *collector.iter_markers("repeat")]
    for mark in marks:
        if mark.name == "repeat":
            if len(mark.args) != 1 or not isinstance(mark.args[0], int):
                raise HarnessError(
                    f"scenario {record.id!r}: the mark repeat needs a number, as in repeat(20)"
                )
            return int(mark.args[0])
    return int(collector.config.getoption("count"))


def _why_not(item: ScenarioItem) -> str:
    record = item.record
    version = platform.python_version()
    if not record.python.contains(version, prereleases=True):
        return f"{record.id} runs on Python {record.python}, this is {version}"
    library = record.library if item.release is None else None
    if library is not None and installed_release(library) is None:
        return f"{library} is not installed; pip install {library}"
    return ""


def _observation(
    item: ScenarioItem, error: BaseException | None, report: pytest.TestReport
) -> Observation:
    if isinstance(error, _Interrupted):
        error = error.__cause__
    outcome = isolation.classify(error, item.record.function)
    if error is None:
        message = isolation.left_threads(item.threads)
    else:
        message = isolation.summary_of(error)
    output = "\n".join(text for title, text in report.sections if title.startswith("Captured std"))
    seconds = round(report.duration, 3)
    return Observation(outcome, message, report.longreprtext, child.shortened(output), seconds)


def _report(
    item: ScenarioItem, phase: str, outcome: Literal["passed", "failed", "skipped"], message: str
) -> pytest.TestReport:
    longrepr: Any = message if outcome == "failed" else _skip_reason(item, message)
    when: Any = phase if phase in ("setup", "call", "teardown") else "setup"
    keywords: dict[str, Literal[1]] = dict.fromkeys(item.keywords, 1)
    return pytest.TestReport(item.nodeid, item.location, keywords, outcome, longrepr, when)


def _skip_reason(item: ScenarioItem, reason: str) -> tuple[str, int, str]:
    path, line, _ = item.location
    return (path, (line or 0) + 1, reason)


def _printed(config: pytest.Config) -> str:
    """Return what a child printed that did not live to report it."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None or not capture.is_globally_capturing():
        return ""
    capture.suspend_global_capture()
    try:
        return child.shortened("".join(capture.read_global_capture()))
    finally:
        capture.resume_global_capture()


def _where(record: Scenario) -> str:
    info = ScenarioInfo.of(record)
    return info.nodeid
