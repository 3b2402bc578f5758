"""The regression report: what is worse than it was."""

import pytest

from harness.report.compare import Kind, compare, comparison_markdown, comparison_text

from .report_samples import report


def kinds(before: str, after: str) -> list[Kind]:
    old = report({"1.3": before} if before else {})
    new = report({"1.3": after} if after else {})
    return [change.kind for change in compare(old, new).changes]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("ok", "ok", []),
        ("bug", "bug", []),
        ("ok", "bug", [Kind.WORSE]),
        ("ok", "hang", [Kind.WORSE]),
        ("ok", "new", [Kind.WORSE]),
        ("ok", "broken", [Kind.WORSE]),
        ("ok", "differs", [Kind.WORSE]),
        ("n/a", "new", [Kind.WORSE]),
        ("", "new", [Kind.WORSE]),
        ("bug", "new", []),
        ("bug", "gone", [Kind.BETTER]),
        ("bug", "hang", [Kind.CHANGED]),
        ("ok", "n/a", [Kind.CHANGED]),
        ("n/a", "bug", [Kind.CHANGED]),
        ("", "bug", [Kind.NEW]),
        ("", "ok", [Kind.NEW]),
        ("ok", "", [Kind.GONE]),
    ],
)
def test_change_of_a_cell_is_classified(before, after, expected):
    assert kinds(before, after) == expected


def test_worst_comes_first_and_everything_is_counted():
    old = report({"1.1": "ok", "1.2": "ok", "1.3": "bug", "1.4": "ok"})
    new = report({"1.1": "ok", "1.2": "bug", "1.3": "ok", "1.5": "ok"})
    found = compare(old, new)
    assert found.got_worse
    assert found.summary() == "1 worse, 1 better, 1 new, 1 gone, 1 the same"
    assert comparison_text(found).splitlines()[1:3] == [
        "worse: N05 with nest-asyncio 1.2, Python 3.11.7: healthy -> bug: AssertionError: lost",
        "  replay: harness matrix N05 --python 3.11.7",
    ]


def test_long_lists_are_cut_and_say_so():
    old = report({f"1.{minor}": "ok" for minor in range(9)})
    new = report({f"1.{minor}": "bug" for minor in range(9)})
    assert comparison_text(compare(old, new), most=4).endswith("worse: and 5 more cells")


def test_markdown_has_a_table_for_each_kind():
    old, new = report({"1.2": "ok", "1.3": "bug"}), report({"1.2": "bug", "1.3": "ok"})
    text = comparison_markdown(compare(old, new), old, new)
    assert "1 worse, 1 better, 0 the same." in text
    assert text.index("## Worse") < text.index("## Better")
    assert "| N05 | The current loop is changed | nest-asyncio 1.2, Python 3.11.7 |" in text


def test_json_names_each_cell():
    found = compare(report({"1.2": "ok"}), report({"1.2": "bug"})).to_json()
    assert found["got_worse"] is True
    (change,) = found["changes"]
    assert (change["kind"], change["before"], change["after"]) == ("worse", "healthy", "bug")
    assert (change["scenario"], change["release"]) == ("N05", "1.2")
