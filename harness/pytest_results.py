"""The verdicts of one run of pytest: gathered, counted, printed and written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.outcome import Outcome, Verdict
from harness.pytest_fixtures import describe
from harness.pytest_plugin import setting
from harness.report import markdown, terminal
from harness.report.model import (
    Report,
    Result,
    ScenarioInfo,
    describe_environment,
    write_text,
)

_LETTERS = {
    Verdict.REPRODUCED: "R",
    Verdict.HEALTHY: ".",
    Verdict.REGRESSION: "F",
    Verdict.NOT_REPRODUCED: "F",
    Verdict.INCONCLUSIVE: "i",
}
_CATEGORIES = {
    Verdict.REPRODUCED: "passed",
    Verdict.HEALTHY: "passed",
    Verdict.REGRESSION: "failed",
    Verdict.NOT_REPRODUCED: "failed",
    Verdict.INCONCLUSIVE: "skipped",
}


class Results:
    """What the scenarios of one run showed; under xdist the controller has them all."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._infos: dict[str, ScenarioInfo] = {}
        self._results: list[Result] = []
        self._written = ""

    def learn(self, told: dict[str, Any]) -> None:
        """Take in one result, from this process or from an xdist worker."""
        part = Report.from_json(told)
        self._infos[part.scenarios[0].id] = part.scenarios[0]
        self._results.append(part.results[0])

    def finish(self, session: pytest.Session) -> None:
        """Write ``report.json`` and ``report.md`` where that was asked for.

        A report that cannot be written fails the run.
        """
        named = setting(self._config, "report")
        if not named:
            return
        directory, report = Path(named), self._report()
        try:
            report.save(directory / "report.json")
            write_text(directory / "report.md", markdown.run_report(report))
            self._written = f"report: {directory / 'report.md'}"
        except HarnessError as error:
            self._written = f"report not written: {error}"
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """Print every verdict."""
        report = self._report()
        reporter.section("event-loop scenarios")
        colour = reporter.hasmarkup
        width = shutil.get_terminal_size((100, 24)).columns
        for line in terminal.lines(terminal.verdict_table(report), width=width, colour=colour):
            reporter.write_line(line)
        reporter.write_line(terminal.summary_line(report))
        reporter.write_line(f"RabbitMQ: {describe(self._config)}")
        if self._written:
            reporter.write_line(self._written)

    def _report(self) -> Report:
        more = {"RabbitMQ": describe(self._config)}
        infos = tuple(self._infos.values())
        return Report(describe_environment(more), infos, tuple(self._results))


def status(result: dict[str, Any]) -> tuple[str, str, str]:
    """Return the category, letter and word that pytest shows for a verdict."""
    verdict = Verdict(result["results"][0]["verdict"])
    outcome = Outcome(result["results"][0]["observation"]["outcome"])
    if verdict is Verdict.INCONCLUSIVE and outcome is not Outcome.HEALTHY:
        category = "failed" if outcome is Outcome.BROKEN else "skipped"
        return category, category[0], outcome.value.upper()
    return _CATEGORIES[verdict], _LETTERS[verdict], verdict.value.upper()
