"""Every interval of bad releases is found, its ends are certain, and what is not known is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.matrix import bisect as module
from harness.matrix.bisect import Bisection, bisect
from harness.matrix.cells import ReleaseChoice, plan
from harness.matrix.engine import Engine, Grid
from harness.matrix.interpreters import discover, this_interpreter
from harness.selection import select

BAD = "raise AssertionError('it is bad')"
SKIP = "import unittest; raise unittest.SkipTest('cannot tell')"
BODIES = {".": "pass", "B": BAD, "-": SKIP}


def publish(demo: Any, history: str) -> None:
    """Publish release 0.0, 0.1, ... one for each mark; no two have the same bytes."""
    for number, mark in enumerate(history):
        demo.release(f"0.{number}", f"{number}; {BODIES[mark]}")


def find(file: Path, *, budget: float = 60.0, everywhere: bool = False) -> Bisection:
    (record,) = select([str(file)])
    interpreters = discover().interpreters if everywhere else [this_interpreter()]
    cells, _ = plan([record], interpreters, ReleaseChoice())
    with Engine(jobs=2) as engine:
        return bisect(engine, record, cells, budget=budget)


def ranges(found: Bisection) -> list[tuple[str | None, str, str, str | None]]:
    (history,) = found.histories
    return [(one.good_before, one.first, one.last, one.good_after) for one in history.ranges]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ("....", []),
        ("BBBB", [(None, "0.0", "0.3", None)]),
        ("..BB", [("0.1", "0.2", "0.3", None)]),
        ("BB..", [(None, "0.0", "0.1", "0.2")]),
        (".BB.B", [("0.0", "0.1", "0.2", "0.3"), ("0.3", "0.4", "0.4", None)]),
        ("..-B-.", [("0.1", "0.3", "0.3", "0.5")]),
        ("--B--", [(None, "0.2", "0.2", None)]),
    ],
)
def test_every_interval_is_found(
    demo: Any, history: str, expected: list[tuple[str | None, str, str, str | None]]
) -> None:
    """A release that can tell nothing is no boundary, and no neighbour either."""
    publish(demo, history)
    assert ranges(find(demo.scenario())) == expected


def test_hole_among_many_releases_is_found(demo: Any) -> None:
    """A single bad release that no probe hits: cheap cells are all run."""
    publish(demo, ".........B......")
    found = find(demo.scenario())
    assert ranges(found) == [("0.8", "0.9", "0.9", "0.10")]
    assert found.histories[0].certainty.startswith("all 16 releases ran")


def test_boundary_is_found_by_halving_when_time_is_short(demo: Any) -> None:
    """What did not run is said, and the ends are still exact."""
    publish(demo, ".........BBBBBBB")
    found = find(demo.scenario(), budget=0.0)
    assert ranges(found) == [("0.8", "0.9", "0.15", None)]
    (history,) = found.histories
    assert history.tried < 11
    assert history.untried
    assert f"{history.tried} of 16 releases ran; a hole could hide" in history.certainty


def test_both_sides_of_a_boundary_are_confirmed(demo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    confirmed: list[str | None] = []
    run = Engine.run

    def spy(self: Engine, cells: Sequence[Any], *rest: Any, repeat: int = 1) -> Grid:
        if repeat > 1:
            confirmed.extend(cell.release for cell in cells)
        return run(self, cells, *rest, repeat=repeat)

    monkeypatch.setattr(Engine, "run", spy)
    publish(demo, "..BB..")
    find(demo.scenario())
    assert confirmed == ["0.1", "0.2", "0.3", "0.4"]


def test_boundary_that_does_not_repeat_is_not_claimed(demo: Any, tmp_path: Path) -> None:
    """The release whose runs differ is told apart, and counts as unclear."""
    mark = tmp_path / "mark"
    demo.release("0.0")
    demo.release(
        "0.1",
        f"open({str(mark)!r}, 'x').close() if not os.path.exists({str(mark)!r})"
        f" else (_ for _ in ()).throw(AssertionError)",
    )
    demo.release("0.2", BAD)
    found = find(demo.scenario())
    assert ranges(found) == [("0.0", "0.2", "0.2", None)]
    assert [one.release for one in found.unstable] == ["0.1"]
    assert found.histories[0].unclear == ("0.1",)


def test_record_is_compared_with_what_was_seen(demo: Any) -> None:
    publish(demo, ".BB.")
    assert find(demo.scenario("demo>=0.1,<0.3")).differences == ()
    differing = find(demo.scenario("demo>=0.2", id="D2")).differences
    assert [(one.release, one.verdict.value) for one in differing] == [
        ("0.1", "regression"),
        ("0.3", "not-reproduced"),
    ]


def test_interpreters_that_agree_are_told_together(demo: Any) -> None:
    publish(demo, ".B.")
    found = find(demo.scenario(), everywhere=True)
    (history,) = found.histories
    assert history.pythons == tuple(one.version for one in discover().interpreters)


def test_interpreters_that_differ_are_told_apart(demo: Any) -> None:
    oldest, newest = (discover().interpreters[index] for index in (0, -1))
    if oldest == newest:
        pytest.skip("needs two interpreters")
    release = f"assert sys.version_info[:2] != {tuple(map(int, oldest.minor.split('.')))}"
    demo.release("0.0", "0")
    demo.release("0.1", release)
    found = find(demo.scenario(), everywhere=True)
    by_python = {python: one.ranges for one in found.histories for python in one.pythons}
    assert [str(one.first) for one in by_python[oldest.version]] == ["0.1"]
    assert by_python[newest.version] == ()


def test_bug_of_python_itself_is_bisected_over_interpreters(
    harness_cache: Any, tmp_path: Path
) -> None:
    oldest, newest = (discover().interpreters[index] for index in (0, -1))
    if oldest.minor == newest.minor:
        pytest.skip("needs two minor versions of Python")
    file = tmp_path / "test_python.py"
    file.write_text(
        "from harness.scenario import scenario\n\n\n"
        "@scenario(id='P1', title='a demo', source='https://example.org/1',\n"
        f"          present=(\"python_version <= '{oldest.minor}'\",))\n"
        "async def test_python():\n"
        "    import sys\n"
        f"    assert sys.version_info[:2] > {tuple(map(int, oldest.minor.split('.')))}\n"
    )
    found = find(file, everywhere=True)
    (history,) = found.histories
    assert (history.subject, history.pythons) == ("Python", ())
    assert history.ranges[0].first == oldest.version
    assert found.differences == ()


def test_scenario_that_cannot_be_exported_is_an_error(demo: Any) -> None:
    publish(demo, ".")
    file = demo.scenario()
    file.write_text(file.read_text().replace("test_demo()", "test_demo(request)"))
    with pytest.raises(HarnessError, match="request"):
        find(file)


def test_neighbours_are_named_as_a_span() -> None:
    names = ["1", "2", "3", "4", "5"]
    assert module._spans(names, [True, True, False, True, False]) == ("1 to 2", "4")
