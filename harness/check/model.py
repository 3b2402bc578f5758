"""What a check found. Plain data and its text."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1


class Kind(str, enum.Enum):
    """The ways in which a test can pass, or stay green, without having run."""

    ASYNC_IN_TESTCASE = "async-in-testcase"
    COROUTINE_NOT_AWAITED = "coroutine-not-awaited"
    GENERATOR_TEST = "generator-test"
    UNHANDLED_ASYNC = "unhandled-async"
    ASYNC_FIXTURE_NOT_AWAITED = "async-fixture-not-awaited"
    NEVER_ENTERED = "never-entered"
    SWALLOWED_ASSERTION = "swallowed-assertion"
    ASSERTS_NOTHING = "asserts-nothing"

    @property
    def fix(self) -> str:
        """What to do about it, in one line."""
        return _FIXES[self]

    def __str__(self) -> str:
        return self.value


_FIXES = {
    Kind.ASYNC_IN_TESTCASE: "derive the class from unittest.IsolatedAsyncioTestCase, "
    "or from nothing and mark the test with @pytest.mark.asyncio",
    Kind.COROUTINE_NOT_AWAITED: "await it: make the test `async def` with @pytest.mark.asyncio, "
    "or run the coroutine with asyncio.run()",
    Kind.GENERATOR_TEST: "take the `yield` out of the test; set-up and tear-down with a yield "
    "belong in a fixture",
    Kind.UNHANDLED_ASYNC: "mark it with @pytest.mark.asyncio (pytest-asyncio, or asyncio_mode = "
    "auto) or @pytest.mark.anyio, and have that plugin installed",
    Kind.ASYNC_FIXTURE_NOT_AWAITED: "declare it with @pytest_asyncio.fixture and use it from an "
    "async test; under unittest, name it asyncSetUp in an IsolatedAsyncioTestCase",
    Kind.NEVER_ENTERED: "have the decorator call the test it wraps, or skip with a reason",
    Kind.SWALLOWED_ASSERTION: "take the assertion out of the try block, or catch only what the "
    "code under test raises",
    Kind.ASSERTS_NOTHING: "call the code under test and assert on what it gives",
}


@dataclass(frozen=True)
class Finding:
    """One test that proves nothing.

    :param test: pytest's id of the test, relative to the project's root
    :param file: absolute path of the file with the defect
    :param line: line of the test or fixture, or of the statement at fault
    :param seen: what the run showed
    """

    test: str
    file: str
    line: int
    kind: Kind
    seen: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data; ``fix`` is added for readers that show it."""
        return {**asdict(self), "kind": self.kind.value, "fix": self.kind.fix}


@dataclass
class Run:
    """One pytest run over one project.

    :param root: directory that pytest was started in
    :param environment: ``python``, ``pytest``, and ``plugins`` with their versions
    :param results: the outcome of each test: passed, failed, error, skipped, xfailed, xpassed
    :param ran: how many tests pytest has got through
    :param collected: how many tests pytest found; None if it did not get that far
    :param problems: what could not be collected or run, each as place and reason
    :param current: the test that is running now
    """

    root: Path
    environment: dict[str, Any] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    ran: int = 0
    collected: int | None = None
    findings: list[Finding] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    current: str = ""
    interrupted: bool = False

    def take(self, event: Mapping[str, Any]) -> None:
        """Account for one event of the probe."""
        name = event.get("event")
        if name == "started":
            self.environment = {key: event[key] for key in ("python", "pytest", "plugins")}
        elif name == "collected":
            self.collected = event["count"]
        elif name == "collect-error":
            self.problems.append((event["nodeid"] or ".", event["message"]))
        elif name == "begin":
            self.current = event["nodeid"]
        elif name == "end":
            self.current = ""
            self.ran += 1
        elif name == "outcome":
            if event["nodeid"] not in self.results or event["outcome"] in ("failed", "error"):
                self.results[event["nodeid"]] = event["outcome"]
        elif name == "finding":
            kind = Kind(event["kind"])
            place = (event["nodeid"], event["file"], event["line"])
            self.findings.append(Finding(*place, kind, event["seen"]))

    @property
    def outcomes(self) -> Counter[str]:
        """How many tests passed, failed, and so on."""
        return Counter(self.results.values())

    @property
    def versions(self) -> str:
        """The interpreter and the plugins that decide how an async test is run."""
        plugins: Mapping[str, str] = self.environment.get("plugins", {})
        parts = [
            f"Python {self.environment.get('python')}",
            f"pytest {self.environment.get('pytest')}",
        ]
        runners = [name for name in plugins if _is_runner(name)]
        return ", ".join([*parts, *(f"{name} {plugins[name]}" for name in sorted(runners))])


def _is_runner(name: str) -> bool:
    return any(
        word in name.lower() for word in ("async", "anyio", "trio", "tornado", "twisted", "aio")
    )


def to_json(runs: Sequence[Run]) -> dict[str, Any]:
    """The machine-readable result of a check."""
    return {
        "schema": SCHEMA,
        "findings": [finding.to_json() for run in runs for finding in run.findings],
        "problems": [
            {"where": where, "reason": reason} for run in runs for where, reason in run.problems
        ],
        "runs": [
            {
                "root": str(run.root),
                **run.environment,
                "collected": run.collected,
                "outcomes": dict(run.outcomes),
            }
            for run in runs
        ],
    }


def to_text(run: Run, base: Path) -> str:
    """What a person reads.

    :param base: paths below this directory are written relative to it
    """
    lines: list[str] = []
    for finding in run.findings:
        lines += [
            f"{_short(finding.file, base)}:{finding.line}: {finding.kind}: {finding.test}",
            f"    seen: {finding.seen}",
            f"    fix:  {finding.kind.fix}",
            "",
        ]
    for where, reason in run.problems:
        lines += [f"not checked: {where}", *(f"    {line}" for line in _tail(reason)), ""]
    kinds = Counter(str(finding.kind) for finding in run.findings)
    vacuous = len({finding.test for finding in run.findings})
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(run.outcomes.items()))
    summary = f"{vacuous} vacuous of {_tests(run.ran)}"
    if kinds:
        summary += (
            " (" + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) + ")"
        )
    lines.append(summary)
    lines.append(f"{outcomes or 'nothing ran'}; {run.versions}")
    return "\n".join(lines)


def _tests(count: int) -> str:
    return "1 test" if count == 1 else f"{count} tests"


def _short(path: str, base: Path) -> str:
    try:
        return str(Path(path).relative_to(base))
    except ValueError:
        return path


def _tail(reason: str, limit: int = 6) -> list[str]:
    lines = [line for line in reason.strip().splitlines() if line.strip()]
    return lines[-limit:]
