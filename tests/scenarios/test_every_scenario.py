"""What every scenario of the library must be: teachable, portable, and able to fail."""

from __future__ import annotations

import ast
import inspect
import statistics
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness import isolation
from harness.export import export
from harness.matrix.cells import Cell, ReleaseChoice, plan
from harness.matrix.engine import Engine
from harness.matrix.interpreters import discover
from harness.outcome import Outcome
from harness.report.model import Result
from harness.scenario import Scenario
from harness.scenario_items import installed_release, run_in_release
from harness.selection import select

LIBRARY = Path(__file__).parents[2] / "scenarios"
RECORDS = select([str(LIBRARY)])
#: These need RabbitMQ, so that the matrix cannot run them by itself.
ON_RABBITMQ = [r for r in RECORDS if "amqp_url" in inspect.signature(r.function).parameters]
ALONE = [r for r in RECORDS if r not in ON_RABBITMQ]

every_record = pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.id)


def lines_of(record: Scenario) -> int:
    """Count the lines of a body without its docstring and empty lines."""
    source = textwrap.dedent(inspect.getsource(record.function))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.AsyncFunctionDef)
    first = function.body[1].lineno if ast.get_docstring(function) else function.body[0].lineno
    return sum(1 for line in source.splitlines()[first - 1 :] if line.strip())


@every_record
def test_docstring_tells_symptom_cause_and_what_helps(record: Scenario) -> None:
    text = inspect.getdoc(record.function) or ""
    assert text.startswith("Symptom: ")
    assert "\nCause: " in text
    if record.present:
        assert "\nFix: " in text or "Workaround: " in text


@every_record
def test_record_leads_to_a_source(record: Scenario) -> None:
    assert record.source.startswith("https://")
    assert len(record.title) <= 100


@every_record
def test_shown_releases_are_told_apart_by_the_record(record: Scenario) -> None:
    """A release in which the scenario is shown is there for its bug, or for its end."""
    if record.shown_in and record.library is not None and record.present:
        assert any(
            record.is_present({record.library: release}) for release in record.shown_in
        ) or any(interval.marker is not None for interval in record.present)


@every_record
def test_scenario_can_be_exported(record: Scenario) -> None:
    compile(export(record), record.id, "exec")


def test_ids_and_names_are_unique() -> None:
    assert [n for n, c in Counter(r.id for r in RECORDS).items() if c > 1] == []
    assert [n for n, c in Counter(r.function.__name__ for r in RECORDS).items() if c > 1] == []


def test_bodies_are_small() -> None:
    assert statistics.median(lines_of(record) for record in RECORDS) <= 15


def test_every_family_says_what_it_is_about() -> None:
    for folder in {Path(inspect.getfile(record.function)).parent for record in RECORDS}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


def test_library_is_as_large_as_it_says() -> None:
    assert len(RECORDS) >= 80
    assert sum(1 for r in RECORDS if (r.library or "").startswith("nest-asyncio")) >= 45


# Not vacuous: each has a place where it fails


@every_record
def test_record_names_a_place_where_it_fails(record: Scenario) -> None:
    assert record.can_fail


PLANTED = [record for record in RECORDS if record.planted is not None]


def runs_here(record: Scenario) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    if not record.python.contains(version):
        pytest.skip(f"runs on Python {record.python}")
    if record.library is not None and installed_release(record.library) is None:
        pytest.skip(f"needs {record.library}")


@pytest.mark.parametrize("record", [r for r in PLANTED if r in ALONE], ids=lambda record: record.id)
def test_planted_defect_makes_it_fail(record: Scenario) -> None:
    runs_here(record)
    assert isolation.observe(record, planted=True).outcome.is_bug


@pytest.mark.parametrize(
    "record", [r for r in PLANTED if r in ON_RABBITMQ], ids=lambda record: record.id
)
def test_planted_defect_makes_it_fail_on_rabbitmq(record: Scenario, amqp_url: str) -> None:
    runs_here(record)
    seen = isolation.observe(record, {"amqp_url": amqp_url}, planted=True)
    assert seen.outcome.is_bug


@pytest.mark.parametrize(
    "record", [r for r in ON_RABBITMQ if r.present], ids=lambda record: record.id
)
def test_bug_on_rabbitmq_is_seen_where_its_record_says(record: Scenario, amqp_url: str) -> None:
    arguments = {"amqp_url": amqp_url}
    if record.shown_in:
        seen = run_in_release(record, record.shown_in[0], arguments)
    else:
        seen = isolation.observe(record, arguments)
    assert seen.outcome.is_bug, seen


def some(cells: list[Cell]) -> list[Cell]:
    """Choose a few of the places in which a bug is known to be: a shown one, the ends, a middle."""
    shown = [cell for cell in cells if cell.release in cell.record.shown_in]
    return list(dict.fromkeys([*shown[-1:], cells[0], cells[len(cells) // 2], cells[-1]]))


def could_run(results: list[Result]) -> bool:
    """Tell whether any of some runs has an answer: where a release cannot run, nothing is seen."""
    return any(
        one.observation.outcome not in (Outcome.BROKEN, Outcome.NOT_APPLICABLE) for one in results
    )


@pytest.fixture(scope="module")
def seen() -> Mapping[str, list[Result]]:
    """What each scenario without a broker shows in some places where its record says it fails."""
    records = [record for record in ALONE if record.present]
    cells, _ = plan(records, discover().interpreters, ReleaseChoice.parse([]), thin=True)
    places: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.is_claimed and cell.is_present:
            places.setdefault(cell.record.id, []).append(cell)
    results: dict[str, list[Result]] = {name: [] for name in places}
    with Engine() as engine:
        while places:
            chosen = {name: some(cells) for name, cells in places.items()}
            for result in engine.run([cell for cells in chosen.values() for cell in cells]).results:
                results[result.scenario].append(result)
            places = {
                name: left
                for name, cells in places.items()
                if not could_run(results[name])
                and (left := [cell for cell in cells if cell not in chosen[name]])
            }
    return results


@pytest.mark.parametrize("record", [r for r in ALONE if r.present], ids=lambda record: record.id)
def test_bug_is_seen_where_its_record_says(
    record: Scenario, seen: Mapping[str, list[Result]]
) -> None:
    if record.id not in seen:
        pytest.skip(f"no interpreter here has it: {[i.text for i in record.present]}")
    observations = [result.observation for result in seen[record.id]]
    if not could_run(seen[record.id]):
        pytest.skip(f"cannot run in any of {len(observations)} places: {observations[0].message}")
    assert any(one.outcome.is_bug for one in observations), observations
