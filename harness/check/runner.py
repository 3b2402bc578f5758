"""Start the project's own pytest with the probe in it, and follow what it says."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from harness.check.model import Run
from harness.errors import HarnessError
from harness.outcome import signal_name

LAUNCHER = Path(__file__).with_name("probe") / "launch.py"
#: Files that mark the root of a project; the directory of the nearest one is where its CI stands.
_ROOT_MARKS = ("pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "setup.py", ".git")
_POLL = 0.05  # seconds between two looks at the event file
_START = 120.0  # seconds that start-up and collection may take, however short the limit
_NO_TESTS = 5  # pytest's exit status for "no tests collected"

Progress = Callable[[Run], None]


def check(
    paths: Sequence[str],
    *,
    python: str | None = None,
    options: Sequence[str] = (),
    limit: float = 300.0,
    output: IO[str] | None = None,
    progress: Progress = lambda run: None,
) -> list[Run]:
    """Run the tests below the paths and report those that pass without proving anything.

    :param paths: files, directories or pytest ids (``file.py::test``)
    :param python: interpreter of the project's environment; the running one by default
    :param options: further arguments for pytest
    :param limit: seconds without a test starting or ending after which the run is stopped
    :param output: where pytest's own output goes; thrown away by default
    :param progress: called whenever something has happened
    :returns: one run for each project that the paths belong to
    :raises HarnessError: for a path or an interpreter that does not exist, or that has no pytest
    """
    interpreter = _interpreter(python)
    groups: dict[Path, list[str]] = {}
    for path in paths:
        root, argument = _place(path)
        groups.setdefault(root, []).append(argument)
    runs = []
    for root, arguments in groups.items():
        # The root itself: no argument, so that the project's `testpaths` say what its tests are.
        targets = [] if "." in arguments else arguments
        runs.append(_run(root, [*options, *targets], interpreter, limit, output, progress))
        if runs[-1].interrupted:
            break
    return runs


def _interpreter(python: str | None) -> str:
    if python is None:
        return sys.executable
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise HarnessError(
            f"No interpreter {python!r}. Give --python a command or the path of one, "
            "such as .venv/bin/python."
        )
    # Not resolved: the interpreter of a virtual environment is a link that must stay one.
    return os.path.abspath(found)


def _place(path: str) -> tuple[Path, str]:
    """Where to start pytest for a path, and the path as seen from there."""
    name, separator, test = path.partition("::")
    full = Path(os.path.abspath(name))
    if not full.exists():
        raise HarnessError(f"No such file or directory: {name!r}. Give the path of a test tree.")
    start = full if full.is_dir() else full.parent
    for directory in (start, *start.parents):
        if any((directory / mark).exists() for mark in _ROOT_MARKS):
            root = directory
            break
    else:
        root = start
    return root, os.path.relpath(full, root) + separator + test


def _environment(temp: Path) -> dict[str, str]:
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(temp / "hypothesis"),
    }
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        environment.pop(name, None)
    return environment


def _run(
    root: Path,
    arguments: Sequence[str],
    interpreter: str,
    limit: float,
    output: IO[str] | None,
    progress: Progress,
) -> Run:
    run = Run(root)
    with tempfile.TemporaryDirectory(prefix="harness-check-") as name:
        temp = Path(name)
        events = temp / "events.jsonl"
        events.touch()
        with (temp / "output.txt").open("w+") as log, events.open(encoding="utf-8") as stream:
            try:
                process = subprocess.Popen(
                    [interpreter, str(LAUNCHER), str(events), str(temp), *arguments],
                    cwd=root,
                    env=_environment(temp),
                    stdin=subprocess.DEVNULL,
                    stdout=output or log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise HarnessError(
                    f"The interpreter {interpreter!r} does not start ({error.strerror}). "
                    "Give --python one that does."
                ) from None
            given_up = ""
            try:
                with _terminated_like_interrupted():
                    if not _follow(process, _lines(stream), run, limit, progress, interpreter):
                        given_up = f"nothing happened for {limit:g} s; the run was stopped"
            except KeyboardInterrupt:
                given_up = "interrupted"
            finally:
                _stop(process)
            if not given_up:
                log.seek(0)
                _judge_exit(run, process.returncode, log.read(), interpreter)
                return run
            # From the start: the interrupt may have come between reading and counting.
            run = Run(root, interrupted=given_up == "interrupted")
            stream.seek(0)
            for line in _lines(stream)():
                run.take(json.loads(line))
            run.problems.append((run.current or "before the first test", given_up))
            return run


def _lines(stream: IO[str]) -> Callable[[], Iterable[str]]:
    """Complete lines only: the last one may be half written."""
    rest = ""

    def more() -> Iterable[str]:
        nonlocal rest
        *lines, rest = (rest + stream.read()).split("\n")
        return lines

    return more


def _follow(
    process: subprocess.Popen[bytes],
    more: Callable[[], Iterable[str]],
    run: Run,
    limit: float,
    progress: Progress,
    interpreter: str,
) -> bool:
    """Take in events until pytest has ended; False if it was given up on."""
    last = time.monotonic()
    ended = False
    while True:
        seen = False
        for line in more():
            event = json.loads(line)
            if event["event"] == "refused":
                raise HarnessError(f"Cannot check with {interpreter}: {event['reason']}.")
            run.take(event)
            seen = True
        if seen:
            last = time.monotonic()
            progress(run)
        if ended:
            return True
        if time.monotonic() - last > (limit if run.collected is not None else max(limit, _START)):
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL)
            ended = True


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM unwind: pytest has a process group of its own and would stay behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End pytest and every child that it left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _judge_exit(run: Run, status: int, log: str, interpreter: str) -> None:
    if not run.environment:
        if "usage:" in log or "ERROR:" in log:
            text = " ".join(line for line in log.splitlines() if line.strip())[-500:]
            raise HarnessError(f"pytest refused to start in {run.root}: {text}")
        last = (log.strip().splitlines() or [f"exit status {status}"])[-1]
        raise HarnessError(f"The interpreter {interpreter} did not run the check: {last}")
    if status < 0:
        where = run.current or "."
        run.problems.append((where, f"pytest was killed by {signal_name(-status)}"))
    elif run.collected is None and status != _NO_TESTS:
        run.problems.append((".", f"pytest stopped with exit status {status}\n{log}"))
    elif run.current:
        run.problems.append((run.current, f"pytest ended in it with exit status {status}"))
    elif run.collected is not None and run.ran < run.collected:
        missing = run.collected - run.ran
        run.problems.append((".", f"{missing} of {run.collected} tests were not run\n{log}"))
