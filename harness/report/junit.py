"""JUnit XML: what continuous-integration servers read. One test case for each cell."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from harness.outcome import Outcome, Verdict
from harness.report.model import Report, Result, ScenarioInfo
from harness.report.terminal import failure_text, seen
from harness.report.text import clean, one_line, shortened


def junit(report: Report) -> str:
    """Return the report as XML: unexpected cells are failures, broken ones errors.

    It is what the schema of Jenkins (junit-10.xsd) describes.
    """
    suites = ET.Element("testsuites", name="event-loop scenarios")
    for info in report.scenarios:
        suites.append(_suite(info, report.results_of(info.id), report))
    for name in ("tests", "failures", "errors"):
        suites.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    for element in suites.iter():
        element.attrib = {name: one_line(value, 2000) for name, value in element.attrib.items()}
    ET.indent(suites)
    text = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _suite(info: ScenarioInfo, results: Sequence[Result], report: Report) -> ET.Element:
    cases = [_case(info, result) for result in results]
    suite = ET.Element(
        "testsuite",
        name=f"{info.id}: {info.title}",
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        skipped=str(sum(case.find("skipped") is not None for case in cases)),
        time=_seconds(sum(result.observation.seconds for result in results)),
        timestamp=report.created,
    )
    properties = ET.SubElement(suite, "properties")
    told = {**report.environment, "source": info.source, "present": "; ".join(info.present)}
    for name, value in told.items():
        ET.SubElement(properties, "property", name=name, value=value)
    suite.extend(cases)
    return suite


def _case(info: ScenarioInfo, result: Result) -> ET.Element:
    case = ET.Element(
        "testcase",
        classname=f"{info.family}.{info.id}",
        name=f"{info.id} [{result.where}] {result.verdict}",
        time=_seconds(result.observation.seconds),
    )
    message = seen(result)
    if result.verdict.is_failure:
        failure = ET.SubElement(case, "failure", type=result.verdict.value, message=message)
        failure.text = clean(failure_text(info, result))
    elif result.observation.outcome is Outcome.BROKEN:
        error = ET.SubElement(case, "error", type=Outcome.BROKEN.value, message=message)
        error.text = clean(failure_text(info, result))
    elif result.verdict is Verdict.INCONCLUSIVE:
        ET.SubElement(case, "skipped", type=result.verdict.value, message=message)
    for name, text in (
        ("system-out", result.observation.output),
        ("system-err", result.observation.detail),
    ):
        if text.strip():
            ET.SubElement(case, name).text = shortened(clean(text))
    return case


def _seconds(value: float) -> str:
    return f"{value:.3f}"
