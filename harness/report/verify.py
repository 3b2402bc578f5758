"""Run what a report claims once more, before the claim is made to anybody else."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import HarnessError
from harness.export import FIXTURE_VARIABLE, export
from harness.matrix import interpreters
from harness.matrix.cache import Say, say_on_stderr
from harness.matrix.cells import Cell
from harness.matrix.engine import Engine, Progress, no_progress
from harness.matrix.interpreters import Interpreter
from harness.matrix.releases import fetch
from harness.outcome import Observation, Outcome, Verdict
from harness.report.grid import is_bad, is_good, word
from harness.report.model import Report, Result, ScenarioInfo
from harness.scenario import Scenario
from harness.selection import select

#: Seconds beyond a script's own watchdog after which it is ended from outside.
_GRACE = 10.0
#: What a script may see of the environment of this process.
_KEPT = ("PATH", "LANG", "TZ", "HOME", FIXTURE_VARIABLE, "LD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass(frozen=True)
class Shown:
    """What a person sees who runs the exported script in one cell.

    :param result: the cell
    :param command: what was typed
    :param text: what it printed on both streams
    :param status: its exit status; negative for a signal
    """

    result: Result
    command: str
    text: str
    status: int


@dataclass(frozen=True)
class Verified:
    """A report that makes only claims which held a second time.

    :param report: the report; a cell that did not repeat, or cannot run here, is inconclusive
    :param script: the exported script
    :param shown: the script, run by hand in the cell that is quoted; None if no bug repeated
    :param dropped: what is no longer claimed and why, each a line for people
    """

    report: Report
    info: ScenarioInfo
    script: str
    shown: Shown | None = None
    dropped: tuple[str, ...] = field(default=())


def verify(
    report: Report, id: str, *, say: Say = say_on_stderr, progress: Progress = no_progress
) -> Verified:
    """Run one scenario again in every cell that the report claims anything about.

    :param say: told what is not an error
    :param progress: called as cells get done
    :raises HarnessError: if the scenario is not here, or is not the function the report is about
    """
    info, record = report.scenario(id), _record(report.scenario(id))
    claims = [result for result in report.results_of(id) if is_bad(result) or is_good(result)]
    cells, missing = _cells(record, claims)
    grid = Engine(fresh=True, say=say).run([cell for cell, _ in cells], progress)
    again = {_place(result): result for result in grid.results}
    kept: dict[tuple[str, ...], Result] = {}
    dropped: list[str] = []
    for claim, why in missing:
        kept[claim.cell] = _doubted(claim, f"not run again: {why}")
        dropped.append(f"{claim.where}: {why}")
    for cell, claim in cells:
        now = again.get((*_interpreter_of(cell.interpreter), cell.library, cell.release))
        if now is not None and word(now) == word(claim):
            kept[claim.cell] = replace(now, build=claim.build, command=claim.command)
        else:
            seen = "could not run" if now is None else word(now)
            kept[claim.cell] = _doubted(claim, f"did not repeat: {seen} when it was run again")
            dropped.append(f"{claim.where}: was {word(claim)}, then {seen}")
    results = tuple(kept.get(result.cell, result) for result in report.results_of(id))
    checked = Report(report.environment, (info,), results, report.created)
    example = _example(checked)
    script = export(record, example.release if example is not None else None)
    shown = None
    if example is not None:
        found = next(cell for cell, claim in cells if claim.cell == example.cell)
        shown = run_by_hand(record, script, found.interpreter, example)
        if shown.status == 0:
            raise HarnessError(
                f"{id} with {example.where}: shows the bug in a fork and not when its script is "
                f"run by hand ({shown.command}); nothing is claimed"
            )
    return Verified(checked, info, script, shown, tuple(dropped))


def run_by_hand(record: Scenario, script: str, interpreter: Interpreter, result: Result) -> Shown:
    """Run a script as a reader of the report will: a file, an interpreter and one release."""
    paths = []
    if result.library is not None and result.release is not None:
        paths.append(str(fetch(result.library, result.release, interpreter)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{record.id}.py"
        file.write_text(script, encoding="utf-8")
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}
        try:
            done = subprocess.run(
                [interpreter.path, file.name],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=record.limit + _GRACE,
                check=False,
            )
            text, status = done.stdout.decode(errors="replace"), done.returncode
        except subprocess.TimeoutExpired as late:
            text, status = (late.stdout or b"").decode(errors="replace"), -9
    for path in (folder, *paths):
        text = text.replace(f"{path}{os.sep}", "")
    text = text.replace(f"{interpreter.prefix}{os.sep}", "")
    return Shown(result, f"python {shlex.quote(f'{record.id}.py')}", text, status)


def _record(info: ScenarioInfo) -> Scenario:
    """Find the function that a report is about, and make sure that it is still the same."""
    place = info.nodeid.partition("::")[0]
    records = select([info.nodeid] if place and Path(place).is_file() else [info.id])
    record = next((record for record in records if record.id == info.id), None)
    if record is None:
        raise HarnessError(f"{info.nodeid} no longer holds the scenario {info.id!r}")
    if info.body and ScenarioInfo.of(record).body != info.body:
        raise HarnessError(
            f"scenario {info.id!r} was changed since these results were taken; "
            f"run: harness matrix {shlex.quote(info.id)}"
        )
    return record


def _cells(
    record: Scenario, claims: Sequence[Result]
) -> tuple[list[tuple[Cell, Result]], list[tuple[Result, str]]]:
    """Part the claims that can be run again here from the others, each with the reason."""
    known: Mapping[tuple[str, str], Interpreter] = {
        _interpreter_of(one): one for one in interpreters.discover([sys.executable]).interpreters
    }
    cells: list[tuple[Cell, Result]] = []
    missing: list[tuple[Result, str]] = []
    for claim in claims:
        interpreter = known.get((claim.python, claim.build.partition(" (")[0]))
        if interpreter is None:
            missing.append((claim, f"{claim.build} is not on this machine"))
        else:
            release = claim.release if claim.library is not None else None
            library = claim.library if release is not None else None
            cells.append((Cell(record, interpreter, library, release), claim))
    return cells, missing


def _interpreter_of(interpreter: Interpreter) -> tuple[str, str]:
    return (interpreter.version, f"CPython {interpreter.version} {interpreter.platform}")


def _place(result: Result) -> tuple[str, str, str | None, str | None]:
    return (result.python, result.build.partition(" (")[0], result.library, result.release)


def _doubted(claim: Result, why: str) -> Result:
    before: Observation = claim.observation
    return replace(claim, verdict=Verdict.INCONCLUSIVE, observation=replace(before, message=why))


def _example(report: Report) -> Result | None:
    """Choose the cell that is quoted: a bug, where possible no hang, newest release and Python."""
    bad = [result for result in report.results if is_bad(result)]
    quick = [result for result in bad if result.observation.outcome is Outcome.BUG] or bad
    return quick[-1] if quick else None
