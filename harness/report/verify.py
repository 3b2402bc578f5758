"""Run what a report claims once more, before the claim is made to anybody else."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.export import FIXTURE_VARIABLE, export
from harness.matrix import interpreters
from harness.matrix.cache import Say, say_on_stderr
from harness.matrix.cells import Cell
from harness.matrix.engine import Engine
from harness.matrix.interpreters import Interpreter
from harness.matrix.releases import fetch, newest_release
from harness.matrix.scripts import with_extras
from harness.outcome import Observation, Outcome, Verdict
from harness.report.grid import is_bad, is_good, release_key, word
from harness.report.model import Report, Result, ScenarioInfo
from harness.report.terminal import seen
from harness.scenario import Scenario
from harness.selection import select

#: Seconds beyond a script's own watchdog after which it is ended from outside.
_GRACE = 10.0
#: Bytes of what a script printed that are read.
_LONGEST = 1 << 24
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


class Verifier:
    """Runs claims again; use it as a context manager, the interpreters that it starts end with it.

    :param say: told what is not an error
    """

    def __init__(self, *, say: Say = say_on_stderr) -> None:
        self._engine = Engine(fresh=True, say=say)

    def __enter__(self) -> Verifier:
        self._engine.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._engine.__exit__(*error)

    @functools.cached_property
    def _interpreters(self) -> dict[tuple[str, str], Interpreter]:
        found = interpreters.discover([sys.executable]).interpreters
        return {_interpreter_of(one): one for one in found}

    def verify(self, report: Report, id: str) -> Verified:
        """Run one scenario again in every cell that the report claims anything about.

        :raises HarnessError: if the scenario is not here, is not the function the report is about,
            or shows its bug only in the matrix and not when its script is run by hand
        """
        info, record = report.scenario(id), _record(report.scenario(id))
        kept: dict[tuple[str, ...], Result] = {}
        dropped: list[str] = []
        cells: dict[Cell, Result] = {}
        for claim in report.results_of(id):
            if not (is_bad(claim) or is_good(claim)):
                continue
            interpreter = self._interpreters.get(_build_of(claim))
            if interpreter is None:
                why = f"{claim.build} is not on this machine"
                kept[claim.cell] = _doubted(claim, f"not run again: {why}")
                dropped.append(f"{claim.where}: {why}")
            else:
                library = claim.library if claim.release is not None else None
                cells[Cell(record, interpreter, library, claim.release)] = claim
        again = self._engine.run(list(cells))
        for claim, now in zip(cells.values(), again.results, strict=True):
            if word(now) == word(claim):
                kept[claim.cell] = replace(now, build=claim.build, command=claim.command)
            else:
                why = f"did not repeat: {word(now)} when it was run again"
                kept[claim.cell] = _doubted(claim, why)
                dropped.append(f"{claim.where}: was {word(claim)}, then {seen(now)}")
        results = tuple(kept.get(result.cell, result) for result in report.results_of(id))
        checked = Report(report.environment, (info,), results, report.created)
        example = _example(checked)
        script = export(record, None if example is None else example.release, newest=newest_release)
        shown = None
        if example is not None:
            shown = run_by_hand(record, script, self._interpreters[_build_of(example)], example)
            if shown.status == 0:
                raise HarnessError(
                    f"{id} with {example.where}: shows the bug in a fork and not when its script "
                    f"is run by hand ({shown.command}); nothing is claimed"
                )
        return Verified(checked, info, script, shown, tuple(dropped))


def run_by_hand(record: Scenario, script: str, interpreter: Interpreter, result: Result) -> Shown:
    """Run a script as a reader of the report will: a file, an interpreter and one release."""
    paths = []
    if result.library is not None and result.release is not None:
        library = with_extras(script, result.library)
        paths.append(str(fetch(library, result.release, interpreter)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{record.id}.py"
        file.write_text(script, encoding="utf-8")
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment["PYTHONIOENCODING"] = "utf-8"
        if paths:
            environment["PYTHONPATH"] = os.pathsep.join(paths)
        # Not a pipe: a child that the script leaves behind would hold it open.
        with tempfile.TemporaryFile() as printed:
            process = subprocess.Popen(
                [interpreter.path, file.name],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(record.limit + _GRACE)
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                status = process.wait()
            printed.seek(0)
            text = printed.read(_LONGEST).decode(errors="replace")
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


def _interpreter_of(interpreter: Interpreter) -> tuple[str, str]:
    return (interpreter.version, f"CPython {interpreter.version} {interpreter.platform}")


def _build_of(result: Result) -> tuple[str, str]:
    # Where two builds of one version are told apart, what follows in brackets does it.
    return (result.python, result.build.partition(" (")[0])


def _doubted(claim: Result, why: str) -> Result:
    before: Observation = claim.observation
    return replace(claim, verdict=Verdict.INCONCLUSIVE, observation=replace(before, message=why))


def _example(report: Report) -> Result | None:
    """Choose the cell that is quoted: a bug, where possible no hang, newest release and Python."""

    def order(result: Result) -> tuple[Any, ...]:
        own = result.library == report.scenario(result.scenario).library
        quick = result.observation.outcome is Outcome.BUG
        return (own, quick, release_key(result.release or ""), release_key(result.python))

    return max(filter(is_bad, report.results), key=order, default=None)
