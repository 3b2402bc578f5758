"""Markdown that GitHub shows as it was meant, whatever a scenario printed."""

import pytest

from harness.report.grid import Grid
from harness.report.markdown import code, fenced, grid, link, prose, run_report, table

from .report_samples import info, report


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "`plain`"),
        ("a `b` c", "``a `b` c``"),
        ("`", "`` ` ``"),
        ("two\nlines\x1b[0m\x00", "`two lines\\x00`"),
        ("", ""),
    ],
)
def test_code_span_holds_any_text(text, expected):
    assert code(text) == expected


def test_nothing_closes_a_fence_from_inside():
    block = fenced("a\n```\n````\nb\n", "text")
    assert block == "`````text\na\n```\n````\nb\n`````"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see @alice", "see `@alice`"),
        ("use `@alice` here", "use `@alice` here"),
        ("issue #46", "issue #<!-- -->46"),
        ("a <b> & [l](u) *x* ~~y~~", "a \\<b\\> & \\[l\\](u) \\*x\\* \\~\\~y\\~\\~"),
        ("get_event_loop() and _private_", "get_event_loop() and \\_private\\_"),
        ("``a_b`` and `x", "``a_b`` and 'x"),
        ("a | b", "a \\| b"),
        ("one\n\n    indented @alice\n", "one\n\n    indented @alice\n"),
    ],
)
def test_prose_pings_nobody_and_links_nothing(text, expected):
    assert prose(text) == expected


def test_cell_of_a_table_stays_in_its_cell():
    assert table(["a"], [[code("x | y\nz")], ["\\|"]]) == (
        "| a |\n| --- |\n| `x \\| y z` |\n| \\| |"
    )


def test_grid_is_a_table_of_releases_and_interpreters():
    found = Grid.of(report({"1.2": "ok ok", "1.3": "bug n/a"}, "3.8.18", "3.12.1"), "N05")
    assert grid(found) == (
        "|  | 3.8.18 | 3.12.1 |\n| --- | --- | --- |\n"
        "| nest-asyncio 1.2 | ok | ok |\n| nest-asyncio 1.3 | **bug** | n/a |"
    )


def test_source_that_is_no_web_address_is_no_link():
    assert link(info()) == "([source](https://example.org/issues/28))"
    assert link(info(source="javascript:alert(1)")) == "javascript:alert(1)"
    assert link(info(source="https://a b) [x](y")) == "https://a b) \\[x\\](y"


def test_run_report_has_environment_verdicts_and_what_was_seen():
    text = run_report(report({"1.3.0": "bug", "1.4.0": "ok", "1.5.0": "new", "1.5.1": "n/a"}))
    assert "- Platform: `Linux`" in text
    assert "| N05 | reproduced | bug | nest-asyncio 1.3.0, Python 3.11.7 |" in text
    assert "| N05 | **regression** | bug | nest-asyncio 1.5.0, Python 3.11.7 |" in text
    places = [text.index(f"\n## {name}\n") for name in ("Unexpected", "Reproduced", "No evidence")]
    assert places == sorted(places)
    reproduced = text[places[1] : places[2]]
    assert "Seen with nest-asyncio 1.3.0, Python 3.11.7:" in reproduced
    assert "bug: AssertionError: lost" in reproduced
    assert "harness matrix N05 --python 3.11.7" in reproduced


def test_cells_that_showed_the_same_are_told_of_once():
    text = run_report(report({"1.3.0": "bug", "1.3.1": "bug"}))
    assert text.count("bug: AssertionError: lost") == 1
    assert "The same with nest-asyncio 1.3.1, Python 3.11.7." in text


def test_whole_matrix_is_shown_as_grids():
    text = run_report(report({f"1.{minor}": "bug" for minor in range(501)}))
    assert "| nest-asyncio 1.0 to 1.500 (501) | **bug** |" in text
    assert "The same with nest-asyncio 1.1, Python 3.11.7; " in text
    assert "; 488 other cells." in text
    assert len(text) < 5_000
