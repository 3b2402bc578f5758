"""A report is data: it comes back as it was written, or says why it does not."""

import json

import pytest

from harness import outcome as outcomes
from harness.errors import HarnessError
from harness.outcome import Observation, Outcome, Verdict
from harness.report.as_json import as_json, schema
from harness.report.model import (
    SCHEMA_VERSION,
    Report,
    Result,
    ScenarioInfo,
    describe_environment,
    write_text,
)
from harness.scenario import record_of, scenario


@scenario(id="S1", title="It breaks", source="https://example.org", present=("nest-asyncio<1.4",))
async def sample() -> None:
    """Symptom: it breaks."""


INFO = ScenarioInfo("S1", "It breaks", "family", "https://example.org", doc="d", body="b")
SEEN = Observation(Outcome.BUG, "AssertionError", "at line 1", "\udc80\x00\x1b[31m", 0.5)
RESULT = Result("S1", "3.11.7", "CPython", "nest-asyncio", "1.3.0", Verdict.REPRODUCED, SEEN, "x")
REPORT = Report({"Python": "3.11.7"}, (INFO,), (RESULT,), "2026-01-01T00:00:00+00:00")


def test_report_comes_back_as_it_was_saved(tmp_path):
    REPORT.save(tmp_path / "deep" / "report.json")
    assert Report.load(tmp_path / "deep" / "report.json") == REPORT


def test_report_fits_its_published_schema():
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    validator.validate(json.loads(as_json(REPORT)))
    broken = json.loads(as_json(REPORT))
    broken["results"][0]["verdict"] = "maybe"
    assert not validator.is_valid(broken)


def test_schema_names_every_field_and_every_word():
    described = schema()
    data = json.loads(as_json(REPORT))
    assert set(data) == set(described["properties"])
    kinds = described["$defs"]
    assert set(data["scenarios"][0]) == set(kinds["scenario"]["properties"])
    assert set(data["results"][0]) == set(kinds["result"]["properties"])
    assert set(data["results"][0]["observation"]) == set(kinds["observation"]["properties"])
    assert kinds["result"]["properties"]["verdict"]["enum"] == [v.value for v in Verdict]
    assert kinds["observation"]["properties"]["outcome"]["enum"] == [o.value for o in Outcome]
    assert described["properties"]["schema"]["const"] == SCHEMA_VERSION
    assert outcomes.EXIT_CANNOT_RUN == 125


def test_field_that_this_version_does_not_know_is_passed_over():
    data = REPORT.to_json()
    data["later"] = data["results"][0]["later"] = data["results"][0]["observation"]["later"] = 1
    assert Report.from_json(data) == REPORT


def test_newer_schema_says_to_upgrade(tmp_path):
    path = tmp_path / "new.json"
    path.write_text(json.dumps({"schema": SCHEMA_VERSION + 1, "tool": "loop-harness 9"}))
    with pytest.raises(HarnessError, match=r"new\.json.*schema 2.*upgrade loop-harness"):
        Report.load(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data.pop("results"), "results"),
        (lambda data: data.update(schema="1"), "schema"),
        (lambda data: data.update(results={}), "results"),
        (lambda data: data["results"].append(3), r"results\[1\]"),
        (lambda data: data["results"][0].update(verdict="maybe"), "'maybe'"),
        (lambda data: data["results"][0].update(python=3.11), "python"),
        (lambda data: data["results"][0].update(scenario="S2"), "'S2'"),
        (lambda data: data["results"][0]["observation"].update(outcome="odd"), "'odd'"),
        (lambda data: data["results"][0]["observation"].update(seconds="1"), "seconds"),
        (lambda data: data["scenarios"][0].update(title=None), "title"),
    ],
)
def test_what_is_no_report_is_named(tmp_path, change, named):
    data = REPORT.to_json()
    change(data)
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(data))
    with pytest.raises(HarnessError, match=rf"odd\.json: .*{named}"):
        Report.load(path)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_file_that_is_no_json_is_named(tmp_path, text):
    path = tmp_path / "odd.json"
    path.write_bytes(text)
    with pytest.raises(HarnessError, match=r"odd\.json"):
        Report.load(path)
    with pytest.raises(HarnessError, match=r"gone\.json: cannot be read"):
        Report.load(tmp_path / "gone.json")


def test_half_written_file_is_never_left(tmp_path):
    path = tmp_path / "report.json"
    write_text(path, "whole")
    with pytest.raises(TypeError):
        write_text(path, None)
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match=r"report\.json: cannot be written"):
        REPORT.save(tmp_path / "file" / "report.json")


def test_scenario_is_described_with_its_text():
    record = record_of(sample)
    assert record is not None
    info = ScenarioInfo.of(record)
    assert info.nodeid.endswith("tests/harness/test_report_model.py::sample")
    assert info.doc == "Symptom: it breaks."
    assert info.body.startswith("@scenario(")
    assert info.body.rstrip().endswith('"""Symptom: it breaks."""')
    assert info.present == ("nest-asyncio<1.4",)
    assert info.family == "harness"


def test_only_keeps_what_is_asked_for_and_names_what_is_not_there():
    assert REPORT.only(["S1"]) == REPORT
    with pytest.raises(HarnessError, match="'S2'; it holds: S1"):
        REPORT.only(["S2"])


def test_environment_names_this_interpreter_and_what_is_added():
    found = describe_environment({"RabbitMQ": "4.0"})
    assert found["Python"].startswith("CPython 3.")
    assert "pytest" in found
    assert list(found)[-1] == "RabbitMQ"


def test_where_names_the_cell():
    assert RESULT.where == "nest-asyncio 1.3.0, Python 3.11.7"
    alone = Result("S1", "3.11.7", "b", "nest-asyncio", None, Verdict.HEALTHY, SEEN)
    assert alone.where == "Python 3.11.7"
