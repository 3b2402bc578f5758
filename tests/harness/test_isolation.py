"""harness.isolation: whatever a child does, the parent learns of it and goes on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import child
from harness.isolation import observe
from harness.outcome import Observation, Outcome
from harness.scenario import AsyncTest, Scenario


def look(function: AsyncTest, *, limit: float = 20.0, **fields: Any) -> Observation:
    return observe(Scenario("X1", "t", "s", (), function, limit=limit, **fields))


def test_a_body_that_ends_is_healthy() -> None:
    async def body() -> None:
        await asyncio.sleep(0)

    assert look(body).outcome is Outcome.HEALTHY


def test_an_assertion_that_fails_is_a_bug_with_its_traceback() -> None:
    async def body() -> None:
        raise AssertionError("not so\nat all")

    seen = look(body)
    assert (seen.outcome, seen.message) == (Outcome.BUG, "AssertionError: not so")
    assert "in body" in seen.detail


def test_a_library_that_this_python_cannot_read_is_not_applicable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "library_of_old.py").write_text("async = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    async def body() -> None:
        import library_of_old  # type: ignore[import-not-found]  # noqa: F401

    assert look(body).outcome is Outcome.NOT_APPLICABLE


def test_a_syntax_error_that_the_body_makes_is_not_the_librarys() -> None:
    async def body() -> None:
        compile("1 +", "<text>", "eval")

    assert look(body).outcome is Outcome.BROKEN


def test_the_parent_is_left_as_it_was() -> None:
    async def body() -> None:
        asyncio.HARNESS_WAS_HERE = True  # type: ignore[attr-defined]

    assert look(body).outcome is Outcome.HEALTHY
    assert not hasattr(asyncio, "HARNESS_WAS_HERE")


def test_the_body_runs_on_a_new_loop_that_is_the_current_one() -> None:
    async def body() -> None:
        running = asyncio.get_running_loop()
        assert asyncio.get_event_loop_policy().get_event_loop() is running

    assert look(body).outcome is Outcome.HEALTHY


def test_prepare_runs_before_there_is_a_loop() -> None:
    async def body() -> None:
        assert PREPARED == [None]

    PREPARED.clear()
    seen = look(body, prepare=lambda: PREPARED.append(asyncio._get_running_loop()))
    assert (seen.outcome, seen.message) == (Outcome.HEALTHY, "")
    assert PREPARED == []


PREPARED: list[Any] = []


def test_a_planted_defect_shows_that_a_scenario_can_fail() -> None:
    async def body() -> None:
        assert asyncio.sleep is not None

    record = Scenario("X1", "t", "s", (), body, planted=lambda: setattr(asyncio, "sleep", None))
    assert observe(record).outcome is Outcome.HEALTHY
    assert observe(record, planted=True).outcome is Outcome.BUG


def test_a_hang_shows_the_stack_of_every_task_and_thread() -> None:
    async def waits_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    async def body() -> None:
        threading.Thread(target=threading.Event().wait, name="stuck").start()
        await asyncio.gather(waits_for_ever(), asyncio.sleep(3600))

    seen = look(body, limit=0.5)
    assert seen.outcome is Outcome.HANG
    assert "no end within 0.5 s" in seen.message
    assert "in waits_for_ever" in seen.detail
    assert "in body" in seen.detail
    assert "threading.py" in seen.detail


def test_a_hang_shows_what_each_coroutine_awaits() -> None:
    """A task's own get_stack() has the outermost coroutine only."""

    async def inner() -> None:
        await asyncio.get_running_loop().create_future()

    async def outer() -> None:
        await inner()

    seen = look(outer, limit=0.5)
    assert re.search(r"waits at test_isolation\.py:\d+ in inner", seen.message)
    assert re.findall(", in (outer|inner)\n", seen.detail) == ["outer", "inner"]


def test_a_hang_in_a_blocking_call_shows_where() -> None:
    def blocks() -> None:
        threading.Event().wait()

    async def body() -> None:
        blocks()

    seen = look(body, limit=0.5)
    assert seen.outcome is Outcome.HANG
    assert "in blocks" in seen.detail


def test_a_hang_that_ignores_signals_ends_all_the_same() -> None:
    async def body() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        await asyncio.get_running_loop().create_future()

    assert look(body, limit=0.3).outcome is Outcome.HANG


def test_a_signal_is_a_crash_that_names_it() -> None:
    async def body() -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    seen = look(body)
    assert (seen.outcome, seen.message) == (Outcome.CRASH, "killed by SIGSEGV")
    assert "in body" in seen.detail


def test_exiting_early_is_a_crash_even_with_status_0() -> None:
    async def body() -> None:
        os._exit(0)

    seen = look(body)
    assert seen.outcome is Outcome.CRASH
    assert "ended itself with status 0" in seen.message


def test_what_it_printed_is_kept_also_when_it_crashes() -> None:
    async def body() -> None:
        print("a last word", flush=True)
        os.abort()

    assert "a last word" in look(body).output


def test_runaway_output_is_ended_and_cut() -> None:
    async def body() -> None:
        while True:
            os.write(1, b"x" * 65536)

    seen = look(body)
    assert seen.outcome is Outcome.BROKEN
    assert "printed more than 16 MiB" in seen.message
    assert "characters cut" in seen.output
    assert len(seen.output) < 3 * child.OUTPUT_KEPT


def test_a_thread_that_is_left_running_is_named_and_not_waited_for() -> None:
    async def body() -> None:
        threading.Thread(target=threading.Event().wait, name="lingers").start()

    seen = look(body)
    assert (seen.outcome, seen.message) == (Outcome.HEALTHY, "left thread lingers running")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans are found on Linux only")
@pytest.mark.parametrize("new_session", [False, True])
def test_a_process_that_is_left_behind_is_named_and_killed(new_session: bool) -> None:
    async def body() -> None:
        command = [sys.executable, "-c", "import signal; signal.pause()"]
        child = subprocess.Popen(command, start_new_session=new_session)
        print(child.pid)

    seen = look(body)
    pid = int(seen.output)
    assert seen.outcome is Outcome.HEALTHY
    assert f"left process {pid} (" in seen.message
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_name_that_does_not_exist_is_the_scenarios_own_mistake() -> None:
    async def body() -> None:
        nobody_defined_this  # type: ignore[name-defined]  # noqa: F821

    assert look(body).outcome is Outcome.BROKEN


def test_a_name_error_out_of_a_library_is_a_bug() -> None:
    library: dict[str, Callable[[], None]] = {}
    exec("def call(): missing_in_library", library)

    async def body() -> None:
        library["call"]()

    assert look(body).outcome is Outcome.BUG


def test_a_library_that_cannot_be_imported_is_no_bug_of_it() -> None:
    async def body() -> None:
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401

    assert look(body).outcome is Outcome.BROKEN


def test_a_skip_is_not_applicable() -> None:
    import unittest

    async def body() -> None:
        raise unittest.SkipTest("cannot nest at all")

    seen = look(body)
    assert (seen.outcome, seen.message) == (
        Outcome.NOT_APPLICABLE,
        "SkipTest: cannot nest at all",
    )


def test_system_exit_out_of_a_body_is_a_bug() -> None:
    async def body() -> None:
        raise SystemExit(0)

    assert look(body).outcome is Outcome.BUG


def test_pytest_filters_do_not_reach_a_body() -> None:
    import warnings

    async def body() -> None:
        warnings.warn("only printed", UserWarning, stacklevel=1)

    assert look(body).outcome is Outcome.HEALTHY
