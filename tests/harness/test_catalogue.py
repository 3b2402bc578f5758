"""The table of all scenarios: what it says, and that the one in the tree is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import cli
from harness.catalogue import table
from harness.scenario import Scenario, record_of, scenario

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def made(id: str = "X1", **more: object) -> Scenario:
    """Return a record of this file, whose folder is its family."""

    async def test_it() -> None: ...

    values = {"title": "a title", "source": "https://example.org/1", **more}
    record = record_of(scenario(id=id, **values)(test_it))  # type: ignore[arg-type]
    assert record is not None
    return record


def row(record: Scenario) -> list[str]:
    (line,) = [line for line in table([record]).splitlines() if line.startswith(f"| {record.id} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_in_the_tree_is_what_the_records_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["catalogue", str(SCENARIOS), "--check"]) == 0, capsys.readouterr().err


def test_row_has_the_ends_of_the_interval() -> None:
    assert row(made(present=("demo>=1.2,<1.4",)))[2:6] == ["demo", "1.2", "1.4", ">=3.6"]


def test_intervals_stand_below_each_other() -> None:
    cells = row(made(present=("demo<1.2", "demo>=2,<3; python_version < '3.8'")))
    assert cells[3:6] == ["first release<br>2", "1.2<br>3", ">=3.6<br>< 3.8"]


def test_bug_that_is_never_mended_has_no_good_release() -> None:
    assert row(made(present=("demo>=1.2",)))[3:5] == ["1.2", "-"]


def test_inclusive_end_says_after_which_release() -> None:
    assert row(made(present=("demo>=1.2,<=1.4",)))[3:5] == ["1.2", "after 1.4"]


def test_interval_of_another_project_names_it() -> None:
    cells = row(made(present=("demo<2", "demo2<3"), library="demo"))
    assert cells[3] == "first release<br>demo2 first release"


def test_bug_of_python_has_a_marker_and_no_release() -> None:
    cells = row(made(present=("python_version >= '3.8' and python_version < '3.12'",)))
    assert cells[2:6] == ["Python", "", "", ">= 3.8, < 3.12"]


def test_guard_says_so() -> None:
    assert row(made(library="demo"))[3] == "guard"


def test_guard_stands_below_the_table_with_what_its_docstring_says() -> None:
    @scenario(id="X1", title="t", source="https://example.org/1", library="demo")
    async def test_it() -> None:
        """Symptom: none; this is
        the way that works.

        Cause: it is good.
        """

    record = record_of(test_it)
    assert record is not None
    assert "- X1: none; this is the way that works.\n" in table([record])
    assert "- X1" not in table([made(present=("demo<2",))])


def test_source_is_named_by_its_issue() -> None:
    cells = row(made(source="https://github.com/someone/thing/issues/12"))
    assert cells[6].startswith("[thing #12](")


def test_pipe_in_a_title_does_not_break_the_table() -> None:
    assert r"a \| b" in table([made(title="a | b")])


def test_n5_stands_before_n10() -> None:
    text = table([made("N10"), made("N5")])
    assert text.index("| N5 ") < text.index("| N10 ")


def test_command_writes_the_table(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        "from harness.scenario import scenario\n\n\n"
        "@scenario(id='Q1', title='t', source='https://example.org/1')\n"
        "async def test_one():\n    pass\n"
    )
    assert cli.main(["catalogue", str(tmp_path)]) == 0
    assert "| Q1 |" in (tmp_path / "README.md").read_text()
    assert cli.main(["catalogue", str(tmp_path), "--check"]) == 0


def test_check_of_a_stale_table_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "README.md"
    target.write_text("old")
    assert cli.main(["catalogue", str(SCENARIOS), "--check", "-o", str(target)]) == 1
    assert "run: harness catalogue" in capsys.readouterr().err
    assert target.read_text() == "old"


def test_missing_folder_is_one_clear_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["catalogue", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
