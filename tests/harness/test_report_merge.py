"""Shards and machines give one report."""

import pytest

from harness.errors import HarnessError
from harness.outcome import Verdict
from harness.report.merge import merge

from .report_samples import report


def test_shards_add_up():
    merged = merge([report({"1.2": "ok"}), report({"1.3": "bug"})])
    assert [result.release for result in merged.results] == ["1.2", "1.3"]
    assert [info.id for info in merged.scenarios] == ["N05"]


def test_newest_of_equal_results_is_kept():
    old = report({"1.3": "bug"}, created="2026-01-01T00:00:00+00:00")
    new = report({"1.3": "bug"}, created="2026-02-01T00:00:00+00:00", title="Newer")
    merged = merge([new, old])
    assert merged.created == new.created
    assert merged.scenarios[0].title == "Newer"
    assert len(merged.results) == 1


def test_cell_that_differs_is_inconclusive_with_the_evidence_of_both():
    merged = merge([report({"1.3": "bug"}), report({"1.3": "ok"})])
    (result,) = merged.results
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.observation.message == "the reports differ: bug in one, healthy in another"
    assert "AssertionError: lost" in result.observation.detail


def test_results_of_two_versions_of_a_scenario_are_not_mixed():
    with pytest.raises(HarnessError, match="'N05' is not the same function"):
        merge([report({"1.2": "ok"}), report({"1.3": "ok"}, body="other")])


def test_environments_are_kept_side_by_side():
    from dataclasses import replace

    other = replace(report({"1.3": "bug"}), environment={"Platform": "macOS", "Extra": "1"})
    merged = merge([report({"1.2": "ok"}), other])
    assert merged.environment == {"Platform": "Linux; macOS", "Extra": "1"}
