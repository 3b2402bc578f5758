"""JUnit XML that a build server reads."""

import xml.etree.ElementTree as ET

from harness.report.junit import junit
from harness.report.model import Report

from .report_samples import info, report, result


def suites(found: Report) -> ET.Element:
    return ET.fromstring(junit(found).encode())


def test_unexpected_is_a_failure_broken_an_error_and_no_evidence_is_skipped():
    rows = {"1.2": "ok", "1.3": "bug", "1.4": "gone", "1.5": "new", "1.6": "n/a", "1.7": "broken"}
    root = suites(report(rows))
    counts = {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "2", "errors": "1", "skipped": "1"}
    kinds = [
        next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "")
        for case in root.iter("testcase")
    ]
    assert kinds == ["", "", "failure", "failure", "skipped", "error"]


def test_case_names_the_cell_and_keeps_the_evidence():
    found = Report({}, (info(),), (result("new", "1.5", detail="Traceback", output="printed"),))
    (case,) = suites(found).iter("testcase")
    assert case.get("classname") == "nested_loops.N05"
    assert case.get("name") == "N05 [nest-asyncio 1.5, Python 3.11.7] regression"
    assert case.findtext("system-out") == "printed"
    assert "replay: harness matrix N05" in (case.findtext("failure") or "")


def test_any_output_makes_valid_xml():
    text = "]]><a>&amp;\x00\x1b[31m\ud800\ufffe\x0b"
    found = Report(
        {text: text}, (info(title=text),), (result("new", "1.5", detail=text, message=text),)
    )
    root = suites(found)
    (case,) = root.iter("testcase")
    assert case.findtext("system-err") == "]]><a>&amp;\\x00\\ud800\\ufffe\\x0b"


def test_times_add_up():
    found = Report({}, (info(),), (result("ok", "1", seconds=0.25), result("ok", "2", seconds=1)))
    assert [s.get("time") for s in suites(found).iter("testsuite")] == ["1.250"]
