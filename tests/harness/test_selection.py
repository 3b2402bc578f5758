"""Scenarios are named by id, file, directory or function."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.selection import select, word_for


def write(directory: Path, name: str, *ids: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    body = "".join(
        f"\n\n@scenario(id={id!r}, title='t', source='s')\nasync def test_{id}(): ...\n"
        for id in ids
    )
    file = directory / name
    file.write_text(f"from harness.scenario import scenario\n{body}")
    return file


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "scenarios"
    write(found / "one", "test_a.py", "A1", "A2")
    write(found / "two", "test_a.py", "B1")
    monkeypatch.chdir(tmp_path)
    # The project's own library may have been imported by another test of this process.
    for name in [name for name in sys.modules if name.partition(".")[0] == "scenarios"]:
        monkeypatch.delitem(sys.modules, name)
    return found


def ids(*words: str) -> list[str]:
    return [record.id for record in select(words)]


def test_nothing_means_the_whole_library(library: Path) -> None:
    assert ids() == ["A1", "A2", "B1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["B1", "A2"], ["B1", "A2"]),
        (["scenarios/one"], ["A1", "A2"]),
        (["scenarios/one/test_a.py::test_A2"], ["A2"]),
        (["scenarios/two/test_a.py", "A1", "B1"], ["B1", "A1"]),
    ],
)
def test_words_name_scenarios(library: Path, words: list[str], expected: list[str]) -> None:
    assert ids(*words) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("A9", r"no scenario 'A9' in scenarios; known are A1, A2"),
        (
            "mine",
            r"no scenario 'mine' in scenarios; pytest --harness-list lists all 3; .* by its file",
        ),
        ("scenarios/three", r"scenarios/three does not exist"),
        ("scenarios/one/test_a.py::test_x", r"holds no scenario"),
    ],
)
def test_word_that_means_nothing_is_refused(library: Path, word: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        select([word])


def test_scenario_of_the_library_is_meant_by_its_id_and_any_other_by_its_place(
    library: Path, tmp_path: Path
) -> None:
    mine = write(tmp_path / "mine", "test_m.py", "M1")
    assert [word_for(record) for record in select(["A1"])] == ["A1"]
    for record in select([str(mine)]):
        assert word_for(record) == "mine/test_m.py::test_M1"
        assert select([word_for(record)]) == [record]


def test_two_scenarios_of_one_id_are_refused(library: Path) -> None:
    write(library / "two", "test_b.py", "A1")
    with pytest.raises(HarnessError, match="two scenarios have the id 'A1'"):
        select()


def test_file_that_cannot_be_imported_is_an_error_or_a_problem(library: Path) -> None:
    (library / "test_bad.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(HarnessError, match=r"test_bad\.py cannot be imported"):
        select()
    problems: list[str] = []
    assert len(select([], problems)) == 3
    assert len(problems) == 1


def test_file_that_cannot_be_imported_is_in_the_way_of_no_other_id(library: Path) -> None:
    (library / "test_bad.py").write_text("import nothing_of_that_name\n")
    assert ids("B1") == ["B1"]
    with pytest.raises(HarnessError, match=r"no scenario 'C1'.*test_bad\.py cannot be imported"):
        select(["C1"])


def test_async_test_without_a_record_is_answered_with_what_is_missing(library: Path) -> None:
    (library / "test_bare.py").write_text("async def test_it(): pass\n")
    with pytest.raises(HarnessError, match=r"holds no scenario; .*@scenario\(id="):
        select([str(library / "test_bare.py")])


def test_scenario_that_a_file_only_imports_is_not_its_own(library: Path) -> None:
    for directory in (library, library / "one"):
        (directory / "__init__.py").write_text("")
    (library / "one" / "test_more.py").write_text("from scenarios.one.test_a import test_A1\n")
    with pytest.raises(HarnessError, match="holds no scenario"):
        select(["scenarios/one/test_more.py"])
