"""``harness report`` and ``harness export`` as they are typed."""

import json

import pytest

from harness.cli import main
from harness.report.model import Report

from .report_samples import report


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Save reports in the working directory; return their names."""
    monkeypatch.chdir(tmp_path)

    def save(name: str, found: Report) -> str:
        found.save(tmp_path / name)
        return name

    return save


def test_grid_is_printed_by_default(saved, capsys):
    assert main(["report", saved("a.json", report({"1.2": "ok", "1.3": "bug"}))]) == 0
    out = capsys.readouterr().out
    assert "nest-asyncio 1.3" in out
    assert out.endswith("2 runs of 1 scenario: 1 reproduced, 1 healthy\n")
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("format", "begins"),
    [("html", "<!doctype html>"), ("json", "{"), ("junit", "<?xml"), ("markdown", "# Event-loop")],
)
def test_each_format_is_printed(saved, capsys, format, begins):
    assert main(["report", saved("a.json", report({"1.2": "ok"})), "--format", format]) == 0
    assert capsys.readouterr().out.startswith(begins)


def test_output_gets_a_file_for_each_format(saved, tmp_path, capsys):
    assert main(["report", saved("a.json", report({"1.2": "ok"})), "--output", "out"]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.json", "report.md", "junit.xml"}
    assert capsys.readouterr().out == ""


def test_issue_that_cannot_be_backed_is_not_written_and_the_rest_is(saved, tmp_path, capsys):
    name = saved("a.json", report({"1.3": "bug"}, nodeid="gone.py::test_it"))
    (tmp_path / "scenarios").mkdir()
    assert main(["report", name, "--output", "out"]) == 0
    assert not (tmp_path / "out" / "issues").exists()
    assert (tmp_path / "out" / "report.html").exists()
    assert "no issue for N05" in capsys.readouterr().err


def test_shards_are_merged_only_when_asked(saved, capsys):
    one, other = saved("a.json", report({"1.2": "ok"})), saved("b.json", report({"1.3": "bug"}))
    assert main(["report", one, other]) == 2
    assert "2 files were given; add --merge" in capsys.readouterr().err
    assert main(["report", "--merge", one, other, "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 2


@pytest.mark.parametrize(("new", "status"), [("ok", 0), ("bug", 1)])
def test_exit_code_says_whether_anything_got_worse(saved, tmp_path, capsys, new, status):
    old = saved("old.json", report({"1.3": "ok"}))
    now = saved("new.json", report({"1.3": new}))
    assert main(["report", now, "--against", old]) == status
    assert ("worse: N05" in capsys.readouterr().out) is (status == 1)
    assert main(["report", now, "--against", old, "--output", "out", "--format", "json"]) == status
    changes = json.loads((tmp_path / "out" / "changes.json").read_text())
    assert changes["got_worse"] is (status == 1)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "no results were given"),
        (["gone.json"], "gone.json"),
        (["a.json", "--scenario", "X1"], "'X1'; it holds: N05"),
        (["a.json", "--format", "html", "--format", "json"], "give --output DIR"),
        (["a.json", "--against", "a.json", "--format", "html"], "written as html"),
        (["new.json"], "upgrade loop-harness"),
    ],
)
def test_what_cannot_be_done_is_named(saved, tmp_path, capsys, words, named):
    saved("a.json", report({"1.2": "ok"}))
    (tmp_path / "new.json").write_text('{"schema": 99}')
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error


def test_schema_is_published(capsys):
    assert main(["report", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["schema"] == {
        "description": "Version of this format.",
        "const": 1,
    }


SCENARIO = """\
from harness.scenario import scenario


@scenario(id="S1", title="t", source="s")
async def test_one():
    pass


@scenario(id="S2", title="t", source="s")
async def test_two():
    pass
"""


def test_export_prints_one_script_and_writes_several(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_it.py").write_text(SCENARIO)
    assert main(["export", "test_it.py::test_one"]) == 0
    assert "async def test_one():\n    pass\n" in capsys.readouterr().out
    assert main(["export", "test_it.py"]) == 2
    assert "give --output FOLDER" in capsys.readouterr().err
    assert main(["export", "test_it.py", "--output", "out"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"S1.py", "S2.py"}
    assert main(["export", "test_it.py::test_two", "-o", "two.py"]) == 0
    assert (tmp_path / "two.py").read_text() == (tmp_path / "out" / "S2.py").read_text()
