"""Cells are exported, installed, run once and judged; what is known is not run again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import harness.export
from harness.matrix import releases as of_releases
from harness.matrix import supply
from harness.matrix.cells import ReleaseChoice, plan
from harness.matrix.engine import Engine, Grid, Interrupted
from harness.matrix.installers import IndexFailed
from harness.matrix.interpreters import Interpreter, this_interpreter
from harness.outcome import Outcome, Verdict
from harness.selection import select

BAD = "raise AssertionError('it is bad')"


def run(
    file: Path,
    *,
    releases: Sequence[str] = (),
    interpreters: Sequence[Interpreter] | None = None,
    repeat: int = 1,
    **options: Any,
) -> Grid:
    cells, problems = plan(
        select([str(file)]), interpreters or [this_interpreter()], ReleaseChoice.parse(releases)
    )
    with Engine(jobs=2, say=lambda line: None, **options) as engine:
        grid = engine.run(cells, repeat=repeat)
    grid.problems[:0] = problems
    return grid


def outcomes(grid: Grid) -> dict[str, str]:
    return {str(one.release): one.observation.outcome.value for one in grid.results}


def verdicts(grid: Grid) -> dict[str, str]:
    return {str(one.release): one.verdict.value for one in grid.results}


def test_every_kind_of_outcome_is_told_apart(demo: Any) -> None:
    demo.history(
        v1_0="pass",
        v1_1=BAD,
        v1_2="import threading; one = threading.Lock(); one.acquire(); one.acquire()",
        v1_3="os.abort()",
        v1_4="import unittest; raise unittest.SkipTest('too old')",
    )
    grid = run(demo.scenario("demo>=1.1"))
    assert outcomes(grid) == {
        "1.0": "healthy",
        "1.1": "bug",
        "1.2": "hang",
        "1.3": "crash",
        "1.4": "not-applicable",
    }
    assert verdicts(grid) == {
        "1.0": "healthy",
        "1.1": "reproduced",
        "1.2": "reproduced",
        "1.3": "reproduced",
        "1.4": "inconclusive",
    }
    assert grid.results[1].observation.message.startswith("AssertionError: it is bad")
    assert grid.problems == []


def test_outcome_against_the_record_is_a_failure(demo: Any) -> None:
    demo.history(v1_0=BAD, v1_1="pass")
    grid = run(demo.scenario("demo>=1.1"))
    assert verdicts(grid) == {"1.0": "regression", "1.1": "not-reproduced"}


def test_healthy_cell_counts_once_the_scenario_has_failed_somewhere(demo: Any) -> None:
    """With an empty record a pass proves nothing, until a failure shows that it can fail."""
    demo.history(v1_0="pass", v1_1=BAD)
    file = demo.scenario()
    assert verdicts(run(file, releases=["1.0"])) == {"1.0": "inconclusive"}
    assert verdicts(run(file)) == {"1.0": "healthy", "1.1": "regression"}


def test_known_result_is_not_run_again(demo: Any) -> None:
    demo.history(v1_0="pass", v1_1=BAD)
    file = demo.scenario("demo>=1.1")
    first, second, fresh = run(file), run(file), run(file, fresh=True)
    assert (first.ran, second.ran, fresh.ran) == (2, 0, 2)
    assert [one.observation for one in first.results] == [one.observation for one in second.results]


def test_changed_script_is_run_again(demo: Any) -> None:
    demo.history(v1_0="pass")
    assert run(demo.scenario()).ran == 1
    assert run(demo.scenario(id="D2", body="import demo; assert demo.check")).ran == 1


def test_releases_of_equal_bytes_run_once(demo: Any) -> None:
    demo.history(v1_0=BAD, v1_1=BAD, v1_2="pass")
    grid = run(demo.scenario("demo<1.2"))
    assert grid.ran == 2
    assert outcomes(grid) == {"1.0": "bug", "1.1": "bug", "1.2": "healthy"}


def test_script_that_asks_for_its_release_runs_in_each(demo: Any) -> None:
    """Equal code may still see another version number."""
    body = "from importlib.metadata import version; assert version('demo') != '1.1'"
    demo.history(v1_0="pass", v1_1="pass")
    grid = run(demo.scenario("demo==1.1", python=">=3.8", body=body))
    assert outcomes(grid) == {"1.0": "healthy", "1.1": "bug"}


def test_cell_whose_runs_differ_is_inconclusive(demo: Any, tmp_path: Path) -> None:
    """It is listed with what was seen, and never averaged away."""
    mark = tmp_path / "mark"
    demo.release("1.0", f"open({str(mark)!r}, 'x').close()")
    grid = run(demo.scenario("demo>=1"), repeat=3)
    (result,) = grid.results
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.observation.message == "outcomes differ: 2 bug, 1 healthy in 3 runs"
    assert grid.differing == [result]
    assert run(demo.scenario("demo>=1")).differing != [], "known runs count, too"


def test_hang_that_only_the_clock_tells_is_run_once_more(demo: Any, tmp_path: Path) -> None:
    """A machine that stood still for as long as the limit is no bug of the release."""
    mark = str(tmp_path / "mark")
    polls = "[time.sleep(0.01) for _ in range(10**6)]"
    demo.release("1.0", f"os.path.exists({mark!r}) or (open({mark!r}, 'x').close(), {polls})")
    file = demo.scenario("demo>=1")
    file.write_text(file.read_text().replace("limit=5", "limit=1"))
    grid = run(file)
    (result,) = grid.results
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.observation.message == "outcomes differ: 1 hang, 1 healthy in 2 runs"
    assert grid.ran == 2
    assert run(file).ran == 0, "both are known"


def test_repeat_runs_only_what_is_missing(demo: Any) -> None:
    demo.release("1.0")
    file = demo.scenario()
    assert [run(file, repeat=count).ran for count in (2, 3, 3)] == [2, 1, 0]


def test_scenario_that_cannot_be_exported_is_a_problem_and_the_rest_goes_on(demo: Any) -> None:
    demo.release("1.0")
    file = demo.scenario()
    text = file.read_text()
    second = text.split("\n\n\n")[1].replace("D1", "D2").replace("test_demo()", "test_2(request)")
    file.write_text(text + second)
    grid = run(file)
    assert [one.scenario for one in grid.results] == ["D1"]
    assert len(grid.problems) == 1
    assert "request" in grid.problems[0]


def test_release_that_cannot_be_installed_is_a_problem_and_the_rest_goes_on(demo: Any) -> None:
    demo.release("1.0")
    Path(demo.wheels.path, "demo-1.1-py3-none-any.whl").write_bytes(b"no zip")
    grid = run(demo.scenario())
    assert outcomes(grid) == {"1.0": "healthy", "1.1": "broken"}
    assert any("demo==1.1 cannot be installed" in problem for problem in grid.problems)


def test_index_that_fails_again_and_again_is_not_asked_for_the_rest(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        demo.release(f"1.{number}")
    file = demo.scenario("demo>9")
    run(file, releases=["1.0"])
    asked: list[str] = []

    def fail(requirement: str, *_: Any) -> None:
        asked.append(requirement)
        raise IndexFailed(f"{requirement} cannot be had")

    monkeypatch.setattr(of_releases, "install", fail)
    monkeypatch.setattr(supply, "_INSTALLERS", 1)
    grid = run(file)
    assert asked == ["demo==1.1"]
    assert outcomes(grid)["1.0"] == "healthy"
    first, rest = grid.problems
    assert "demo==1.1 cannot be had" in first
    assert "and 6 more cells: not tried, because it was so before: demo==1.1" in rest


def test_release_for_other_pythons_is_not_applicable(demo: Any) -> None:
    demo.release("1.0", requires_python=">=3.99")
    grid = run(demo.scenario("demo>=1"))
    (result,) = grid.results
    assert result.observation.outcome is Outcome.NOT_APPLICABLE
    assert grid.problems == []


def test_python_that_the_record_does_not_claim_is_not_applicable(demo: Any) -> None:
    demo.release("1.0")
    grid = run(demo.scenario(python=">=3.99"))
    assert outcomes(grid) == {"1.0": "not-applicable"}
    assert ">=3.99" in grid.results[0].observation.message
    assert grid.ran == 0


def test_one_problem_of_many_cells_is_told_once(demo: Any) -> None:
    for version in ("1.0", "1.1", "1.2"):
        demo.release(version, f"return {version}")
    here = this_interpreter()
    broken = Interpreter(
        "/bin/false", "3.9.9", "3.9.9 (broken)", "/nowhere", "x", here.tag, here.environment
    )
    file = demo.scenario("demo>1")
    run(file)
    grid = run(file, interpreters=[broken])
    (problem,) = grid.problems
    assert "and 2 more cells: Python 3.9.9 does not start" in problem


def test_result_that_depends_on_a_broker_is_not_kept(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a broker there is nothing that it could depend on."""
    demo.release("1.0")
    file = demo.scenario(body="import os; assert 'AMQP_URL' in os.environ")
    assert [run(file).ran, run(file).ran] == [1, 0]
    monkeypatch.setenv("AMQP_URL", "amqp://nowhere")
    assert [run(file).ran, run(file).ran] == [1, 1]


def test_scenario_for_a_broker_is_not_run_without_one(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its library is not even installed."""
    file = demo.scenario("demo>=1")
    file.write_text(file.read_text().replace("test_demo()", "test_demo(amqp_url)"))
    monkeypatch.delenv("AMQP_URL", raising=False)
    grid = run(file, releases=["1.0"])
    assert grid.ran == 0
    assert grid.problems == []
    assert outcomes(grid) == {"1.0": "not-applicable"}
    assert "needs AMQP_URL" in grid.results[0].observation.message


def test_release_that_is_there_runs_while_another_is_installed(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.history(v1_0="pass", v1_1=BAD)
    cells, _ = plan(
        select([str(demo.scenario("demo>=1.1"))]), [this_interpreter()], ReleaseChoice()
    )
    first_has_run = threading.Event()
    obtain = supply.obtain

    def obtain_late(library: str, release: str, *rest: Any, **options: Any) -> Any:
        if release == "1.1" and not first_has_run.wait(60):
            raise IndexFailed("the first is still waited for")
        return obtain(library, release, *rest, **options)

    def note(done: int, total: int) -> None:
        if done:
            first_has_run.set()

    monkeypatch.setattr(supply, "obtain", obtain_late)
    with Engine(jobs=2) as engine:
        assert outcomes(engine.run(cells, note)) == {"1.0": "healthy", "1.1": "bug"}


def test_release_with_most_cells_is_installed_first(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "1.1"):
        demo.release(version)
    both, second = demo.scenario("demo<1"), demo.scenario("demo<1", id="D2")
    here = [this_interpreter()]
    cells = plan(select([str(both)]), here, ReleaseChoice())[0]
    cells += plan(select([str(second)]), here, ReleaseChoice.parse(["1.1"]))[0]
    wanted: list[str] = []

    class Noted(supply.Supply):
        def __init__(self, places: Any, **options: Any) -> None:
            wanted.extend(release for _, release, _ in places)
            super().__init__(places, **options)

    monkeypatch.setattr("harness.matrix.engine.Supply", Noted)
    with Engine(jobs=2) as one:
        one.run(cells)
    assert wanted == ["1.1", "1.0"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_interrupt_keeps_what_is_done(demo: Any, jobs: int) -> None:
    """The next run goes on where this one stopped."""
    for version in ("1.0", "1.1", "1.2"):
        demo.release(version, f"return {version}")
    file = demo.scenario("demo>5")
    cells, _ = plan(select([str(file)]), [this_interpreter()], ReleaseChoice())
    calls: list[int] = []

    def interrupt(done: int, total: int) -> None:
        calls.append(done)
        if done:
            raise KeyboardInterrupt

    with Engine(jobs=jobs) as engine, pytest.raises(Interrupted) as stop:
        engine.run(cells, interrupt)
    assert set(calls[:-1]) == {0}
    assert calls[-1] == 1
    assert len(stop.value.grid.results) == 1
    assert run(file).ran == 2


def test_cell_has_the_extras_that_its_script_needs(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another scenario about the same release is run in the release alone."""
    monkeypatch.setitem(harness.export._EXTRAS, "demo", ("demo", "more"))
    demo.release("1.0", requires=["helper; extra == 'more'"])
    demo.release("1.1", "raise ImportError('no helper')")  # it has no such extra
    demo.wheels.add("helper", "1.0", {"helper.py": ""})
    bodies = {
        "D1": "import demo, helper; demo.check()",
        "D2": "import importlib; importlib.import_module('helper')",
    }
    told = {
        id: outcomes(run(demo.scenario("demo", id=id, body=body))) for id, body in bodies.items()
    }
    assert told == {
        "D1": {"1.0": "healthy", "1.1": "not-applicable"},
        "D2": {"1.0": "not-applicable", "1.1": "not-applicable"},
    }
