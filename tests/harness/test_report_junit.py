"""JUnit XML that a build server reads."""

import xml.etree.ElementTree as ET

import pytest

from harness.report.junit import junit
from harness.report.model import Report

from .report_samples import info, report, result


def suites(found: Report) -> ET.Element:
    return ET.fromstring(junit(found).encode())


def test_unexpected_is_a_failure_broken_an_error_and_no_evidence_is_skipped():
    rows = {"1.2": "ok", "1.3": "bug", "1.4": "gone", "1.5": "new", "1.6": "n/a", "1.7": "broken"}
    root = suites(report(rows))
    counts = {name: root.get(name) for name in ("tests", "failures", "errors")}
    assert counts == {"tests": "6", "failures": "2", "errors": "1"}
    assert [suite.get("skipped") for suite in root] == ["1"]
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


#: Of what junit-10.xsd of Jenkins allows: attributes, those that must be there, children.
SCHEMA = {
    "testsuites": ("name time tests failures errors", "", "testsuite"),
    "testsuite": (
        "name tests failures errors group time skipped timestamp hostname id package",
        "name tests failures errors",
        "testsuite properties testcase system-out system-err",
    ),
    "properties": ("", "", "property"),
    "property": ("name value", "name value", ""),
    "testcase": (
        "name time classname group",
        "name",
        "skipped error failure system-out system-err",
    ),
    "failure": ("type message", "", ""),
    "error": ("type message", "", ""),
    "skipped": ("type message", "", ""),
    "system-out": ("", "", ""),
    "system-err": ("", "", ""),
}
ODD = "]]><a>&amp;\x00\x1b[31m\ud800\ufffe\x0b\nnext\u2028"


@pytest.mark.parametrize(
    "found",
    [
        Report({}, (), ()),
        Report({}, (info(),), ()),
        report({None: "hang", "1.2": "ok", "1.3": "bug", "1.4": "gone", "1.5": "new"}),
        report({"1.6": "n/a", "1.7": "broken", "1.8": "differs"}),
        Report({ODD: ODD}, (info(ODD, family=ODD),), (result("new", ODD, ODD, ODD, output=ODD),)),
    ],
    ids=["nothing", "no runs", "runs", "no evidence", "odd characters"],
)
def test_what_the_schema_allows(found: Report):
    for element in suites(found).iter():
        allowed, needed, children = (words.split() for words in SCHEMA[element.tag])
        assert set(needed) <= set(element.keys()) <= set(allowed)
        assert {child.tag for child in element} <= set(children)
        assert not any("\n" in value for value in element.attrib.values())


def test_any_output_makes_valid_xml():
    found = Report({ODD: ODD}, (info(title=ODD),), (result("new", "1.5", detail=ODD, message=ODD),))
    (case,) = suites(found).iter("testcase")
    assert case.findtext("system-err") == "]]><a>&amp;\\x00\\ud800\\ufffe\\x0b\nnext\\u2028"


def test_times_add_up():
    found = Report({}, (info(),), (result("ok", "1", seconds=0.25), result("ok", "2", seconds=1)))
    assert [s.get("time") for s in suites(found).iter("testsuite")] == ["1.250"]
