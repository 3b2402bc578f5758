"""harness.outcome: what a run showed, held against the catalogue."""

from __future__ import annotations

import pytest

from harness.outcome import Observation, Outcome, Verdict, judge, signal_name


@pytest.mark.parametrize("outcome", [Outcome.BUG, Outcome.HANG, Outcome.CRASH])
def test_a_bug_where_one_is_known_is_reproduced(outcome: Outcome) -> None:
    assert judge(outcome, present=True, can_fail=True) is Verdict.REPRODUCED


@pytest.mark.parametrize("outcome", [Outcome.BUG, Outcome.HANG, Outcome.CRASH])
def test_a_bug_where_none_is_known_is_a_regression(outcome: Outcome) -> None:
    assert judge(outcome, present=False, can_fail=False) is Verdict.REGRESSION


def test_health_where_a_bug_is_known_contradicts_the_catalogue() -> None:
    assert judge(Outcome.HEALTHY, present=True, can_fail=True) is Verdict.NOT_REPRODUCED


def test_health_counts_only_if_the_scenario_could_have_failed() -> None:
    assert judge(Outcome.HEALTHY, present=False, can_fail=True) is Verdict.HEALTHY
    assert judge(Outcome.HEALTHY, present=False, can_fail=False) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("outcome", [Outcome.NOT_APPLICABLE, Outcome.BROKEN])
@pytest.mark.parametrize("present", [True, False])
def test_a_run_that_showed_nothing_is_no_evidence(outcome: Outcome, present: bool) -> None:
    assert judge(outcome, present=present, can_fail=True) is Verdict.INCONCLUSIVE


def test_only_what_contradicts_the_catalogue_fails() -> None:
    failing = {verdict for verdict in Verdict if verdict.is_failure}
    assert failing == {Verdict.REGRESSION, Verdict.NOT_REPRODUCED}


def test_an_observation_survives_json() -> None:
    seen = Observation(Outcome.HANG, "no end", "stacks", "printed", 1.5)
    data = seen.to_json()
    assert data["outcome"] == "hang"
    assert Observation.from_json(data) == seen


def test_an_unknown_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="sideways"):
        Observation.from_json({"outcome": "sideways"})


def test_a_signal_for_real_time_has_a_number_for_a_name() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(40) == "signal 40"
