"""The pytest plugin: its options, and the hooks that hand scenarios to ``scenario_items``.

An idle plugin costs next to nothing: whatever is not needed to say "no scenario here" is imported
when the first scenario is met.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.pytest_results import Results
    from harness.scenario_items import Session

#: name -> (default, help); each is ``--harness-NAME``, ``HARNESS_NAME`` and ini ``harness_name``.
OPTIONS: dict[str, tuple[str, str]] = {
    "broker": ("auto", "where RabbitMQ comes from: auto, docker, local, none or an amqp URL"),
    "image": ("", "image of the docker provider; empty: the official one, else one of our own"),
    "report": ("", "write report.json and report.md into this directory"),
}
FLAGS: dict[str, str] = {
    "require-broker": "fail, instead of skip, the scenarios that need a broker when there is none",
    "installed-only": "do not also run the scenarios in the releases that their records show",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "event-loop bug scenarios")
    for name, (default, text) in OPTIONS.items():
        shown = f"{text} (default: {default})" if default else text
        group.addoption(f"--harness-{name}", metavar=name.upper(), help=shown)
        parser.addini(_key(name), text, default="")
    for name, text in FLAGS.items():
        group.addoption(f"--harness-{name}", action="store_true", help=text)
        parser.addini(_key(name), text, type="bool", default=False)
    group.addoption(
        "--harness-release",
        action="append",
        default=[],
        metavar="REQUIREMENT",
        help="run the scenarios of a library in this release of it only, as in "
        "nest-asyncio==1.3.3; may be given several times",
    )
    parser.addini("harness_release", "releases to run the scenarios in", type="linelist")
    group.addoption("--harness-list", action="store_true", help="list the scenarios and stop")


def _key(name: str) -> str:
    return f"harness_{name.replace('-', '_')}"


def setting(config: pytest.Config, name: str) -> str:
    """Return an option; the command line beats the environment, which beats the ini file."""
    given = config.getoption(_key(name)) or os.environ.get(_key(name).upper())
    return str(given or config.getini(_key(name)) or OPTIONS[name][0])


def flag(config: pytest.Config, name: str) -> bool:
    """Return a yes-or-no option, with the same precedence.

    :raises pytest.UsageError: for an environment variable that says neither
    """
    if config.getoption(_key(name)):
        return True
    variable = _key(name).upper()
    given = os.environ.get(variable, "").lower()
    if given in ("1", "true", "yes"):
        return True
    if given not in ("", "0", "false", "no"):
        raise pytest.UsageError(f"{variable} is {given!r}; set it to 1 or 0")
    return not given and bool(config.getini(_key(name)))


def pytest_configure(config: pytest.Config) -> None:
    from harness import pytest_fixtures

    config.addinivalue_line("markers", "scenario: an async test function with a @scenario record")
    config.pluginmanager.register(pytest_fixtures, "harness-fixtures")
    config.pluginmanager.register(Scenarios(config), "harness-scenarios")
    workers = config.getoption("numprocesses", None)
    if workers or setting(config, "broker") != OPTIONS["broker"][0]:
        # A wrong setting is said before anything runs, and xdist's workers share one broker.
        pytest_fixtures.source_of(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    from harness import pytest_fixtures

    pytest_fixtures.finish(config)


class Scenarios:
    """The hooks of one run of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._session: Session | None = None
        self._results: Results | None = None
        if config.getoption("harness_release") or config.getini("harness_release"):
            self._open_session()  # refuses a release that cannot be meant before anything runs

    def _open_session(self) -> Session:
        if self._session is None:
            from harness.scenario_items import Session

            try:
                self._session = Session(self._config)
            except HarnessError as error:
                raise pytest.UsageError(str(error)) from None
        return self._session

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(
        self, collector: pytest.Collector, name: str, obj: object
    ) -> Sequence[pytest.Item] | None:
        record = getattr(obj, "__scenario__", None)
        if record is None or not isinstance(collector, pytest.Module):
            return None
        if not collector.funcnamefilter(name):
            return None
        return self._open_session().collect(collector, name, record)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        call = getattr(report, "call", None)
        error = call.excinfo.value if call is not None and call.excinfo is not None else None
        if isinstance(error, HarnessError):
            report.longrepr = str(error)  # one clear message; a traceback would be ours
        return report

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._session is not None:
            self._session.check_ids(items)

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if not self._config.getoption("harness_list"):
            return None
        reporter: Any = self._config.pluginmanager.getplugin("terminalreporter")
        for line in self._open_session().listing(session.items):
            reporter.write_line(line)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        return None if self._session is None else self._session.run(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._session is not None:
            self._session.enter(item, "setup")
        if why := self._missing_broker(item):
            pytest.fail(why, pytrace=False)

    def _missing_broker(self, item: pytest.Item) -> str | None:
        """Say why the broker that a test needs is not there, if a run must have one."""
        from harness.pytest_fixtures import FIXTURES, source_of

        if not FIXTURES.intersection(getattr(item, "fixturenames", ())):
            return None
        source = source_of(self._config)
        try:
            missing = source.prepare() is None and flag(self._config, "require-broker")
        except HarnessError as error:
            return str(error)
        return source.reason if missing else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:
        if self._session is not None:
            self._session.enter(item, "call")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        if self._session is not None:
            self._session.enter(item, "teardown")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if self._session is not None:
            self._session.reported(item, call, report)
        return report

    def pytest_report_teststatus(
        self, report: pytest.TestReport | pytest.CollectReport
    ) -> tuple[str, str, str] | None:
        result = getattr(report, "harness_result", None)
        if result is None:
            return None
        from harness.pytest_results import status

        return status(result)

    # Under xdist the controller runs no scenario; it learns of them through the reports alone.
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = getattr(report, "harness_result", None)
        if told is None:
            return
        if self._results is None:
            from harness.pytest_results import Results

            self._results = Results(self._config)
        self._results.learn(told)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._results is not None and not hasattr(self._config, "workerinput"):
            self._results.finish(session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._results is not None:
            self._results.summarise(terminalreporter)
