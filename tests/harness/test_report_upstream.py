"""The issue that an upstream maintainer is asked to read."""

import re
from dataclasses import replace

import pytest

from harness.errors import HarnessError
from harness.outcome import Observation, Outcome
from harness.report.grid import Grid
from harness.report.markdown import GITHUB_LIMIT
from harness.report.model import Report
from harness.report.upstream import history, issue, labelled, summary
from harness.report.verify import Shown, Verified

from .report_samples import info, report

SCRIPT = '"""S."""\n\n\nasync def test_it():\n    assert 1\n'
ROWS = {"1.2": "ok ok", "1.3": "bug bug", "1.4": "ok ok"}


def verified(found: Report, text: str = "Traceback\nbug: lost\n", **changes) -> Verified:
    shown = changes.get("shown") or Shown(found.results[3], "python N05.py", text, 1)
    plain = {"report": found, "info": found.scenarios[0], "script": SCRIPT, "shown": shown}
    return Verified(**{**plain, **changes})


def sample(**changes) -> Report:
    return report(ROWS, "3.8.18", "3.12.1", **changes)


def test_issue_has_every_part_in_order():
    text = issue(verified(sample()))
    headings = re.findall(r"^(?:# The|## ).*", text, re.MULTILINE)
    assert headings == [
        "# The current loop is changed",
        "## Script (`N05.py`)",
        "## Seen",
        "## Expected",
        "## Where",
        "## Cause",
        "## Fix",
        "## Environment",
        "## How to run",
    ]
    assert f"```python\n{SCRIPT}```" in text
    assert "```text\nTraceback\nbug: lost\n```" in text
    assert "as it does with nest-asyncio 1.4, Python 3.12.1" in text
    assert "| nest-asyncio 1.3 | **bug** | **bug** |" in text
    assert "- Interpreters: `CPython 3.8.18, 3.12.1 x86_64-linux-gnu`" in text
    assert "pip install nest-asyncio==1.3" in text


def test_issue_begins_with_two_sentences():
    found = sample()
    text = summary(found.scenarios[0], Grid.of(found, "N05"))
    assert text == (
        "get_event_loop() lies. It happens with nest-asyncio 1.3 on Python 3.8.18 and 3.12.1; "
        "nest-asyncio 1.4, the newest tried, is healthy."
    )


def test_scenario_without_docstring_is_told_by_its_title():
    found = sample(doc="")
    assert summary(found.scenarios[0], Grid.of(found, "N05")).startswith(
        "The current loop is changed. It happens"
    )


def test_interpreters_that_differ_only_in_what_is_unclear_are_told_together():
    found = report(
        {"1.2": "ok ok", "1.3": "bug bug", "1.4": "n/a bug", "1.5": "bug bug"}, "3.8", "3.9"
    )
    assert summary(found.scenarios[0], Grid.of(found, "N05")).endswith(
        "It happens with nest-asyncio 1.3 to 1.5 on Python 3.8 and 3.9; "
        "nest-asyncio 1.5, the newest tried, still shows it."
    )


def test_history_tells_first_bad_last_bad_and_first_good():
    assert history(Grid.of(sample(), "N05")) == (
        "- nest-asyncio on Python 3.8.18 and 3.12.1: "
        "first bad 1.3 (good 1.2), last bad 1.3, first good 1.4."
    )
    found = report({"1.2": "n/a ok bug", "1.3": "n/a ok ok"}, "3.6.15", "3.8.18", "3.12.1")
    assert history(Grid.of(found, "N05")).splitlines()[:2] == [
        "- nest-asyncio on Python 3.8.18: not seen.",
        "- nest-asyncio on Python 3.6.15: it could not be tried.",
    ]
    alone = report({None: "bug ok"}, "3.8.18", "3.12.1")
    assert history(Grid.of(alone, "N05")) == "- Bad on Python 3.8.18, good on 3.12.1."
    both = report({None: "ok bug", "1.2": "ok ok"}, "3.8.18", "3.12.1")
    assert history(Grid.of(both, "N05")).endswith("- Python alone: bad on 3.12.1, good on 3.8.18.")


def test_history_that_begins_or_ends_bad_says_what_was_tried():
    told = {
        "bug": "bad in 1.0, the only release tried.",
        "bug bug": "bad from 1.0 (the oldest tried) on, still bad in 1.1 (the newest tried).",
        "bug ok": "bad from 1.0 (the oldest tried) on, last bad 1.0, first good 1.1.",
        "n/a bug ok": "bad from 1.1 on, with no good release below it, last bad 1.1, "
        "first good 1.2, no evidence from 1.0.",
        "ok bug": "first bad 1.1 (good 1.0), still bad in 1.1 (the newest tried).",
        "ok bug n/a": "first bad 1.1 (good 1.0), last seen in 1.1, with no good release above it.",
    }
    for words, text in told.items():
        rows = {f"1.{minor}": word for minor, word in enumerate(words.split())}
        line = history(Grid.of(report(rows, "3.8.18"), "N05"))
        assert line == f"- nest-asyncio on Python 3.8.18: {text}"


def test_cells_that_fail_in_another_way_than_is_quoted_are_told():
    found = sample()
    other = Observation(Outcome.BUG, "RuntimeError: Cannot run at 0x1f")
    results = list(found.results)
    results[2] = replace(results[2], observation=other)
    text = issue(verified(replace(found, results=tuple(results))))
    assert (
        "Not every cell fails as above:\n\n"
        "- 1 cell (nest-asyncio 1.3, Python 3.8.18): `bug: RuntimeError: Cannot run at 0x1f`"
        in text
    )
    assert "Not every cell" not in issue(verified(found))


def test_a_sentence_that_begins_with_a_release_keeps_the_name_of_its_project():
    text = issue(verified(sample(doc="Symptom: it hangs.\n\nFix: plumpy 0.21.2, and 0.22.2.")))
    assert "## Fix\n\nplumpy 0.21.2, and" in text


def test_wrapped_lines_are_joined_as_a_tracker_breaks_them():
    text = issue(
        verified(sample(doc="Symptom: it\nhangs.\n\nCause: a lock,\nheld.\n\n- one\n- two"))
    )
    assert "## Cause\n\nA lock, held.\n\n- one\n- two\n" in text


def test_releases_without_evidence_are_told_in_ranges():
    rows = {f"1.{minor}": "n/a" for minor in range(5)} | {"1.5": "bug", "1.6": "n/a", "1.7": "ok"}
    assert history(Grid.of(report(rows, "3.8.18"), "N05")).endswith(
        "first good 1.7, no evidence from 1.0 to 1.4 (5) and 1.6."
    )


def test_what_is_expected_is_shown_by_the_newest_release_of_the_same_library():
    found = report({"1.9": "ok", "1.10": "ok", "1.8": "bug"}, "3.8.18")
    other = replace(found.results[1], library="nest-asyncio2", release="2.0")
    found = replace(found, results=(*found.results, other))
    shown = Shown(found.results[2], "python N05.py", "bug: lost\n", 1)
    text = issue(verified(found, shown=shown))
    assert "as it does with nest-asyncio 1.10, Python 3.8.18" in text


def test_a_script_that_was_killed_is_told_by_its_signal():
    found = sample()
    shown = Shown(found.results[3], "python N05.py", "", -6)
    text = issue(verified(found, shown=shown))
    assert "is killed by SIGABRT and prints nothing.\n\n## Expected" in text


def test_labels_part_a_docstring():
    doc = "Symptom: it hangs (N03).\n\nCause: a lock,\nheld.\nFix: 1.4.0. Workaround: none."
    assert labelled(doc) == {
        "Symptom": "it hangs.",
        "Cause": "a lock,\nheld.",
        "Fix": "1.4.0.",
        "Workaround": "none.",
    }
    assert labelled("It just hangs.") == {"Symptom": "It just hangs."}


def test_claims_that_were_dropped_are_owned_up_to():
    text = issue(verified(sample(), dropped=("Python 3.9: was bug, then healthy",)))
    assert "1 result of an earlier run could not be repeated" in text
    assert "Python 3.9: was bug, then healthy" in text


def test_issue_stays_under_the_limit_of_the_tracker():
    rows = {f"1.{minor}": ("ok bug", "bug ok")[minor % 2] for minor in range(1000)}
    found = report(rows, "3.8.18", "3.12.1")
    text = issue(verified(found, text="x" * 100_000 + "\nbug: the end\n"))
    assert len(text) <= GITHUB_LIMIT
    assert "bug: the end" in text
    assert SCRIPT in text


def test_script_that_is_too_long_is_to_be_attached():
    with pytest.raises(HarnessError, match="attach the file"):
        issue(verified(sample(), script="x = 1\n" * 20_000))


def test_what_a_script_printed_cannot_leave_its_block():
    text = issue(
        verified(sample(title="It | breaks @all #1"), text="```\n# Not a heading\n\x1b[2J")
    )
    assert "````text\n```\n# Not a heading\n\\x1b[2J\n````" in text
    assert text.startswith("# It \\| breaks `@all` #<!-- -->1\n")


def test_python_bug_needs_no_release():
    found = report({None: "bug bug"}, "3.8.18", "3.12.1", library=None)
    one = Verified(
        found, info(library=None), SCRIPT, Shown(found.results[1], "python N05.py", "bug: x\n", 1)
    )
    text = issue(one)
    assert "It happens with Python 3.8.18 and 3.12.1." in text
    assert "pip install" not in text
    assert "git bisect start" not in text
