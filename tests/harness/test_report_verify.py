"""What a report claims has happened twice, the second time in a clean process."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.matrix.interpreters import this_interpreter
from harness.outcome import Observation, Outcome, Verdict
from harness.report.grid import word
from harness.report.model import Report, Result, ScenarioInfo
from harness.report.upstream import issue
from harness.report.verify import Verified, Verifier, _example
from harness.selection import select

from .report_samples import report

MODULE = '''\
import sys

from harness.scenario import scenario


@scenario(id="S1", title="It breaks", source="https://example.org/1", present=("{present}",))
async def test_it() -> None:
    """Symptom: nothing holds.

    Cause: on purpose.
    """
    assert {condition}
'''


def verify(claims: Report, id: str) -> Verified:
    with Verifier() as verifier:
        return verifier.verify(claims, id)


@pytest.fixture
def claimed(tmp_path, monkeypatch):
    """Write a scenario and a report that claims an outcome of it for this interpreter."""
    monkeypatch.chdir(tmp_path)

    def make(condition: str, verdict: Verdict, **changes) -> Report:
        count = len(list(tmp_path.iterdir()))
        file = Path(f"test_{count}.py")
        present = "python_version >= '3.6'"
        file.write_text(MODULE.format(condition=condition, present=present))
        (record,) = select([str(file)])
        here = this_interpreter()
        outcome = Outcome.HEALTHY if verdict is Verdict.NOT_REPRODUCED else Outcome.BUG
        plain = Result(
            "S1",
            here.version,
            f"CPython {here.version} {here.platform}",
            None,
            None,
            verdict,
            Observation(outcome, "before"),
            "replay",
        )
        info = ScenarioInfo.of(record)
        return Report({"Platform": "Linux"}, (info,), (replace(plain, **changes),))

    return make


def test_bug_that_repeats_is_claimed_with_what_its_script_printed(claimed):
    found = verify(claimed("False", Verdict.REPRODUCED), "S1")
    (result,) = found.report.results
    assert result.verdict is Verdict.REPRODUCED
    assert result.observation.message == "AssertionError: assert False"
    assert result.command == "replay"
    assert found.dropped == ()
    assert found.shown is not None
    assert found.shown.status == 1
    assert found.shown.text.endswith("bug: AssertionError: assert False\n")
    assert 'File "S1.py"' in found.shown.text
    assert "    assert False\n" in found.script


def test_the_newest_release_and_python_are_quoted_in_whatever_order_results_came():
    """A merged report has its cells in the order of the shards."""
    rows = {"1.10": "bug bug", "1.9": "bug bug", "1.11": "hang hang", "1.12": "ok ok"}
    found = report(rows, "3.13.0", "3.9.18")
    example = _example(found)
    assert example is not None
    assert (example.release, example.python) == ("1.10", "3.13.0")
    fork = replace(example, library="nest-asyncio2", release="2.0")
    assert _example(replace(found, results=(*found.results, fork))) == example


def test_bug_that_does_not_repeat_is_not_claimed(claimed):
    found = verify(claimed("True", Verdict.REPRODUCED), "S1")
    (result,) = found.report.results
    assert (result.verdict, word(result)) == (Verdict.INCONCLUSIVE, "inconclusive")
    assert result.observation.message == "did not repeat: healthy when it was run again"
    assert len(found.dropped) == 1
    assert found.shown is None
    with pytest.raises(HarnessError, match=r"no bug to report: .*was bug, then healthy"):
        issue(found)


def test_health_that_does_not_repeat_is_not_claimed_either(claimed):
    found = verify(claimed("False", Verdict.NOT_REPRODUCED), "S1")
    assert found.report.results[0].verdict is Verdict.INCONCLUSIVE


def test_cell_that_cannot_run_here_is_not_claimed(claimed):
    claims = claimed("False", Verdict.REPRODUCED, python="3.6.99", build="CPython 3.6.99 z80")
    found = verify(claims, "S1")
    assert found.dropped == ("Python 3.6.99: CPython 3.6.99 z80 is not on this machine",)
    assert found.report.results[0].verdict is Verdict.INCONCLUSIVE


def test_bug_that_needs_the_fork_is_not_handed_out(claimed):
    """The matrix starts its interpreters without site; a reader of the report does not."""
    claims = claimed("not sys.flags.no_site", Verdict.REPRODUCED)
    with pytest.raises(HarnessError, match="not when its script is run by hand"):
        verify(claims, "S1")


def test_script_that_leaves_a_child_behind_is_told_by_its_own_end(claimed):
    """The child holds what the script prints to; it is not waited for."""
    forks = "(__import__('os').fork() or __import__('time').sleep(600)) is None"
    claims = claimed(forks, Verdict.REPRODUCED)
    found = verify(claims, "S1")
    assert found.shown is not None
    assert found.shown.status == 1
    assert "bug: AssertionError" in found.shown.text


def test_scenario_that_was_changed_since_is_refused(claimed):
    claims = claimed("False", Verdict.REPRODUCED)
    changed = replace(claims.scenarios[0], body="async def test_it(): ...")
    with pytest.raises(HarnessError, match=r"'S1' was changed since.*harness matrix S1"):
        verify(replace(claims, scenarios=(changed,)), "S1")


def test_scenario_that_is_gone_is_refused(claimed):
    claims = claimed("False", Verdict.REPRODUCED)
    gone = replace(claims.scenarios[0], nodeid="gone.py::test_it")
    with pytest.raises(HarnessError, match="S1"):
        verify(replace(claims, scenarios=(gone,)), "S1")


def test_interpreter_of_the_test_is_known_to_the_matrix():
    assert this_interpreter().version.startswith("{}.{}".format(*sys.version_info))
