"""A grid is what was asked for: scenarios x interpreters x releases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from packaging.version import Version

from harness.errors import HarnessError
from harness.matrix.cells import Cell, ReleaseChoice, plan, shard
from harness.matrix.interpreters import Interpreter, this_interpreter
from harness.scenario import Scenario, record_of, scenario
from harness.selection import word_for


def make(*present: str, library: str | None = None, python: str = ">=3.6") -> Scenario:
    @scenario(id="T1", title="t", source="s", present=present, library=library, python=python)
    async def test_it() -> None: ...

    found = record_of(test_it)
    assert found is not None
    return found


@pytest.fixture
def demo(wheels: Any) -> None:
    for name, versions in (("demo", ("1.0", "1.1", "2.0rc1", "2.0")), ("demo2", ("3.0",))):
        for version in versions:
            wheels.add(name, version, {"demo.py": ""})


def planned(
    record: Scenario, release: Sequence[str] = (), *, pre: bool = False
) -> list[tuple[str | None, str | None]]:
    cells, problems = plan([record], [this_interpreter()], ReleaseChoice.parse(release), pre=pre)
    assert problems == []
    return [(cell.library, cell.release) for cell in cells]


@pytest.mark.usefixtures("demo")
def test_all_final_releases_of_every_project_that_the_record_names() -> None:
    own = [("demo", "1.0"), ("demo", "1.1"), ("demo", "2.0")]
    assert planned(make(library="demo")) == own
    assert planned(make("demo<2", "demo2>=3", library="demo")) == [*own, ("demo2", "3.0")]


@scenario(id="T2", title="t", source="s", library="demo")
async def takes_either() -> None:
    try:
        import demo  # type: ignore[import-not-found]
    except ImportError:
        import demo2 as demo  # type: ignore[import-not-found]  # noqa: F401


@pytest.mark.usefixtures("demo")
def test_fork_that_is_imported_where_the_library_is_missing_belongs_to_the_grid() -> None:
    record = record_of(takes_either)
    assert record is not None
    own = [("demo", "1.0"), ("demo", "1.1"), ("demo", "2.0")]
    assert planned(record) == [*own, ("demo2", "3.0")]


def test_bug_of_python_itself_has_interpreters_only(harness_cache: object) -> None:
    assert planned(make("python_version < '3.8'")) == [(None, None)]


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["1.1"], ["1.1"]),
        (["<2"], ["1.0", "1.1"]),
        (["demo==1.0", "demo>=2"], ["1.0", "2.0"]),
        (["newest"], ["2.0"]),
        (["1.0", "newest"], ["1.0", "2.0"]),
        (["none"], [None]),
        (["none", "1.0"], [None, "1.0"]),
        (["all", "none"], [None, "1.0", "1.1", "2.0"]),
        (["2.0rc1"], ["2.0rc1"]),
        ([">=2.0rc1"], ["2.0rc1", "2.0"]),
    ],
    ids=str,
)
def test_releases_asked_for(words: list[str], expected: list[str | None]) -> None:
    assert [release for _, release in planned(make(library="demo"), words)] == expected


@pytest.mark.usefixtures("demo")
def test_pre_releases_when_asked_for() -> None:
    assert ("demo", "2.0rc1") in planned(make(library="demo"), pre=True)


@pytest.mark.usefixtures("demo")
def test_named_project_that_nothing_is_about_is_refused() -> None:
    with pytest.raises(HarnessError, match="names demo2, and none of these scenarios is about it"):
        planned(make(library="demo"), ["demo2==3.0"])


def test_release_that_means_nothing_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"--release 'latest!' means nothing; write for example"):
        ReleaseChoice.parse(["latest!"])


def test_project_that_does_not_exist_is_a_problem_and_the_rest_goes_on(wheels: Any) -> None:
    wheels.add("demo", "1.0", {"demo.py": ""})
    records = [make(library="nowhere"), make(library="demo")]
    cells, problems = plan(records, [this_interpreter()], ReleaseChoice())
    assert [cell.library for cell in cells] == ["demo"]
    assert len(problems) == 1
    assert "nowhere" in problems[0]


def other_python(minor: str) -> Interpreter:
    here = this_interpreter()
    environment = {**here.environment, "python_version": minor}
    return Interpreter(
        here.path, f"{minor}.1", here.build, here.prefix, here.platform, here.tag, environment
    )


def test_marker_is_held_against_the_interpreter_of_the_cell(harness_cache: object) -> None:
    """Not against the one that runs the harness."""
    record = make("demo<2; python_version < '3.7'")
    old, new = other_python("3.6"), other_python("3.14")
    assert Cell(record, old, "demo", "1.0").is_present
    assert not Cell(record, new, "demo", "1.0").is_present
    assert not Cell(record, old, "demo", "2.0").is_present
    assert not Cell(record, old, None, None).is_present


def test_record_says_which_interpreters_can_run_it(harness_cache: object) -> None:
    record = make(library="demo", python=">=3.8")
    assert not Cell(record, other_python("3.7"), "demo", "1.0").is_claimed
    assert Cell(record, other_python("3.8"), "demo", "1.0").is_claimed


def test_replay_command_names_the_cell(harness_cache: object) -> None:
    record = make(library="demo")
    here = this_interpreter()
    start = f"harness matrix {word_for(record)} --python {here.version}"
    assert Cell(record, here, "demo", "1.0").command == f"{start} --release demo==1.0"
    assert Cell(record, here, None, None).command == f"{start} --release none"
    assert Cell(make("python_version<'4'"), here, None, None).command == start


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_together_are_the_grid(count: int) -> None:
    cells, _ = plan([make(library="demo")], [this_interpreter()] * 2, ReleaseChoice())
    parts = [shard(cells, f"{index}/{count}") for index in range(1, count + 1)]
    assert sorted(id(cell) for part in parts for cell in part) == sorted(map(id, cells))


@pytest.mark.parametrize("part", ["", "0/2", "3/2", "1", "a/b", "-1/2"])
def test_shard_that_is_no_part_is_refused(part: str) -> None:
    with pytest.raises(HarnessError, match="is no part; write for example 2/8"):
        shard([], part)


def test_releases_are_in_the_order_of_their_versions(wheels: Any) -> None:
    for version in ("1.10", "1.9", "1.2"):
        wheels.add("demo", version, {"demo.py": ""})
    found = [release for _, release in planned(make(library="demo"))]
    assert found == sorted(found, key=lambda one: Version(one or "0"))
