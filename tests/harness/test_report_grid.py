"""Releases x interpreters, and when the bug came and went."""

import pytest

from harness.report.grid import BadRange, Grid, is_bad, is_good, release_key, row_label, word

from .report_samples import WORDS, report, result


def grid(rows, *pythons) -> Grid:
    return Grid.of(report(rows, *pythons), "N05")


def test_rows_and_columns_are_in_the_order_of_their_versions():
    found = grid({"1.10.0": "ok ok", "1.9.0": "ok ok", None: "ok ok"}, "3.10.1", "3.9.1")
    assert found.pythons == ("3.9.1", "3.10.1")
    assert [release for _, release in found.rows] == ["", "1.9.0", "1.10.0"]


def test_two_builds_of_one_version_are_two_columns():
    from harness.report.model import Report

    one = report({"1.0": "ok"})
    other = result("bug", "1.0", build="CPython 3.11.7 debug")
    both = Report({}, one.scenarios, (*one.results, other))
    assert Grid.of(both, "N05").pythons == (
        "3.11.7 [CPython 3.11.7 debug]",
        "3.11.7 [CPython 3.11.7 x86_64-linux-gnu]",
    )


def test_neighbours_that_read_the_same_are_one_row():
    found = grid({"1.0": "ok ok", "1.1": "ok ok", "1.2": "ok bug"}, "3.8.1", "3.9.1")
    assert [(row_label(rows), words) for rows, words in found.runs()] == [
        ("nest-asyncio 1.0, 1.1", ("healthy", "healthy")),
        ("nest-asyncio 1.2", ("healthy", "bug")),
    ]


def test_history_with_a_hole_has_two_ranges():
    rows = {"1.0": "ok", "1.1": "bug", "1.2": "bug", "1.3": "ok", "1.4": "bug"}
    assert grid(rows).bad_ranges("3.11.7", "nest-asyncio") == [
        BadRange("1.1", "1.2", "1.0", "1.3"),
        BadRange("1.4", "1.4", "1.3", None),
    ]


def test_release_that_cannot_tell_neither_ends_nor_begins_a_range():
    rows = {"1.0": "ok", "1.1": "n/a", "1.2": "bug", "1.3": "n/a", "1.4": "bug", "1.5": "differs"}
    assert grid(rows).bad_ranges("3.11.7", "nest-asyncio") == [
        BadRange("1.2", "1.4", "1.0", None, ("1.1", "1.3"))
    ]


def test_range_says_where_it_is_unclear_at_its_end():
    rows = {"1.0": "bug", "1.1": "broken", "1.2": "ok"}
    (found,) = grid(rows).bad_ranges("3.11.7", "nest-asyncio")
    assert found == BadRange("1.0", "1.0", None, "1.2", ("1.1",))
    assert str(found) == "1.0 (first good one after: 1.2; no evidence from 1.1)"


def test_interpreters_of_one_history_are_told_of_together():
    rows = {"1.0": "ok ok bug", "1.1": "bug bug bug"}
    found = grid(rows, "3.8.1", "3.9.1", "3.10.1").history()
    assert [(columns, [one.first for one in ranges]) for _, columns, ranges in found] == [
        (("3.8.1", "3.9.1"), ["1.1"]),
        (("3.10.1",), ["1.0"]),
    ]


@pytest.mark.parametrize("name", WORDS)
def test_no_cell_is_good_and_bad_at_once(name):
    found = result(name, "1.0")
    assert not (is_bad(found) and is_good(found))
    assert is_bad(found) is (name in ("bug", "hang", "new"))
    assert is_good(found) is (name in ("ok", "gone"))


def test_cell_of_two_minds_is_inconclusive_and_one_that_did_not_run_is_not():
    assert word(result("differs", "1.0")) == "inconclusive"
    assert word(result("n/a", "1.0")) == "not-applicable"


def test_name_that_is_no_release_comes_last():
    assert sorted(["main", "1.10", "1.9rc1", "1.9"], key=release_key) == [
        "1.9rc1",
        "1.9",
        "1.10",
        "main",
    ]
