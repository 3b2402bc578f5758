"""Reports to write about."""

from harness.outcome import Observation, Outcome, Verdict
from harness.report.model import Report, Result, ScenarioInfo

#: What a word of ``rows`` means: outcome, verdict.
WORDS = {
    "ok": (Outcome.HEALTHY, Verdict.HEALTHY),
    "bug": (Outcome.BUG, Verdict.REPRODUCED),
    "hang": (Outcome.HANG, Verdict.REPRODUCED),
    "new": (Outcome.BUG, Verdict.REGRESSION),
    "gone": (Outcome.HEALTHY, Verdict.NOT_REPRODUCED),
    "n/a": (Outcome.NOT_APPLICABLE, Verdict.INCONCLUSIVE),
    "broken": (Outcome.BROKEN, Verdict.INCONCLUSIVE),
    "differs": (Outcome.BUG, Verdict.INCONCLUSIVE),
}


def info(id: str = "N05", **changes) -> ScenarioInfo:
    plain = {
        "id": id,
        "title": "The current loop is changed",
        "family": "nested_loops",
        "source": "https://example.org/issues/28",
        "library": "nest-asyncio",
        "present": ("nest-asyncio>=1.3,<1.4",),
        "nodeid": "scenarios/nested_loops/test_it.py::test_it",
        "doc": "Symptom: get_event_loop() lies. Always.\n\nCause: it is stale.\nFix: 1.4.0.",
        "body": "async def test_it() -> None:\n    assert 1\n",
    }
    return ScenarioInfo(**{**plain, **changes})


def result(word: str, release: str | None, python: str = "3.11.7", id: str = "N05", **changes):
    outcome, verdict = WORDS[word]
    build = changes.pop("build", f"CPython {python} x86_64-linux-gnu")
    library = changes.pop("library", None if release is None else "nest-asyncio")
    message = changes.pop("message", "AssertionError: lost" if outcome.is_bug else "")
    observation = Observation(outcome, message, **changes)
    command = f"harness matrix {id} --python {python}"
    return Result(id, python, build, library, release, verdict, observation, command)


def report(rows: dict[str | None, str], *pythons: str, **changes) -> Report:
    """Make a report of one scenario.

    :param rows: release (None: Python alone) -> a word for each Python
    """
    results = [
        result(word, release, python)
        for release, words in rows.items()
        for word, python in zip(words.split(), pythons or ("3.11.7",), strict=True)
    ]
    created = changes.pop("created", "2026-01-01T00:00:00+00:00")
    return Report({"Platform": "Linux"}, (info(**changes),), tuple(results), created)
