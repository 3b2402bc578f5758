"""``harness bisect`` as a person and a script use it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.cli import main
from harness.matrix.interpreters import this_interpreter

BAD = "raise AssertionError('it is bad')"


@pytest.fixture
def words(demo: Any) -> list[str]:
    demo.history(v1_0="pass", v1_1=BAD, v1_2=f"2; {BAD}", v1_3="return 3")
    version = this_interpreter().version
    return ["bisect", str(demo.scenario("demo>=1.1,<1.3")), "--python", version]


def test_first_bad_and_first_good_are_told(words: list[str], capsys: Any) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "D1  a demo",
        f"  demo, Python {this_interpreter().version}:",
        "    first bad 1.1 (last good 1.0), last bad 1.2 (first good 1.3)",
        "    sure: all 4 releases ran; both sides of each boundary ran 3 times",
        "  record: agrees (present: demo>=1.1,<1.3)",
    ]


def test_record_that_differs_is_unexpected(demo: Any, words: list[str], capsys: Any) -> None:
    demo.scenario("demo>=1.2,<1.3", id="D1")
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "regression with demo 1.1" in out
    assert "--release demo==1.1" in out


def test_diff_shows_what_changed_at_each_boundary(words: list[str], capsys: Any) -> None:
    assert main([*words, "--diff"]) == 0
    out = capsys.readouterr().out
    assert "demo 1.0 -> 1.1, lines that ran" in out
    assert "+    raise AssertionError('it is bad')" in out
    assert "demo 1.2 -> 1.3, lines that ran" in out


def test_json_holds_the_findings(words: list[str], capsys: Any) -> None:
    assert main([*words, "--json", "--diff"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["scenario"] == "D1"
    assert found["agrees"] is True
    (history,) = found["histories"]
    (one,) = history["ranges"]
    assert (one["good_before"], one["first"], one["last"], one["good_after"]) == (
        "1.0",
        "1.1",
        "1.2",
        "1.3",
    )
    assert [diff["after"] for diff in found["diffs"]] == ["1.1", "1.3"]


def test_scenario_must_be_named(capsys: Any) -> None:
    assert main(["bisect"]) == 2
    assert "name the scenario to bisect" in capsys.readouterr().err


def test_nothing_to_run_is_said(demo: Any, words: list[str], capsys: Any) -> None:
    assert main([*words, "--release", ">9"]) == 2
    assert "D1: no release to run" in capsys.readouterr().err


def test_cells_that_show_the_same_are_named_once_with_what_was_measured(
    demo: Any, words: list[str], capsys: Any
) -> None:
    words[1] = str(demo.scenario(id="D2"))
    assert main(words) == 1
    out = capsys.readouterr().out
    assert out.count("regression with demo 1.1") == 1
    assert "and 1 more cells: bug: AssertionError: it is bad" in out
    assert '  measured: present: "demo>=1.1,<1.3"' in out


def test_release_that_could_not_tell_is_named_with_the_reason(
    demo: Any, words: list[str], capsys: Any
) -> None:
    demo.release("1.4", "import unittest; raise unittest.SkipTest('too new')")
    assert main(words) == 0
    assert "    could not tell: 1.4 (too new)" in capsys.readouterr().out


def test_nothing_is_claimed_where_no_release_could_tell(
    demo: Any, words: list[str], capsys: Any
) -> None:
    words[1] = str(demo.scenario(id="D2", python=">=3.99"))
    main(words)
    out = capsys.readouterr().out
    assert "    no release could tell: the scenario is for Python >=3.99" in out
    assert "sure" not in out
    assert "never bad" not in out


def test_runs_that_differ_make_nothing_sure(
    demo: Any, words: list[str], capsys: Any, tmp_path: Any
) -> None:
    demo.release("1.0", f"open({str(tmp_path / 'mark')!r}, 'x').close()")
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "sure: less than it looks: equal runs differed in 1.0" in out
    assert "measured" not in out
